"""Event files for TensorBoard. Most environments of the tests lack its package, so a list stands for its writer."""
import json
import shutil
from pathlib import Path

import pytest

from nextword.training import tensorboard
from nextword.training.__main__ import main
from tests.conftest import TINY


class Recorder:
    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int, float]] = []

    def add_scalar(self, *scalar) -> None:
        self.scalars.append(scalar)

    def flush(self) -> None:
        pass


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_old_and_new_evaluations_are_written(tiny_run, corpus_file, tmp_path, monkeypatch) -> None:
    run, recorder = shutil.copytree(tiny_run, tmp_path / "run"), Recorder()
    monkeypatch.setattr(tensorboard, "event_writer", {run: recorder}.get)
    more = ["--epochs", "4.1"]
    assert main(["train", "--corpus", str(corpus_file), "--out", str(run), *TINY, *more]) == 0
    assert len(rows(run)) > len(rows(tiny_run)) > 0
    for tag, value in (("perplexity/validation", lambda row: row["validation"]["perplexity"]),
                       ("accuracy/top-3/train", lambda row: row["train"]["top3"]),
                       ("learning rate", lambda row: row["learning_rate"])):
        written = [(step, value) for name, value, step, _ in recorder.scalars if name == tag]
        assert written == [(row["step"], value(row)) for row in rows(run)]
    times = [time for name, _, _, time in recorder.scalars if name == "learning rate"]
    assert times[-1] - times[0] == pytest.approx(rows(run)[-1]["seconds"] - rows(run)[0]["seconds"], abs=0.01)


def test_tensorboard_reads_a_run(tiny_run, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # the second file replaces the first
        tensorboard.Events(tensorboard.event_writer(tmp_path), rows(tiny_run), 0.0)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/validation")] == [
        (row["step"], pytest.approx(row["validation"]["loss"])) for row in rows(tiny_run)]
