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
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    return path
