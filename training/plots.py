"""Plots as PNG files. `draw` makes all of them, such as a run's learning curves."""
from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

Points = tuple[Sequence[float], Sequence[float]]  # x values, y values

# Dark enough on white paper, and different for people who cannot tell red from green (after Okabe & Ito 2008).
COLOURS = {"train": "#5b6b80", "validation": "#c2410c", "RNN": "#c2410c", "GRU": "#00805e", "LSTM": "#0062a3",
           "Transformer": "#7a3f9d", "truth": "#5b6b80"}
OTHERS = ("#0062a3", "#c2410c", "#00805e", "#7a3f9d", "#8a6a00", "#5b6b80")
LINE_HEIGHT = 13.0  # points between two labels


def draw(path: Path, curves: Mapping[str, Points], *, title: str, x: str, y: str, scale: str = "linear",
         percent: bool = False, dashed: Sequence[str] = (), markers: bool = True, x_ticks: Sequence[float] = (),
         bands: Mapping[str, Points] | None = None, stamp: str = "") -> Path:
    """Draw curves, each labelled at its right end, write them to `path`, and return it.

    curves: label → x and y values. x, y: names of the axes. percent: y values are shares from 0 to 1.
    dashed: labels of dashed curves. x_ticks: the x values to mark, on a logarithmic axis; none: whole numbers.
    bands: label → lower and upper y values of a curve, shaded. stamp: a warning across the plot.
    """
    figure = Figure(figsize=(7.5, 4.4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11, wrap=True)
    axes.set(xlabel=x, ylabel=y, yscale=scale)
    ends = []
    for number, (label, (xs, ys)) in enumerate(curves.items()):
        words = reversed(re.split("[ ,]+", label))
        colour = next((COLOURS[word] for word in words if word in COLOURS), OTHERS[number % len(OTHERS)])
        axes.plot(xs, ys, "--" if label in dashed else "-", color=colour, linewidth=1.6,
                  marker="o" if markers and len(xs) <= 60 else None, markersize=3.5)
        if bands and label in bands:
            axes.fill_between(xs, *bands[label], color=colour, alpha=0.15, linewidth=0)
        if len(xs):
            ends.append((xs[-1], ys[-1], label, colour))
    _x_axis(axes, x_ticks)
    _y_axis(axes, scale, percent)
    axes.margins(x=0.02)
    if stamp:
        axes.text(0.5, 0.5, stamp, transform=axes.transAxes, ha="center", va="center", fontsize=15, color="#b00020",
                  alpha=0.55, rotation=12)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    _label(figure, axes, ends)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _x_axis(axes: Axes, ticks: Sequence[float]) -> None:
    if ticks:
        axes.set_xscale("log")
        axes.set_xticks(ticks, [plain_number(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))


def _y_axis(axes: Axes, scale: str, percent: bool) -> None:
    if scale == "log":
        low, high = (math.log10(limit) for limit in axes.get_ylim())
        decades = high - low
        subs = (1, 1.5, 2, 3, 4, 5, 6, 8) if decades < 0.7 else (1, 2, 5) if decades < 2.5 else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %") if percent else
                                   FuncFormatter(lambda value, _: plain_number(value)))


def plain_number(value: float) -> str:
    """A number as text: 1,000, 0.05; numbers below 0.0001 as a power of ten."""
    if value and abs(value) < 0.99e-4:
        power = math.floor(math.log10(abs(value)) + 1e-9)
        factor = value / 10**power
        return (f"{factor:.3g} × " if abs(factor - 1) > 1e-6 else "") + f"$10^{{{power}}}$"
    return f"{round(value, 6):,.10g}"


def _label(figure: Figure, axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each curve's label beside its end, and move overlapping labels apart.

    ends: x, y, label and colour of each curve's last point.
    """
    figure.draw_without_rendering()
    ends = sorted(ends, key=lambda end: end[1])
    heights = [axes.transData.transform(end[:2])[1] * 72 / figure.dpi for end in ends]
    places = list(heights)
    for _ in range(100):
        for low in range(len(places) - 1):
            overlap = places[low] + LINE_HEIGHT - places[low + 1]
            if overlap > 0:
                places[low], places[low + 1] = places[low] - overlap / 2, places[low + 1] + overlap / 2
    for (_, y, label, colour), height, place in zip(ends, heights, places):
        axes.annotate(label, (axes.get_xlim()[1], y), (6, place - height), textcoords="offset points", color=colour,
                      va="center", annotation_clip=False)


def plot_run(run: Path) -> list[Path]:
    """Draw `loss.png`, `perplexity.png` and `accuracy.png` from a run's `metrics.jsonl`, and return their paths."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    recipe = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    model = f"{recipe['cell'].upper()} of {recipe['hidden_size']:,} units on {recipe['corpus'] or 'the default corpus'}"
    steps = [row["step"] for row in rows]

    def curves(**keys: str) -> dict[str, Points]:
        labels = {(name, split): f"{name.replace('_', '-')}, {split}" if len(keys) > 1 else split
                  for name in keys for split in ("train", "validation")}
        return {label: (steps, [row[split][keys[name]] for row in rows]) for (name, split), label in labels.items()}

    return [
        draw(run / "loss.png", curves(loss="loss"), title=f"{model}: loss", x="step", y="loss, nats a token"),
        draw(run / "perplexity.png", curves(perplexity="perplexity"), title=f"{model}: perplexity", x="step",
             y="perplexity", scale="log"),
        draw(run / "accuracy.png", curves(top_3="top3", top_1="top1"), title=f"{model}: accuracy of the next token",
             x="step", y="share of tokens predicted", percent=True, dashed=("top-1, train", "top-1, validation")),
    ]


def plot_comparison(folder: Path, curves: dict[str, list[tuple[int, float]]], reach: dict[str, list[float]],
                    text: str, stamp: str = "") -> None:
    """Draw `learning.png` and `gradient.png`, both on logarithmic scales.

    They show the validation perplexity by tokens read, and the norm of the gradient of the last word's loss by the
    distance of the input in words.

    text: the corpus that the titles name. stamp: a warning across both plots.
    """
    learning = {name: ([tokens for tokens, _ in points], [value for _, value in points])
                for name, points in curves.items()}
    draw(folder / "learning.png", learning,
         title=f"Four networks of equal size on {text}", x="tokens read in training", y="validation perplexity",
         scale="log", stamp=stamp)
    draw(folder / "gradient.png", {name: (range(len(norms)), norms) for name, norms in reach.items()},
         title=f"How far the gradient reaches back on {text}", x="words earlier",
         y="norm of the last word's gradient", scale="log", markers=False, stamp=stamp)
