"""The benchmark of training: it compares like with like, and says what it found."""
import json
import sys

import pytest
import torch

from nextword.lm.network import Architecture, Network
from tests.benchmarks.training import memory
from tests.benchmarks.training.__main__ import main
from tests.benchmarks.training.straightforward import StraightforwardModel
from nextword.training.recipe import Recipe


@pytest.mark.parametrize("shape", [{"layers": 3, "hidden_size": 12}, {"hidden_size": 16, "projection_size": 8}])
def test_both_loops_begin_with_the_same_network(shape):
    torch.manual_seed(0)
    network = Network(Architecture(50, embedding_size=8, **shape)).eval()
    tokens = torch.randint(50, (5, 2))
    outputs, _ = network(tokens, network.initial_state(2))
    logits, _ = StraightforwardModel(network)(tokens, None)
    torch.testing.assert_close(logits, network.logits(outputs))


def test_it_measures_and_writes_what_it_found(corpus_file, tmp_path, capsys):
    found = tmp_path / "found.json"
    assert main(["--corpus", str(corpus_file), "--quick", "--sizes", "small", "--steps", "2", "--threads", "1",
                 "--json", str(found)]) == 0
    table = capsys.readouterr().out
    (row,) = json.loads(found.read_text())["sizes"]
    assert f"{row['ratio']:.1f}x" in table and "| tokens/s | ratio |" in table
    assert row["tokens"] == 2 * 64 * 35 and row["recipe"]["vocabulary_size"] == 32_000
    for name, other in (("engine", "straightforward"), ("straightforward", "engine")):
        assert row["perplexity"][name] < 40_000 and row["memory"][name] > 0
        assert (row["tokens_per_second"][name] > row["tokens_per_second"][other]) == ((row["ratio"] > 1) == (name == "engine"))


def test_a_corpus_that_cannot_be_had_is_refused_at_once(capsys):
    assert main(["--corpus", "no-such-corpus"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bench: there is no corpus 'no-such-corpus'") and error.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says what a process holds")
def test_memory_does_not_grow_with_the_text(corpus_file):
    recipe = Recipe(vocabulary_size=1000, hidden_size=32, embedding_size=32, shuffle_block=100, threads=1)
    small, large = memory.measure(str(corpus_file), [4, 16], recipe)
    assert large["tokens"] > 3.5 * small["tokens"] > 3e6
    assert large["anonymous"] - small["anonymous"] < 60e6  # the text alone, as Python's strings, would be 12 MB; its ids 100
