"""Suggestions at a terminal: a line goes in, what may come next comes out."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from nextword.lm.ranking import Word
from nextword.lm.words import split_typed

HINT = "Type a text and press Enter. A word at its end is completed (…) and read as a whole (→). Ctrl-D ends."


def converse(suggest: Callable[[str, str], Sequence[Word]]) -> None:
    """Asks for lines until the input ends, and prints the suggestions for each; every line is a text of its own.

    suggest: the words for a text and the beginning of the next word.
    """
    with contextlib.suppress(ImportError):  # not everywhere; with it, `input` has editing and earlier lines
        import readline  # noqa: F401
    print(HINT)
    with contextlib.suppress(EOFError):
        while True:
            line = input("> ")
            text, partial = split_typed(line)
            if partial:
                print("  …", _row(suggest(text, partial)))
            print("  →", _row(suggest(line, "")))
    print()


def _row(words: Sequence[Word]) -> str:
    return "   ".join(f"{word.word} {word.probability:.1%}" for word in words) or "no such word"
