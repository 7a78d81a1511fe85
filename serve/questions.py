"""The typed contract between the HTTP process and the workers: the questions, the answers, and the workers' counts.

The HTTP process validates and shortens everything before it asks, so a worker checks nothing again. Questions are
pickled. Answers are JSON, because a worker may have a stranger's bundle, and the HTTP process must not unpickle its
results.
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from nextword.lm.keyboards import QWERTY, Layout

Answer = TypeVar("Answer", bound="_JSONAnswer")

COST_CHARACTERS = 25  # characters that a worker reads in the time of one short question, about
SCORED_CHARACTERS = 50  # the same in a text whose words are scored, which is read at once
# Of the time of one short question, measured with the English model:
RANKED = 0.005  # for each suggestion
LENGTHENED = 0.1  # for each word beside the first one of a suggestion
EXCLUDED = 0.0001  # for each excluded word, in each ranking


class SharedText(str):
    """A text that several questions have in common.

    Each worker receives it once. A pickled question has the number in its place.
    """

    number: int

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (self.number,)


@dataclass(slots=True)
class NextWordsQuestion:
    """Asks for the next words of `text`. The answer is a `NextWordsResponse` as JSON.

    text, history: cut by `text_window`. The history may be a `SharedText`.
    typos: whether slips in `partial` are corrected. layout: the keyboard, a name or the places of its keys.
    profile: the key of a profile in the store (`profiles.store.ProfileKey`), or "", as in every question.
    """

    operation: ClassVar[str] = "next_words"

    text: str
    history: str = ""
    k: int = 5
    partial: str = ""
    punctuation: bool = False
    emoji: bool = False
    exclude: Sequence[str] = ()
    max_words: int = 1
    typos: bool = True
    layout: Layout = QWERTY
    profile: str = ""

    @property
    def cost(self) -> int:
        """The work beside reading the texts, in short questions."""
        words = self.k * (self.max_words - 1)
        return int(1 + RANKED * self.k + LENGTHENED * words + EXCLUDED * len(self.exclude) * (1 + words))


@dataclass(slots=True)
class NextLettersQuestion:
    """Asks for the next letters of a word. The answer is a `NextLettersResponse` as JSON.

    text, history: as in `NextWordsQuestion`.
    """

    operation: ClassVar[str] = "next_letters"
    cost: ClassVar[int] = 1

    text: str
    history: str = ""
    partial: str = ""
    profile: str = ""


@dataclass(slots=True)
class ScoreQuestion:
    """Asks for the probability of `text`. The answer is a `ScoreResponse` as JSON."""

    operation: ClassVar[str] = "score"

    text: str
    profile: str = ""

    @property
    def cost(self) -> int:
        """The work, in short questions."""
        return 1 + len(self.text) // SCORED_CHARACTERS


@dataclass(slots=True)
class WriteQuestion:
    """Asks for tokens that continue `prompt`. The answer is `WrittenTokens`.

    id            names the text in progress. A worker that still has it does not read the prompt and `written` again
    prompt        cut by `text_window`; blanks at its end are kept, because the next token needs no space after them
    written       the tokens written so far: `WrittenTokens.tokens` of all answers
    count         the most tokens to write
    temperature, top_p, seed, row
                  decide which tokens are drawn (`lm.sampling`); `row` is the number of the text under this seed
    top           the number of alternatives to return for each token; None: no alternatives
    """

    operation: ClassVar[str] = "write"
    cost: ClassVar[int] = 1  # a few tokens at a time

    id: str
    prompt: str
    count: int
    written: Sequence[str] = ()
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    row: int = 0
    top: int | None = None
    profile: str = ""


@dataclass(slots=True)
class RateQuestion:
    """Asks for the probabilities of the tokens of `prompt`, from number `first` on.

    The answer is `RatedTokens` for some of them. If the prompt has more than CONTEXT_LIMIT tokens, for none.
    """

    operation: ClassVar[str] = "rate"
    cost: ClassVar[int] = 1  # a few tokens at a time

    prompt: str
    first: int
    top: int  # alternatives to tell for each token
    id: str = ""  # names the text in progress
    profile: str = ""


@dataclass(slots=True)
class OwnWordsQuestion:
    """Asks for the words of a profile that the vocabulary lacks. The answer is an `OwnWords` as JSON."""

    operation: ClassVar[str] = "own_words"
    cost: ClassVar[int] = 1

    profile: str


Question = NextWordsQuestion | NextLettersQuestion | ScoreQuestion | WriteQuestion | RateQuestion | OwnWordsQuestion


class _JSONAnswer:
    def to_json(self) -> bytes:
        content = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def from_json(cls: type[Answer], content: bytes) -> Answer:
        return cls(**json.loads(content))


@dataclass
class RatedTokens(_JSONAnswer):
    """Tokens and their log-probabilities.

    prompt_tokens  the number of tokens of the prompt
    texts          each token with the space before it
    logprobs       natural logarithms
    top            for each token its alternatives, text → logprob; empty if the question asks for none
    """

    prompt_tokens: int
    texts: list[str]
    logprobs: list[float]
    top: list[dict[str, float]]


@dataclass
class WrittenTokens(RatedTokens):
    """The same, with the tokens as the vocabulary spells them, for `WriteQuestion.written`."""

    tokens: list[str]


@dataclass(slots=True)
class Counts:
    """Numbers for the metrics. A worker sends them with the answers to each batch.

    operation       the operation of the batch
    questions       the number of questions in the batch
    cache_hits      texts with a prefix in the state cache, since the last counts
    cache_misses    texts without a prefix in the state cache, since the last counts
    cache_bytes     the size of the state cache and of the kept distributions now
    """

    operation: str
    questions: int
    cache_hits: int
    cache_misses: int
    cache_bytes: int

    def to_json(self) -> bytes:
        values: list[Any] = [self.operation, self.questions, self.cache_hits, self.cache_misses, self.cache_bytes]
        return json.dumps(values).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Counts:
        return cls(*json.loads(content))
