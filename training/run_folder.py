"""The folder of a run.

    recipe.json     the settings of the run, a checksum of its text, and its precision
    tokenizer.json  the vocabulary
    metrics.jsonl   one line for each evaluation
    checkpoint.pt   all data that is needed to continue
    best.pt         the weights with the best validation perplexity so far
"""
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nextword.lm.vocabulary import Vocabulary
from nextword.training.atomic_files import replacing, write_atomically
from nextword.training.recipe import Recipe

CHOSEN_PRECISION = "chosen_precision"  # a key of recipe.json


class RunError(ValueError):
    """The folder has another run, or the run cannot continue."""


class Best(NamedTuple):
    """Weights after a number of steps, and their figures on validation text (see nextword.training.measure)."""

    step: int
    weights: dict[str, Tensor]
    validation: dict[str, float]


class RunFolder:
    """Reads and writes the files of a run. A file is written whole or not at all; lines of metrics are appended."""

    def __init__(self, path: Path):
        self.path = path
        self._recipe, self._tokenizer, self._metrics = (
            path / name for name in ("recipe.json", "tokenizer.json", "metrics.jsonl"))
        self._checkpoint, self._best = path / "checkpoint.pt", path / "best.pt"
        self.bundle = path / "bundle"

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Save the settings of this run. If the folder already has a run, check that its settings are the same.

        Settings that are marked as free in Recipe may change when a run continues. Raises RunError if others differ.
        """
        self.path.mkdir(0o700, parents=True, exist_ok=True)  # words and weights tell of the text
        saved = self.settings()
        # A setting newer than the run has its default, or what such runs did.
        earlier = {**Recipe().to_dict(), "affixes": False, **saved} if saved else {}
        changed = [f"{name} {earlier[name]!r} is now {value!r}" if name != "text" else "the corpus's text has changed"
                   for name, value in settings.items()
                   if earlier.get(name, value) != value and name not in Recipe.free_settings()]
        if changed:
            raise RunError(f"{self.path} holds a run with other settings ({'; '.join(changed)}): give another folder, "
                           "or remove it to start anew")
        write_atomically(self._recipe, json.dumps({**saved, **settings}, indent=1).encode())

    def check_finished(self) -> None:
        """Raises RunError if the folder lacks a recipe, a vocabulary or weights."""
        if not all(path.is_file() for path in (self._recipe, self._tokenizer, self._best)):
            raise RunError(f"{self.path} is not the folder of a run: it should have {self._recipe.name}, "
                           f"{self._tokenizer.name} and {self._best.name}")

    def recipe(self) -> Recipe:
        """The recipe of the run; settings newer than the run have their defaults."""
        return Recipe(**{name: value for name, value in self.settings().items() if name in Recipe.model_fields})

    def settings(self) -> dict[str, Any]:
        """The content of recipe.json; {} if there is none."""
        return json.loads(self._recipe.read_text(encoding="utf-8")) if self._recipe.exists() else {}

    def chosen_precision(self) -> str | None:
        """The type of the run's matrix products, "float32" or "bfloat16"; None before it is chosen."""
        return self.settings().get(CHOSEN_PRECISION)

    def vocabulary(self) -> Vocabulary:
        return Vocabulary.from_file(self._tokenizer)

    def write_vocabulary(self, vocabulary: Vocabulary) -> None:
        write_atomically(self._tokenizer, vocabulary.to_json().encode())

    def evaluations(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl. A last line without a line break is incomplete and is left out."""
        if not self._metrics.exists():
            return []
        return [json.loads(line) for line in self._metrics.read_text(encoding="utf-8").split("\n")[:-1]]

    def drop_evaluations_after(self, step: int) -> None:
        """Remove the rows after `step`: the run continues there, and writes them again."""
        rows = [row for row in self.evaluations() if row["step"] <= step]
        write_atomically(self._metrics, "".join(f"{json.dumps(row)}\n" for row in rows).encode())

    def add_evaluation(self, row: Mapping[str, Any]) -> None:
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def best(self) -> Best:
        """The weights with the best validation perplexity."""
        saved = torch.load(self._best, map_location="cpu", weights_only=True)
        validation = saved.get("validation")
        if validation is None:  # a run of version 0.1.0
            validation = next(row["validation"] for row in self.evaluations() if row["step"] == saved["step"])
        return Best(saved["step"], saved["network"], validation)

    def write_best(self, step: int, weights: Mapping[str, Tensor], validation: Mapping[str, float]) -> None:
        _save(self._best, {"step": step, "network": weights, "validation": dict(validation)})

    def checkpoint(self) -> dict[str, Any] | None:
        if not self._checkpoint.exists():
            return None
        return torch.load(self._checkpoint, map_location="cpu", weights_only=True)

    def write_checkpoint(self, content: Mapping[str, Any]) -> None:
        _save(self._checkpoint, content)


def _save(path: Path, content: Mapping[str, Any]) -> None:
    buffer = BytesIO()
    torch.save(content, buffer)  # not into the file: torch hides the reason if a file cannot be written
    with replacing(path) as file:
        file.write(buffer.getbuffer())
