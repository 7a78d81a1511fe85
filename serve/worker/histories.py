"""Profiles made of the histories of recent questions: most questions of a person have the same history."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from nextword.lm.profile import Profile, profile_of
from nextword.serve.text_window import BLANKS
from nextword.serve.worker.state_cache import Key, text_key

KEPT_CHARACTERS = 1_000_000  # of all histories, which take about 40 bytes a character
SHORTEST = 200  # characters that a shorter history counts as, because each takes some 8,000 bytes
LEARNT = 20  # characters that are learnt in the time of reading one


class Histories:
    """Recent histories; the least recently used ones are dropped first.

    Args:
        limit: the most characters of all of them.
    """

    def __init__(self, limit: int = KEPT_CHARACTERS):
        self._limit = limit
        self._learnt: OrderedDict[Key, Profile | None] = OrderedDict()
        self._characters = 0

    def cost(self, text: str) -> int:
        """Return the characters of a text that can be read in the time of learning this one, about."""
        return 0 if text_key(text.rstrip(BLANKS)) in self._learnt else len(text) // LEARNT

    def get(self, texts: Sequence[str]) -> list[Profile | None]:
        """Return a profile for each text; None for a text without tokens."""
        keys = []
        new: dict[Key, Profile | None] = {}
        for text in texts:
            key = text_key(text.rstrip(BLANKS))
            if key in self._learnt:
                self._learnt.move_to_end(key)
            elif key not in new:
                new[key] = profile_of(text)
            keys.append(key)
        profiles = [new[key] if key in new else self._learnt[key] for key in keys]
        for key, profile in new.items():
            self._learnt[key] = profile
            self._characters += _counted(key)
        while self._characters > self._limit:
            key, _ = self._learnt.popitem(last=False)
            self._characters -= _counted(key)
        return profiles


def _counted(key: Key) -> int:
    """Return the characters that a history counts as."""
    return max(SHORTEST, key[0])
