"""The benchmark of training: both loops train the same network, and the figures are those of the processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nextword.lm.network import Architecture, Network
from nextword.lm.vocabulary import Vocabulary
from nextword.training.recipe import Recipe
from nextword.training.tokens import word_counts
from nextword.training.trainer import TrainingData
from nextword.training.windows import Windows
from tests.benchmarks.training import __main__ as bench
from tests.benchmarks.training import memory
from tests.benchmarks.training.rivals import Size, first
from tests.benchmarks.training.straightforward import StraightforwardModel


@pytest.mark.parametrize("shape", [{"layers": 3, "hidden_size": 12}, {"hidden_size": 16, "projection_size": 8}])
def test_both_loops_begin_with_the_same_network(shape: dict[str, int]) -> None:
    torch.manual_seed(0)
    network = Network(Architecture(50, embedding_size=8, **shape)).eval()
    tokens = torch.randint(50, (5, 2))
    outputs, _ = network(tokens, network.initial_state(2))
    logits, _ = StraightforwardModel(network)(tokens, None)
    torch.testing.assert_close(logits, network.logits(outputs))


def test_it_measures_and_writes_its_figures(
    corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "SIZES", [Size("small: 1x16", {"hidden_size": 16, "embedding_size": 16})])
    monkeypatch.setattr(bench, "COMMON", {**bench.COMMON, "vocabulary_size": 900, "batch_size": 8, "samples": 100,
                                          "precision": "float32"})
    figures = tmp_path / "figures.json"
    options = ["--corpus", str(corpus_file), "--quick", "--sizes", "small", "--steps", "2", "--threads", "1"]
    assert bench.main([*options, "--json", str(figures)]) == 0
    table = capsys.readouterr().out
    (row,) = json.loads(figures.read_text())["sizes"]
    assert f"{row['ratio']:.1f}x" in table and "| tokens/s | ratio |" in table
    assert row["tokens"] == 2 * 8 * 35 and row["recipe"]["vocabulary_size"] == 900
    speeds = row["tokens_per_second"]
    assert row["ratio"] == pytest.approx(speeds["engine"] / speeds["straightforward"])
    for name in ("engine", "straightforward"):
        assert 1 < row["perplexity"][name] < 1000 and (row["memory"][name] or 0) > 0


def test_it_measures_the_time_to_a_quality_on_the_first_tokens(
    corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "SIZES", [Size("small: 1x16", {"hidden_size": 16, "embedding_size": 16})])
    monkeypatch.setattr(bench, "COMMON", {**bench.COMMON, "vocabulary_size": 900, "batch_size": 8, "samples": 100})
    figures = tmp_path / "figures.json"
    options = ["--corpus", str(corpus_file), "--quality", "--first-tokens", "2000", "--sizes", "small", "--steps", "20"]
    assert bench.main([*options, "--threads", "1", "--json", str(figures)]) == 0
    table = capsys.readouterr().out
    rows = json.loads(figures.read_text())["quality"]
    assert [row["name"] for row in rows] == ["engine, AdamW", "engine, affixes", "engine, Muon", "straightforward"]
    target = min(rows[0]["perplexity"])
    assert f"to perplexity {target:.2f} |" in table and rows[1]["steps"][-1] <= 10
    for row in rows:
        assert row["minutes"] == sorted(row["minutes"]) and row["minutes"][0] > 0
        reached = [minutes for minutes, found in zip(row["minutes"], row["perplexity"]) if found <= target]
        assert row["reached"] == (reached[0] if reached else None)
        assert row is rows[0] or not any(found <= target for found in row["perplexity"][:-1])  # it stops there


def test_a_cut_has_the_first_tokens_alone() -> None:
    text = np.arange(2, 102)
    recipe = Recipe(batch_size=2, bptt=5)
    vocabulary = Vocabulary.of_words([f"word{number}" for number in range(100)])
    data = TrainingData(Windows(text, 2, 5), {}, vocabulary, word_counts(text, 102), "")
    cut = first(data, 21, recipe)
    assert {int(token) for inputs, _ in cut.windows.epoch(0) for token in inputs.flatten()} == set(range(2, 22))
    assert float(cut.counts.sum()) == 21 + 102


def test_a_corpus_that_cannot_be_had_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--corpus", "no-such-corpus"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bench: there is no corpus 'no-such-corpus'") and error.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc has the memory of a process")
def test_memory_does_not_grow_with_the_text(corpus_file: Path) -> None:
    recipe = Recipe(vocabulary_size=1000, hidden_size=32, embedding_size=32, shuffle_block=100, threads=1,
                    precision="float32")
    small, large = memory.measure(str(corpus_file), [4, 10], recipe)  # with less text, the buffers are not full
    assert large["tokens"] > 2 * small["tokens"] > 1e6
    assert large["anonymous"] - small["anonymous"] < 40e6  # token ids as Python's numbers would be 60 MB
