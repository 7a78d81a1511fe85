"""A training from a recipe to the best weights, in the folder of a run (see nextword.training.run_folder).

If a signal or a power failure stops a run, the same command continues it from its last checkpoint.
"""
from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from nextword.lm import malloc
from nextword.lm.network import Network
from nextword.lm.vocabulary import UNK_ID
from nextword.training import tensorboard
from nextword.training.affixes import whole_weights
from nextword.training.corpora import Corpus
from nextword.training.distributed import ALONE, Processes
from nextword.training.precision import choose_precision
from nextword.training.progress import Progress
from nextword.training.recipe import Recipe
from nextword.training.run_folder import CHOSEN_PRECISION, RunError, RunFolder
from nextword.training.stopping import Stopping, has_diverged
from nextword.training.trainer import Trainer, TrainingData, build_network
from nextword.training.warm_start import Start, choose_vocabulary

UNKNOWN = 0.15  # a larger share of unknown words is said beside the figures, because they are easy to predict


class Interrupted(Exception):
    """A signal stopped the run after a checkpoint. `number` is the number of the signal."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}; the same command goes on from here")
        self.number = number


def fit(recipe: Recipe, corpus: Corpus, out: Path, processes: Processes = ALONE,
        build: Callable[[Recipe, int], Network] = build_network) -> dict:
    """Train to the end. If an earlier call in the same folder was stopped, continue it, in any number of processes.

    Returns {"steps", "seconds", "tokens", "reason"} of the finished run; `best.pt` in the folder has the weights.
    Raises Interrupted on SIGINT and SIGTERM; RunError if `out` has a run with other settings, or training diverges.
    """
    processes.check(recipe.batch_size)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    folder = RunFolder(out)
    settings = recipe.to_dict()
    epochs = settings.pop("epochs")  # saved when it is certain that the run has not done more of them
    fixed = {name: value for name, value in settings.items() if name not in Recipe.free_settings()}
    processes.once(lambda: folder.claim(fixed))
    start = Start(recipe.start_from) if recipe.start_from else None
    vocabulary = processes.once(lambda: choose_vocabulary(recipe, corpus, start))
    data = TrainingData.load(recipe, corpus, vocabulary, processes)
    first = processes.once(lambda: data.digest)
    if any(processes.sums(data.digest != first)):
        raise RunError("the corpus is not the same on all machines")
    processes.once(lambda: folder.claim({**settings, "text": data.digest}))  # another text changes no setting
    processes.once(lambda: folder.write_vocabulary(vocabulary))
    dtype = getattr(torch, processes.once(lambda: _chosen_precision(recipe, folder, processes)))
    trainer = Trainer(recipe, data, processes, build, dtype)
    if start:
        trainer.begin_with(lambda network: start.load_into(network, vocabulary, data.counts))
    run = _Run(folder, trainer, Stopping(recipe.patience))
    run.resume()
    processes.once(lambda: folder.claim({"epochs": epochs}))
    if not processes.rank and (writer := tensorboard.event_writer(out)):
        run.events = tensorboard.Events(writer, folder.evaluations(), run.seconds)
    malloc.keep_freed()  # only now, because the memory for reading the corpus is not needed again
    return run.train_to_end()


def _chosen_precision(recipe: Recipe, folder: RunFolder, processes: Processes) -> str:
    """The name of the type of the run's matrix products. The first start of a run chooses it for all processes."""
    chosen = folder.chosen_precision()
    if chosen is None:
        choice = choose_precision(recipe.precision, processes.device())
        chosen = str(choice.dtype).removeprefix("torch.")
        folder.claim({CHOSEN_PRECISION: chosen})
        print(f"Matrix products in {chosen}, {choice.reason}", file=sys.stderr)
    return chosen


@dataclass
class _Run:
    """A training in its folder.

    seconds     time of the training so far
    losses      losses of the steps since the last evaluation
    events      also gets the figures of each evaluation
    """

    folder: RunFolder
    trainer: Trainer
    stopping: Stopping
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    events: tensorboard.Events | None = None

    def train_to_end(self) -> dict:
        trainer, processes, recipe = self.trainer, self.trainer.processes, self.trainer.recipe
        progress = Progress(trainer.steps, trainer.step, sys.stderr)
        began = time.monotonic() - self.seconds
        with _noted_signals() as received:
            for inputs, targets in trainer.windows_left() if not self.stopping.reason else ():
                loss = trainer.train_step(inputs, targets) / processes.size
                loss, signals = processes.sums(loss, len(received))  # all processes stop at the same step
                if not math.isfinite(loss):
                    raise self._diverged(loss)
                self.losses.append(loss)
                progress.step(loss, targets.numel() * processes.size)
                self.seconds = time.monotonic() - began
                last = trainer.step == trainer.steps
                if trainer.step % recipe.evaluate_every == 0 or last:
                    line, self.stopping = processes.once(lambda: (self._evaluate(), self.stopping))
                    self.losses = []
                    progress.say(line)
                if trainer.step % recipe.checkpoint_every == 0 or last or signals or self.stopping.reason:
                    self._write_checkpoint()
                if self.stopping.reason:
                    break
                if signals and not last:
                    progress.close()
                    raise Interrupted(received[0] if received else signal.SIGTERM)
        progress.close()
        return {"steps": trainer.step, "tokens": trainer.tokens, "seconds": round(self.seconds, 1),
                "reason": self.stopping.reason or f"epoch {recipe.epochs:g} of {recipe.epochs:g} is done"}

    def _evaluate(self) -> str:
        """Measure the weights, save the figures, and save the weights if they are the best. Returns a line to print."""
        trainer = self.trainer
        row: dict[str, Any] = {
            "step": trainer.step, "epoch": trainer.step / trainer.data.windows.steps, "tokens": trainer.tokens,
            "seconds": round(self.seconds, 1),
            "learning_rate": trainer.schedule.rate(trainer.step - 1),
            "loss": sum(self.losses) / len(self.losses), **trainer.measure()}
        self.folder.add_evaluation(row)
        if self.events:
            self.events.write(row)
        if has_diverged(row["train"]["loss"], len(trainer.data.counts)) or not math.isfinite(row["validation"]["loss"]):
            raise self._diverged(row["train"]["loss"])
        better = self.stopping.update(row["validation"]["loss"])
        if better:
            self.folder.write_best(trainer.step, whole_weights(trainer.kept), row["validation"])
        validation = row["validation"]
        unknown = float((trainer.data.excerpts["validation"].tokens == UNK_ID).mean())
        return (f"step {trainer.step}  epoch {row['epoch']:.2f}  loss {row['loss']:.3f}  validation perplexity "
                f"{validation['perplexity']:.2f}  top-1 {validation['top1']:.1%}  top-3 {validation['top3']:.1%}"
                f"{f', with {unknown:.0%} unknown words' if unknown > UNKNOWN else ''}{'  (best)' if better else ''}")

    def _diverged(self, loss: float) -> RunError:
        even = math.log(len(self.trainer.data.counts))
        return RunError(f"training diverged: at step {self.trainer.step} the loss is {loss:.3g} nats a token, where an "
                        f"even guess has {even:.3g}. No bundle is written. Train in another folder with a lower "
                        "learning_rate or clip_norm")

    def _write_checkpoint(self) -> None:
        state = self.trainer.state_dict()
        stopping = [self.stopping.best, self.stopping.since, self.stopping.reason]
        self.trainer.processes.once(lambda: self.folder.write_checkpoint(
            {**state, "seconds": self.seconds, "losses": self.losses, "stopping": stopping}))

    def resume(self) -> None:
        """Continue from the last checkpoint, if there is one.

        If the length of the training has changed, evaluations without a better loss are counted anew: the learning
        rate may rise, and then the loss rises at first.
        """
        saved = self.trainer.processes.once(self.folder.checkpoint)
        if saved is not None:
            try:
                self.trainer.load_state_dict(saved)
            except ValueError as error:
                raise RunError(f"{self.folder.path}: {error}") from None
            self.seconds, self.losses = saved["seconds"], saved["losses"]
            self.stopping.best, self.stopping.since, _ = saved["stopping"]
            if self.trainer.schedule.lengths[-1][0] == self.trainer.step:
                self.stopping.since = 0
                print(self.trainer.schedule.last_change(), file=sys.stderr)
        self.trainer.processes.once(lambda: self.folder.drop_evaluations_after(self.trainer.step))


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, so that a step is always finished. A second signal acts at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
