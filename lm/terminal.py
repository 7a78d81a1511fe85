"""Suggestions at a terminal, line by line."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from nextword.lm.suggestion import CORRECTION, TYPED, Word
from nextword.lm.words import split_typed

LEARNS = "A line is learned if a mark or a space ends it."
HINT = ("Type a text and press Enter. … completes its last word (~ corrects it), → suggests the word after it. "
        "Ctrl-D ends.")
NONE = "no such word"


def converse(suggest: Callable[[str, str], Sequence[Word]], learn: Callable[[str], None] | None = None) -> None:
    """Prompt for lines until the input ends, and print the suggestions for each line; every line is a separate text.

    suggest: a text and the beginning of the next word → suggestions.
    learn: gets each line that does not end within a word, after its suggestions.
    """
    with contextlib.suppress(ImportError):  # some systems lack it; with it, `input` has editing and earlier lines
        import readline  # noqa: F401
    print(HINT)
    if learn:
        print(LEARNS)
    with contextlib.suppress(EOFError):
        while True:
            line = input("> ")
            text, partial = split_typed(line)
            if partial:
                print("  …", _row(suggest(text, partial)))
            print("  →", _row(suggest(line, "")))
            if learn and line.strip() and not partial:
                learn(line)
    print()


def _row(words: Sequence[Word]) -> str:
    known = [word for word in words if word.kind != TYPED]
    return "   ".join(f"{'~' * (word.kind == CORRECTION)}{word.word} {word.probability:.1%}" for word in known) or NONE
