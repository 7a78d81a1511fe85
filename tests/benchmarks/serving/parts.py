"""`python -m tests.benchmarks.serving.parts`: where the time of an answer goes inside a worker, for one question and for many at once.

In this process, without HTTP: what a worker does with typing sessions, each of whose texts is one word longer than the last.
"""
from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import nextword.lm.model
from nextword.lm import malloc as memory
from tests.benchmarks.serving import text
from nextword.serve.worker.next_words import NextWords
from nextword.serve.worker.state_cache import StateCache

ROUNDS, WORDS = 60, 20
QUESTION = {"k": 5, "partial": "", "history": "", "punctuation": False, "emoji": False, "exclude": [], "max_words": 1}


class _Stopwatch:
    """Adds up the time spent in some functions; those called inside others count there too."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    def watch(self, owner, function: str, name: str) -> None:
        inner = getattr(owner, function)

        def timed(*arguments, **options):
            start = time.perf_counter()
            try:
                return inner(*arguments, **options)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        setattr(owner, function, timed)


def parts(bundle: Path | None, together: int) -> dict[str, float]:
    """Median milliseconds a question, by part, where so many are answered at once."""
    import torch

    torch.set_num_threads(1)
    model = lm.model.load(bundle)
    states, watch = StateCache(model), _Stopwatch()
    service = NextWords(model, states)
    watch.watch(service, "answer", "all")
    watch.watch(states, "read", "reading the new word")
    watch.watch(model, "predict", "output layer and cache")
    watch.watch(model, "rank", "ranking")
    words = text.words()
    found: dict[str, list[float]] = {}
    for round in range(ROUNDS):
        watch.seconds.clear()
        service.answer([{**QUESTION, "text": " ".join(words[7 * row : 7 * row + WORDS + round])} for row in range(together)])
        for name, seconds in watch.seconds.items():
            found.setdefault(name, []).append(1000 * seconds / together)
    medians = {name: statistics.median(values[ROUNDS // 10 :]) for name, values in found.items()}
    whole = medians.pop("all")
    return {**medians, "the rest": whole - sum(medians.values()), "all": whole}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving.parts", description=__doc__.partition(":")[2])
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model (default: the English one)")
    parser.add_argument("--together", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="questions at once")
    asked = parser.parse_args()
    memory.keep_little_freed()
    columns = {together: parts(asked.bundle, together) for together in asked.together}
    print(f"| ms a question | {' | '.join(f'{n} at once' for n in columns)} |\n| --- |{' ---: |' * len(columns)}")
    for name in next(iter(columns.values())):
        print(f"| {name} | {' | '.join(f'{column[name]:.2f}' for column in columns.values())} |")


if __name__ == "__main__":
    main()
