"""The command `nextword predict`: the likeliest next words of a text."""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nextword.lm.blocklist import read_blocklist
from nextword.lm.keyboards import LAYOUTS, QWERTY
from nextword.lm.suggestion import CORRECTION, TYPED, Word

if TYPE_CHECKING:
    from nextword.lm.profile_file import SavedProfile


def command(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    parser.add_argument("text", nargs="*", help="the text so far (default: standard input; at a terminal, lines)")
    parser.add_argument("-k", type=int, default=5, help="number of words (default: 5)")
    parser.add_argument("--partial", default="", help="typed beginning of the next word")
    parser.add_argument("--typos", action=argparse.BooleanOptionalAction, default=True, help=(
        "suggest what was meant where --partial has a slip of the finger (default)"))
    parser.add_argument("--layout", default=QWERTY, choices=LAYOUTS, help=(
        f"keyboard, whose neighbouring keys are likely slips (default: {QWERTY})"))
    parser.add_argument("--punctuation", action="store_true", help="suggest punctuation and numbers too")
    parser.add_argument("--emoji", action="store_true", help="suggest emoji too")
    parser.add_argument("--profile", metavar="FILE", type=Path,
                        help="what a person has taught, kept in this file; lines typed at a terminal are learned")
    parser.add_argument("--learn", action="store_true", help="learn the text, and keep it in the profile")
    parser.add_argument("--teach", metavar="WORD", action="append", default=[],
                        help="suggest a word to this person from now on")
    parser.add_argument("--forget", metavar="WORD", action="append", default=[],
                        help="forget a word, or block it: it is in no suggestion to this person until it is taught")
    parser.add_argument("--bundle", help="folder of the model (default: the English model that comes with Nextword)")
    parser.add_argument("--unprompted-blocklist", metavar="FILE", default="own",
                        help="words never suggested unprompted, one a line; own: lm/unprompted.txt (default); none")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def run(options: argparse.Namespace) -> None:
        options.text = " ".join(options.text) if options.text else None
        if options.k < 1:
            parser.error(f"-k is {options.k}; it must be at least 1")
        changes = options.learn or options.teach or options.forget
        if changes and not options.profile:
            parser.error("--learn, --teach and --forget need --profile FILE")
        if options.learn and options.text is None and sys.stdin.isatty():
            parser.error("--learn needs a text")
        saved = _changed_profile(options) if options.profile else None
        if options.text is None and not options.learn and changes:
            return
        interactive = options.text is None and not options.partial and not options.json and _at_terminal()
        text = _standard_input() if options.text is None and not interactive else options.text
        blocklist = read_blocklist(options.unprompted_blocklist)
        # These imports bring torch; errors in the options come before them.
        from nextword.lm.model import load
        from nextword.lm.terminal import converse

        model = load(options.bundle, blocklist=blocklist)
        if saved and options.learn:
            saved.learn(text)
            saved.write(options.profile)
        profile = saved.profile() if saved else None

        def suggest(text: str, partial: str) -> list[Word]:
            return model.next_words(text, options.k, partial=partial, profile=profile, punctuation=options.punctuation,
                                    emoji=options.emoji, typos=options.typos, layout=options.layout)

        def learn(line: str) -> None:
            if saved and profile is not None:
                saved.learn(line)
                saved.write(options.profile)
                profile.learn(saved.texts[-1].text)

        if interactive:
            converse(suggest, learn if saved else None)
            return
        words = suggest(text, options.partial)
        if options.json:
            print(json.dumps({"model": model.name, "words": [word._asdict() for word in words]}, ensure_ascii=False))
            return
        width = max((len(word.word) for word in words), default=0)
        for word in words:
            print(f"{word.word:{width}}  {word.probability:7.2%}  {word.logprob:8.4f}{_remark(word)}")

    return run


def _remark(word: Word) -> str:
    if word.kind == CORRECTION:
        return f"  corrected, {word.confidence:.0%} sure"
    return "  as typed" if word.kind == TYPED else ""


def _changed_profile(options: argparse.Namespace) -> SavedProfile:
    """Read the profile, and do what --teach and --forget ask for."""
    from nextword.lm.profile_file import SavedProfile

    saved = SavedProfile.read(options.profile)
    for word in options.forget:
        saved.forget(word)
    for word in options.teach:
        saved.teach(word)
    if options.forget or options.teach:
        saved.write(options.profile)
    return saved


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _standard_input() -> str:
    """All of standard input without its last line break; "" at a terminal.

    Raises ValueError if it is not UTF-8.
    """
    if sys.stdin.isatty():
        return ""
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8: {error.reason} at byte {error.start}") from None
    return text.removesuffix("\n").removesuffix("\r")
