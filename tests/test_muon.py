"""Muon makes the steps of the recurrent matrices orthogonal, gate by gate, and a training with it can be continued."""
import io

import pytest
import torch

from nextword.lm.network import Architecture, Network
from nextword.training.muon import Muon, orthogonal
from nextword.training.recipe import Recipe
from nextword.training.trainer import Trainer, recurrent_matrices
from tests.trainers import data_of, train


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (32, 32)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_the_singular_values_become_about_1_and_the_directions_stay(shape, dtype, tolerance):
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonal(matrices.to(dtype)).float()
    s = s / matrices.norm(dim=(1, 2))[:, None]
    for _ in range(5):  # the polynomial of the paper, on the singular values themselves
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(found, u * s[:, None] @ v, atol=tolerance, rtol=0)
    if shape[0] != shape[1]:  # a square one has singular values near 0, which need more iterations
        assert float(s.min()) > 0.6 and float(s.max()) < 1.3


def test_a_step_is_as_large_as_adamws_and_each_gate_has_its_own():
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.zeros(4 * 48, 16)) for _ in range(2)]
    for weight, size in zip(weights, (1.0, 1000.0)):
        torch.manual_seed(1)
        weight.grad = torch.randn_like(weight)
        weight.grad[:48] *= size
        Muon([(weight, 4)], lr=0.01, dtype=torch.float32).step()
    torch.testing.assert_close(weights[0], weights[1])  # another gate's size changes nothing
    assert float(weights[0].detach().pow(2).mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.2)
    assert float((weights[0].detach() * weights[0].grad).sum()) < 0  # downhill


@pytest.mark.parametrize("cell, gates", [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_the_recurrent_matrices_come_with_their_gates(cell, gates):
    network = Network(Architecture(30, cell, 8, 12, layers=2))
    assert [(tuple(matrix.shape), parts) for matrix, parts in recurrent_matrices(network)] == [
        ((gates * 12, width), gates) for width in (8, 12, 12, 12)]


def test_a_training_goes_on_with_its_momentum(corpus_file):
    recipe = Recipe(optimizer="muon", embedding_size=16, hidden_size=24, projection_size=8, batch_size=8, samples=64,
                    weight_decay=0.1, threads=1, precision="float32")
    data = data_of(corpus_file, recipe)

    whole, first, second = (Trainer(recipe, data) for _ in range(3))
    train(whole, 6)
    train(first, 3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    train(second, 3)
    for name, weight in whole.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], weight, atol=0, rtol=0)
