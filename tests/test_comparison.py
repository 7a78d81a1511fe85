"""The comparison of the four networks, and the Transformer that takes part in it."""
import json

import pytest
import torch

from nextword.lm.network import Architecture, Network
from nextword.training.__main__ import main
from nextword.training.comparison import gradient_norms
from nextword.training.transformer import Shape, Transformer

NAMES = ["rnn", "gru", "lstm", "transformer"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, corpus_file):
    out = tmp_path_factory.mktemp("runs") / "compare"
    assert main(["compare", "--corpus", str(corpus_file), "--out", str(out), "--quick"]) == 0
    return out


def test_one_command_leaves_a_table_and_two_figures(folder):
    results = json.loads((folder / "comparison.json").read_text())
    assert list(results) == NAMES
    sizes = [result["parameters"] for result in results.values()]
    assert max(sizes) / min(sizes) < 1.05
    lines = (folder / "comparison.md").read_text().splitlines()
    assert "rehearsal" in (folder / "comparison.md").read_text()  # too short a training says nothing
    table = [line.split("|")[1:-1] for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(NAMES) + 1 and len({len(row) for row in table}) == 1
    for result in results.values():
        assert 1 < result["perplexity"] < 27 and 0 < result["top1"] < result["top3"] < 1
        assert result["train_tokens_per_second"] > 0 and len(result["learning_curve"]) >= 3
        assert result["learning_rate"] == float(min(result["trials"], key=result["trials"].get))
    for name in ("learning.png", "gradient.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_a_finished_comparison_is_not_trained_again(folder, corpus_file):
    weights = [folder / name / "full" / "best.pt" for name in NAMES]
    before = [path.stat().st_mtime_ns for path in weights]
    assert main(["compare", "--corpus", str(corpus_file), "--out", str(folder), "--quick"]) == 0
    assert [path.stat().st_mtime_ns for path in weights] == before


def transformer(**settings):
    torch.manual_seed(0)
    return Transformer(Shape(40, 16, 32, **settings)).eval()


def test_the_cache_changes_nothing():
    network = transformer(memory=9)
    tokens = torch.randint(40, (9, 3))
    whole, end = network(tokens, network.initial_state(3))
    state, outputs = network.initial_state(3), []
    for word in tokens:
        output, state = network(word[None], state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), whole)
    torch.testing.assert_close(state, end)


def test_the_transformer_sees_the_past_alone_and_forgets_what_is_beyond_its_memory():
    network = transformer(memory=4, layers=1)
    tokens = torch.randint(1, 40, (9, 1))
    changed = tokens.clone()
    changed[8] = 0
    outputs, other = (network(text, network.initial_state(1))[0] for text in (tokens, changed))
    assert torch.equal(outputs[:8], other[:8]) and not torch.equal(outputs[8], other[8])
    for place, seen in ((4, False), (5, True)):  # of the nine words read, the last four are remembered
        changed = tokens.clone()
        changed[place] = 0
        states = [network(text, network.initial_state(1))[1] for text in (tokens, changed)]
        assert torch.equal(*states) != seen


def test_a_state_of_zeros_is_nothing_read():
    network = transformer()
    tokens = torch.randint(40, (9, 3))
    _, state = network(tokens, network.initial_state(3))
    state[0] = 0
    outputs, _ = network(tokens, state)
    fresh, _ = network(tokens, network.initial_state(3))
    torch.testing.assert_close(outputs[:, 0], fresh[:, 0])
    assert not torch.allclose(outputs[:, 1], fresh[:, 1])


def test_the_gradient_is_that_of_a_small_change():
    torch.manual_seed(0)
    network = Network(Architecture(30, "lstm", 4, 8)).double()
    inputs, target = torch.arange(6)[:, None], torch.tensor([7])  # no word twice

    def loss():
        outputs, _ = network(inputs, network.initial_state(1))
        return float(torch.nn.functional.cross_entropy(network.logits(outputs[-1]), target))

    norms = gradient_norms(network, inputs, target)
    assert len(norms) == 6
    head = network.embedding.weight.detach().clone()
    network.logits = lambda outputs: torch.nn.functional.linear(outputs, head, network.bias)  # the input's part alone
    for back in (0, 3):
        squares = 0.0
        for feature in range(4):
            change = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    network.embedding.weight[5 - back, feature] += step
                    change.append(loss())
                    network.embedding.weight[5 - back, feature] -= step
            squares += ((change[0] - change[1]) / 2e-5) ** 2
        assert norms[back] == pytest.approx(squares**0.5, rel=1e-4)
