"""`python -m tests.benchmarks.serving.parts`: the time of an answer inside a worker, by part.

For one question and for many at once, in this process, without HTTP. The questions are typing sessions: each text is
one word longer than the last.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import nextword.lm
from nextword.lm import malloc
from nextword.serve.questions import NextWordsQuestion
from nextword.serve.worker.next_words import NextWords
from nextword.serve.worker.state_cache import StateCache
from tests.benchmarks.serving import text

ROUNDS, WORDS = 60, 20


class _Stopwatch:
    """Sums the time spent in functions; one that is called by another counts in both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watch(self, owner: object, function: str, name: str) -> None:
        """Replace a function of `owner` by one that adds its time under a name."""
        inner = getattr(owner, function)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*arguments, **options)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        setattr(owner, function, timed)


def parts(bundle: Path | None, together: int) -> dict[str, float]:
    """Return the median milliseconds a question, by part, with `together` questions at once."""
    import torch

    torch.set_num_threads(1)
    model = nextword.lm.load(bundle)
    states, watch = StateCache(model), _Stopwatch()
    service = NextWords(model, states)
    watch.watch(service, "answer", "all")
    watch.watch(states, "read", "reading the new word")
    watch.watch(model, "predict", "output layer and cache")
    watch.watch(model, "rank", "ranking")
    words = text.words()
    spent: dict[str, list[float]] = {}
    for round in range(ROUNDS):
        watch.seconds.clear()
        service.answer(
            [NextWordsQuestion(" ".join(words[7 * row : 7 * row + WORDS + round])) for row in range(together)]
        )
        for name, seconds in watch.seconds.items():
            spent.setdefault(name, []).append(1000 * seconds / together)
    medians = {name: statistics.median(values[ROUNDS // 10 :]) for name, values in spent.items()}
    whole = medians.pop("all")
    return {**medians, "the rest": whole - sum(medians.values()), "all": whole}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.serving.parts", description=__doc__.partition(":")[2]
    )
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model (default: the English one)")
    parser.add_argument("--together", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="questions at once")
    chosen = parser.parse_args()
    malloc.keep_little_freed()
    columns = {together: parts(chosen.bundle, together) for together in chosen.together}
    print(f"| ms a question | {' | '.join(f'{n} at once' for n in columns)} |\n| --- |{' ---: |' * len(columns)}")
    for name in next(iter(columns.values())):
        print(f"| {name} | {' | '.join(f'{column[name]:.2f}' for column in columns.values())} |")


if __name__ == "__main__":
    main()
