"""Keyboard layouts: the place of each key, and the keys that a finger hits instead.

A place is (x, y) in widths of a key. The rows are staggered as on a typewriter (ISO/IEC 9995): the second row is a
quarter of a key to the right of the first, the third row three quarters.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from nextword.lm.words import key

LAYOUTS = {
    "qwerty": ("qwertyuiop", "asdfghjkl;'", "zxcvbnm,."),
    "qwertz": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm,.-"),
    "azerty": ("azertyuiop", "qsdfghjklmù", "wxcvbn,;:"),
    "dvorak": ("',.pyfgcrl", "aoeuidhtns-", ";qjkxbmwvz"),
}
QWERTY: Literal["qwerty"] = "qwerty"
STAGGER = (0.0, 0.25, 0.75)
FARTHEST_PLACE = 1e6  # of a key, in any unit
FARTHEST = 2.0  # widths of a key; keys beyond are never hit

Places = Mapping[str, Sequence[float]]  # letter → (x, y)
Layout = str | Places  # a name of LAYOUTS, or places


class Keyboard:
    """The probabilities with which one key is hit instead of another.

    The probability of the key at distance d (in widths of a key) is proportional to exp(-d²). A letter without a place
    on the keyboard is not among `neighbours`. Letters of one key have the same place, so their distance is 0.
    """

    def __init__(self, places: Places) -> None:
        """places: letter → (x, y), in any unit: the least distance between two keys counts as the width of a key.

        Raises ValueError if a key is not one letter, or if a place is too far out.
        """
        points = _compared(places)
        pairs = [(a, b, math.dist(points[a], points[b])) for a in points for b in points if a != b]
        width = min((distance for *_, distance in pairs if distance), default=1.0)
        near: dict[str, dict[str, float]] = {letter: {} for letter in points}
        for intended, hit, distance in pairs:
            if distance <= FARTHEST * width:
                near[intended][hit] = math.exp(-((distance / width) ** 2))
        self.neighbours: dict[str, dict[str, float]] = {  # intended letter → letter hit → probability; each sums to 1
            intended: {hit: weight / sum(weights.values()) for hit, weight in weights.items()}
            for intended, weights in near.items() if weights}


def _compared(places: Places) -> dict[str, tuple[float, float]]:
    """The places of the letters as they are compared (`words.key`). What is no letter then, such as ß, has none."""
    points: dict[str, tuple[float, float]] = {}
    for letter, (x, y) in places.items():
        if len(letter) != 1:
            raise ValueError(f"{letter!r} is not one letter")
        if not (abs(x) <= FARTHEST_PLACE and abs(y) <= FARTHEST_PLACE):
            raise ValueError(f"the place of {letter!r} is not within {FARTHEST_PLACE:,.0f} of the origin")
        if len(own := key(letter)) == 1:
            points[own] = (float(x), float(y))
    return points


@functools.lru_cache(64)
def _of_places(places: tuple[tuple[str, tuple[float, float]], ...]) -> Keyboard:
    return Keyboard(dict(places))


def keyboard(layout: Layout = QWERTY) -> Keyboard:
    """The keyboard of a named layout, or of places: letter → (x, y).

    Raises ValueError for an unknown name, and as `Keyboard` does.
    """
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(f"there is no layout {layout!r}; accepted: {', '.join(LAYOUTS)}, or places of keys")
        places = tuple((letter, (column + shift, float(row)))
                       for row, (letters, shift) in enumerate(zip(LAYOUTS[layout], STAGGER))
                       for column, letter in enumerate(letters))
        return _of_places(places)
    return _of_places(tuple((letter, (x, y)) for letter, (x, y) in layout.items()))
