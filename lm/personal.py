"""The model of a person: n-grams of the person's own text, to order 4, mixed with the network and its cache.

The person's text is that of a profile, of the history that comes with a question, and of the text so far. After the
last m words of the text (m = 3, 2, 1), let n be the number of times that the person has written these words, c(w) how
often w followed them, and t the number of different words that did:

    p_m(w) = A_m max(c(w) - D_m, 0) / (n + θ_m) + (1 - A_m (n - D_m t) / (n + θ_m)) p_{m-1}(w)

This is the interpolation of a hierarchical Pitman-Yor model with one table for each word (Teh 2006), which is
interpolated Kneser-Ney smoothing where θ = 0; A_m bounds the weight. Its base is not the uniform distribution but p_0,
the network's with the cache. So the weight of the person's text depends on how much of it was seen after this context.
p_0 also has a share of the person's unigram, which grows with the text, and in place of a share of the network's
`<unk>` the person's words that the vocabulary lacks, as often as the person writes them.

The words of a context are compared by their key, so any spelling fits. A suggested word has the person's spelling.
"""
from __future__ import annotations

import weakref
from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy
import torch

from nextword.lm.context import Context, Distribution
from nextword.lm.forgetting import digest
from nextword.lm.profile import Profile
from nextword.lm.vocabulary import EOS_ID, UNK_ID, Vocabulary
from nextword.lm.words import key, straight

CONTEXT = 3  # words; the order of the n-grams is one more
FREQUENT = 50  # words outside the vocabulary that are offered after any context before a letter is typed
LAST = chr(0x10FFFF)


@dataclass(frozen=True)
class PersonalSettings:
    """The parameters of the model of a person.

    ladder         typed letters before a word that the vocabulary lacks is suggested: of a word written once, twice, …
    most           A_1, A_2, A_3, the most weight after 1, 2, 3 words of context
    concentration  θ_1, θ_2, θ_3
    discount       D_1, D_2, D_3
    unigram        the weight of the unigram of a very long text; that of n words is unigram n / (n + half)
    half           in words
    unknown        of n occurrences of words that the vocabulary lacks, the share n / (n + unknown) replaces `<unk>`
    """

    ladder: tuple[int, ...] = (2, 1)
    most: tuple[float, ...] = (0.5, 0.7, 0.9)
    concentration: tuple[float, ...] = (20.0, 5.0, 2.0)
    discount: tuple[float, ...] = (0.8, 0.8, 0.8)
    unigram: float = 0.03
    half: float = 2000.0
    unknown: float = 100.0


class _Counts(NamedTuple):
    """Different tokens (n,) and the occurrences of each."""

    tokens: numpy.ndarray
    counts: numpy.ndarray

    @classmethod
    def of(cls, parts: Sequence[numpy.ndarray]) -> _Counts:
        return cls(*numpy.unique(numpy.concatenate([_NO_TOKENS, *parts]), return_counts=True))


_NO_TOKENS = numpy.zeros(0, int)


class _Source(NamedTuple):
    """Text of the person. Tokens are those of the vocabulary (V,), then numbers of words that it lacks.

    keys    (n,) for each token the number of its key, negative where there is no token
    tokens  (n,)
    last    the numbers of the keys of the last words before the next word, the last one first; -2: not in this text
    """

    keys: numpy.ndarray
    tokens: numpy.ndarray
    last: Sequence[int]

    def following(self) -> list[numpy.ndarray]:
        """The tokens after each occurrence of the last word, of the last two words, …"""
        found = []
        places = numpy.flatnonzero(self.keys[:-1] == self.last[0]) + 1 if self.last else _NO_TOKENS
        for m in range(len(self.last)):
            if m:
                places = places[places > m]
                places = places[self.keys[places - m - 1] == self.last[m]]
            if not len(places):
                break
            tokens = self.tokens[places]
            found.append(tokens[tokens >= 0])
        return found


class ProfileView:
    """A profile as one vocabulary sees it. A word that the vocabulary lacks is the token V + its number in the profile.

    known    the tokens of the vocabulary that the profile has
    own      the other words, the most frequent first
    total    the tokens of the profile
    hidden   the tokens of the vocabulary that are blocked or forgotten
    allowed  the keys of taught words
    """

    def __init__(self, profile: Profile, ids: dict[str, int], tokens_of_key: dict[str, list[int]], size: int) -> None:
        self.version, self.profile, self._size = profile.version, profile, size
        to_token = numpy.array([ids.get(straight(spelling), size + number) if spelling else -1
                                for number, spelling in enumerate(profile.spellings)])
        numbers = profile.tokens
        self.tokens = numpy.where(numbers >= 0, to_token[numbers], -1)
        self.keys = numpy.where(numbers >= 0, profile.keys_of_tokens[numbers], -1)
        counts = profile.counts()
        self.total = int(counts.sum())
        used = numpy.flatnonzero(counts)
        known = to_token[used] < size
        self.known = _Counts(to_token[used[known]], counts[used[known]])
        own = used[~known][numpy.argsort(-counts[used[~known]], kind="stable")]
        self.own = _Counts(to_token[own], counts[own])
        self.own_counts = dict(zip(self.own.tokens.tolist(), self.own.counts.tolist()))
        self.own_sorted = sorted((key(profile.spellings[number]), size + number) for number in own.tolist())
        self.key_counts = Counter[str]()
        for own_key, token in self.own_sorted:
            self.key_counts[own_key] += self.own_counts[token]
        self.allowed = frozenset(map(key, profile.taught))
        self.hidden = [token for word in profile.blocked for token in tokens_of_key.get(word, [])]
        if profile.forgotten:
            self.hidden += [token for word, tokens in tokens_of_key.items() if digest(word) in profile.forgotten
                            for token in tokens]

    def spelling(self, token: int) -> str:
        return self.profile.spellings[token - self._size]


class PersonalWords:
    """What a `Distribution` knows of the person's words that the vocabulary lacks, beside its `unknown`."""

    def __init__(self, ladder: tuple[int, ...], counts: Counter[str], free: Container[str], view: ProfileView | None,
                 factor: float) -> None:
        """counts: key → occurrences in the history. free: keys of words of the text so far. factor: the probability of
        a word that does not follow the context, divided by its occurrences in the profile.
        """
        self._ladder, self._counts, self._free, self._view, self._factor = ladder, counts, free, view, factor

    @property
    def allowed(self) -> frozenset[str]:
        """Keys of words that the person taught: they are suggested even if the service blocks them."""
        return self._view.allowed if self._view is not None else frozenset()

    def letters(self, word: str) -> int:
        """The number of letters that are typed before a word, given by its key, is suggested."""
        if word in self._free or word in self.allowed:
            return 0
        count = self._counts[word] + (self._view.key_counts[word] if self._view is not None else 0)
        return self._ladder[count - 1] if 0 < count <= len(self._ladder) else 0

    def beginning(self, typed: str) -> dict[str, float]:
        """Spelling → probability of the words of the profile whose keys begin with these letters, after any context."""
        if self._view is None or not typed:
            return {}
        words = self._view.own_sorted
        first, last = bisect_left(words, (typed,)), bisect_left(words, (typed + LAST,))
        return {self._view.spelling(token): self._view.own_counts[token] * self._factor
                for _, token in words[first:last]}


class Personal:
    """Mixes distributions with the models of persons, for one vocabulary."""

    def __init__(self, vocabulary: Vocabulary, settings: PersonalSettings | None = None) -> None:
        self.settings = settings or PersonalSettings()
        self._words = vocabulary.words
        self._ids = {word: i for i, word in enumerate(self._words) if i != UNK_ID}
        keys = [key(word) for word in self._words]
        self._key_numbers = {word: number for number, word in enumerate(dict.fromkeys(keys))}
        self._keys = numpy.array([self._key_numbers[word] for word in keys])
        self._tokens_of_key: dict[str, list[int]] = {}
        for token in range(EOS_ID + 1, len(keys)):
            self._tokens_of_key.setdefault(keys[token], []).append(token)
        self._views: weakref.WeakKeyDictionary[Profile, ProfileView] = weakref.WeakKeyDictionary()

    def mixed(self, distribution: Distribution, context: Context, history: Context | None, profile: Profile | None
              ) -> Distribution:
        """The distribution after `context` mixed with the model of the person. The given one is not used afterwards.

        history: the person's earlier text. profile: the person's profile.
        """
        if history is not None and not len(history.cached):
            history = None
        if history is None and profile is None:
            return distribution
        settings, size = self.settings, len(self._words)
        view = self._view(profile) if profile is not None else None
        last = self._last_keys(context)
        numbers: dict[str, int] = {}  # spelling → token, for words of context and history that the vocabulary lacks
        texts = [self._source(text, last, view, numbers) for text in (context, history) if text is not None]
        sources = list(texts)
        if view is not None:
            sources.append(_Source(view.keys, view.tokens, [view.profile.key_numbers.get(word, -2) for word in last]))
        parts, rest = self._after_context(sources)

        in_texts = _Counts.of([text.tokens[text.tokens >= 0] for text in texts])
        unigrams = [in_texts] if view is None else [in_texts, view.known, view.own]
        total = int(in_texts.counts.sum()) + (view.total if view is not None else 0)
        weight = settings.unigram * total / (total + settings.half)
        own_total = sum(int(counts[tokens >= size].sum()) for tokens, counts in unigrams)
        values = distribution.probabilities.numpy()
        unknown_share = own_total / (own_total + settings.unknown)
        of_word = rest * weight / max(1, total)
        of_own = of_word + rest * (1 - weight) * float(values[UNK_ID]) * unknown_share / max(1, own_total)
        values[UNK_ID] *= 1 - unknown_share
        values *= rest * (1 - weight)
        own: dict[int, float] = {}
        for tokens, shares in [*parts, *((tokens, counts * of_word) for tokens, counts in unigrams[:2])]:
            known = tokens < size
            values[tokens[known]] += shares[known]
        for tokens, shares in parts:
            for token, share in zip(tokens[tokens >= size].tolist(), shares[tokens >= size].tolist()):
                own[token] = own.get(token, 0.0) + share
        for token, count in zip(*(part[in_texts.tokens >= size].tolist() for part in in_texts)):
            own[token] = own.get(token, 0.0) + count * of_own
        spellings = {token: spelling for spelling, token in numbers.items()}
        if view is not None:
            for token in [*own, *islice((token for token in view.own_counts if token not in own), FREQUENT)]:
                own[token] = own.get(token, 0.0) + view.own_counts.get(token, 0) * of_own
        unknown = {spelling: p * rest * (1 - weight) for spelling, p in distribution.unknown.items()}
        for token, probability in own.items():
            spelling = spellings.get(token) or view.spelling(token)  # type: ignore[union-attr]
            unknown[spelling] = unknown.get(spelling, 0.0) + probability
        seen = distribution.seen
        if view is not None and profile is not None:
            values[view.hidden] = 0.0
            if profile.blocked or profile.forgotten:
                unknown = {spelling: p for spelling, p in unknown.items() if not profile.hides(key(spelling))}
            known_tokens = torch.from_numpy(view.known.tokens)
            seen = known_tokens if seen is None else torch.cat([seen, known_tokens])
        counts = Counter(map(key, history.unknown.values())) if history is not None else Counter[str]()
        free = set(map(key, context.unknown.values()))
        return Distribution(None, unknown, seen, distribution.probabilities,
                            PersonalWords(settings.ladder, counts, free, view, of_own))

    def _after_context(self, sources: Sequence[_Source]) -> tuple[list[tuple[numpy.ndarray, numpy.ndarray]], float]:
        """Tokens and their shares of the probability for each length of the context, and what is left of it."""
        settings, parts, rest = self.settings, [], 1.0
        following = [source.following() for source in sources]
        for m in reversed(range(CONTEXT)):
            tokens, counts = _Counts.of([found[m] for found in following if m < len(found)])
            if len(tokens):
                scale = rest * settings.most[m] / (counts.sum() + settings.concentration[m])
                shares = numpy.maximum(counts - settings.discount[m], 0.0) * scale
                parts.append((tokens, shares))
                rest -= float(shares.sum())
        return parts, rest

    def _view(self, profile: Profile) -> ProfileView:
        view = self._views.get(profile)
        if view is None or view.version != profile.version:
            view = self._views[profile] = ProfileView(profile, self._ids, self._tokens_of_key, len(self._words))
        return view

    def _last_keys(self, context: Context) -> list[str]:
        """The keys of the last words of a text, the last one first. A text begins after the end of a paragraph."""
        tokens = context.cached.tokens[-CONTEXT:].tolist()
        first = len(context.cached) - len(tokens)
        words = [key(context.unknown.get(first + place, self._words[token])) for place, token in enumerate(tokens)]
        if context.length < CONTEXT:
            words.insert(0, self._words[EOS_ID])
        return words[::-1]

    def _source(self, text: Context, last: list[str], view: ProfileView | None, numbers: dict[str, int]) -> _Source:
        """A text as a source. numbers: words that the vocabulary lacks are added, each with a number as a token."""
        tokens = text.cached.tokens.numpy().copy()
        keys = self._keys[tokens]
        keys[tokens == UNK_ID] = -1
        own_keys: dict[str, int] = {}
        size = len(self._words)
        for place, spelling in text.unknown.items():
            if view is not None and (number := view.profile.number(spelling)) is not None:
                tokens[place] = size + number
            else:
                first = size + (len(view.profile.spellings) if view is not None else 0)
                tokens[place] = numbers.setdefault(spelling, first + len(numbers))
            own = key(spelling)
            keys[place] = self._key_numbers.get(own) or own_keys.setdefault(own, len(self._key_numbers) + len(own_keys))
        tokens[tokens == UNK_ID] = -1
        return _Source(keys, tokens, [self._key_numbers.get(word, own_keys.get(word, -2)) for word in last])
