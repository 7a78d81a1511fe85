"""`python -m nextword.lm`: the commands that use a model.

`predict` is here. Commands that need more than this package, such as `evaluate`, which needs corpora, are found by
their entry points (group `nextword.commands`): functions that take an argparse sub-parser, add their options and
return the function to run.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import entry_points

from nextword.lm import BundleError, load
from nextword.lm.blocklist import read_blocklist
from nextword.lm.terminal import converse


def predict(parser: argparse.ArgumentParser):
    parser.description = "The words that most probably follow a text."
    parser.add_argument("text", nargs="?", help="the text so far; nothing: at a terminal, lines that are typed, "
                                                "elsewhere the start of a text")
    parser.add_argument("-k", type=int, default=5, help="how many words (default: 5)")
    parser.add_argument("--partial", default="", help="beginning of the next word, as far as it is typed")
    parser.add_argument("--punctuation", action="store_true", help="offer punctuation and numbers too")
    parser.add_argument("--emoji", action="store_true", help="offer emoji too")
    parser.add_argument("--bundle", help="a bundle's folder (default: the English model that comes with Nextword)")
    parser.add_argument("--unprompted-blocklist", metavar="FILE", default="own",
                        help="words never suggested unprompted, one a line; own: lm/unprompted.txt (default); none")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def run(arguments: argparse.Namespace) -> None:
        if arguments.k < 1:
            parser.error(f"-k is {arguments.k}; it must be at least 1")
        model = load(arguments.bundle, blocklist=read_blocklist(arguments.unprompted_blocklist))

        def suggest(text: str, partial: str):
            return model.next_words(text, arguments.k, partial=partial, punctuation=arguments.punctuation,
                                    emoji=arguments.emoji)

        if arguments.text is None and not arguments.partial and not arguments.json and _at_terminal():
            return converse(suggest)
        words = suggest(arguments.text or "", arguments.partial)
        if arguments.json:
            print(json.dumps({"model": model.name, "words": [word._asdict() for word in words]}, ensure_ascii=False))
            return
        width = max((len(word.word) for word in words), default=0)
        for word in words:
            print(f"{word.word:{width}}  {word.probability:7.2%}  {word.logprob:8.4f}")

    return run


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nextword.lm", description="Use a trained Nextword model.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add(commands, "predict", predict, "the words that most probably follow a text")
    asked = (sys.argv[1:] if arguments is None else arguments)[:1]
    others = [] if asked == ["predict"] else entry_points(group="nextword.commands")  # some take seconds to import
    for entry in sorted(others, key=lambda entry: entry.name):
        try:
            command = entry.load()
        except ModuleNotFoundError as error:
            if asked == [entry.name]:
                parser.error(f"{entry.name} needs {error.name}, which is not installed: `make evaluate` installs it, or "
                             "`pip install '.[train]'` in the project's folder")
            continue
        _add(commands, entry.name, command, command.__doc__.splitlines()[0])
    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (BundleError, ValueError) as error:
        print(f"python -m nextword.lm {parsed.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _add(commands, name: str, command, summary: str) -> None:
    parser = commands.add_parser(name, help=summary)
    parser.set_defaults(run=command(parser))


if __name__ == "__main__":
    sys.exit(main())
