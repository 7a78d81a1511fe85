"""The engine and the straightforward loop, each in a process of its own, which trains when it is told to."""
from __future__ import annotations

import contextlib
import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from nextword.training.recipe import Recipe


class Size(NamedTuple):
    name: str
    settings: dict  # of a recipe


class Job(NamedTuple):
    """What both are given."""

    recipe: Recipe
    steps: int
    evaluated: int  # tokens of validation text


@contextlib.contextmanager
def started(which: str, job: Job) -> Iterator:
    """A function that has the process do something: ask("train", steps) gives its seconds, ask("finish") the exact
    validation perplexity and the peak memory in bytes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, which, job), daemon=True)
    process.start()
    theirs.close()

    def ask(*question):
        ours.send(question)
        return ours.recv()  # EOFError where it has died: its own message stands on stderr

    try:
        ours.recv()  # it is ready
        yield ask
    finally:
        ours.close()
        process.join(10)
        process.kill()


def _work(pipe, which: str, job: Job) -> None:
    import torch

    if job.recipe.threads:
        torch.set_num_threads(job.recipe.threads)
    with tempfile.TemporaryDirectory(prefix="nextword-bench-") as folder, contextlib.suppress(EOFError):
        rival = {"engine": _Engine, "straightforward": _Straightforward}[which](job, Path(folder))
        pipe.send("ready")
        while True:
            command, *arguments = pipe.recv()
            pipe.send(getattr(rival, command)(*arguments))


class _Rival:
    """The training loop as it is, driven step by step."""

    def __init__(self, job: Job, folder: Path):
        from nextword.training.corpora import load_corpus
        from nextword.training.trainer import Trainer, TrainingData

        self.job = job
        corpus = load_corpus(job.recipe.corpus)
        data = TrainingData.load(job.recipe, corpus, filled_vocabulary(corpus, job.recipe.vocabulary_size))
        self.trainer = Trainer(job.recipe, data)
        self.trainer.steps = job.steps  # the learning rate's schedule spans them
        self.data, self.windows = data, endless(data.windows)

    def train(self, steps: int) -> float:
        began = time.perf_counter()
        for inputs, targets in islice(self.windows, steps):
            self.step(inputs, targets)
        return time.perf_counter() - began

    def step(self, inputs, targets) -> None:
        self.trainer.train_step(inputs, targets)

    def finish(self) -> dict:
        memory = peak_memory()
        return {"perplexity": self.perplexity(self.data.excerpts["validation"]), "memory": memory}

    def perplexity(self, windows) -> float:
        from nextword.training.measure import measure

        return measure(self.trainer.kept, windows.epoch(0), windows.batch, self.job.evaluated, nullcontext)["perplexity"]


class _Engine(_Rival):
    """With what `fit` does before the first step."""

    def __init__(self, job: Job, folder: Path):
        from nextword.lm import malloc as memory

        super().__init__(job, folder)
        memory.keep_freed()


class _Straightforward(_Rival):
    """The same windows, first weights and learning rates for the other loop."""

    def __init__(self, job: Job, folder: Path):
        from tests.benchmarks.training.straightforward import StraightforwardLoop
        from nextword.training.trainer import learning_rate

        super().__init__(job, folder)
        self.loop = StraightforwardLoop(self.trainer.network, job.recipe.clip_norm)
        self.rate, self.number = learning_rate, 0
        del self.run.network, self.run.optimizer, self.trainer.kept, self.run.synchronised

    def step(self, inputs, targets) -> None:
        self.loop.step(inputs, targets, self.rate(self.job.recipe, self.number, self.job.steps))
        self.number += 1

    def perplexity(self, windows) -> float:
        return self.loop.perplexity(windows.epoch(0), self.job.evaluated)


def endless(windows) -> Iterator:
    number = 0
    while True:
        yield from windows.epoch(number)
        number += 1


def filled_vocabulary(corpus, size: int):
    """The vocabulary of a corpus, with words that never occur where it has fewer than `size`."""
    from nextword.lm.vocabulary import Vocabulary
    from nextword.training.tokens import build_vocabulary

    vocabulary = build_vocabulary(corpus, size, 1, False)
    missing = size - len(vocabulary)
    if not missing:
        return vocabulary
    lines = (line for document in corpus.documents("train") for line in document.split("\n"))
    return Vocabulary.build(chain(lines, (f"filling{number}" for number in range(missing))), size)


def peak_memory() -> int | None:
    """Bytes of memory that this process has held at once, files' pages apart from what it has mapped included; None
    where the system does not say."""
    if sys.platform != "linux":
        return None
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
