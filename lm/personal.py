"""The model of a person: the person's own text changes the distribution of the network and its cache.

The person's text is that of a profile, that of a history which comes with a question, and, beside one of these, the
text so far. It acts in three steps, each on the result of the one before:

1.  Words. The person's unigram scales the words of the vocabulary, p(w) ∝ p(w) (u(w) / v(w))^β. Here v is the usual
    unigram, and u the person's, (c(w) + μ v(w)) / (n + μ), for the c(w) times of n that the person has written w. This
    is the fast marginal adaptation of Kneser, Peters & Klakow 1997. Zipf's law gives v: token i of the vocabulary, whose
    order is that of frequency, has the share 1 / (i + ZIPF) (Mandelbrot 1953).
2.  Words that the vocabulary lacks. The network tells how likely such a word is: the probability of `<unk>`. A part of
    it goes to the person's own words, (c(w) - D) / (n + θ), which is a Pitman-Yor unigram (Teh 2006) over these words.
    The rest stays for words that the person has not written yet.
3.  Phrases. After the last m words of the text (m = 1, 2, 3), let n be the number of times that the person has written
    them, c(w) how often w followed, and t the number of different words that did:

        p_m(w) = A_m max(c(w) - D_m, 0) / (n + θ_m) + (1 - A_m (n - D_m t) / (n + θ_m)) p_{m-1}(w)

    with the result of step 2 as p_0. So these are n-grams to order 4, interpolated as in a hierarchical Pitman-Yor
    model with one table for each word (Teh 2006); where θ = 0, that is Kneser-Ney smoothing. So the weight of the
    person's text depends on how much of it was seen after this context. A_m bounds it. It is higher where the network
    knows less: after a word that the vocabulary lacks, and for such a word.

The words of a context are compared by their key, so any spelling fits. A suggested word has the person's spelling.
The weights were chosen on validation text by author (`nextword evaluate --tune-person`): see training/README.md.
"""
from __future__ import annotations

import weakref
from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from typing import NamedTuple

import numpy
import torch

from nextword.lm.candidates import Candidates
from nextword.lm.context import Context, Distribution
from nextword.lm.forgetting import digest
from nextword.lm.keyboards import Keyboard
from nextword.lm.profile import Profile
from nextword.lm.vocabulary import EOS_ID, UNK_ID, Vocabulary
from nextword.lm.words import key, straight

CONTEXT = 3  # words; the order of the n-grams is one more
FREQUENT = 50  # words outside the vocabulary that are offered after any context before a letter is typed
ZIPF = 2.7
LAST = chr(0x10FFFF)


@dataclass(frozen=True)
class PersonalSettings:
    """The parameters of the model of a person.

    ladder            typed letters before a word that the vocabulary lacks is suggested: of a word written once, twice, …
    power, prior      β and μ
    discount_own      D and D_m for words that the vocabulary lacks
    own               θ of step 2
    most, discount, concentration    A_m, D_m and θ_m, for m = 1, 2, 3
    most_after_own    A_m where the last word is one that the vocabulary lacks
    most_own          A_m for words that the vocabulary lacks
    """

    ladder: tuple[int, ...] = (2, 1)
    power: float = 0.5
    prior: float = 20_000.0
    discount_own: float = 0.5
    own: float = 10.0
    most: tuple[float, ...] = (0.1, 0.2, 0.2)
    discount: tuple[float, ...] = (0.3, 0.7, 0.8)
    concentration: tuple[float, ...] = (50.0, 5.0, 0.5)
    most_after_own: float = 0.6
    most_own: tuple[float, ...] = (0.6, 0.8, 0.8)


class Source(NamedTuple):
    """Text of the person as numbers, in which phrases are looked up.

    keys    (n,) for each token the number of its key, negative where there is no token
    tokens  (n,) the tokens, negative where there is none
    last    the numbers of the keys of the last words before the next word, the last one first; ABSENT: not in this text
    """

    keys: numpy.ndarray
    tokens: numpy.ndarray
    last: Sequence[int]

    def following(self) -> list[numpy.ndarray]:
        """The tokens after each occurrence of the last word, after each one of the last two words, …"""
        found: list[numpy.ndarray] = []
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


ABSENT = -2
_NO_TOKENS = numpy.zeros(0, int)


class ProfileView:
    """A profile as one vocabulary sees it. A word that the vocabulary lacks is the token V + its number in the profile.

    tokens, keys       (n,) the text, as in a `Source`
    known, factors     (w,) the tokens of the vocabulary that the profile has, and by which factor step 1 makes each
                       likelier than the tokens that it lacks
    own_counts         token → occurrences, for the words that the vocabulary lacks, the most frequent first
    own_total          their sum
    key_counts         key → occurrences, for these words
    hidden             the tokens of the vocabulary that are blocked or forgotten
    allowed            the keys of taught words
    """

    def __init__(self, profile: Profile, ids: dict[str, int], tokens_of_key: dict[str, list[int]],
                 usual: numpy.ndarray, settings: PersonalSettings) -> None:
        self.version, self.profile, size = profile.version, profile, len(usual)
        to_token = numpy.array([ids.get(straight(spelling), size + number) if spelling else -1
                                for number, spelling in enumerate(profile.spellings)])
        numbers = profile.tokens
        self.tokens = numpy.where(numbers >= 0, to_token[numbers], -1)
        self.keys = numpy.where(numbers >= 0, profile.keys_of_tokens[numbers], -1)
        counts = profile.counts()
        used = numpy.flatnonzero(counts)
        known = used[to_token[used] < size]
        known_counts = numpy.bincount(to_token[known], counts[known], size)
        self.known = numpy.flatnonzero(known_counts)
        self.factors = (1 + known_counts[self.known] / (settings.prior * usual[self.known])) ** settings.power
        own = used[to_token[used] >= size]
        own = own[numpy.argsort(-counts[own], kind="stable")]
        self.own_counts = dict(zip(to_token[own].tolist(), counts[own].tolist()))
        self.own_total = int(counts[own].sum())
        self._sorted = sorted((key(profile.spellings[number]), size + number) for number in own.tolist())
        self._size = size
        self.key_counts = Counter[str]()
        for own_key, token in self._sorted:
            self.key_counts[own_key] += self.own_counts[token]
        self.allowed = frozenset(map(key, profile.taught))
        self.hidden = [token for word in profile.blocked for token in tokens_of_key.get(word, [])]
        if profile.forgotten:
            self.hidden += [token for word, tokens in tokens_of_key.items() if digest(word) in profile.forgotten
                            for token in tokens]

    def spelling(self, token: int) -> str:
        return self.profile.spellings[token - self._size]

    def beginning(self, typed: str) -> list[int]:
        """The words outside the vocabulary whose keys begin with these letters."""
        first, last = bisect_left(self._sorted, (typed,)), bisect_left(self._sorted, (typed + LAST,))
        return [token for _, token in self._sorted[first:last]]


    @cached_property
    def _candidates(self) -> Candidates:
        return Candidates([word for word, _ in self._sorted])

    def near(self, typed: str, keyboard: Keyboard) -> list[int]:
        """The words outside the vocabulary that may be meant by typed letters with a slip."""
        return [self._sorted[number][1] for number in self._candidates.find(typed, keyboard)[0].tolist()]


class PersonalWords:
    """What a `Distribution` tells of the person's words that the vocabulary lacks, beside its `unknown`.

    allowed: keys of words that the person taught. They are suggested even if the service blocks them.
    """

    def __init__(self, settings: PersonalSettings, views: Sequence[ProfileView], free: Container[str], share: float
                 ) -> None:
        """free: keys of words of the text so far. share: the probability of a word that does not follow this context,
        divided by its occurrences less the discount.
        """
        self._settings, self._views, self._free, self._share = settings, views, free, share
        self.allowed: frozenset[str] = frozenset().union(*(view.allowed for view in views))

    def letters(self, word: str) -> int:
        """The number of letters that are typed before a word, given by its key, is suggested."""
        if word in self._free or word in self.allowed:
            return 0
        count, ladder = sum(view.key_counts[word] for view in self._views), self._settings.ladder
        return ladder[count - 1] if 0 < count <= len(ladder) else 0

    def beginning(self, typed: str) -> dict[str, float]:
        """Spelling → probability of the words whose keys begin with these letters, if they do not follow the context."""
        return self._probabilities([view.beginning(typed) for view in self._views] if typed else [])

    def near(self, typed: str, keyboard: Keyboard) -> dict[str, float]:
        """The same for the words that may be meant by typed letters with a slip."""
        return self._probabilities([view.near(typed, keyboard) for view in self._views])

    def hides(self, word: str) -> bool:
        """True if no answer may have the word with this key."""
        return any(view.profile.hides(word) for view in self._views)

    def _probabilities(self, tokens_of_views: Sequence[Sequence[int]]) -> dict[str, float]:
        words: dict[str, float] = {}
        for view, tokens in zip(self._views, tokens_of_views):
            for token in tokens:
                spelling = view.spelling(token)
                count = view.own_counts[token] - self._settings.discount_own
                words[spelling] = words.get(spelling, 0.0) + count * self._share
        return words


class Personal:
    """Mixes distributions with the models of persons, for one vocabulary."""

    def __init__(self, vocabulary: Vocabulary, settings: PersonalSettings | None = None) -> None:
        self.settings = settings or PersonalSettings()
        self._words = vocabulary.words
        self._ids = {word: i for i, word in enumerate(self._words) if i != UNK_ID}
        zipf = 1 / (numpy.arange(len(self._words)) + ZIPF)
        self._usual = zipf / zipf.sum()
        keys = [key(word) for word in self._words]
        self._key_numbers = {word: number for number, word in enumerate(dict.fromkeys(keys))}
        self._keys = numpy.array([self._key_numbers[word] for word in keys])
        self._tokens_of_key: dict[str, list[int]] = {}
        for token in range(EOS_ID + 1, len(keys)):
            self._tokens_of_key.setdefault(keys[token], []).append(token)
        self._views: weakref.WeakKeyDictionary[Profile, ProfileView] = weakref.WeakKeyDictionary()

    def mixed(self, distribution: Distribution, context: Context, profiles: Sequence[Profile]) -> Distribution:
        """The distribution after `context` mixed with the model of the person. The given one is not used afterwards.

        profiles: the person's earlier text, in one or several profiles.
        """
        views = [self._view(profile) for profile in profiles]
        if not views:
            return distribution
        settings, size = self.settings, len(self._words)
        last = self._last_keys(context)
        # The words that the vocabulary lacks are tokens from `size` on, in each view. Here each view has its own range.
        starts = [0, *accumulate(len(view.profile.spellings) for view in views)]
        new: dict[str, int] = {}  # spelling → token, for words of the text so far that no view has
        sources = [self._text(context, last, views, starts, new)]
        for view, start in zip(views, starts):
            tokens = numpy.where(view.tokens >= size, view.tokens + start, view.tokens) if start else view.tokens
            sources.append(Source(view.keys, tokens, [view.profile.key_numbers.get(word, ABSENT) for word in last]))
        after_own = context.cached.tokens[-1:].tolist() == [UNK_ID]
        phrases, rest = self._phrases(sources, after_own)
        values = distribution.probabilities.numpy()
        unk = float(values[UNK_ID])
        for view in views:
            values[view.known] *= view.factors
        values[UNK_ID] = 0.0
        in_text = Counter(sources[0].tokens[sources[0].tokens >= size].tolist())
        total = sum(view.own_total for view in views) + in_text.total()
        types = sum(len(view.own_counts) for view in views) + len(new)
        written = max(0.0, total - settings.discount_own * types) / (total + settings.own)
        share = rest * unk / (total + settings.own)
        scale = rest * (1 - unk - sum(distribution.unknown.values())) / max(1e-30, float(values.sum()))
        values *= scale
        values[UNK_ID] = rest * unk * (1 - written)
        own: dict[int, float] = {}
        for tokens, shares in phrases:
            known = tokens < size
            values[tokens[known]] += shares[known]
            for token, probability in zip(tokens[~known].tolist(), shares[~known].tolist()):
                own[token] = own.get(token, 0.0) + probability
        for token in new.values():
            in_text[token] -= settings.discount_own  # type: ignore[assignment]
        for token, count in in_text.items():
            own[token] = own.get(token, 0.0) + count * share
        unknown = {spelling: p * rest for spelling, p in distribution.unknown.items()}
        for view, start, end in zip(views, starts, starts[1:]):
            for token in {*(token - start for token in own if start <= token - size < end),
                          *islice(view.own_counts, FREQUENT)}:
                probability = own.pop(token + start, 0.0)
                if token in view.own_counts:
                    probability += (view.own_counts[token] - settings.discount_own) * share
                spelling = view.spelling(token)
                unknown[spelling] = unknown.get(spelling, 0.0) + probability
        for spelling, token in new.items():
            unknown[spelling] = unknown.get(spelling, 0.0) + own[token]
        for view in views:
            values[view.hidden] = 0.0
            if view.profile.blocked or view.profile.forgotten:
                unknown = {word: p for word, p in unknown.items() if not view.profile.hides(key(word))}
        seen = [part for part in (distribution.seen, *(torch.from_numpy(view.known) for view in views))
                if part is not None]
        return Distribution(None, unknown, torch.cat(seen), distribution.probabilities,
                            PersonalWords(settings, views, set(map(key, context.unknown.values())), share))

    def _phrases(self, sources: Sequence[Source], after_own: bool
                 ) -> tuple[list[tuple[numpy.ndarray, numpy.ndarray]], float]:
        """Step 3: for each length of the context, tokens and their shares of the probability; and what is left of it.

        after_own: True if the last word is one that the vocabulary lacks.
        """
        settings, parts, rest = self.settings, [], 1.0
        following = [source.following() for source in sources]
        for m in reversed(range(CONTEXT)):
            found = [tokens[m] for tokens in following if m < len(tokens)]
            tokens, counts = numpy.unique(numpy.concatenate([_NO_TOKENS, *found]), return_counts=True)
            if len(tokens):
                own = tokens >= len(self._words)
                most_known = settings.most_after_own if after_own else settings.most[m]
                most = numpy.where(own, settings.most_own[m], most_known)
                less = numpy.where(own, settings.discount_own, settings.discount[m])
                shares = numpy.maximum(counts - less, 0.0) * most * rest / (counts.sum() + settings.concentration[m])
                parts.append((tokens, shares))
                rest -= float(shares.sum())
        return parts, rest

    def _view(self, profile: Profile) -> ProfileView:
        view = self._views.get(profile)
        if view is None or view.version != profile.version:
            view = ProfileView(profile, self._ids, self._tokens_of_key, self._usual, self.settings)
            self._views[profile] = view
        return view

    def _last_keys(self, context: Context) -> list[str]:
        """The keys of the last words of a text, the last one first. A text begins after the end of a paragraph."""
        tokens = context.cached.tokens[-CONTEXT:].tolist()
        first = len(context.cached) - len(tokens)
        words = [key(context.unknown.get(first + place, self._words[token])) for place, token in enumerate(tokens)]
        if context.length < CONTEXT:
            words.insert(0, self._words[EOS_ID])
        return words[::-1]

    def _text(self, text: Context, last: list[str], views: Sequence[ProfileView], starts: Sequence[int],
              new: dict[str, int]) -> Source:
        """The text so far as a source. `new` gets its words that neither the vocabulary nor a view has."""
        tokens = text.cached.tokens.numpy().copy()
        keys = self._keys[tokens]
        keys[tokens == UNK_ID] = tokens[tokens == UNK_ID] = -1
        own_keys: dict[str, int] = {}
        size = len(self._words)
        for place, spelling in text.unknown.items():
            own, number = key(spelling), None
            for view, start in zip(views, starts):
                if number is None and (number := view.profile.number(spelling)) is not None:
                    number += start
            tokens[place] = size + number if number is not None else new.setdefault(spelling,
                                                                                    size + starts[-1] + len(new))
            keys[place] = self._key_numbers.get(own) or own_keys.setdefault(own, len(self._key_numbers) + len(own_keys))
        return Source(keys, tokens, [self._key_numbers.get(word, own_keys.get(word, ABSENT)) for word in last])
