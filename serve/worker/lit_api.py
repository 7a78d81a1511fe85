"""The LitAPI of a worker: it loads the model, and answers groups of questions."""
from __future__ import annotations

import copy
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from litserve import LitAPI

from nextword.lm import malloc
from nextword.lm.bundle import Bundle, BundleError, open_bundle
from nextword.serve import logs
from nextword.serve.engine.memory_file import SpawnedValue
from nextword.serve.profiles.opening import open_store
from nextword.serve.questions import (
    Counts,
    NextLettersQuestion,
    NextWordsQuestion,
    OwnWordsQuestion,
    Question,
    RateQuestion,
    ScoreQuestion,
    WriteQuestion,
)
from nextword.serve.worker.loop import DrainingLoop

if TYPE_CHECKING:
    from nextword.lm.model import Model
    from nextword.serve.worker.distributions import Distributions
    from nextword.serve.worker.profiles import Profiles
    from nextword.serve.worker.state_cache import StateCache

logger = logging.getLogger("litserve.serve")

BATCH_LIMIT = 32  # questions
GROUP_CHARACTERS = 10_000  # cost of a group, each question like the costliest: about 0.2 s, for which others wait
SIMILAR = 1_000  # difference of costs within a group
TRIM_ANSWERS = 500  # freed memory is given back after so many answers,
TRIM_SECONDS = 5  # or after so many seconds without a question


class Operation(NamedTuple):
    """The functions for questions of one type.

    answer: takes questions of similar cost, and returns the JSON of each answer, in their order.
    cost: the number of characters that can be read in the time of an answer.
    """

    answer: Callable[[list[Any]], list[bytes]]
    cost: Callable[[Any], int]


class NextWordsAPI(LitAPI):
    """Answers `serve.questions`.

    Args:
        bundle: the model, or its folder; None: the English model that comes with the package.
        cache_bytes: the most memory for the states of recent texts, in each worker; their distributions take up to a
            quarter more.
        blocklist: words never suggested unprompted, as `lm.load` takes them.
        profiles: the address of the store of profiles; None: there is none.

    Attributes:
        model: the model's name.
    """

    def __init__(self, bundle: Bundle | Path | None = None, cache_bytes: int = 48_000_000,
                 blocklist: Sequence[str] | None = None, profiles: str | None = None):
        super().__init__(max_batch_size=BATCH_LIMIT, loop=DrainingLoop(), api_path="/v1/next-words")
        self._set_bundle(bundle if isinstance(bundle, Bundle) else open_bundle(bundle))
        self._cache_bytes, self._blocklist, self._store = cache_bytes, blocklist, profiles

    def _set_bundle(self, bundle: Bundle) -> None:
        self._bundle, self._path, self.model = SpawnedValue(bundle), bundle.path, bundle.name

    def reloaded(self) -> NextWordsAPI:
        """Return a copy with the bundle that is in the folder now. Raises BundleError."""
        new = copy.copy(self)
        new._set_bundle(open_bundle(self._path))
        return new

    def setup(self, device: str) -> None:
        """Load the model and answer once, so that no request has to wait for the work of a first call."""
        logs.configure()
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings are about future versions of torch
        malloc.keep_little_freed()
        import torch

        from nextword.lm import load
        from nextword.serve.worker.distributions import Distributions
        from nextword.serve.worker.profiles import Profiles
        from nextword.serve.worker.state_cache import StateCache

        torch.set_num_threads(1)  # each worker is one thread: with more, the workers would slow each other down
        try:
            model = load(self._bundle.get(), blocklist=self._blocklist)
        except BundleError as error:
            logs.complain(f"nextword serve: {error}")
            sys.exit(2)
        del self._bundle
        self._states = StateCache(model, self._cache_bytes)
        self._profiles = Profiles(open_store(self._store, writes=False) if self._store else None)
        self._distributions = Distributions(model, self._states, self._cache_bytes // 4, self._profiles)
        self._operations = _operations(model, self._states, self._distributions, self._profiles)
        model.next_words("A word", partial="wrod")
        malloc.give_back()  # the memory that only the loading needed
        self._answers = self._idle_seconds = 0

    def idle(self) -> None:
        """Return freed memory to the system after TRIM_SECONDS calls: about one a second while there is no question."""
        self._idle_seconds += 1
        if self._answers and self._idle_seconds >= TRIM_SECONDS:
            self._give_back_memory()

    def work_ahead(self) -> bool:
        """Learn a part of a large profile; return False if there is none."""
        return self._profiles.learn_ahead()

    def _give_back_memory(self) -> None:
        self._answers = 0
        malloc.give_back()

    def groups(self, questions: Sequence[Question]) -> Iterator[list[int]]:
        """Yield the places of questions to be answered together, which are of one type and similar cost.

        Cheap groups come first, as far as GROUP_CHARACTERS reach, and then the group of the first question. The others
        are left for the next call, so that new questions need not wait for all costly ones.
        """
        if len(questions) == 1:
            yield [0]
            return
        groups: list[tuple[int, list[int]]] = []
        for kind, operation in self._operations.items():
            places = [place for place, question in enumerate(questions) if type(question) is kind]
            costs = [operation.cost(questions[place]) for place in places]
            groups += [(max(costs[number] for number in group) * len(group), [places[number] for number in group])
                       for group in grouped(costs)]
        spent = 0
        for cost, group in sorted(groups):
            spent += cost
            if spent <= GROUP_CHARACTERS or 0 in group:
                yield group

    def predict(self, questions: Sequence[Question]) -> list[bytes | Exception]:
        """Answer questions of one type. If the model or the store fails at a question, the exception is its answer."""
        self._batch = questions[0].operation, len(questions)
        self._idle_seconds = 0
        self._answers += len(questions)
        if self._answers >= TRIM_ANSWERS:
            self._give_back_memory()
        faults = self._profiles.update(question.profile for question in questions)
        possible = [question for question in questions if question.profile not in faults]
        answers = iter(self._answer(self._operations[type(questions[0])], possible) if possible else [])
        return [faults.get(question.profile) or next(answers) for question in questions]

    def counts(self) -> Counts:
        """Return the counts of the last `predict`."""
        return Counts(*self._batch, *self._states.take_counts(), self._distributions.bytes)

    def _answer(self, operation: Operation, questions: list[Question]) -> list[bytes | Exception]:
        try:
            return list(operation.answer(questions))
        except Exception as error:
            if len(questions) > 1:
                return [self._answer(operation, [question])[0] for question in questions]
            # Without the exception's message, which may quote the user's text.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s at a request:\n%s", type(error).__name__, frames)
            return [error]


def _operations(
    model: Model, states: StateCache, distributions: Distributions, profiles: Profiles
) -> dict[type, Operation]:
    from nextword.serve.worker.completions import Completions
    from nextword.serve.worker.next_letters import NextLetters
    from nextword.serve.worker.next_words import NextWords
    from nextword.serve.worker.profiles import OwnWords
    from nextword.serve.worker.score import score

    next_words = NextWords(model, distributions)
    next_letters = NextLetters(model, distributions)
    completions = Completions(model, states, profiles)
    own_words = OwnWords(model, profiles)

    def scores(questions: list[ScoreQuestion]) -> list[bytes]:
        scored = [score(model, question.text, profiles.get(question.profile)) for question in questions]
        return [json.dumps(fields, ensure_ascii=False, allow_nan=False).encode() for fields in scored]

    def written(questions: list[WriteQuestion]) -> list[bytes]:
        return [answer.to_json() for answer in completions.write(questions)]

    def rated(questions: list[RateQuestion]) -> list[bytes]:
        return [completions.rate(question).to_json() for question in questions]

    def listed(questions: list[OwnWordsQuestion]) -> list[bytes]:
        return [own_words.answer(question) for question in questions]

    return {
        NextWordsQuestion: Operation(next_words.answer, distributions.cost),
        NextLettersQuestion: Operation(next_letters.answer, distributions.cost),
        ScoreQuestion: Operation(scores, lambda question: len(question.text)),
        WriteQuestion: Operation(written, completions.cost),
        RateQuestion: Operation(rated, lambda question: len(question.prompt)),
        OwnWordsQuestion: Operation(listed, lambda question: profiles.cost(question.profile)),
    }


def grouped(lengths: Sequence[int], budget: int = GROUP_CHARACTERS) -> Iterator[list[int]]:
    """Yield the places of similar lengths, shortest first. A group, padded to its longest member, keeps to `budget`.

    The longest member has at most SIMILAR characters more than the shortest.
    """
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (lengths[place] * (len(group) + 1) > budget or lengths[place] - lengths[group[0]] > SIMILAR):
            yield group
            group = []
        group.append(place)
    if group:
        yield group
