"""The model of a person: the person's own text changes the distribution of the network and its cache.

The person's text is that of a profile, that of a history which comes with a question, and, beside one of these, the
text so far. It acts in three steps, each on the result of the one before:

1.  Words. The person's unigram scales the words of the vocabulary: p(w) ∝ p(w) (u(w) / v(w))^β. v is the usual
    unigram, and u is the person's, (c(w) + μ v(w)) / (n + μ): the person has written w c(w) times in n words. This is
    the fast marginal adaptation of Kneser, Peters & Klakow 1997. Zipf's law gives v: word i of the vocabulary, whose
    order is that of frequency, has the share 1 / (i + ZIPF).
2.  Words that the vocabulary lacks. The network tells how likely such a word is: it is the probability of `<unk>`. The
    person's own words get (c(w) - D) / (n + θ) of it, as in a Pitman-Yor model (Teh 2006) of these n words alone. The
    rest stays for words that the person has not written yet.
3.  Phrases. After the last m words of the text (m = 1, 2, 3), let n be the number of times that the person has written
    them, c(w) how often w followed, and t the number of different words that did:

        p_m(w) = A_m max(c(w) - D_m, 0) / (n + θ_m) + (1 - A_m (n - D_m t) / (n + θ_m)) p_{m-1}(w)

    with the result of step 2 as p_0. So these are n-grams to order 4, interpolated as in a hierarchical Pitman-Yor
    model with one table for each word (Teh 2006); where θ = 0, that is Kneser-Ney smoothing. So the weight of the
    person's text depends on how much of it was seen after this context. A_m bounds it. It is higher where the network
    knows less: after a word that the vocabulary lacks, and for such a word.

The words of a context are compared by their key, so any spelling fits. A suggested word has the person's spelling.
The parameters were chosen on validation text, with an author's earlier text as profile and history: see
training/README.md.
"""
from __future__ import annotations

import functools
import weakref
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import numpy
import torch

from nextword.lm.candidates import Candidates
from nextword.lm.context import Context, Distribution
from nextword.lm.forgetting import digest, parts
from nextword.lm.keyboards import Keyboard
from nextword.lm.profile import Profile
from nextword.lm.vocabulary import EOS_ID, UNK_ID, Vocabulary
from nextword.lm.words import key, straight

CONTEXT = 3  # words; the order of the n-grams is one more
FREQUENT = 30  # words outside the vocabulary that are offered after any context, and after any first letters
CORRECTED = 2_000  # words outside the vocabulary that are found by letters with a slip
ZIPF = 2.7
LAST = chr(0x10FFFF)


@dataclass(frozen=True)
class PersonalSettings:
    """The parameters of the model of a person.

    ladder               letters that are typed before a word which the vocabulary lacks is suggested: a word that the
                         person has written once, twice, …
    power, prior         β and μ
    discount_own         D, and D_m for words that the vocabulary lacks
    concentration_own    θ
    most                 A_m, for m = 1, 2, 3
    most_own             A_m for words that the vocabulary lacks
    discount             D_m
    concentration        θ_m
    most_after_own, concentration_after_own    A_m and θ_m where the vocabulary lacks the last word of the text
    """

    ladder: tuple[int, ...] = (2, 1)
    power: float = 0.5
    prior: float = 20_000.0
    discount_own: float = 0.5
    concentration_own: float = 10.0
    most: tuple[float, ...] = (0.1, 0.2, 0.2)
    most_own: tuple[float, ...] = (0.6, 0.8, 0.8)
    discount: tuple[float, ...] = (0.3, 0.7, 0.8)
    concentration: tuple[float, ...] = (50.0, 5.0, 0.5)
    most_after_own: float = 0.6
    concentration_after_own: float = 2.0


class Source(NamedTuple):
    """Text of the person as numbers, in which phrases are looked up.

    keys    (n,) for each token the number of its key, negative where there is no token
    tokens  (n,) the tokens, negative where there is none
    last    the numbers of the keys of the last words before the next word, the last one first; ABSENT: not in this text
    places  the places after the last word
    """

    keys: numpy.ndarray
    tokens: numpy.ndarray
    last: Sequence[int]
    places: numpy.ndarray

    def following(self) -> list[numpy.ndarray]:
        """The tokens after each occurrence of the last word, after each one of the last two words, …"""
        found: list[numpy.ndarray] = []
        places = self.places
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

    known, factors  (w,) the tokens of the vocabulary that the profile has, and by which factor step 1 makes each
                    likelier than the tokens that it lacks
    seen            int64 those of these tokens that the ranking holds back
    own_counts      token → occurrences, for the words that the vocabulary lacks
    own_total       their sum
    frequent        the most frequent ones of these words
    key_counts      key → occurrences, for these words
    hidden          the tokens of the vocabulary that are blocked or forgotten
    allowed         the keys of taught words
    """

    def __init__(self, profile: Profile, personal: Personal) -> None:
        self.version, self.profile, self._size = profile.version, profile, personal.size
        size, settings = personal.size, personal.settings
        to_token = numpy.array([personal.ids.get(straight(spelling), size + number) if spelling else -1
                                for number, spelling in enumerate(profile.spellings)], numpy.int32)
        numbers = profile.tokens
        self._tokens = numpy.where(numbers >= 0, to_token[numbers], -1)
        self._keys = numpy.where(numbers >= 0, profile.keys_of_tokens[numbers], -1)
        self._order = numpy.argsort(self._keys, kind="stable").astype(numpy.int32)
        self._starts = self._keys[self._order].searchsorted(numpy.arange(self._keys.max() + 2))
        counts = profile.counts()
        used = numpy.flatnonzero(counts)
        known = used[to_token[used] < size]
        known_counts = numpy.bincount(to_token[known], counts[known], size)
        self.known = numpy.flatnonzero(known_counts)
        factors = (1 + known_counts[self.known] / (settings.prior * personal.usual[self.known])) ** settings.power
        self.factors = factors.astype(numpy.float32)
        self.seen = torch.from_numpy(self.known[personal.held_back[self.known]])
        own = sorted((key(profile.spellings[number]), number) for number in used[to_token[used] >= size].tolist())
        self._own_keys = [own_key for own_key, _ in own]
        self._own = numpy.array([size + number for _, number in own], int)
        self._own_counts = counts[self._own - size]
        self.own_counts = dict(zip(self._own.tolist(), self._own_counts.tolist()))
        self.own_total = int(self._own_counts.sum())
        self.key_counts = Counter[str]()
        for own_key, count in zip(self._own_keys, self._own_counts.tolist()):
            self.key_counts[own_key] += count
        self.frequent = self.beginning("")
        self.allowed = frozenset(map(key, profile.taught))
        self.hidden = [token for word in profile.blocked for token in personal.tokens_of_key.get(word, [])]
        self.hidden += [token for one in profile.forgotten for token in personal.tokens_of_digest.get(one, [])]

    def source(self, last: Sequence[str]) -> Source:
        """The text as a source. last: the keys of the last words, the last one first."""
        numbers = [self.profile.key_numbers.get(word, ABSENT) for word in last]
        places = _NO_TOKENS
        if 0 <= numbers[0] < len(self._starts) - 1:
            places = self._order[self._starts[numbers[0]] : self._starts[numbers[0] + 1]] + 1  # the last token is END
        return Source(self._keys, self._tokens, numbers, places)

    def spelling(self, token: int) -> str:
        return self.profile.spellings[token - self._size]

    def beginning(self, typed: str) -> list[int]:
        """The words outside the vocabulary whose keys begin with these letters, the FREQUENT most frequent ones."""
        first, last = bisect_left(self._own_keys, typed), bisect_left(self._own_keys, typed + LAST)
        counts = self._own_counts[first:last]
        return self._own[first:last][numpy.argsort(-counts, kind="stable")[:FREQUENT]].tolist()

    @cached_property
    def _candidates(self) -> tuple[numpy.ndarray, Candidates]:
        """The places in `_own` of the CORRECTED most frequent words, and these words by letters with a slip."""
        places = numpy.sort(numpy.argsort(-self._own_counts, kind="stable")[:CORRECTED])
        return places, Candidates([self._own_keys[place] for place in places.tolist()])

    def near(self, typed: str, keyboard: Keyboard) -> list[int]:
        """Words outside the vocabulary that may be meant by letters with a slip, the FREQUENT most frequent ones."""
        places, candidates = self._candidates
        places = places[candidates.find(typed, keyboard)[0]]
        return self._own[places[numpy.argsort(-self._own_counts[places], kind="stable")[:FREQUENT]]].tolist()


class _Tokens:
    """The tokens of one question: those of the vocabulary (V,), then the words of each view, then new words.

    starts  for each view, the number of words of the views before it
    new     the words of the text so far that the vocabulary and all views lack
    """

    def __init__(self, size: int, views: Sequence[ProfileView]) -> None:
        self.size, self._views = size, views
        self.starts = [0, *accumulate(len(view.profile.spellings) for view in views)]
        self.new: list[str] = []

    def number(self, spelling: str) -> int:
        """The token of a word that the vocabulary lacks."""
        for view, start in zip(self._views, self.starts):
            if (number := view.profile.number(spelling)) is not None:
                return self.size + start + number
        if spelling not in self.new:
            self.new.append(spelling)
        return self.size + self.starts[-1] + self.new.index(spelling)

    def shifted(self, following: list[numpy.ndarray], start: int) -> list[numpy.ndarray]:
        """The result of `Source.following` for the view with this start, in the tokens of the question."""
        return [numpy.where(tokens < self.size, tokens, tokens + start) for tokens in following] if start else following

    def spelling_and_count(self, token: int) -> tuple[str, int]:
        """A word that the vocabulary lacks, and its occurrences in the profile that has it."""
        place = bisect_right(self.starts, token - self.size) - 1
        if place == len(self._views):
            return self.new[token - self.size - self.starts[-1]], 0
        view, token = self._views[place], token - self.starts[place]
        return view.spelling(token), view.own_counts.get(token, 0)


class PersonalWords:
    """What a `Distribution` tells of the person's words that the vocabulary lacks, beside its `unknown`.

    allowed: keys of words that the person taught. They are suggested even if the service blocks them.
    """

    def __init__(self, settings: PersonalSettings, views: Sequence[ProfileView], free: Container[str], of_each: float
                 ) -> None:
        """free: keys of words of the text so far. of_each: what step 2 gives for each occurrence of a word."""
        self._settings, self._views, self._free, self._of_each = settings, views, free, of_each
        self.allowed: frozenset[str] = frozenset().union(*(view.allowed for view in views))

    def letters(self, word: str) -> int:
        """The number of letters that are typed before a word, given by its key, is suggested."""
        if word in self._free or word in self.allowed:
            return 0
        count, ladder = sum(view.key_counts[word] for view in self._views), self._settings.ladder
        return ladder[count - 1] if 0 < count <= len(ladder) else 0

    def beginning(self, typed: str) -> dict[str, float]:
        """Spelling → probability, without step 3, of the words of the views whose keys begin with these letters."""
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
                if self.hides(key(spelling)):
                    continue
                count = view.own_counts[token] - self._settings.discount_own
                words[spelling] = words.get(spelling, 0.0) + count * self._of_each
        return words


class Personal:
    """Mixes distributions with the models of persons, for one vocabulary.

    held_back      (V,) True for tokens that are suggested only where the text or the person has them
    ids            word → token
    tokens_of_key  key → tokens of the vocabulary
    usual          (V,) the usual unigram
    """

    def __init__(self, vocabulary: Vocabulary, held_back: numpy.ndarray, settings: PersonalSettings | None = None
                 ) -> None:
        self.settings, self.held_back = settings or PersonalSettings(), held_back
        self._words, self.size = vocabulary.words, len(vocabulary)
        self.ids = {word: i for i, word in enumerate(self._words) if i != UNK_ID}
        zipf = 1 / (numpy.arange(self.size) + ZIPF)
        self.usual = zipf / zipf.sum()
        keys = [key(word) for word in self._words]
        self._key_numbers = {word: number for number, word in enumerate(dict.fromkeys(keys))}
        self._keys = numpy.array([self._key_numbers[word] for word in keys])
        self.tokens_of_key: dict[str, list[int]] = {}
        for token in range(EOS_ID + 1, len(keys)):
            self.tokens_of_key.setdefault(keys[token], []).append(token)
        self._views: weakref.WeakKeyDictionary[Profile, ProfileView] = weakref.WeakKeyDictionary()

    @functools.cached_property
    def tokens_of_digest(self) -> dict[str, list[int]]:
        """Digest of a forgotten word → the tokens of the vocabulary that it concerns. Made on first use, in 60 ms."""
        tokens: dict[str, list[int]] = defaultdict(list)
        for word, same in self.tokens_of_key.items():
            for part in parts(word):
                tokens[digest(part)] += same
        return dict(tokens)

    def mixed(self, distribution: Distribution, context: Context, profiles: Sequence[Profile]) -> Distribution:
        """The distribution after `context` mixed with the model of the person. The given one is not used afterwards.

        profiles: the person's earlier text, in one or several profiles. Without any, the distribution stays as it is.
        """
        views = [self._view(profile) for profile in profiles]
        if not views:
            return distribution
        settings, tokens = self.settings, _Tokens(self.size, views)
        last = self._last_keys(context)
        text = self._text(context, last, tokens)
        following = [text.following(), *(tokens.shifted(view.source(last).following(), start)
                                         for view, start in zip(views, tokens.starts))]
        phrases, rest = self._phrases(following, after_own=context.cached.tokens[-1:].tolist() == [UNK_ID])

        values = distribution.probabilities.numpy()
        of_unknown, of_cached = float(values[UNK_ID]), sum(distribution.unknown.values())
        for view in views:
            values[view.known] *= view.factors
        values[UNK_ID] = 0.0
        values *= rest * (1 - of_unknown - of_cached) / max(1e-30, float(values.sum()))
        in_text = Counter(text.tokens[text.tokens >= tokens.size].tolist())
        occurrences = in_text.total() + sum(view.own_total for view in views)
        different = len(tokens.new) + sum(len(view.own_counts) for view in views)
        of_each = rest * of_unknown / (occurrences + settings.concentration_own)
        values[UNK_ID] = rest * of_unknown - of_each * (occurrences - settings.discount_own * different)

        own: defaultdict[int, float] = defaultdict(float)
        for likelier, shares in phrases:
            known = likelier < tokens.size
            values[likelier[known]] += shares[known]
            for token, share in zip(likelier[~known].tolist(), shares[~known].tolist()):
                own[token] += share
        offered = {*own, *in_text, *(token + start for view, start in zip(views, tokens.starts)
                                     for token in view.frequent)}
        unknown = {spelling: p * rest for spelling, p in distribution.unknown.items()}
        for token in offered:
            spelling, count = tokens.spelling_and_count(token)
            probability = own[token] + (count + in_text[token] - settings.discount_own) * of_each
            unknown[spelling] = unknown.get(spelling, 0.0) + probability
        for view in views:
            values[view.hidden] = 0.0
            if view.profile.blocked or view.profile.forgotten:
                unknown = {word: p for word, p in unknown.items() if not view.profile.hides(key(word))}
        seen = [view.seen for view in views]
        seen += [distribution.seen] if distribution.seen is not None else []
        return Distribution(None, unknown, torch.cat(seen), distribution.probabilities,
                            PersonalWords(settings, views, set(map(key, context.unknown.values())), of_each))

    def _phrases(self, following: Sequence[list[numpy.ndarray]], after_own: bool
                 ) -> tuple[list[tuple[numpy.ndarray, numpy.ndarray]], float]:
        """Step 3: for each length of the context, tokens and their shares of the probability; and what is left of it.

        following: for each text, the result of `Source.following`.
        after_own: True if the last word is one that the vocabulary lacks.
        """
        settings, parts, rest = self.settings, [], 1.0
        for m in reversed(range(CONTEXT)):
            found = [tokens[m] for tokens in following if m < len(tokens)]
            tokens, counts = numpy.unique(numpy.concatenate([_NO_TOKENS, *found]), return_counts=True)
            if len(tokens):
                own = tokens >= self.size
                most_known, concentration = settings.most[m], settings.concentration[m]
                if after_own:
                    most_known, concentration = settings.most_after_own, settings.concentration_after_own
                most = numpy.where(own, settings.most_own[m], most_known)
                less = numpy.where(own, settings.discount_own, settings.discount[m])
                shares = numpy.maximum(counts - less, 0.0) * most * rest / (counts.sum() + concentration)
                parts.append((tokens, shares))
                rest -= float(shares.sum())
        return parts, rest

    def _view(self, profile: Profile) -> ProfileView:
        view = self._views.get(profile)
        if view is None or view.version != profile.version:
            view = self._views[profile] = ProfileView(profile, self)
        return view

    def _last_keys(self, context: Context) -> list[str]:
        """The keys of the last words of a text, the last one first. A text begins after the end of a paragraph."""
        tokens = context.cached.tokens[-CONTEXT:].tolist()
        first = len(context.cached) - len(tokens)
        words = [key(context.unknown.get(first + place, self._words[token])) for place, token in enumerate(tokens)]
        if context.length < CONTEXT:
            words.insert(0, self._words[EOS_ID])
        return words[::-1]

    def _text(self, text: Context, last: list[str], tokens: _Tokens) -> Source:
        """The text so far as a source."""
        numbers = text.cached.tokens.numpy().copy()
        keys = self._keys[numbers]
        keys[numbers == UNK_ID] = numbers[numbers == UNK_ID] = -1
        own_keys: dict[str, int] = {}
        for place, spelling in text.unknown.items():
            numbers[place] = tokens.number(spelling)
            own = key(spelling)
            keys[place] = self._key_numbers.get(own) or own_keys.setdefault(own, len(self._key_numbers) + len(own_keys))
        last_numbers = [self._key_numbers.get(word, own_keys.get(word, ABSENT)) for word in last]
        return Source(keys, numbers, last_numbers, numpy.flatnonzero(keys[:-1] == last_numbers[0]) + 1)
