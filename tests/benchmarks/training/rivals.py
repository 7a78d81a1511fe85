"""The engine and the straightforward loop, each in a process of its own that trains when it is told to."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nextword.lm import malloc
from nextword.lm.vocabulary import Vocabulary
from nextword.training.corpora import Corpus, load_corpus
from nextword.training.measure import measure
from nextword.training.recipe import Recipe
from nextword.training.schedule import Schedule, learning_rate
from nextword.training.tokens import build_vocabulary, word_counts
from nextword.training.trainer import Trainer, TrainingData
from nextword.training.windows import Windows
from tests.benchmarks.training.straightforward import StraightforwardLoop


class Size(NamedTuple):
    """A size of network: its name, and its settings of a recipe."""

    name: str
    settings: dict[str, Any]


class Job(NamedTuple):
    """The training that both do; `evaluated` is the number of tokens of validation text.

    first_tokens    the training text is cut after so many tokens; 0: it is whole. The vocabulary is the whole text's
    """

    recipe: Recipe
    steps: int
    evaluated: int
    first_tokens: int = 0


@contextlib.contextmanager
def started(name: str, job: Job) -> Iterator[Callable[..., Any]]:
    """Start a process, "engine" or "straightforward", and yield a function that gives it commands.

    ask("train", steps) returns its seconds; ask("finish") returns the exact validation perplexity and the peak memory
    in bytes. EOFError means that the process has died; its own message is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, name, job), daemon=True)
    process.start()
    theirs.close()

    def ask(*command: Any) -> Any:
        ours.send(command)
        return ours.recv()

    try:
        ours.recv()  # it is ready
        yield ask
    finally:
        ours.close()
        process.join(10)
        process.kill()


def _work(pipe: Connection, name: str, job: Job) -> None:
    """Execute the commands that come through the pipe, until it is closed."""
    if job.recipe.threads:
        torch.set_num_threads(job.recipe.threads)
    with contextlib.suppress(EOFError):
        rival = {"engine": Engine, "straightforward": Straightforward}[name](job)
        pipe.send("ready")
        while True:
            command, *arguments = pipe.recv()
            pipe.send(getattr(rival, command)(*arguments))


class Engine:
    """This project's training, step by step."""

    def __init__(self, job: Job) -> None:
        self.job = job
        corpus = load_corpus(job.recipe.corpus)
        self.data = TrainingData.load(job.recipe, corpus, filled_vocabulary(corpus, job.recipe.vocabulary_size))
        if job.first_tokens:
            self.data = first(self.data, job.first_tokens, job.recipe)
        self.windows = endless(self.data.windows)
        self.prepare(Trainer(job.recipe, self.data))

    def prepare(self, trainer: Trainer) -> None:
        self.trainer = trainer
        trainer.schedule = Schedule(self.job.recipe, self.job.steps)
        malloc.keep_freed()  # as a training does before its first step

    def train(self, steps: int) -> float:
        """Train so many steps, and return the seconds that they took."""
        begin = time.perf_counter()
        for inputs, targets in islice(self.windows, steps):
            self.step(inputs, targets)
        return time.perf_counter() - begin

    def processor_seconds(self, steps: int) -> float:
        """Train so many steps, and return the seconds that all threads of this process computed for them."""
        begin = time.process_time()
        self.train(steps)
        return time.process_time() - begin

    def quality(self) -> float:
        """Return the perplexity so far."""
        return self.perplexity(self.data.excerpts["validation"])

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        self.trainer.train_step(inputs, targets)

    def finish(self) -> dict[str, float | None]:
        """Return the peak memory of the training, and the perplexity after it."""
        memory = peak_memory()
        return {"perplexity": self.perplexity(self.data.excerpts["validation"]), "memory": memory}

    def perplexity(self, windows: Windows) -> float:
        figures = measure(self.trainer.kept, windows.epoch(0), windows.batch, self.job.evaluated, nullcontext)
        return figures["perplexity"]


class Straightforward(Engine):
    """The other loop, on the same windows with the same first weights and learning rates."""

    def prepare(self, trainer: Trainer) -> None:
        self.loop = StraightforwardLoop(trainer.network, self.job.recipe.clip_norm)
        self.number = 0

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        self.loop.step(inputs, targets, learning_rate(self.job.recipe, self.number, self.job.steps))
        self.number += 1

    def perplexity(self, windows: Windows) -> float:
        return self.loop.perplexity(windows.epoch(0), self.job.evaluated)


def first(data: TrainingData, tokens: int, recipe: Recipe) -> TrainingData:
    """Return the data of a training on the first tokens of its text alone."""
    text = data.windows.tokens[:tokens]
    windows = Windows(text, recipe.batch_size, recipe.bptt, recipe.shuffle_block, recipe.seed)
    return replace(data, windows=windows, counts=word_counts(text, len(data.counts)))


def endless(windows: Windows) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the windows of one epoch after the other."""
    number = 0
    while True:
        yield from windows.epoch(number)
        number += 1


def filled_vocabulary(corpus: Corpus, size: int) -> Vocabulary:
    """Return the vocabulary of a corpus, with words that never occur where it has fewer than `size`."""
    vocabulary = build_vocabulary(corpus, size, 1, False)
    missing = size - len(vocabulary)
    if not missing:
        return vocabulary
    lines = (line for document in corpus.documents("train") for line in document.split("\n"))
    return Vocabulary.build(chain(lines, (f"filling{number}" for number in range(missing))), size)


def peak_memory() -> int | None:
    """Return the most bytes of resident memory that this process has had, pages of mapped files included.

    None where the system does not tell.
    """
    if sys.platform != "linux":
        return None
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(peak[1]) if peak else None
