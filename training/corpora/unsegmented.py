"""Text without spaces between words, such as Chinese, Japanese and Thai: a model of words cannot learn from it."""
from __future__ import annotations

import re
from collections.abc import Iterable

from nextword.lm.words import UNSPACED, is_letter

SAMPLE = 200_000  # characters from the beginning
SHARE = 0.3  # of the letters, from which on the text counts as of such a script
LONG = 8  # letters; hardly a word is so long, where spaces were put between words beforehand
_RUN = re.compile(f"[{UNSPACED}]+")


def unsegmented_warning(documents: Iterable[str]) -> str | None:
    """One line for a text in which words cannot be told apart; None for any other. Only its beginning is read."""
    letters, unspaced, in_long_runs, read = 1, 0, 0, 0
    for text in documents:
        text = text[: SAMPLE - read]
        runs = [len(run) for run in _RUN.findall(text)]
        letters += sum(map(is_letter, text))
        unspaced += sum(runs)
        in_long_runs += sum(run for run in runs if run >= LONG)
        read += len(text)
        if read >= SAMPLE:
            break
    if unspaced < SHARE * letters or in_long_runs <= unspaced / 2:
        return None
    return (f"{min(1.0, unspaced / letters):.0%} of this text's letters are of a script without spaces between words. "
            "Words are told by spaces, so most of this text would be unknown and the figures would mean little: "
            "put spaces between its words first.")
