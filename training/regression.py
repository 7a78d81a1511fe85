"""A recurrent network that predicts the next value of a series of numbers: `nextword regression`.

    h_t = RNN(x_t, h_{t-1})       one layer of rnn, gru or lstm, the equations of lm/cell.py
    y   = v h_T + b               T: the window's last value

The loss is the mean squared error. The weights with the best validation loss are kept (training/examples.py). The
series is cut by time into a training, a validation and a test part, and each part is cut into windows. The mean and the
deviation of the training part scale all three. Two baselines are measured on the same test windows: the last value
repeated, and a linear autoregression (least squares; Box & Jenkins 1970).
"""
from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pad

from nextword.lm.architecture import CELLS
from nextword.lm.command import Parser, Run, positive
from nextword.lm.network import LAYERS
from nextword.training.atomic_files import write_json
from nextword.training.examples import Examples, learn, plot_epochs, predict
from nextword.training.plots import draw

SHARES = (0.7, 0.15)  # of the training and the validation part; the rest is the test part


def built_in_series(length: int = 4000, seed: int = 0) -> Tensor:
    """The hourly consumption of an invented town, (length,).

    It is the exponential of a sum of sines (day, half a day, week, slow drift), times noise of 5 %. So the next value
    is not a linear function of earlier values.
    """
    hours = torch.arange(length, dtype=torch.float64)
    waves = ((0.5, 24, 0.0), (0.25, 12, 1.0), (0.3, 168, 2.0), (0.2, 3000, 0.5))
    level = sum(size * torch.sin(2 * math.pi * hours / period + phase) for size, period, phase in waves)
    noise = torch.randn(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 100 * torch.exp(level + 0.05 * noise)


def read_column(path: Path, column: str | None) -> Tensor:
    """The numbers of a column of a CSV file with a header; None: the only column of numbers. Raises ValueError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}") from None
    if not rows:
        raise ValueError(f"{path} has no rows; a header and a number a row are needed")
    if None in rows[0]:
        raise ValueError(f"{path}, row 2 has more values than the header has names; commas separate them")
    numeric = [name for name, text in rows[0].items() if name and _number(text) is not None]
    if column is None and len(numeric) == 1:
        column = numeric[0]
    if column not in rows[0]:
        raise ValueError((f"{path} has no column {column!r}" if column else f"{path}: name the column to predict")
                         + f"; columns of numbers: {', '.join(numeric) or 'none'}")
    values = [_number(row[column]) for row in rows]
    if None in values:
        place = values.index(None)
        raise ValueError(f"{path}, row {place + 2}: {rows[place][column]!r} in column {column!r} is no number")
    return torch.tensor(values, dtype=torch.float64)


def _number(text: str | None) -> float | None:
    try:
        return number if math.isfinite(number := float(text or "")) else None
    except ValueError:
        return None


class Data(NamedTuple):
    """Scaled windows of each part, with the value after each window as target. value = mean + deviation * scaled value.
    """

    train: Examples
    validation: Examples
    test: Examples
    mean: float
    deviation: float


def prepare(series: Tensor, size: int) -> Data:
    """Cut a series (values,) by time, scale it by its training part, and cut each part into windows of `size` values.

    Raises ValueError if the series is too short or constant.
    """
    first = int(SHARES[0] * len(series))
    second = first + int(SHARES[1] * len(series))
    parts = series[:first], series[first:second], series[second:]
    if min(map(len, parts)) <= size:
        raise ValueError(f"{len(series):,} values are too few for windows of {size}: the validation part has "
                         f"{len(parts[1]):,} of them and needs more than a window")
    mean, deviation = float(parts[0].mean()), float(parts[0].std())
    if not deviation > 0:
        raise ValueError("all values of the training part are equal: there is nothing to learn")
    rows = [((part - mean) / deviation).float().unfold(0, size + 1, 1) for part in parts]
    train, validation, test = (Examples(part[:, :-1], part[:, -1], torch.full((len(part),), size)) for part in rows)
    return Data(train, validation, test, mean, deviation)


class Regressor(nn.Module):
    """A recurrent layer and a linear layer on its last output: inputs (windows, size) → next values (windows,)."""

    def __init__(self, cell: str, hidden_size: int) -> None:
        super().__init__()
        self.recurrent = LAYERS[cell](1, hidden_size)
        self.linear = nn.Linear(hidden_size, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs, _ = self.recurrent(inputs.t().unsqueeze(2))
        return self.linear(outputs[-1]).squeeze(1)


def autoregression(train: Examples, test: Examples) -> Tensor:
    """Predictions for the test windows: a linear function of each, fitted to the training windows by least squares."""
    fitted, asked = (pad(part.inputs, (0, 1), value=1.0).double() for part in (train, test))  # 1: for the constant
    weights = torch.linalg.lstsq(fitted, train.targets.double()[:, None], driver="gelsd").solution
    return (asked @ weights).squeeze(1).float()


def measure(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The mean squared error, in squared deviations of the training part."""
    return {"loss": mse_loss(outputs, targets)}


def command(parser: Parser) -> Run:
    parser.formatter_class, parser.description = argparse.RawDescriptionHelpFormatter, __doc__
    parser.add_argument("--data", type=Path, help="a CSV file with a header (default: an invented series)")
    parser.add_argument("--column", help="the column to predict (default: the only one with numbers)")
    parser.add_argument("--cell", action="append", choices=CELLS, help="may be repeated (default: all three)")
    parser.add_argument("--window", type=positive, default=48, help="number of values for a prediction (default: 48)")
    parser.add_argument("--hidden-size", type=positive, default=32, help="default: 32")
    parser.add_argument("--epochs", type=positive, default=30, help="default: 30")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="default: 0.002")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--out", type=Path, default=Path("runs/regression"),
                        help="the plots' folder (default: runs/regression)")
    return run


def run(arguments: argparse.Namespace) -> int:
    data = prepare(read_column(arguments.data, arguments.column) if arguments.data else built_in_series(),
                   arguments.window)
    predictions = {"last value": data.test.inputs[:, -1], "autoregression": autoregression(data.train, data.test)}
    curves = {}
    for cell in arguments.cell or CELLS:
        torch.manual_seed(arguments.seed)
        model, name = Regressor(cell, arguments.hidden_size), cell.upper()
        curves[name] = learn(model, data.train, data.validation, measure, lambda row: -row["validation loss"],
                             arguments.epochs, arguments.learning_rate, name=f"{name}, ")
        predictions[name] = predict(model, data.test)
    errors = {name: float(mse_loss(values, data.test.targets)) for name, values in predictions.items()}
    print(f"\n{len(data.test.targets):,} test windows: mean squared error, scaled, and its root in the series' unit")
    for name, value in errors.items():
        print(f"{name:>15}  {value:8.4f}  {value ** 0.5 * data.deviation:10.4g}")
    out, text = arguments.out, arguments.data.name if arguments.data else "the built-in series"
    write_json(out / "metrics.json", {"test": errors, "epochs": curves})
    plot_epochs(out / "loss.png", curves, "loss", f"{', '.join(curves)} of {arguments.hidden_size} units on {text}",
                "mean squared error", "log")
    best = min(curves, key=lambda name: min(row["validation loss"] for row in curves[name]))
    shown = {name: data.mean + data.deviation * values[:168]
             for name, values in (("truth", data.test.targets), (best, predictions[best]))}
    draw(out / "prediction.png", {name: (range(1, len(values) + 1), values.tolist()) for name, values in shown.items()},
         title=f"{best} on {text}: each value predicted from the {arguments.window} before it", x="test windows",
         y="value", markers=False, dashed=[best])
    print(f"{out}/loss.png, {out}/prediction.png")
    return 0
