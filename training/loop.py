"""The training loop: truncated back-propagation through time with carried state, from a recipe to the best weights.

A run lives in a folder:
    recipe.json     the settings it was started with
    tokenizer.json  its vocabulary
    metrics.jsonl   a line an evaluation
    checkpoint.pt   everything needed to go on
    best.pt         the weights of the best validation perplexity so far

All that is drawn at random in a step depends on the seed and the step's number alone. So a run that was stopped, by a
signal or by losing power, goes on from its last checkpoint to the same weights as one that never stopped (on a CPU,
with the same number of threads).
"""
from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nextword.lm import malloc as memory
from nextword.lm.network import Network
from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.training.corpora import Corpus
from nextword.training.distributed import Processes
from nextword.training.loss import cross_entropy, sample_candidates
from nextword.training.measure import measure
from nextword.training.precision import choose_precision
from nextword.training.progress import Progress
from nextword.training.recipe import Recipe
from nextword.training.regularisation import RegularisedNetwork, activation_penalty
from nextword.training.stopping import Stopping
from nextword.training.tokens import (
    Windows, build_vocabulary, digest, encode_split, log_frequencies, replacing, write_atomically,
)
from nextword.training.warm_start import change_vocabulary, take_weights, vocabulary_of, weights_of


class Interrupted(Exception):
    """A signal asked the run to stop; its checkpoint is written. `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}; the same command goes on from here")
        self.number = number


class RunError(ValueError):
    """The run's folder holds something else than this run."""


def build_network(recipe: Recipe, vocabulary_size: int) -> Network:
    """What `fit` trains: the recipe's architecture with its regularisers."""
    return RegularisedNetwork(recipe.architecture(vocabulary_size), recipe.dropout, recipe.word_dropout, recipe.weight_drop,
                              recipe.fresh_starts)


def fit(recipe: Recipe, corpus: Corpus, out: Path, processes: Processes = Processes(),
        build: Callable[[Recipe, int], Network] = build_network) -> dict:
    """Train to the end, or go on where an earlier call in the same folder stopped, in however many processes.

    Returns {"steps", "seconds", "tokens", "reason"} of the finished run; `best.pt` in the folder has the weights.
    Raises Interrupted on SIGINT and SIGTERM, RunError where `out` holds a run with other settings.
    """
    processes.check(recipe.batch_size)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    processes.once(lambda: _claim(out, recipe.to_dict()))
    vocabulary = processes.once(lambda: _vocabulary(recipe, corpus))
    run = _Run(recipe, vocabulary, corpus, out, processes, build)
    memory.keep_freed()  # not before, as reading the corpus needs more, and once
    return run.to_the_end()


def _vocabulary(recipe: Recipe, corpus: Corpus) -> Vocabulary:
    if not recipe.start_from:
        return build_vocabulary(corpus, recipe.vocabulary_size, recipe.minimum_count, recipe.pretokenized)
    start = vocabulary_of(Path(recipe.start_from))
    if start.pretokenized != recipe.pretokenized:
        raise RunError(f"start_from: the run in {recipe.start_from} and this one do not have the same `pretokenized`")
    if recipe.start_vocabulary == "keep":
        return start
    counted = build_vocabulary(corpus, recipe.vocabulary_size, recipe.minimum_count, recipe.pretokenized)
    if recipe.start_vocabulary == "new":
        return counted
    return Vocabulary.of_words(list(dict.fromkeys(start.words + counted.words))[EOS_ID + 1 :], recipe.pretokenized)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of a step (the first is 0): a linear rise in the first `warmup` share, then half a cosine down."""
    warmup = max(1, round(recipe.warmup * steps))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    low = recipe.final_rate
    return recipe.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


class _Run:
    def __init__(self, recipe: Recipe, vocabulary: Vocabulary, corpus: Corpus, out: Path, processes: Processes,
                 build: Callable[[Recipe, int], Network] = build_network):
        self.recipe, self.out, self.processes = recipe, out, processes
        self.device, self.heads = processes.device(), processes.share(recipe.batch_size)
        self.dtype = choose_precision(recipe.precision, self.device)
        self.autocast = nullcontext if self.dtype == torch.float32 else partial(
            torch.autocast, self.device.type, self.dtype)
        with processes.in_turn():
            train, validation = (encode_split(corpus, split, vocabulary) for split in ("train", "validation"))
        text = digest(vocabulary, train, validation)
        if any(processes.sums(text != processes.once(lambda: text))):
            raise RunError("the corpus is not the same on all machines")
        processes.once(lambda: _claim(out, {"text": text}))
        processes.once(lambda: write_atomically(out / "tokenizer.json", vocabulary.to_json().encode()))
        self.windows = Windows(train, recipe.batch_size, recipe.bptt, recipe.shuffle_block, recipe.seed, self.heads)
        # Few heads, so that short texts too are read with context; the same text at each evaluation.
        self.watched = {name: Windows(tokens, min(recipe.batch_size, max(1, len(tokens) // 200)), recipe.bptt)
                        for name, tokens in (("train", self._sample(train)), ("validation", self._sample(validation)))}
        self.steps = math.ceil(recipe.epochs * self.windows.steps)

        torch.manual_seed(recipe.seed)
        self.network = build(recipe, len(vocabulary)).to(self.device)
        with torch.no_grad():
            self.network.bias.copy_(log_frequencies(train, len(vocabulary)))
        if recipe.start_from:
            source = Path(recipe.start_from)
            weights = change_vocabulary(processes.once(lambda: weights_of(source)), vocabulary_of(source), vocabulary,
                                        log_frequencies(train, len(vocabulary)).exp() * len(train))
            take_weights(self.network, weights, source)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), recipe.learning_rate,
                                           weight_decay=recipe.weight_decay, fused=True)
        self.average = None
        if recipe.averaging:
            self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging))
        self.kept = self.average.module if self.average else self.network  # what is evaluated and saved as the best
        self.stopping = Stopping(recipe.patience)
        self.state = self.network.initial_state(len(self.windows.heads))
        self.step, self.tokens, self.seconds, self.losses = 0, 0, 0.0, []
        self._resume()
        self.synchronised = processes.synchronised(self.network)
        self.metrics = processes.once(lambda: _Metrics(out / "metrics.jsonl", self.step))

    def to_the_end(self) -> dict:
        progress = Progress(self.steps, self.step, sys.stderr)
        began = time.monotonic() - self.seconds
        with _signals() as received:
            for inputs, targets in self._windows_left():
                loss = self._step(inputs, targets)
                loss, asked = self.processes.sums(loss / self.processes.size, len(received))  # all stop at the same step
                self.losses.append(loss)
                progress.step(loss, targets.numel() * self.processes.size)
                self.seconds = time.monotonic() - began
                last = self.step == self.steps
                if self.step % self.recipe.evaluate_every == 0 or last:
                    line, self.stopping = self.processes.once(lambda: (self._evaluate(), self.stopping))
                    self.losses = []
                    progress.say(line)
                if self.step % self.recipe.checkpoint_every == 0 or last or asked or self.stopping.reason:
                    self._checkpoint()
                if self.stopping.reason:
                    break
                if asked and not last:
                    progress.close()
                    raise Interrupted(received[0] if received else signal.SIGTERM)
        progress.close()
        return {"steps": self.step, "tokens": self.tokens, "seconds": round(self.seconds, 1),
                "reason": self.stopping.reason or f"all {self.recipe.epochs:g} epochs done"}

    def _windows_left(self):
        while self.step < self.steps and not self.stopping.reason:
            epoch, first = divmod(self.step, self.windows.steps)
            for window in self.windows.epoch(epoch, first):
                if self.step == self.steps:
                    return
                yield window

    def _step(self, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        recipe, network = self.recipe, self.network
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self.step)
        torch.manual_seed((recipe.seed * 1_000_003 + self.step) * self.processes.size + self.processes.rank)  # dropout
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.step, self.steps)
        keep = torch.rand(recipe.batch_size, 1, generator=generator)[self.heads] >= recipe.forget
        candidates, log_weights = sample_candidates(
            network.architecture.vocabulary_size, recipe.samples or network.architecture.vocabulary_size, generator)
        network.train()
        if recipe.dropout_rise:
            network.level = min(1.0, (self.step + 1) / (recipe.dropout_rise * self.steps))
        with self.autocast():
            outputs, state = self.synchronised(inputs.to(self.device), self.state * keep.to(self.device))
        loss = cross_entropy(outputs.flatten(0, 1), network.embedding.weight, network.bias,
                             targets.to(self.device).flatten(), candidates.to(self.device),
                             log_weights.to(self.device), self.dtype)
        objective = loss
        if recipe.output_penalty or recipe.change_penalty:
            objective = loss + activation_penalty(outputs, recipe.output_penalty, recipe.change_penalty)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(network)
        self.optimizer.zero_grad(set_to_none=True)
        self.state = state.detach()
        self.step += 1
        self.tokens += targets.numel() * self.processes.size
        return float(loss.detach())

    def _evaluate(self) -> str:
        row = {"step": self.step, "epoch": self.step / self.windows.steps, "tokens": self.tokens,
               "seconds": round(self.seconds, 1), "learning_rate": learning_rate(self.recipe, self.step - 1, self.steps),
               "loss": sum(self.losses) / len(self.losses)}
        for name, windows in self.watched.items():
            row[name] = measure(self.kept, windows.epoch(0), windows.batch, self.recipe.evaluation_tokens,
                                self.autocast)
        self.metrics.append(row)
        better = self.stopping.update(row["validation"]["loss"])
        if better:
            _save(self.out / "best.pt", {"step": self.step, "network": self.kept.state_dict()})
        validation = row["validation"]
        return (f"step {self.step}  epoch {row['epoch']:.2f}  loss {row['loss']:.3f}  validation perplexity "
                f"{validation['perplexity']:.2f}  top-1 {validation['top1']:.1%}  top-3 {validation['top3']:.1%}"
                f"{'  (best)' if better else ''}")

    def _sample(self, tokens: np.ndarray, pieces: int = 20) -> np.ndarray:
        """`evaluation_tokens` of a text, as consecutive pieces from all over it."""
        size = self.recipe.evaluation_tokens // pieces
        if len(tokens) <= pieces * size:
            return tokens
        return np.concatenate([tokens[start : start + size]
                               for start in np.linspace(0, len(tokens) - size, pieces).astype(int)])

    def _checkpoint(self) -> None:
        stopping, state = self.stopping, self.processes.gathered(self.state)
        self.processes.once(lambda: _save(self.out / "checkpoint.pt", {
            "step": self.step, "tokens": self.tokens, "seconds": self.seconds, "losses": self.losses,
            "stopping": [stopping.best, stopping.since, stopping.reason], "state": state,
            "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None}))

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        saved = self.processes.once(
            lambda: torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None)
        if saved is None:
            return
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.step, self.tokens, self.seconds = saved["step"], saved["tokens"], saved["seconds"]
        self.losses, self.state = saved["losses"], saved["state"][self.heads].to(self.device)
        self.stopping.best, self.stopping.since, self.stopping.reason = saved["stopping"]


class _Metrics:
    """`metrics.jsonl`; what a run that goes on would write again is taken off first."""

    def __init__(self, path: Path, step: int):
        self.path = path
        rows = [line for line in _lines(path) if json.loads(line)["step"] <= step]
        write_atomically(path, "".join(f"{line}\n" for line in rows).encode())

    def append(self, row: dict) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _lines(path: Path) -> list[str]:
    """The whole lines of the file; one that was cut off while being written does not count."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def _save(path: Path, content: dict) -> None:
    buffer = BytesIO()
    torch.save(content, buffer)  # into a file, it would hide why that cannot be written
    with replacing(path) as file:
        file.write(buffer.getbuffer())


def _claim(out: Path, mine: dict) -> None:
    """Note in the folder what this run is, or make sure that it already is this run's. A run may go on with another
    number of threads, other checkpoints, and its text in another place."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "recipe.json"
    theirs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = {**Recipe().to_dict(), **theirs} if theirs else {}  # a setting newer than the run has its default
    changed = [key for key, value in mine.items() if known.get(key, value) != value and key not in _FREE]
    if changed:
        key = changed[0]
        what = "the corpus's text has changed" if key == "text" else f"{key} {known[key]!r} is now {mine[key]!r}"
        raise RunError(f"{out} holds a run with other settings ({what}): give another folder, or remove it to start anew")
    write_atomically(path, json.dumps({**theirs, **mine}, indent=1).encode())


_FREE = ("corpus", "threads", "checkpoint_every")


@contextmanager
def _signals():
    """SIGINT and SIGTERM are noted, so that a step is always finished; a second one acts at once."""
    received: list[int] = []

    def note(number, frame):
        received.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
