"""Caches the distributions of recent questions: each letter of a word asks for the distribution of the same text."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from nextword.lm.context import Context, Distribution
from nextword.lm.model import Model
from nextword.lm.profile import Profile
from nextword.serve.worker.state_cache import Key as TextKey

# Of the text, and the versions of the history and of the profile
Key = tuple[TextKey, "int | None", "int | None"]


class DistributionCache:
    """The distributions after recent texts; the least recently used ones are dropped first.

    Args:
        model: computes the distributions.
        limit: the most bytes of all distributions.

    Attributes:
        bytes: the approximate size of all distributions.
    """

    def __init__(self, model: Model, limit: int):
        self._model, self._limit = model, limit
        self._entries: OrderedDict[Key, Distribution] = OrderedDict()
        self._versions: WeakKeyDictionary[Profile, int] = WeakKeyDictionary()
        self.bytes = 0

    def predict(
        self, texts: Sequence[TextKey], contexts: Sequence[Context], histories: Sequence[Profile | None],
        profiles: Sequence[Profile | None],
    ) -> list[Distribution]:
        """Return the result of `Model.predict`; what the cache has is not computed again.

        texts: the keys of the texts.
        """
        for profile in profiles:
            if profile and self._versions.get(profile) != profile.version:
                self._drop(profile)
        keys = [(text, history.version if history else None, profile.version if profile else None)
                for text, history, profile in zip(texts, histories, profiles)]
        places = {key: place for place, key in enumerate(keys) if key not in self._entries}
        cached = {key: self._entries[key] for key in keys if key not in places}
        if places:
            rows = places.values()
            new = self._model.predict([contexts[row] for row in rows], [histories[row] for row in rows],
                                      [profiles[row] for row in rows])
            cached.update(zip(places, new))
        for key in dict.fromkeys(keys):
            self._keep(key, cached[key])
        return [cached[key] for key in keys]

    def _drop(self, profile: Profile) -> None:
        """Drop the distributions of a profile's earlier version, which keep that version in memory."""
        earlier, self._versions[profile] = self._versions.get(profile), profile.version
        for key in [key for key in self._entries if key[2] == earlier is not None]:
            self.bytes -= self._entries.pop(key).bytes

    def _keep(self, key: Key, distribution: Distribution) -> None:
        if key not in self._entries:
            self.bytes += distribution.bytes
            self._entries[key] = distribution
        self._entries.move_to_end(key)
        while self.bytes > self._limit:
            self.bytes -= self._entries.popitem(last=False)[1].bytes
