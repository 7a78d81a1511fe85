"""The recurrent networks on numbers: what they learn, and that nothing of the future leaks into them."""
import csv
import json
import math

import pytest
import torch

from nextword.lm.command import Parser, main
from nextword.training import regression
from nextword.training.examples import learn, predict
from nextword.training.regression import Regressor, autoregression, built_in_series, measure, prepare


def run(*options: str) -> int:
    parser = Parser("nextword regression")
    return regression.command(parser)(parser.parse(options)) or 0


def write_csv(path, **columns):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))
    return path


def sine(length: int = 600) -> list[float]:
    return [20 + 5 * math.sin(2 * math.pi * hour / 24) for hour in range(length)]


def test_no_window_reaches_over_the_split():
    data = prepare(torch.arange(1000, dtype=torch.float64), 10)
    places = [torch.cat([part.inputs, part.targets[:, None]], 1) * data.deviation + data.mean for part in data[:3]]
    for part, (first, last) in zip(places, ((0, 699), (700, 849), (850, 999))):
        assert part.min().round() == first and part.max().round() == last
        assert torch.allclose(part.diff(dim=1), torch.ones(1), atol=1e-3)


def test_the_scaling_is_that_of_the_training_part():
    series = built_in_series(1000)
    changed = series.clone()
    changed[700:] = changed[700:] * 50 + 7000
    data, other = prepare(series, 10), prepare(changed, 10)
    assert (data.mean, data.deviation) == (other.mean, other.deviation)
    assert torch.equal(data.train.inputs, other.train.inputs) and torch.equal(data.train.targets, other.train.targets)
    assert data.train.inputs.mean().abs() < 0.1 and abs(float(data.train.inputs.std()) - 1) < 0.1


def test_what_cannot_be_predicted_is_not():
    noise = torch.randn(800, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = prepare(noise, 10)
    model = Regressor("lstm", 16)
    learn(model, data.train, data.validation, measure, lambda row: -row["validation loss"], 2, 5e-3)
    for predicted in (predict(model, data.test), autoregression(data.train, data.test)):
        assert measure(predicted, data.test.targets)["loss"] > 0.9 * data.test.targets.var()


def test_one_command_learns_a_sine_and_draws_it(tmp_path, capsys):
    file = write_csv(tmp_path / "sensor.csv", time=[f"{hour} h" for hour in range(600)], celsius=sine())
    options = ["--data", str(file), "--epochs", "6", "--window", "24", "--hidden-size", "16", "--learning-rate", "0.01"]
    assert run(*options, "--out", str(tmp_path / "out")) == 0
    errors = json.loads((tmp_path / "out" / "metrics.json").read_text())["test"]
    assert list(errors) == ["last value", "autoregression", "RNN", "GRU", "LSTM"]
    assert all(errors[cell] < errors["last value"] / 2 for cell in ("RNN", "GRU", "LSTM"))
    assert errors["autoregression"] < 1e-6  # a sine is a linear function of its last two values
    output = capsys.readouterr().out
    assert output.count("epoch ") == 18 and "test windows" in output
    for name in ("loss.png", "prediction.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("columns, options, message", [
    (dict(a=[1] * 90, b=[2] * 90), [], "name the column.*a, b"),
    (dict(a=[1] * 90), ["--column", "price"], "no column 'price'.*a"),
    (dict(a=[1, 2, "", 4] * 30), [], "row 4: '' in column 'a' is no number"),
    (dict(a=[1, 2, 3]), [], "3 values are too few"),
    (dict(a=[1] * 900), [], "equal"),
    (dict(a=["x"]), [], "columns of numbers: none"),
])
def test_a_file_that_will_not_do_is_refused_in_one_line(tmp_path, columns, options, message):
    file = write_csv(tmp_path / "numbers.csv", **columns)
    with pytest.raises(ValueError, match=message) as refusal:
        run("--data", str(file), "--out", str(tmp_path), *options)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content, message", [
    (b"a;b\n1,5;2\n", "row 2 has more values than the header"),
    (b"\xff\xfe\x00a\n", "numbers.csv is no CSV file in UTF-8"),
    (b"", "has no rows"),
    (None, "numbers.csv: No such file or directory"),
])
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path, capsys, content, message):
    file = tmp_path / "numbers.csv"
    if content is not None:
        file.write_bytes(content)
    assert main(["regression", "--data", str(file), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
