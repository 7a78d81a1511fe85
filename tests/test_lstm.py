"""The LSTM layer of training against torch's."""
import warnings

import pytest
import torch
from torch import nn

from nextword.training import lstm as layer_module
from nextword.training import lstm_cuda
from nextword.training.lstm import lstm


@pytest.fixture(params=["cpu", "cuda"], autouse=True)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer of each device. Without a GPU, the GPU's layer is computed here, with its kernels written out."""
    if request.param == "cuda":
        monkeypatch.setattr(layer_module, "_LSTM", lstm_cuda.CudaLSTM)
        monkeypatch.setattr(lstm_cuda, "_cell", _cell)
        monkeypatch.setattr(lstm_cuda, "_cell_backward", _cell_backward)


def _cell(x, h_gates, c):
    i, f, g, o = (x + h_gates).chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    return o * c.tanh(), c, torch.cat([i, f, g, o], 1)


def _cell_backward(d_h, d_c, c, new_c, gates, has_bias):
    i, f, g, o = gates.chunk(4, 1)
    d_c = d_c + d_h * o * (1 - new_c.tanh() ** 2)
    d_o = d_h * new_c.tanh()
    steps = [d_c * g * i * (1 - i), d_c * c * f * (1 - f), d_c * i * (1 - g ** 2), d_o * o * (1 - o)]
    return torch.cat(steps, 1), d_c * f, None


@pytest.mark.parametrize("projection", [0, 8])
def test_it_is_torchs_in_values_and_gradients(projection):
    torch.manual_seed(0)
    layer = nn.LSTM(12, 16, proj_size=projection)
    leaves = [torch.randn(*shape, requires_grad=True) for shape in ((7, 5, 12), (1, 5, projection or 16), (1, 5, 16))]
    found = []
    for compute in (layer, lambda x, state: lstm(layer, x, state, layer.weight_hh_l0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs, (h, c) = compute(leaves[0], (leaves[1], leaves[2]))
        weighted = (outputs * torch.linspace(-1, 1, outputs.numel()).view(outputs.shape)).sum()
        objective = weighted + h.sin().sum() + c.pow(2).sum()
        found.append([outputs, h, c, *torch.autograd.grad(objective, [*leaves, *layer.parameters()])])
    for theirs, ours in zip(*found):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("projection", [0, 8])
def test_a_state_that_is_forgotten_passes_nothing_on_either_way(projection):
    torch.manual_seed(0)
    layer = nn.LSTM(12, 16, proj_size=projection)
    leaves = [torch.randn(*shape, requires_grad=True) for shape in ((7, 2, 12), (1, 2, projection or 16), (1, 2, 16))]
    keep = torch.ones(7, 2, 1)
    keep[0, 1] = keep[3, 0] = keep[4, 1] = keep[5, 1] = 0

    def step_by_step(x, state):
        outputs = []
        for step, kept in zip(x.split(1), keep):
            output, state = layer(step, tuple(part * kept for part in state))
            outputs.append(output)
        return torch.cat(outputs), state

    found = []
    for compute in (step_by_step, lambda x, state: lstm(layer, x, state, layer.weight_hh_l0, keep)):
        outputs, (h, c) = compute(leaves[0], (leaves[1], leaves[2]))
        weighted = (outputs * torch.linspace(-1, 1, outputs.numel()).view(outputs.shape)).sum()
        objective = weighted + h.sin().sum() + c.pow(2).sum()
        found.append([outputs, h, c, *torch.autograd.grad(objective, [*leaves, *layer.parameters()])])
    for theirs, ours in zip(*found):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_in_bfloat16_it_is_as_near_as_that_allows():
    torch.manual_seed(0)
    layer, x, zero = nn.LSTM(64, 64), torch.randn(20, 8, 64), torch.zeros(1, 8, 64)
    exact, _ = layer(x, (zero, zero))
    wanted = torch.autograd.grad(exact.pow(2).sum(), layer.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        outputs, (_, c) = lstm(layer, x, (zero, zero), layer.weight_hh_l0)
    assert outputs.dtype == torch.bfloat16 and c.dtype == torch.float32
    assert (outputs - exact).abs().max() < 0.02
    for ours, theirs in zip(torch.autograd.grad(outputs.float().pow(2).sum(), layer.parameters()), wanted):
        assert ours.dtype == torch.float32 and (ours - theirs).norm() < 0.01 * theirs.norm()


@pytest.mark.parametrize("projection", [0, 8])
def test_each_word_taken_once_gives_the_values_and_gradients_of_all_places(device, projection):
    if layer_module._LSTM is lstm_cuda.CudaLSTM:
        pytest.skip("a GPU takes all places")
    torch.manual_seed(0)
    layer = nn.LSTM(12, 16, proj_size=projection)
    leaves = [torch.randn(*shape, requires_grad=True) for shape in ((6, 12), (1, 5, projection or 16), (1, 5, 16))]
    words = torch.cat([torch.arange(6), torch.randint(3, (29,))])[torch.randperm(35)].view(7, 5)
    keep = (torch.rand(7, 5, 1) < 0.8).float()
    found = []
    for each_once in (False, True):
        x, given = (leaves[0], words) if each_once else (leaves[0][words], None)
        outputs, (h, c) = lstm(layer, x, (leaves[1], leaves[2]), layer.weight_hh_l0, keep, given)
        weighted = (outputs * torch.linspace(-1, 1, outputs.numel()).view(outputs.shape)).sum()
        objective = weighted + h.sin().sum() + c.pow(2).sum()
        found.append([outputs, h, c, *torch.autograd.grad(objective, [*leaves, *layer.parameters()])])
    for all_places, once in zip(*found):
        torch.testing.assert_close(once, all_places, atol=1e-5, rtol=1e-5)
