"""Trainings that are killed again and again: their folders and their weights afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from nextword.lm import BundleError, open_bundle
from tests.harness import ROOT
from tests.torture.promise import Promise

SETTINGS = (
    "--embedding-size",
    "32",
    "--hidden-size",
    "48",
    "--batch-size",
    "16",
    "--epochs",
    "2",
    "--evaluate-every",
    "20",
    "--checkpoint-every",
    "5",
    "--learning-rate",
    "0.01",
    "--threads",
    "1",
)
PROMISE = "A training that is killed leaves nothing half-written that loads, and goes on to the same weights"


def corpus(folder: Path, sentences: int = 1500) -> Path:
    """Write an invented text to train on, and return its path."""
    draw, path = random.Random(0), folder / "invented.txt"
    lines = [
        f"{draw.choice(['I', 'We', 'They'])} {draw.choice(['went', 'walked', 'ran'])} to the "
        f"{draw.choice(['store', 'market', 'park', 'station', 'beach'])} today."
        for _ in range(sentences)
    ]
    path.write_text("\n\n".join(lines) + "\n")
    return path


def training(text: Path, out: Path, cache: Path) -> subprocess.Popen[str]:
    """Start a training, or resume it."""
    command = [sys.executable, "-m", "nextword.training", "train", "--corpus", str(text), "--out", str(out), *SETTINGS]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NEXTWORD_CACHE": str(cache),
        "HF_HOME": str(text.parent / "hub"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        command, cwd=text.parent, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def weights(out: Path) -> str:
    """Return the sha256 of the weights of a run's bundle. Raises BundleError where it is not whole."""
    return open_bundle(out / "bundle").metadata["files"]["model.pt"]["sha256"]


def kill_training(bundle: Path | None, folder: Path, times: int = 50) -> Iterator[Promise]:
    """Kill trainings at random moments, and resume each until it has ended. `bundle` is not used."""
    text, draw = corpus(folder), random.Random(0)
    start = time.monotonic()
    _, errors = (whole := training(text, folder / "whole", folder / "cache")).communicate()
    assert whole.returncode == 0, errors
    expected, seconds = weights(folder / "whole"), time.monotonic() - start
    killed = runs = 0
    faults: list[str] = []
    while killed < times:
        runs += 1
        out, cache = folder / f"run-{runs}", folder / f"cache-{runs}"
        finished = False
        while not finished:
            process = training(text, out, cache)
            if killed < times:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=draw.uniform(0.2, 1.0) * seconds)
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
            _, errors = process.communicate()
            finished = process.returncode != -signal.SIGKILL
            killed += not finished
            if (out / "bundle").exists():
                with contextlib.suppress(FileNotFoundError):
                    _note(faults, out, expected)
        if process.returncode:
            faults.append(f"it did not go on: {errors.strip().splitlines()[-1]}")
        _note(faults, out, expected)
        faults += [f"left over: {file.name}" for file in _half_written(out, cache)]
    attack = f"SIGKILL at {killed} random moments of {runs} trainings of {seconds:.0f} s, each then brought to its end"
    good = "every bundle whole, every run ended with the weights of one never killed"
    yield Promise(PROMISE, attack, not faults, "; ".join(faults) or good)


def _note(faults: list[str], out: Path, expected: str) -> None:
    """Add the faults of the run's bundle to the list."""
    try:
        if weights(out) != expected:
            faults.append("other weights than without a kill")
    except BundleError as error:
        faults.append(str(error))


def _half_written(*folders: Path) -> list[Path]:
    """Return files and folders that are there only while others are written."""
    return [
        path for folder in folders for path in folder.rglob("*") if path.name.startswith(".") or ".part" in path.name
    ]
