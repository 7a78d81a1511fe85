"""The learning curves of a run as PNG files: loss, perplexity and accuracy, by step, on training and validation text."""
from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

COLOURS = {"train": "#7a8ca3", "validation": "#c2410c"}


def plot_run(run: Path) -> list[Path]:
    """Draw `loss.png`, `perplexity.png` and `accuracy.png` from a run's `metrics.jsonl`; returns their paths."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row["step"] for row in rows]
    return [
        _plot(run / "loss.png", "loss, nats a token", steps, rows, {"": "loss"}),
        _plot(run / "perplexity.png", "perplexity", steps, rows, {"": "perplexity"}, scale="log"),
        _plot(run / "accuracy.png", "share of tokens predicted", steps, rows, {"top-3 ": "top3", "top-1 ": "top1"}),
    ]


def _plot(path: Path, label: str, steps: list[int], rows: list[dict], curves: dict[str, str], scale: str = "linear"
          ) -> Path:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for (prefix, key), style in zip(curves.items(), ("-", "--")):
        for split, colour in COLOURS.items():
            values = [row[split][key] for row in rows]
            axes.plot(steps, values, style, color=colour, marker="o", markersize=3, label=f"{prefix}{split}")
    axes.set(xlabel="step", ylabel=label, yscale=scale)
    _finish(figure, axes, path)
    return path


def plot_comparison(folder: Path, curves: dict[str, list[tuple[int, float]]], reach: dict[str, list[float]]) -> None:
    """Draw `learning.png`, validation perplexity by tokens read, and `gradient.png`, the norm of the gradient of the last
    word's loss by how many words earlier the input is, each on a logarithmic scale."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points), marker="o", markersize=3, label=name)
    axes.set(xlabel="tokens read in training", ylabel="validation perplexity", yscale="log")
    _finish(figure, axes, folder / "learning.png")

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, norms in reach.items():
        axes.plot(norms, label=name)
    axes.set(xlabel="words earlier", ylabel="norm of the gradient of the last word's loss", yscale="log")
    _finish(figure, axes, folder / "gradient.png")


def _finish(figure: Figure, axes, path: Path) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
