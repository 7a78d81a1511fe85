"""What a worker computes: LitServe's hooks around the language model."""
from __future__ import annotations

import copy
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from litserve import LitAPI

from nextword.lm import malloc as memory
from nextword.lm.bundle import Bundle, BundleError, open_bundle
from nextword.serve import logs
from nextword.serve.engine.supervisor import DrainingLoop
from nextword.serve.worker.handed_over import Handed
from nextword.serve.metrics import BATCHES

logger = logging.getLogger("litserve.serve")

MOST_TOGETHER = 32  # questions
CHARACTERS_TOGETHER = 10_000  # of questions padded to the longest: about 0.2 s, which all that come after it wait
GIVE_BACK = 500  # answers after which memory that was freed is given back,
QUIET = 5  # or seconds without a question, after any answer


class Operation(NamedTuple):
    """Something that can be asked: `answer` takes questions of like cost, and gives bytes or JSON for each, in order."""

    answer: Callable[[list[dict]], list]
    cost: Callable[[dict], int]  # the characters that must be read for an answer


class NextWordsAPI(LitAPI):
    """Answers questions (operation, fields), whose fields are validated already.

    Args:
        bundle: the model, or its folder; None is the one that comes with the package.
        cache_bytes: what the states of recent texts may take in each worker.
        blocklist: words never suggested unprompted, as `lm.load` takes them.
    """

    def __init__(self, bundle: Bundle | Path | None = None, cache_bytes: int = 48_000_000,
                 blocklist: Sequence[str] | None = None):
        super().__init__(max_batch_size=MOST_TOGETHER, loop=DrainingLoop(), api_path="/v1/next-words")
        self._take(bundle if isinstance(bundle, Bundle) else open_bundle(bundle))
        self._cache_bytes, self._blocklist = cache_bytes, blocklist

    def _take(self, bundle: Bundle) -> None:
        self._bundle, self._path, self.model = Handed(bundle), bundle.path, bundle.name

    def renewed(self) -> NextWordsAPI:
        """The same with the bundle that is in the folder now. Raises BundleError."""
        new = copy.copy(self)
        new._take(open_bundle(self._path))
        return new

    def setup(self, device: str) -> None:
        """Loads the model and has it answer once, so that no request pays for what is done only once."""
        logs.configure()
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings are about its own future
        memory.keep_little_freed()
        import torch

        from nextword.lm import load

        torch.set_num_threads(1)  # a worker is one thread: more would get in each other's way
        try:
            model = load(self._bundle.value(), blocklist=self._blocklist)
        except BundleError as error:
            print(f"serve: {error}", file=sys.stderr)
            sys.exit(2)
        del self._bundle
        self._operations = _operations(model, self._cache_bytes)
        model.next_words("A word")
        memory.give_back()  # what the loading alone needed
        memory.unmap_unwritten()
        model.next_words("A word")
        self._answered = self._quiet = 0

    def idle(self) -> None:
        """What is done about once a second while nobody asks."""
        self._quiet += 1
        if self._answered and self._quiet >= QUIET:
            self._give_back()

    def _give_back(self) -> None:
        self._answered = 0
        memory.give_back()

    def groups(self, questions: Sequence[tuple[str, dict]]) -> Iterator[list[int]]:
        """Yields the places of questions to be answered together; what costs little comes first."""
        for name, operation in self._operations.items():
            places = [place for place, question in enumerate(questions) if question[0] == name]
            costs = [operation.cost(questions[place][1]) for place in places] if len(places) > 1 else [0] * len(places)
            for group in grouped(costs):
                yield [places[number] for number in group]

    def predict(self, questions: Sequence[tuple[str, dict]]) -> list[bytes | Exception]:
        """The answers to questions of one operation. One that fails has its exception as the answer."""
        name = questions[0][0]
        BATCHES.labels(name).observe(len(questions))
        self._quiet = 0
        self._answered += len(questions)
        if self._answered >= GIVE_BACK:
            self._give_back()
        return self._answer_safely(self._operations[name], [fields for _, fields in questions])

    def _answer_safely(self, operation, questions: list[dict]) -> list[bytes | Exception]:
        try:
            return [result if isinstance(result, bytes) else json.dumps(result, ensure_ascii=False, allow_nan=False).encode()
                    for result in operation.answer(questions)]
        except Exception as error:
            if len(questions) > 1:
                return [self._answer_safely(operation, [question])[0] for question in questions]
            # Without the exception's message, which may quote the user's text.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s at a request:\n%s", type(error).__name__, frames)
            return [error]


def _operations(model, cache_bytes: int) -> dict[str, Operation]:
    from nextword.serve.worker.completions import Completions
    from nextword.serve.worker.next_words import NextWords
    from nextword.serve.worker.score import score
    from nextword.serve.worker.state_cache import StateCache

    states = StateCache(model, cache_bytes)
    next_words, completions = NextWords(model, states), Completions(model, states)
    return {
        "next_words": Operation(next_words.answer, next_words.cost),
        "score": Operation(lambda questions: [score(model, **question) for question in questions], _length("text")),
        "write": Operation(completions.write, completions.cost),
        "rate": Operation(lambda questions: [completions.rate(question) for question in questions], _length("prompt")),
    }


def _length(field: str) -> Callable[[dict], int]:
    return lambda question: len(question[field])


def grouped(lengths: Sequence[int], budget: int = CHARACTERS_TOGETHER) -> Iterator[list[int]]:
    """Yields places of like lengths, shortest first, so that a group padded to its longest keeps to `budget`."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and lengths[place] * (len(group) + 1) > budget:
            yield group
            group = []
        group.append(place)
    if group:
        yield group
