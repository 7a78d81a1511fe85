"""The command `nextword`: it runs a sub-command, and turns an error into one line and an exit status.

Only the sub-command's own module is imported, so `nextword --help` is quick and needs no extra. A sub-command is a
function that adds its options to a parser and returns the function to run with the parsed arguments.
"""
from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import NamedTuple, NoReturn

OPTION = re.compile(r"(--[\w-]+)(=.*)?", re.DOTALL)

Run = Callable[[argparse.Namespace], "int | None"]


class Command(NamedTuple):
    """A sub-command.

    function  `module:name`
    extra     the extra that installs the packages which it needs
    package   one package of that extra, by which a missing extra is noticed
    summary   one line
    """

    function: str
    extra: str
    package: str
    summary: str


COMMANDS = {
    "predict": Command("nextword.lm.predict:command", "serve", "torch", "suggest the words that may follow a text"),
    "serve": Command("nextword.serve.__main__:command", "serve", "litserve", "serve suggestions over HTTP"),
    "train": Command("nextword.training.__main__:train", "train", "datasets", "train a model on a corpus"),
    "evaluate": Command("nextword.training.evaluation.command:command", "train", "datasets",
                        "measure perplexity, accuracy and keystroke savings on a corpus"),
    "compare": Command("nextword.training.__main__:compare", "train", "datasets",
                       "train RNN, GRU, LSTM and a Transformer alike, and compare them"),
    "regression": Command("nextword.training.regression:command", "train", "matplotlib",
                          "train RNN, GRU and LSTM on a series of numbers, and compare them with simple predictions"),
    "sentiment": Command("nextword.training.sentiment:command", "train", "datasets",
                         "train an LSTM, or a linear layer on a language model, to judge film reviews"),
    "recall": Command("nextword.training.recall:command", "train", "matplotlib",
                      "measure how far RNN, GRU, LSTM and a Transformer carry a symbol"),
    "runs": Command("nextword.training.runs:command", "train", "datasets",
                    "compare runs: settings that differ, best figures, minutes"),
    "ngram": Command("nextword.training.evaluation.ngram:command", "train", "datasets",
                     "print a corpus as token numbers, the text from which KenLM estimates an n-gram"),
    "publish": Command("nextword.training.publish:command", "train", "datasets",
                       "copy a run's bundle to another folder"),
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line. The error for a misspelt option or command suggests the most similar one.

    given: the parsed arguments, as they were typed. Options cannot be abbreviated.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, allow_abbrev=False)
        self.given: list[str] = []

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        self.given = list(arguments)
        for argument in self.given:
            if argument == "--":
                break
            option = OPTION.fullmatch(argument)
            if option and option[1] not in self._option_string_actions:
                self.error(f"there is no option {option[1]}{_did_you_mean(option[1], self._option_string_actions)}")
        return self.parse_args(self.given)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `nextword` with these arguments (None: those of the process), and return the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in COMMANDS:
        return run(arguments[0], arguments[1:])
    parser = Parser("nextword")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Word-level LSTM language models: train one, serve next-word suggestions, measure them."
    summaries = [f"  {name:12}{command.summary}" for name, command in COMMANDS.items()]
    hint = "`nextword COMMAND --help` lists the options of a command."
    parser.epilog = "\n".join(["commands:", *summaries, "", hint])
    parser.add_argument("--version", action="version", version=f"nextword {version('nextword')}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="one of the commands below, then its options")
    try:
        if parser.parse(arguments[:1]).command is None:
            parser.error(f"a command is missing: {', '.join(COMMANDS)}")
        close = _did_you_mean(arguments[0], [*COMMANDS, "--help", "--version"])
        parser.error(f"there is no command {arguments[0]}{close}")
    except SystemExit as stopped:
        return int(stopped.code or 0)


def run(name: str, arguments: Sequence[str]) -> int:
    """Run one sub-command, and return its exit status: 2 if its arguments or files are wrong."""
    command, prog = COMMANDS[name], f"nextword {name}"
    try:
        if find_spec(command.package) is None:
            raise ModuleNotFoundError(name=command.package)
        module, function = command.function.split(":")
        parser = Parser(prog)
        action: Run = getattr(import_module(module), function)(parser)
        parser.description = parser.description or f"{command.summary[0].upper()}{command.summary[1:]}."
        status = action(parser.parse(arguments)) or 0
        sys.stdout.flush()
        return status
    except SystemExit as stopped:
        return int(stopped.code or 0)
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "nextword":
            raise
        install = f"pip install 'nextword[{command.extra}]'"
        print(f"{prog}: the package {error.name} is not installed; install it with {install}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not error.strerror:
            raise
        print(f"{prog}: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def positive(text: str) -> int:
    """The type of an option whose value is a whole number from 1 on."""
    if not re.fullmatch(r"[0-9][0-9_]*", text) or (value := int(text.replace("_", ""))) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return value


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]}?" if close else ""
