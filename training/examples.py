"""Learning from examples with targets, for the programs `regression` and `sentiment`: the loop, and its plots.

Adam, batches of 32 examples of similar lengths, gradients cut off at a norm of 1 (Pascanu et al. 2013). The weights of
the best epoch are kept.
"""
from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nextword.training.plots import draw
from nextword.training.precision import autocast
from nextword.training.progress import work_progress

BATCH = 32
Epoch = dict[str, float]  # "train loss", "validation loss" and so on


class Examples(NamedTuple):
    """inputs (examples, …), targets (examples,) float32, and the length of each input, (examples,)."""

    inputs: Tensor
    targets: Tensor
    lengths: Tensor


def learn(model: nn.Module, train: Examples, validation: Examples,
          measure: Callable[[Tensor, Tensor], dict[str, Tensor]], quality: Callable[[Epoch], float], epochs: int,
          rate: float = 1e-3, decay: float = 0.0, dtype: torch.dtype = torch.float32, name: str = "") -> list[Epoch]:
    """Train in place, print and return the figures of each epoch, and keep the weights of the highest `quality`.

    measure: from outputs and targets to figures; the one named "loss" is minimised.
    decay: half of it, times the squared weights, is added to the loss. dtype: of the matrix products.
    """
    optimizer = torch.optim.Adam(model.parameters(), rate, weight_decay=decay)
    rows: list[Epoch] = []
    best: dict[str, Tensor] = {}
    for epoch in range(1, epochs + 1):
        began, outputs = time.monotonic(), torch.empty(len(train.targets))
        parts = batches(train.lengths, BATCH, shuffled=True)
        model.train()
        with work_progress(len(parts), f"epoch {epoch}", sys.stderr.isatty()) as progress:
            for places in parts:
                with autocast(dtype):
                    output = model(train.inputs[places]).float()
                improve(model, optimizer, measure(output, train.targets[places])["loss"])
                outputs[places] = output.detach()
                progress(1)
        rows.append({f"{split} {figure}": float(value) for split, results, targets in (
            ("train", outputs, train.targets), ("validation", predict(model, validation), validation.targets))
            for figure, value in measure(results, targets).items()})
        if quality(rows[-1]) == max(map(quality, rows)):
            best = copy.deepcopy(model.state_dict())
        print(f"{name}epoch {epoch:2}: " + ", ".join(f"{figure} {value:.4f}" for figure, value in rows[-1].items())
              + f", {time.monotonic() - began:.0f} s", flush=True)
    model.load_state_dict(best)
    return rows


def improve(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Change the weights by one step against the loss's gradient."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


@torch.inference_mode()
def predict(model: nn.Module, examples: Examples) -> Tensor:
    """The model's outputs for all examples, (examples,)."""
    model.eval()
    outputs = torch.empty(len(examples.inputs))
    for places in batches(examples.lengths, 4 * BATCH):
        outputs[places] = model(examples.inputs[places])
    return outputs


def batches(lengths: Tensor, size: int, shuffled: bool = False) -> list[Tensor]:
    """The places of all examples, in batches of similar lengths. Shuffled batches differ from call to call."""
    places = torch.randperm(len(lengths)) if shuffled else torch.arange(len(lengths))
    groups = places.split(50 * size if shuffled else len(places))  # those that are sorted together
    parts = [part for group in groups for part in group[lengths[group].argsort(descending=True)].split(size)]
    return [parts[place] for place in torch.randperm(len(parts))] if shuffled else parts


def plot_epochs(path: Path, curves: Mapping[str, list[Epoch]], figure: str, title: str, unit: str,
                scale: str = "linear") -> None:
    """Draw a figure of the training and the validation part by epoch, for one or more models.

    curves: the model's name, empty for the only one → its epochs.
    """
    points = {f"{split}, {name}" if name else split:
              (range(1, len(rows) + 1), [row[f"{split} {figure}"] for row in rows])
              for name, rows in curves.items() for split in ("train", "validation")}
    draw(path, points, title=f"{title}: {figure}", x="epoch", y=unit, scale=scale, percent=figure == "accuracy",
         dashed=[label for label in points if label.startswith("train")])
