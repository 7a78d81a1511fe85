"""The model of a person: the person's own text changes the distribution of the network and its cache.

The person's text is a profile, or a history that comes with a question, or both. Beside one of these, the text so far
belongs to it too. There are three steps. Each changes the result of the one before:

1.  Words. The person's unigram scales the words of the vocabulary:

        p(w) ∝ p(w) ((c(w) + a) / (n v(w) + a))^β(w),  β(w) = 1 / (1 + (v(w) / ν)^½)

    The person has written w c(w) times among n words, and v is the usual unigram. This is the fast marginal adaptation
    of Kneser, Peters & Klakow 1997, with the exponent β, for a person's unigram with the prior a. Here β is small for
    frequent words: the network knows best how to use these. Zipf's law gives v: the vocabulary is sorted by frequency,
    and the share of its word i is proportional to 1 / (i + ZIPF).
2.  Words that the vocabulary lacks. The network gives the probability of all of them together, that of `<unk>`. Each of
    the person's own words gets (c(w) - D) / (n + θ) of it, as in a Pitman-Yor model (Teh 2006) of these n words alone.
    The rest stays for words that the person has not written yet.
3.  Phrases. Take the last m words of the text (m = 1, 2, 3). The person has written them n times. Then w followed c(w)
    times, and t different words followed:

        p_m(w) = A max(c(w) - D_m, 0) / (n + γ_m t) + (1 - the sum of these shares) p_{m-1}(w)

    p_0 is the result of step 2. These are n-grams up to order 4. The discount is that of Kneser & Ney 1995. The weight
    of a context grows with n and falls with t, as in the method of Witten & Bell 1991, which has γ = 1. A context
    weighs far more for a word that the vocabulary lacks, because the network cannot know that word.

The words of a context are compared by their key, so any spelling fits. A suggested word has the person's spelling.
The parameters were chosen on texts with an author's earlier text as profile and history: see training/README.md.
"""
from __future__ import annotations

import functools
import weakref
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy
import torch

from nextword.lm.candidates import LAST, Candidates
from nextword.lm.context import Context, Distribution
from nextword.lm.forgetting import digest, parts
from nextword.lm.keyboards import Keyboard
from nextword.lm.profile import Profile
from nextword.lm.vocabulary import EOS_ID, UNK_ID, Vocabulary
from nextword.lm.words import key, straight

CONTEXT = 3  # words; the order of the n-grams is one more
# Words outside the vocabulary that are offered after any context, the most frequent ones:
UNPROMPTED = 10  # before a letter is typed
PROMPTED = 30  # those that begin with the typed letters
CORRECTED = 2_000  # words outside the vocabulary that are found by letters with a slip, the most frequent ones
NEAR = 10  # of these, those that are offered
ZIPF = 2.7


@dataclass(frozen=True)
class PersonalSettings:
    """The parameters of the model of a person.

    ladder               letters to type before a word outside the vocabulary is suggested, if the person has written it
                         once, twice, …
    prior                a
    rare                 ν; β is ½ for words with this share
    discount_own         D
    concentration_own    θ
    most                 A, for words of the vocabulary; it is 1 for others
    discount             D_m, for m = 1, 2, 3
    breadth              γ_m
    phrase_discount_own, phrase_breadth_own    D_m and γ_m for words that the vocabulary lacks
    """

    ladder: tuple[int, ...] = (2, 1)
    prior: float = 1.0
    rare: float = 5e-5
    discount_own: float = 0.5
    concentration_own: float = 17.0
    most: float = 0.2
    discount: tuple[float, ...] = (0.5, 0.75, 0.75)
    breadth: tuple[float, ...] = (5.0, 2.0, 1.0)
    phrase_discount_own: tuple[float, ...] = (0.3, 0.9, 0.6)
    phrase_breadth_own: tuple[float, ...] = (0.7, 0.1, 0.1)


_NO_TOKENS = numpy.zeros(0, int)
ABSENT = -2  # in place of the number of a key that a text does not have


class ProfileView:
    """A profile as one vocabulary sees it. A word that the vocabulary lacks is the token V + its number in the profile.

    profile         the profile; whoever uses the view must keep it
    known           int64 the tokens of the vocabulary that the profile has
    known_counts    their occurrences
    total           occurrences of all tokens
    seen            int64 the tokens of the vocabulary that the profile has and the ranking holds back
    own_counts      token → occurrences, for the words that the vocabulary lacks
    own_total       their sum
    frequent        the most frequent ones of these words
    key_counts      key → occurrences, for these words
    empty           True if the profile has neither text nor decisions
    hides           True if words are blocked or forgotten
    hidden          the tokens of the vocabulary that are blocked or forgotten
    allowed         the keys of taught words
    """

    def __init__(self, profile: Profile, personal: Personal) -> None:
        self.version, self._profile, self._size = profile.version, weakref.ref(profile), personal.size
        size = personal.size
        to_token = numpy.array([personal.ids.get(straight(spelling), size + number) if spelling else -1
                                for number, spelling in enumerate(profile.spellings)], numpy.int32)
        numbers = profile.tokens
        tokens = numpy.where(numbers >= 0, to_token[numbers], -1)
        keys = numpy.where(numbers >= 0, profile.keys_of_tokens[numbers], -1)
        followed = numpy.flatnonzero(tokens[1:] >= 0)
        # The tokens that follow others, by the keys of these. What is read together lies together in memory.
        places = followed[numpy.argsort(keys[followed], kind="stable")] + 1
        self._starts = keys[places - 1].searchsorted(numpy.arange(keys.max() + 2))
        self._followers = tokens[places]
        # The keys one and two tokens before. Before the first token is END, as after the last one.
        self._before = [keys[places - m - 1] for m in range(1, CONTEXT)]
        counts = profile.counts()
        used = numpy.flatnonzero(counts)
        known = used[to_token[used] < size]
        known_counts = numpy.bincount(to_token[known], counts[known], size)
        self.known = numpy.flatnonzero(known_counts)
        self.known_counts, self.total = known_counts[self.known], int(counts.sum())
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
        self.frequent = self.beginning("", UNPROMPTED)
        self.allowed = frozenset(map(key, profile.taught))
        self.hides = bool(profile.blocked or profile.forgotten)
        self.empty = not self.hides and not len(used)
        self.hidden = [token for word in profile.blocked for token in personal.tokens_of_key.get(word, [])]
        self.hidden += [token for one in profile.forgotten for token in personal.tokens_of_digest.get(one, [])]

    @property
    def profile(self) -> Profile:
        profile = self._profile()
        assert profile is not None, "a view was used after its profile"
        return profile

    def following(self, last: Sequence[str]) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Find each occurrence of the text's last word. Return the token after it, and the number of the text's last
        words that stand before that token.

        last: the keys of the last words, the last one first.
        """
        numbers = [self.profile.key_numbers.get(word, ABSENT) for word in last]
        if not 0 <= numbers[0] < len(self._starts) - 1:
            return _NO_TOKENS, _NO_TOKENS
        first, end = self._starts[numbers[0]], self._starts[numbers[0] + 1]
        lengths, same = numpy.ones(end - first, numpy.int8), numpy.ones(end - first, bool)
        for before, number in zip(self._before, numbers[1:]):
            same &= before[first:end] == number
            if number == ABSENT or not same.any():
                break
            lengths += same
        return self._followers[first:end], lengths

    def spelling(self, token: int) -> str:
        return self.profile.spellings[token - self._size]

    def beginning(self, typed: str, most: int = PROMPTED) -> list[int]:
        """The words outside the vocabulary whose keys begin with these letters, the `most` most frequent ones."""
        first, last = bisect_left(self._own_keys, typed), bisect_left(self._own_keys, typed + LAST)
        counts = self._own_counts[first:last]
        return self._own[first:last][numpy.argsort(-counts, kind="stable")[:most]].tolist()

    @cached_property
    def _candidates(self) -> tuple[numpy.ndarray, Candidates]:
        """The places in `_own` of the CORRECTED most frequent words, and an index of them by letters with a slip."""
        places = numpy.sort(numpy.argsort(-self._own_counts, kind="stable")[:CORRECTED])
        return places, Candidates([self._own_keys[place] for place in places.tolist()])

    def near(self, typed: str, keyboard: Keyboard) -> list[int]:
        """Words outside the vocabulary that may be meant by letters with a slip, the NEAR most frequent ones."""
        places, candidates = self._candidates
        places = places[candidates.find(typed, keyboard)[0]]
        return self._own[places[numpy.argsort(-self._own_counts[places], kind="stable")[:NEAR]]].tolist()


def _joined(parts: list[numpy.ndarray]) -> numpy.ndarray:
    return numpy.concatenate(parts) if len(parts) > 1 else parts[0]


class PersonalWords:
    """The person's words outside the vocabulary, also those that the `unknown` of a `Distribution` leaves out.

    allowed: keys of words that the person taught. They are suggested even if the service blocks them.
    """

    def __init__(self, settings: PersonalSettings, views: Sequence[ProfileView], text: Iterable[str], of_each: float
                 ) -> None:
        """text: words of the text so far outside the vocabulary. of_each: the probability that step 2 gives for one
        occurrence.
        """
        self._settings, self._views, self._of_each = settings, views, of_each
        self._profiles = [view.profile for view in views]  # a view does not keep its profile
        self._hiding = [profile for view, profile in zip(views, self._profiles) if view.hides]
        self.allowed: frozenset[str] = frozenset().union(*(view.allowed for view in views))
        self._free = self.allowed.union(map(key, text))  # the words for which there is no ladder

    def letters(self, word: str) -> int:
        """The number of letters that are typed before a word, given by its key, is suggested."""
        count, ladder = 0, self._settings.ladder
        for view in self._views:
            count += view.key_counts.get(word, 0)
        return ladder[count - 1] if 0 < count <= len(ladder) and word not in self._free else 0

    def beginning(self, typed: str) -> dict[str, float]:
        """Spelling → probability, without step 3, of the words of the views whose keys begin with these letters."""
        return self._probabilities([view.beginning(typed) for view in self._views] if typed else [])

    def near(self, typed: str, keyboard: Keyboard) -> dict[str, float]:
        """The same for the words that may be meant by typed letters with a slip."""
        return self._probabilities([view.near(typed, keyboard) for view in self._views])

    def hides(self, word: str) -> bool:
        """True if no answer may have the word with this key."""
        return any(profile.hides(word) for profile in self._hiding)

    def _probabilities(self, tokens_of_views: Sequence[Sequence[int]]) -> dict[str, float]:
        words: dict[str, float] = {}
        for view, tokens in zip(self._views, tokens_of_views):
            for token in tokens:
                spelling = view.spelling(token)
                if self._hiding and self.hides(key(spelling)):
                    continue
                count = view.own_counts[token] - self._settings.discount_own
                words[spelling] = words.get(spelling, 0.0) + count * self._of_each
        return words


class Personal:
    """Mixes distributions with the models of persons, for one vocabulary.

    held_back      (V,) True for tokens that are suggested only where the text or the person has them
    ids            word → token
    tokens_of_key  key → tokens of the vocabulary
    usual          (V,) float32 the usual unigram
    exponents      (V,) float32 β
    """

    def __init__(self, vocabulary: Vocabulary, held_back: numpy.ndarray, settings: PersonalSettings | None = None
                 ) -> None:
        self.settings, self.held_back = settings or PersonalSettings(), held_back
        self._words, self.size = vocabulary.words, len(vocabulary)
        self.ids = {word: i for i, word in enumerate(self._words) if i != UNK_ID}
        zipf = (1 / (numpy.arange(self.size) + ZIPF)).astype(numpy.float32)
        self.usual = zipf / zipf.sum()
        self.exponents = 1 / (1 + numpy.sqrt(self.usual / self.settings.rare))
        keys = self._key_of = vocabulary.keys
        numbers = {word: number for number, word in enumerate(dict.fromkeys(keys))}
        self._keys = numpy.array([numbers[word] for word in keys], numpy.int32)
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
        """The distribution after `context`, mixed with the model of the person. The given distribution is overwritten.

        profiles: the person's earlier text, in one or several profiles. Without any, the distribution stays as it is.
        """
        views = [view for view in map(self._view, profiles) if not view.empty]
        if not views:
            return distribution
        settings, size = self.settings, self.size
        # A word that the vocabulary lacks has a token of its own in each view. New words of the text follow.
        starts = [0, *accumulate(len(view.profile.spellings) for view in views)]
        written = Counter(context.unknown.values())
        tokens_of: dict[str, int] = {}  # of these words
        new: list[str] = []
        for spelling in written:
            for view, start in zip(views, starts):
                if (number := view.profile.number(spelling)) is not None:
                    tokens_of[spelling] = size + start + number
                    break
            else:
                tokens_of[spelling] = size + starts[-1] + len(new)
                new.append(spelling)
        last = self._last_keys(context)
        following = [(*view.following(last), start) for view, start in zip(views, starts)]
        following = [part for part in [*following, (*self._following(context, last, tokens_of), 0)] if len(part[0])]
        likelier, shares, rest = self._phrases(following)

        values = distribution.probabilities.numpy()
        of_unknown, of_cached = float(values[UNK_ID]), sum(distribution.unknown.values())
        for view in views:
            values *= self._factors(view)
        values[UNK_ID] = 0.0
        values *= rest * (1 - of_unknown - of_cached) / max(1e-30, float(values.sum()))
        known = likelier < size
        values[likelier[known]] += shares[known]
        occurrences = written.total() + sum(view.own_total for view in views)
        different = len(new) + sum(len(view.own_counts) for view in views)
        of_each = rest * of_unknown / (occurrences + settings.concentration_own)
        values[UNK_ID] = rest * of_unknown - of_each * (occurrences - settings.discount_own * different)

        unknown = {spelling: probability * rest for spelling, probability in distribution.unknown.items()}
        own = dict(zip(likelier[~known].tolist(), shares[~known].tolist()))
        parts = [(spelling, count * of_each) for spelling, count in written.items()]
        parts += [(spelling, own.pop(size + starts[-1] + number, 0.0) - settings.discount_own * of_each)
                  for number, spelling in enumerate(new)]
        for view, start, end in zip(views, starts, starts[1:]):
            for token in {*view.frequent, *(token - start for token in own if start <= token - size < end)}:
                probability = own.get(token + start, 0.0) + (view.own_counts[token] - settings.discount_own) * of_each
                parts.append((view.spelling(token), probability))
        for spelling, probability in parts:
            unknown[spelling] = unknown.get(spelling, 0.0) + probability
        for view in views:
            if view.hides:
                values[view.hidden] = 0.0
                unknown = {word: p for word, p in unknown.items() if not view.profile.hides(key(word))}
        seen = [view.seen for view in views]
        seen += [distribution.seen] if distribution.seen is not None else []
        return Distribution(None, unknown, torch.cat(seen), distribution.probabilities,
                            PersonalWords(settings, views, written, of_each))

    def _factors(self, view: ProfileView) -> numpy.ndarray:
        """The factors of step 1, (V,) float32. A view does not keep them: they take 128 kB for each person."""
        written = numpy.full(self.size, self.settings.prior, numpy.float32)
        written[view.known] += view.known_counts
        return (written / (view.total * self.usual + self.settings.prior)) ** self.exponents

    def _following(self, text: Context, last: Sequence[str], tokens_of: dict[str, int]
                   ) -> tuple[numpy.ndarray, numpy.ndarray]:
        """The result of `ProfileView.following` for the text so far. tokens_of: for words that the vocabulary lacks."""
        tokens = text.cached.tokens.numpy()
        if not len(tokens):
            return _NO_TOKENS, _NO_TOKENS
        keys = self._keys[tokens]
        places = numpy.flatnonzero(keys[:-1] == keys[-1]) + 1
        if tokens[-1] == UNK_ID:
            places = numpy.array([place for place in places.tolist() if key(text.unknown[place - 1]) == last[0]], int)
        if not len(places):
            return _NO_TOKENS, _NO_TOKENS
        lengths, same = numpy.ones(len(places), int), numpy.ones(len(places), bool)
        for m in range(1, min(CONTEXT, len(tokens))):
            same = same & (places > m) & (keys[places - m - 1] == keys[-m - 1]) & (tokens[-m - 1] != UNK_ID)
            lengths += same
        followers = tokens[places]
        for row in numpy.flatnonzero(followers == UNK_ID).tolist():
            followers[row] = tokens_of.get(text.unknown.get(int(places[row]), ""), -1)
        return followers[followers >= 0], lengths[followers >= 0]

    def _phrases(self, following: Sequence[tuple[numpy.ndarray, numpy.ndarray, int]]
                 ) -> tuple[numpy.ndarray, numpy.ndarray, float]:
        """Step 3: different tokens, their shares of the probability, and the share of step 2.

        following: for each text, the tokens and lengths of `ProfileView.following` (at least one), and the number to
            add to the tokens outside the vocabulary.
        """
        if not following:
            return _NO_TOKENS, _NO_TOKENS.astype(float), 1.0
        settings, rest = self.settings, 1.0
        tokens = _joined([numpy.where(tokens < self.size, tokens, tokens + start) if start else tokens
                          for tokens, _, start in following])
        order = tokens.argsort()
        tokens, lengths = tokens[order], _joined([lengths for _, lengths, _ in following])[order]
        first = numpy.ones(len(tokens), bool)
        numpy.not_equal(tokens[1:], tokens[:-1], out=first[1:])
        different, places = tokens[first], first.cumsum() - 1
        own, total = different >= self.size, numpy.zeros(len(different))
        for m in reversed(range(int(lengths.max()))):
            counts = numpy.bincount(places[lengths > m] if m else places, minlength=len(different))
            n, t = int(counts.sum()), numpy.count_nonzero(counts)
            weight = rest * settings.most / (n + settings.breadth[m] * t)
            weight_own = rest / (n + settings.phrase_breadth_own[m] * t)
            shares = numpy.where(own, numpy.maximum(counts - settings.phrase_discount_own[m], 0) * weight_own,
                                 numpy.maximum(counts - settings.discount[m], 0) * weight)
            total += shares
            rest -= float(shares.sum())
        return different, total, rest

    def _view(self, profile: Profile) -> ProfileView:
        view = self._views.get(profile)
        if view is None or view.version != profile.version:
            view = self._views[profile] = ProfileView(profile, self)
        return view

    def _last_keys(self, context: Context) -> list[str]:
        """The keys of the last words of a text, the last one first. A text begins after the end of a paragraph."""
        tokens = context.cached.tokens[-CONTEXT:].tolist()
        first = len(context.cached) - len(tokens)
        words = [key(context.unknown[first + place]) if token == UNK_ID and first + place in context.unknown
                 else self._key_of[token] for place, token in enumerate(tokens)]
        if context.length < CONTEXT:
            words.insert(0, self._words[EOS_ID])
        return words[::-1]
