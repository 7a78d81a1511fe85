"""Text without spaces between words, such as Chinese, Japanese and Thai: a model of words cannot learn from it."""
from __future__ import annotations

import re
from collections.abc import Iterable

from nextword.lm.words import UNSPACED, is_letter

SAMPLE = 200_000  # characters at the beginning of the text
SHARE = 0.3  # from this share of its letters on, a text counts as one of such a script
LONG = 8  # letters; if spaces were put between words, almost no word is so long
_RUN = re.compile(f"[{UNSPACED}]+")


def unsegmented_warning(documents: Iterable[str]) -> str | None:
    """A warning, one line, for a text without spaces between words; None for other texts. Reads only its beginning."""
    letters, unspaced, in_long_runs, length = 1, 0, 0, 0
    for text in documents:
        text = text[: SAMPLE - length]
        runs = [len(run) for run in _RUN.findall(text)]
        letters += sum(map(is_letter, text))
        unspaced += sum(runs)
        in_long_runs += sum(run for run in runs if run >= LONG)
        length += len(text)
        if length >= SAMPLE:
            break
    if unspaced < SHARE * letters or in_long_runs <= unspaced / 2:
        return None
    return (f"{min(1.0, unspaced / letters):.0%} of this text's letters are of a script without spaces between words. "
            "Words are told by spaces, so most of this text would be unknown and the figures would mean little: "
            "put spaces between its words first.")
