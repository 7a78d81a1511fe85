"""`python -m tests.benchmarks.serving.parts`: the time of an answer inside a worker, by part.

For one question and for many at once, in this process, without HTTP. It is the processor's time, which other programs
disturb less. The questions are typing sessions: each text is one word longer than the last. Between two key strokes of
one person, other programs use the processor's cache, so a column has the times after other memory was touched. Further
rows have other questions.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

import nextword.lm
from nextword.lm import malloc
from nextword.lm.model import Model
from nextword.serve.questions import NextWordsQuestion
from nextword.serve.worker.distributions import Distributions
from nextword.serve.worker.next_words import NextWords
from nextword.serve.worker.state_cache import StateCache
from tests.benchmarks.serving import text

ROUNDS, WORDS = 60, 20
LONG = 500  # words
TOUCHED = 64_000_000  # bytes, more than a processor's cache

Ask = Callable[[list[NextWordsQuestion]], Any]


class _Stopwatch:
    """Sums the time spent in functions; one that is called by another counts in both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watch(self, owner: object, function: str, name: str) -> None:
        """Replace a function of `owner` by one that adds its time under a name."""
        inner = getattr(owner, function)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return inner(*arguments, **options)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - start

        setattr(owner, function, timed)


def parts(model: Model, together: int, cold: bool) -> dict[str, float]:
    """Return the median milliseconds a question, by part, with `together` questions at once.

    cold: other memory is touched before each answer.
    """
    model = _Copy(model)
    states, watch = StateCache(model), _Stopwatch()
    service = NextWords(model, Distributions(model, states))
    watch.watch(service, "answer", "all")
    watch.watch(states, "read", "reading the new word")
    watch.watch(model, "predict", "output layer and cache")
    watch.watch(model, "rank", "ranking")
    words, other = text.words(), numpy.zeros(TOUCHED, numpy.uint8)
    spent: dict[str, list[float]] = {}
    for round in range(ROUNDS):
        watch.seconds.clear()
        if cold:
            other += 1
        service.answer(
            [NextWordsQuestion(" ".join(words[7 * row : 7 * row + WORDS + round])) for row in range(together)]
        )
        for name, seconds in watch.seconds.items():
            spent.setdefault(name, []).append(1000 * seconds / together)
    medians = {name: statistics.median(values[ROUNDS // 10 :]) for name, values in spent.items()}
    whole = medians.pop("all")
    return {**medians, "the rest": whole - sum(medians.values()), "all": whole}


class _Copy:
    """A model whose functions can be replaced, and the model stays as it is."""

    def __init__(self, model: Model):
        self.__dict__["_model"] = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def others(model: Model, together: int) -> dict[str, float]:
    """Return the median milliseconds a question of other kinds, with `together` questions at once."""
    words = text.words()
    ask = NextWords(model, Distributions(model, StateCache(model))).answer
    unread = len(words) // (ROUNDS * together)  # words between two texts

    def texts(round: int, length: int) -> list[str]:
        starts = [unread * (round * together + row) % (len(words) - LONG) for row in range(together)]
        return [" ".join(words[start : start + length]) for start in starts]

    spent: dict[str, list[float]] = {"a letter more": [], "5 words, never read": [], f"{LONG} words, never read": []}
    letters, short, long = spent.values()
    for round in range(ROUNDS):
        short.append(_seconds(ask, [NextWordsQuestion(each) for each in texts(round, 5)]))
        typed = "sto"[: 1 + round % 3]
        letters.append(_seconds(ask, [NextWordsQuestion(each, partial=typed) for each in texts(round, 5)]))
        if together == 1 and round % 6 == 0:
            long.append(_seconds(ask, [NextWordsQuestion(each) for each in texts(round, LONG)]))
    return {name: 1000 * statistics.median(values) / together for name, values in spent.items() if values}


def _seconds(ask: Ask, questions: list[NextWordsQuestion]) -> float:
    start = time.thread_time()
    ask(questions)
    return time.thread_time() - start


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.serving.parts", description=__doc__.partition(":")[2]
    )
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model (default: the English one)")
    parser.add_argument("--together", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="questions at once")
    chosen = parser.parse_args()
    malloc.keep_little_freed()
    torch.set_num_threads(1)
    model = nextword.lm.load(chosen.bundle)
    columns = {f"{n} at once": {**parts(model, n, False), **others(model, n)} for n in chosen.together}
    columns = {"1, memory touched": parts(model, 1, True), **columns}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    print(f"| ms a question | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
    for name in names:
        values = (f"{column[name]:.2f}" if name in column else "" for column in columns.values())
        print(f"| {name} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
