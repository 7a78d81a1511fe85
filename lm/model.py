"""A loaded model: from a text to its next words."""
from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from nextword.lm import torchscript
from nextword.lm.blocklist import read_blocklist
from nextword.lm.bundle import MODEL, TOKENIZER, Bundle, BundleError, open_bundle
from nextword.lm.context import CachedTokens, Context, Distribution
from nextword.lm.continuous_cache import CacheSettings, as_keys, mixed
from nextword.lm.keyboards import QWERTY, Keyboard, Layout, keyboard
from nextword.lm.personal import Personal
from nextword.lm.profile import Profile, profile_of
from nextword.lm.ranking import Ranking, Word
from nextword.lm.vocabulary import EOS_ID, UNK_ID, Vocabulary

HISTORIES = 8  # the last ones of `next_words` are kept


def load(bundle: str | os.PathLike[str] | Bundle | None = None, *, blocklist: Collection[str] | None = None) -> Model:
    """Load the model of a bundle or of a bundle's folder; None: the English model that comes with the project.

    blocklist: words that are never suggested unprompted; None: the project's own, (): none. See lm.blocklist.
    Raises BundleError; its message names the fault of the bundle.
    """
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    try:
        vocabulary = Vocabulary.from_json(bundle.content[TOKENIZER].decode())
        program = torchscript.load(bundle.content[MODEL], bundle.description.architecture)
        torchscript.keep_frequent(program)
        return Model(bundle, vocabulary, program, blocklist)
    except Exception as error:  # `tokenizers` raises plain Exceptions, torch several kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{bundle.path} cannot be loaded: {reason}") from error


class Scored(NamedTuple):
    """A token of a text: its spelling, the natural logarithm of its probability, and True if the vocabulary has it."""

    word: str
    logprob: float
    known: bool


class Model:
    """A loaded model. It predicts from a context, the text so far; an empty text is the start of a paragraph.

    >>> model = load()
    >>> model.next_words("Thank you very", k=1)[0].word
    'much'

    Most programs need only `next_words`. A program that keeps contexts or answers several texts at once calls its three
    steps: `extend` reads text, `predict` returns distributions, `rank` returns the best words of a distribution.
    """

    def __init__(self, bundle: Bundle, vocabulary: Vocabulary, program: torch.jit.ScriptModule,
                 blocklist: Collection[str] | None = None) -> None:
        described = bundle.description
        self.name, self.vocabulary, self.program = described.name, vocabulary, program
        self.cache = CacheSettings(**described.cache.present()) if described.cache else CacheSettings()
        self._ranking = Ranking(vocabulary, read_blocklist() if blocklist is None else blocklist,
                                described.names_of_few_documents, described.stock_names, described.half_words)
        self.personal = Personal(vocabulary, self._ranking.has_held_back)
        self._history = lru_cache(HISTORIES)(profile_of)
        start = program.read(torch.tensor([[EOS_ID]]), torch.tensor([1]), program.initial_state(1))
        output = program.output(start)
        keys = as_keys(output)
        nothing = CachedTokens(keys[:0], torch.zeros(0, dtype=torch.long))
        self.start = Context(start[0], output[0], keys[0], nothing, {}, 0)
        log_probs = program.log_probs(output)[0]
        if len(log_probs) != len(vocabulary):
            raise ValueError(f"the network has {len(log_probs):,} tokens and the tokenizer {len(vocabulary):,}")
        if not log_probs.isfinite().all():
            raise ValueError("the network gives no probabilities: its weights are too large")

    def next_words(self, text: str = "", k: int = 5, *, partial: str = "", history: str = "",
                   profile: Profile | None = None, punctuation: bool = False, emoji: bool = False,
                   exclude: Collection[str] = (), typos: bool = True, layout: Layout = QWERTY) -> list[Word]:
        """The k likeliest next words of a text, best first.

        text: whole words. Blanks at its end are ignored; a line break ends a paragraph.
        partial: the typed beginning of the next word, slips of the finger included; see `Ranking.best`.
        history: earlier text of the same person. Its words become likelier, also names that the vocabulary lacks.
        profile: what is kept of the same person: all earlier text, and decisions about single words.
        punctuation, emoji: suggest punctuation marks and numbers, or emoji, too. exclude: words that are not suggested.
        typos: False: only words that begin with `partial` to the letter. layout: of the keyboard; see lm.keyboards.
        Raises ValueError if k is less than 1, or if there is no such layout.
        """
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        typed_on = keyboard(layout) if typos else None
        context = self.extend([self.start], [text])
        distribution = self.predict(context, [self._history(history)], [profile])[0]
        return self.rank(distribution, k, partial=partial, punctuation=punctuation, emoji=emoji, exclude=exclude,
                         keyboard=typed_on)

    def extend(self, contexts: Sequence[Context], texts: Sequence[str]) -> list[Context]:
        """Read one text after each context, and return the new contexts. `start` is the context of the empty text."""
        return self.read(contexts, [self.vocabulary.encode_with_unknown(text) for text in texts])

    @torch.inference_mode()
    def read(self, contexts: Sequence[Context], encoded: Sequence[tuple[list[int], dict[int, str]]]) -> list[Context]:
        """Like `extend`, for encoded texts: the ids of the tokens, and place → spelling for those that are `<unk>`."""
        tokens, lengths = padded([ids for ids, _ in encoded])
        states = torch.stack([context.state for context in contexts])
        outputs, states = self.program.read_all(tokens, lengths, states)
        rows = zip(contexts, encoded, tokens, outputs, as_keys(outputs), states)
        return [context.read_on(row[:n], unknown, output[:n], key[:n], state.clone(), self.cache.size)
                for context, (ids, unknown), row, output, key, state in rows for n in [len(ids)]]

    @torch.inference_mode()
    def before_each(self, ids: Sequence[int], unknown: dict[int, str]) -> list[Context]:
        """For each token of a text, the context of the tokens before it.

        The contexts share their cached tokens. Only `predict` can use them: their `state` is that of the whole text.
        """
        tokens, lengths = padded([ids])
        outputs, states = self.program.read_all(tokens, lengths, self.start.state[None])
        before = torch.cat([self.start.output[None], outputs[0, :-1]])
        keys, contexts = as_keys(before), []
        for place, output in enumerate(before):
            first = max(0, place - self.cache.size)
            spellings = {at - first: word for at, word in unknown.items() if first <= at < place}
            cached = CachedTokens(keys[first:place], tokens[0, first:place])
            contexts.append(Context(states[0], output, keys[place], cached, spellings, place))
        return contexts

    @torch.inference_mode()
    def predict(self, contexts: Sequence[Context], histories: Sequence[Profile | None] | None = None,
                profiles: Sequence[Profile | None] | None = None) -> list[Distribution]:
        """The distribution after each context, mixed with the cache over the context.

        histories, profiles: for each context, earlier text of the same person that comes with the question, and that
        is kept: the distribution is mixed with the model of the person (see lm.personal).
        """
        probabilities = self.program.probabilities(torch.stack([context.output for context in contexts]))
        nobody = [None] * len(contexts)
        people = [[text for text in person if text is not None]
                  for person in zip(profiles or nobody, histories or nobody)]
        distributions = mixed(probabilities, contexts, self.cache, UNK_ID)
        return list(map(self.personal.mixed, distributions, contexts, people))

    def rank(self, distribution: Distribution, k: int, *, partial: str = "", punctuation: bool = False,
             emoji: bool = False, exclude: Collection[str] = (), keyboard: Keyboard | None = None) -> list[Word]:
        """The k best words of a distribution: see `Ranking.best`."""
        return self._ranking.best(distribution, k, partial=partial, punctuation=punctuation, emoji=emoji,
                                  exclude=exclude, keyboard=keyboard)

    def next_letters(self, text: str = "", *, partial: str = "", history: str = "", profile: Profile | None = None
                     ) -> dict[str, float]:
        """The probability of each letter that may follow `partial` after a text; "" is the end of the word.

        For keyboards that are scanned or used with the eyes. text, history, profile: as in `next_words`. `partial` is
        taken to the letter. See `Ranking.next_letters`.
        """
        context = self.extend([self.start], [text])
        return self.rank_letters(self.predict(context, [self._history(history)], [profile])[0], partial)

    def rank_letters(self, distribution: Distribution, partial: str) -> dict[str, float]:
        """The probabilities of the next letter of a distribution: see `Ranking.next_letters`."""
        return self._ranking.next_letters(distribution, partial)

    @torch.inference_mode()
    def score(self, text: str) -> list[Scored]:
        """The probability of each token of a text, given the tokens before it; a line break is the token `<eos>`.

        It is the network's probability, without the cache. A word that the vocabulary lacks has that of `<unk>`.
        """
        ids, unknown = self.vocabulary.encode_with_unknown(text)
        if not ids:
            return []
        tokens, lengths = padded([ids])
        outputs, _ = self.program.read_all(tokens, lengths, self.start.state[None])
        before = torch.cat([self.start.output[None], outputs[0, :-1]])
        logprobs = [value for part, t in zip(before.split(256), tokens[0].split(256))
                    for value in self.program.log_probs(part).gather(1, t[:, None]).squeeze(1).tolist()]
        return [Scored(unknown.get(place, self.vocabulary.words[i]), logprob, i != UNK_ID)
                for place, (i, logprob) in enumerate(zip(ids, logprobs))]

    def places(self, distribution: Distribution, word: str, most: int) -> Iterator[int]:
        """The place of a word among the suggestions, before each of its letters: see `Ranking.places`."""
        return self._ranking.places(distribution, word, most)


def padded(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Sequences of any lengths → tokens (batch, longest) int64, padded at the right, and lengths (batch,) int64."""
    lengths = [len(sequence) for sequence in sequences]
    longest = max(lengths)
    rows = [[*sequence, *[EOS_ID] * (longest - length)] for sequence, length in zip(sequences, lengths)]
    return torch.tensor(rows, dtype=torch.long), torch.tensor(lengths)
