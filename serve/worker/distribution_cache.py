"""Caches the distributions of recent questions: each letter of a word asks for the distribution of the same text."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from nextword.lm.context import Context, Distribution
from nextword.lm.model import Model
from nextword.lm.profile import Profile


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
        self._entries: OrderedDict[Hashable, Distribution] = OrderedDict()
        self.bytes = 0

    def predict(
        self, keys: Sequence[Hashable], contexts: Sequence[Context], histories: Sequence[Profile | None],
        profiles: Sequence[Profile | None],
    ) -> list[Distribution]:
        """Return the result of `Model.predict`. Distributions with a key that the cache has are not computed again.

        keys: for each distribution, all that it depends on.
        """
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

    def _keep(self, key: Hashable, distribution: Distribution) -> None:
        if key not in self._entries:
            self.bytes += distribution.bytes
            self._entries[key] = distribution
        self._entries.move_to_end(key)
        while self.bytes > self._limit:
            self.bytes -= self._entries.popitem(last=False)[1].bytes
