"""The figures of a run as event files in its folder, for TensorBoard, if the package `tensorboard` is installed."""
from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

_FIGURES = {"loss": "loss", "perplexity": "perplexity", "top1": "accuracy/top-1", "top3": "accuracy/top-3"}


class Writer(Protocol):
    """The part of torch's SummaryWriter that is used."""

    def add_scalar(self, tag: str, value: float, step: int, walltime: float) -> object: ...

    def flush(self) -> object: ...


class Events:
    """Writes rows of metrics.jsonl as events. Their times are the times of training, without its pauses."""

    def __init__(self, writer: Writer, rows: Iterable[Mapping[str, Any]], seconds: float):
        """rows: the rows so far. seconds: the time of the training so far."""
        self._writer, self._began = writer, time.time() - seconds
        for row in rows:
            self.write(row)

    def write(self, row: Mapping[str, Any]) -> None:
        step, walltime = row["step"], self._began + row["seconds"]
        self._writer.add_scalar("learning rate", row["learning_rate"], step, walltime)
        for split in ("train", "validation"):
            for name, tag in _FIGURES.items():
                self._writer.add_scalar(f"{tag}/{split}", row[split][name], step, walltime)
        self._writer.flush()


def event_writer(folder: Path) -> Writer | None:
    """A writer of a new event file, which replaces the earlier ones in this folder; None without `tensorboard`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=0)
