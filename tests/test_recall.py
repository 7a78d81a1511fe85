"""The memory task: what is asked for, and that a trained network recalls it."""
import json

import pytest
import torch

from nextword.lm.command import Parser
from nextword.training import recall
from nextword.training.equal_size import parameters
from nextword.training.recall import MARK, QUESTION, build, sequences, trained_recall


def run(*options: str) -> int:
    parser = Parser("nextword recall")
    return recall.command(parser)(parser.parse(options)) or 0


def test_the_marked_symbol_is_asked_for_after_the_distance():
    tokens, symbols = sequences(7, 50, torch.Generator().manual_seed(3))
    place = int((tokens[:, 0] == MARK).nonzero())
    assert torch.equal(tokens[place + 1], symbols) and len(tokens) == place + 2 + 7 + 1
    assert (tokens[-1] == QUESTION).all() and (tokens == MARK).sum() == 50
    noise = tokens[place + 2 : -1]
    assert noise.unique().tolist() == symbols.unique().tolist() == list(range(8))
    assert (noise == symbols).float().mean() < 0.25  # nothing but the mark tells which symbol is meant


def test_networks_are_of_equal_size():
    counts = [parameters(build(name)) for name in ("rnn", "gru", "lstm", "transformer")]
    assert max(counts) / min(counts) < 1.02


def test_an_lstm_learns_to_recall():
    assert trained_recall("lstm", 0, 150, [1])[0] > 0.3  # chance: 0.125 ± 0.015


def test_one_command_leaves_figures_and_a_plot(tmp_path, capsys):
    options = ["--seeds", "1", "--steps", "1", "--training", "rnn", "--processes", "1", "--out", str(tmp_path)]
    assert run(*options) == 0
    [shares] = json.loads((tmp_path / "recall.json").read_text())["rnn"]
    assert len(shares) == 6 and all(0 <= share < 0.4 for share in shares)  # one step: near chance, 1 in 8
    assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG") and "RNN" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(*options, "--seeds", "0")
    assert "argument --seeds: 0 is not a whole number from 1 on" in capsys.readouterr().err
