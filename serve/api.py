"""What a worker computes: LitServe's hooks around the language model."""
from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from litserve import LitAPI

from serve.engine import DrainingLoop
from serve.schemas import CONTEXT_LIMIT, NextWordsRequest, NextWordsResponse, SuggestedWord

logger = logging.getLogger("litserve.serve")

MOST_TOGETHER = 32  # questions
CHARACTERS_TOGETHER = 10_000  # of questions padded to the longest: about 0.2 s, which all that come after it wait


class NextWordsAPI(LitAPI):
    """Answers validated next-words questions.

    Args:
        bundle: folder of the model; None is the one that comes with the package.
    """

    def __init__(self, bundle: Path | None = None):
        super().__init__(max_batch_size=MOST_TOGETHER, loop=DrainingLoop(), api_path="/v1/next-words")
        self._bundle = bundle

    def setup(self, device: str) -> None:
        """Loads the model and has it answer once, so that no request pays for what is done only once."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings are about its own future
        import torch

        from lm import BundleError, load

        torch.set_num_threads(1)  # a worker is one thread: more would get in each other's way
        try:
            self._model = load(self._bundle)
        except BundleError as error:
            print(f"serve: {error}", file=sys.stderr)
            sys.exit(2)
        self._answer([NextWordsRequest(text="").model_dump()])

    def predict(self, questions: Sequence[dict]) -> Iterator[tuple[int, bytes | Exception]]:
        """Yields for each question (the fields of a `NextWordsRequest`) its place and its answer as JSON.

        Short texts come first. A question that fails has its exception as the answer.
        """
        for places in grouped([len(question["text"]) for question in questions]):
            yield from zip(places, self._answer_safely([questions[place] for place in places]))

    def _answer_safely(self, questions: list[dict]) -> list[bytes | Exception]:
        try:
            return self._answer(questions)
        except Exception as error:
            if len(questions) > 1:
                return [self._answer_safely([question])[0] for question in questions]
            # Without the exception's message, which may quote the user's text.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s at a request:\n%s", type(error).__name__, frames)
            return [error]

    def _answer(self, questions: list[dict]) -> list[bytes]:
        texts = [question["text"] for question in questions]
        contexts = self._model.extend([self._model.start] * len(texts), texts, limit=CONTEXT_LIMIT)
        return [self._written(*pair) for pair in zip(self._model.predict(contexts), questions)]

    def _written(self, distribution, question: dict) -> bytes:
        wanted = {name: question[name] for name in ("k", "partial", "punctuation", "exclude")}
        words = [SuggestedWord.model_construct(**word._asdict()) for word in self._model.rank(distribution, **wanted)]
        return NextWordsResponse.model_construct(model=self._model.name, words=words).model_dump_json().encode()


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
