"""The network, its cells and its TorchScript export, against torch's own layers."""
import subprocess
import sys

import pytest
import torch

from nextword.lm import torchscript
from nextword.lm.cell import gru_cell, lstm_cell, rnn_cell
from nextword.lm.network import Architecture, Network

SHAPES = [
    dict(cell="lstm", hidden_size=24, layers=2),
    dict(cell="lstm", hidden_size=24, projection_size=16),
    dict(cell="lstm", hidden_size=16, layers=3),
    dict(cell="gru", hidden_size=24, layers=2),
    dict(cell="rnn", hidden_size=16),
]
VOCABULARY = 50


def network(shape) -> Network:
    torch.manual_seed(0)
    net = Network(Architecture(VOCABULARY, embedding_size=16, **shape)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)  # so that the gates are away from 0.5
    return net


def cell_values(cell: str, weights, x, h, c):
    gates_x = torch.nn.functional.linear(x, weights.weight_ih, weights.bias_ih)
    gates_h = torch.nn.functional.linear(h, weights.weight_hh, weights.bias_hh)
    if cell == "lstm":
        return lstm_cell(gates_x, gates_h, c)
    return (gru_cell(gates_x, gates_h, h),) if cell == "gru" else (rnn_cell(gates_x, gates_h),)


@pytest.mark.parametrize(
    "cell, kind", [("lstm", torch.nn.LSTMCell), ("gru", torch.nn.GRUCell), ("rnn", torch.nn.RNNCell)])
def test_cells_are_torchs_in_values_and_gradients(cell, kind):
    torch.manual_seed(1)
    reference = kind(7, 5)
    inputs = [torch.randn(4, 7), torch.randn(4, 5), torch.randn(4, 5)]
    results = []
    for compute in (lambda x, h, c: reference(x, (h, c)) if cell == "lstm" else (reference(x, h),),
                    lambda x, h, c: cell_values(cell, reference, x, h, c)):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        values = compute(*leaves)
        reference.zero_grad()
        sum(value.pow(2).sum() for value in values).backward()
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        gradients += [parameter.grad.clone() for parameter in reference.parameters()]
        results.append([*values, *gradients])
    assert len(results[0]) == len(results[1])
    for theirs, ours in zip(*results):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_state_is_all_that_is_remembered(shape):
    net = network(shape)
    tokens = torch.randint(VOCABULARY, (9, 3))
    whole, end = net(tokens, net.initial_state(3))
    first, state = net(tokens[:4], net.initial_state(3))
    rest, again = net(tokens[4:], state)
    torch.testing.assert_close(torch.cat([first, rest]), whole)
    torch.testing.assert_close(again, end)


@pytest.mark.parametrize("shape", SHAPES)
def test_export_in_float_is_the_network(shape):
    net = network(shape)
    program = torchscript.script(net)
    tokens = torch.randint(VOCABULARY, (3, 9))
    outputs, state = net(tokens.t(), net.initial_state(3))
    expected = net.logits(outputs).log_softmax(-1).transpose(0, 1)
    exported, end = program.read_all(tokens, torch.full((3,), 9), program.initial_state(3))
    torch.testing.assert_close(program.log_probs(exported.flatten(0, 1)).view_as(expected), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(end, state, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_8_bit_answers_depend_neither_on_the_batch_nor_on_the_calls(shape):
    net = network({**shape, "hidden_size": 64, **({"projection_size": 32} if "projection_size" in shape else {})})
    program = torchscript.script(net, torch.randint(VOCABULARY, (4, 32)))
    tokens, lengths = torch.randint(VOCABULARY, (12, 8)), torch.tensor([3, 8, 0, 5] * 3)
    together = program.read(tokens, lengths, program.initial_state(12))  # with both libraries of products
    for row, length in enumerate(lengths.tolist()):
        state = program.initial_state(1)
        for t in range(length):
            state = program.read(tokens[row : row + 1, t : t + 1], torch.tensor([1]), state)
        assert torch.equal(state[0], together[row])
        alone, among = (program.log_probs(program.output(states)) for states in (state, together))
        assert torch.equal(alone[0], among[row])


@pytest.mark.parametrize("shape", SHAPES)
def test_frequent_tokens_are_read_alike_with_and_without_their_products(shape, monkeypatch):
    monkeypatch.setattr(torchscript, "FREQUENT", 20)
    net = network({**shape, "hidden_size": 64, **({"projection_size": 32} if "projection_size" in shape else {})})
    program = torchscript.script(net, torch.randint(VOCABULARY, (4, 32)))
    tokens, lengths = torch.tensor([[3, 19], [20, 5], [0, 0]]), torch.tensor([2, 2, 1])

    def read() -> list[torch.Tensor]:
        return [program.read(tokens, lengths, program.initial_state(3)),
                *(program.read(tokens[:, :1], lengths * 0 + 1, program.initial_state(3))),
                *(program.read(row[None, :1], lengths[2:], program.initial_state(1)) for row in tokens)]

    before = read()
    torchscript.keep_frequent(program)
    assert program.frequent.shape[0] == 20
    assert all(map(torch.equal, read(), before))


def test_8_bit_weights_are_close_and_small(tmp_path):
    net = Network(Architecture(3000, embedding_size=64, hidden_size=128, projection_size=64)).eval()
    text = torch.randint(3000, (4, 40))
    small, full = torchscript.script(net, text), torchscript.script(net)
    assert len(torchscript.save(small)) < 0.35 * len(torchscript.save(full))
    states = [program.read(text, torch.full((4,), 40), program.initial_state(4)) for program in (small, full)]
    a, b = (program.log_probs(program.output(state)) for program, state in zip((small, full), states))
    assert 0 < (a - b).abs().max() < 0.05


def test_the_exported_file_needs_nothing_of_this_project(tmp_path):
    net = network(SHAPES[1])
    text = torch.randint(VOCABULARY, (4, 32))
    (tmp_path / "model.pt").write_bytes(torchscript.save(torchscript.script(net, text)))
    code = """
import sys, torch
model = torch.jit.load("model.pt")
tokens, lengths = torch.tensor([[3, 4, 5], [6, 0, 0]]), torch.tensor([3, 1])
allowed = torch.ones(50, dtype=torch.bool); allowed[:2] = False
log_probs, ids, state = model(tokens, lengths, model.initial_state(2), 48, allowed)
assert log_probs.shape == ids.shape == (2, 48) and state.shape == model.initial_state(2).shape
assert (log_probs.diff(dim=1) <= 0).all() and not ((ids == 0) | (ids == 1)).any()
assert not any(name.startswith("nextword") for name in sys.modules)
print(float(log_probs[0, 0]))
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    program = torchscript.load((tmp_path / "model.pt").read_bytes())
    state = program.read(torch.tensor([[3, 4, 5]]), torch.tensor([3]), program.initial_state(1))
    assert float(run.stdout) == pytest.approx(float(program.log_probs(program.output(state))[0, 2:].max()))


@pytest.mark.parametrize("settings, message", [
    (dict(cell="lstn"), "lstn.*accepted: rnn, gru, lstm"), (dict(layers=0), "layers is 0"),
    (dict(cell="gru", projection_size=8), "projection_size is for the lstm"),
    (dict(hidden_size=8, projection_size=8), "less than hidden_size"),
])
def test_impossible_architectures_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Architecture(100, **settings)
