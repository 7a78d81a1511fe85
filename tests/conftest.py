"""Fixtures for all tests: an isolated cache, an invented corpus and a tiny model trained on it."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nextword.lm.model import Model

# Before `datasets` is imported by anything: nothing is read from or left in the user's caches, nothing asks a hub.
_CACHE = tempfile.TemporaryDirectory(prefix="nextword-tests-")
os.environ["HF_HOME"] = os.environ["NEXTWORD_CACHE"] = _CACHE.name
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest  # noqa: E402
import torch  # noqa: E402

pytest_plugins = ["tests.service_fixtures", "tests.browser"]

torch.set_num_threads(1)  # two busy neighbours on two cores make two threads slower than one

# With a fixed precision, as the trial of precisions takes longer than an epoch.
TINY = (
    "--embedding-size 32 --hidden-size 48 --batch-size 16 --epochs 4 --evaluate-every 100 --checkpoint-every 20 "
    "--dropout 0 --threads 1 --learning-rate 0.01 --forget 0.1 --precision float32"
).split()


def invented_text(sentences: int = 3000, seed: int = 0) -> str:
    """Return sentences of a small grammar, one a paragraph."""
    draw = random.Random(seed)
    pick = draw.choice
    lines = []
    for _ in range(sentences):
        sentence = f"{pick(['I', 'We', 'They', 'You'])} {pick(['went', 'walked', 'ran'])} to the "
        sentence += (
            f"{pick(['store', 'market', 'park', 'station', 'beach', 'London zoo'])}{pick(['.', ' today.', ', too.'])}"
        )
        lines.append(pick([sentence, sentence, sentence, "Thank you very much!"]))
    return "\n\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of invented sentences."""
    path = tmp_path_factory.mktemp("corpus") / "invented.txt"
    path.write_text(invented_text(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """The folder of a finished training run on the invented text; its bundle is named "tiny"."""
    from nextword.training.__main__ import main

    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", "--corpus", str(corpus_file), "--out", str(out), *TINY]) == 0
    return out


@pytest.fixture(scope="session")
def tiny_bundle(tiny_run: Path) -> Path:
    """The bundle of that run."""
    return tiny_run / "bundle"


@pytest.fixture(scope="session")
def tiny_model(tiny_bundle: Path) -> Model:
    """The model of that bundle."""
    from nextword.lm import load

    return load(tiny_bundle)
