"""A trained network as TorchScript: the one module that knows the format, so that it can be replaced.

The exported program is self-contained: `torch.jit.load` reads it without this project. It holds the forward pass alone,
in 32-bit floats or with 8-bit weights:

    forward(tokens (batch, time) int64, lengths (batch,) int64, state (batch, S) float32, k, allowed (V,) bool or None)
        → log-probabilities (batch, k) float32 best first, ids (batch, k) int64, new state (batch, S)
    read(tokens, lengths, state) → new state
    read_all(tokens, lengths, state) → what `log_probs` takes, after each token (batch, time, width); new state
    output(state) → the same after the last token (batch, width)
    log_probs(output (n, width)) → (n, V)
    initial_state(batch) → (batch, S) of zeros

Rows may differ in length: those of `tokens` are padded at the right with anything, and `lengths` says how much counts.
`allowed` restricts the answers of `forward` to some tokens, without changing their probabilities.

8-bit weights are int8 with a scale for each output, rounded so that the products with real inputs change least (GPTQ:
Frantar et al. 2023). The inputs of each matrix product go through it as two numbers of 7 bits, a coarse one and what
that leaves: together they are as good as exact, and 7 bits by 8 bits do not overflow in the instructions of processors
without VNNI. The products are sums of integers, so an answer depends neither on what else is in its batch nor on how a
text was cut into calls: to the last bit, where the layers' sizes are multiples of 32, which the processor's vectors
divide. The embedding and the output layer are one matrix, stored once.
"""
from __future__ import annotations

import io
import warnings
from typing import List, Optional, Tuple, Union  # TorchScript on Python 3.10 reads these, not `list[...]`

import torch
from torch import Tensor, nn

from nextword.lm.archive import vetted
from nextword.lm.cell import gru_cell, lstm_cell, rnn_cell
from nextword.lm.network import Network

HEADROOM = 2.0  # inputs up to so many times the largest one met in real text are not cut off
DAMPING = 0.01  # share of the mean square of the inputs that is added to each, where real text says too little


class _FloatLinear(nn.Module):
    """y = W x + b in float32."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)

    @torch.jit.export
    def rows(self, ids: Tensor) -> Tensor:
        return self.weight[ids]


class _QuantizedLinear(nn.Module):
    """y = W x + b with int8 weights (a scale an output) and inputs in ±largest, each in two parts of 7 bits."""

    __constants__ = ["levels"]  # of several, torch would write them in an order that changes from process to process

    def __init__(self, weight: Tensor, bias: Tensor, largest: float, moments: Tensor):
        super().__init__()
        self.levels = 63  # the largest number of 7 bits; twice as many steps of the fine part are one of the coarse part
        self.scales = weight.abs().amax(dim=1).clamp(min=1e-8) / 127
        self.weight = _rounded(weight, self.scales, moments)
        self.bias = bias / (1 + 1 / (2 * self.levels))  # it is added to the products of both parts
        self.step = largest / self.levels
        self.packed = _pack(self.weight, self.scales * self.step, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        steps = (x.reshape(-1, x.size(-1)) / self.step).clamp(-self.levels, self.levels)
        coarse = steps.round()
        y = self.product(torch.cat([coarse, (steps - coarse) * (2 * self.levels)]))
        y = torch.add(y[: steps.size(0)], y[steps.size(0) :], alpha=1 / (2 * self.levels))
        return y.reshape(x.shape[:-1] + [y.size(1)])

    def product(self, steps: Tensor) -> Tensor:
        return torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(steps, 1.0, self.levels + 1, self.packed)

    @torch.jit.export
    def rows(self, ids: Tensor) -> Tensor:
        return self.weight[ids].float() * self.scales[ids].unsqueeze(-1)

    @torch.jit.export
    def __getstate__(self) -> Tuple[Tensor, Tensor, Tensor, float, bool]:
        return self.weight, self.scales, self.bias, self.step, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[Tensor, Tensor, Tensor, float, bool]) -> None:
        self.weight, self.scales, self.bias, self.step, self.training = state
        self.packed = _pack(self.weight, self.scales * self.step, self.bias)


class _QuantizedWords(_QuantizedLinear):
    """The same by oneDNN: it takes longer to begin, but half as long over many outputs."""

    def __init__(self, weight: Tensor, bias: Tensor, largest: float, moments: Tensor):
        super().__init__(weight, bias, largest, moments)
        self.zeros = torch.zeros(self.scales.size(0), dtype=torch.long)
        self.packed = torch.ops.onednn.qlinear_prepack(self.weight, None)

    def product(self, steps: Tensor) -> Tensor:
        none: List[Optional[Union[int, float, complex]]] = []
        return torch.ops.onednn.qlinear_pointwise(
            (steps.round() + (self.levels + 1)).to(torch.uint8), self.step, self.levels + 1, self.packed, self.scales,
            self.zeros, self.bias, 1.0, 0, torch.float32, "none", none, "")

    @torch.jit.export
    def __setstate__(self, state: Tuple[Tensor, Tensor, Tensor, float, bool]) -> None:
        self.weight, self.scales, self.bias, self.step, self.training = state
        self.zeros = torch.zeros(self.scales.size(0), dtype=torch.long)
        self.packed = torch.ops.onednn.qlinear_prepack(self.weight, None)


def _rounded(weight: Tensor, scales: Tensor, moments: Tensor) -> Tensor:
    """int8 numbers (out, in) whose products with scales (out,) stand for `weight`.

    moments: the mean of x xᵀ over real inputs x, (in, in). One column is rounded after the other, and the columns to
    come take up what that changes in the products, as far as the inputs go together.
    """
    damping = DAMPING * moments.diagonal().mean().clamp(min=1e-8)
    factor = torch.linalg.cholesky(torch.linalg.inv(moments.double() + damping * torch.eye(len(moments))), upper=True)
    factor = (factor / factor.diagonal()[:, None]).float()
    left = weight.t().clone()
    rounded = torch.empty_like(left)
    for column, row in enumerate(left):
        rounded[column] = (row / scales).round().clamp(-127, 127)
        missed = row - rounded[column] * scales
        left[column + 1 :] -= factor[column, column + 1 :, None] * missed
    return rounded.t().to(torch.int8).contiguous()


def _pack(weight: Tensor, scales: Tensor, bias: Tensor):
    zeros = torch.zeros(scales.size(0), dtype=torch.long)
    quantized = torch._make_per_channel_quantized_tensor(weight, scales.double(), zeros, 0)
    return torch.ops.quantized.linear_prepack(quantized, bias)


class _LSTMLayer(nn.Module):
    def __init__(self, x: nn.Module, h: nn.Module, projection: nn.Module, output_size: int, hidden_size: int):
        super().__init__()
        self.x, self.h, self.projection = x, h, projection
        self.output_size, self.state_size = output_size, output_size + hidden_size

    def forward(self, gates: Tensor, state: Tensor) -> Tensor:
        h, c = lstm_cell(gates, self.h(state[:, : self.output_size]), state[:, self.output_size :])
        return torch.cat([self.projection(h), c], dim=1)


class _GRULayer(nn.Module):
    def __init__(self, x: nn.Module, h: nn.Module, size: int):
        super().__init__()
        self.x, self.h, self.output_size, self.state_size = x, h, size, size

    def forward(self, gates: Tensor, state: Tensor) -> Tensor:
        return gru_cell(gates, self.h(state), state)


class _RNNLayer(nn.Module):
    def __init__(self, x: nn.Module, h: nn.Module, size: int):
        super().__init__()
        self.x, self.h, self.output_size, self.state_size = x, h, size, size

    def forward(self, gates: Tensor, state: Tensor) -> Tensor:
        return rnn_cell(gates, self.h(state))


class _Inference(nn.Module):
    """The forward pass of a network, written for TorchScript; `linear(name, weight, bias)` makes its linear maps."""

    def __init__(self, network: Network, linear):
        super().__init__()
        a = network.architecture
        layers = []
        for number, layer in enumerate(network.recurrent):
            x = linear(f"{number}.x", layer.weight_ih_l0, layer.bias_ih_l0)
            h = linear(f"{number}.h", layer.weight_hh_l0, layer.bias_hh_l0)
            if a.cell == "lstm":
                small = nn.Identity()
                if a.projection_size:
                    small = linear(f"{number}.p", layer.weight_hr_l0, torch.zeros(a.projection_size))
                layers.append(_LSTMLayer(x, h, small, a.output_size, a.hidden_size))
            else:
                layers.append((_GRULayer if a.cell == "gru" else _RNNLayer)(x, h, a.hidden_size))
        self.layers = nn.ModuleList(layers)
        self.words = linear("words", network.embedding.weight, network.bias)
        self.projection = nn.Identity()
        if isinstance(network.projection, nn.Linear):
            self.projection = linear("projection", network.projection.weight, network.projection.bias)
        self.state_size = sum(a.state_sizes)
        self.output_size = a.output_size

    def forward(self, tokens: Tensor, lengths: Tensor, state: Tensor, k: int, allowed: Optional[Tensor] = None
                ) -> Tuple[Tensor, Tensor, Tensor]:
        state = self.read(tokens, lengths, state)
        log_probs = self.log_probs(self.output(state))
        if allowed is not None:
            log_probs = log_probs.masked_fill(~allowed, -float("inf"))
        top = log_probs.topk(k, dim=1)
        return top[0], top[1], state

    @torch.jit.export
    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, self.state_size)

    @torch.jit.export
    def read(self, tokens: Tensor, lengths: Tensor, state: Tensor) -> Tensor:
        return self.read_all(tokens, lengths, state)[1]

    @torch.jit.export
    def read_all(self, tokens: Tensor, lengths: Tensor, state: Tensor) -> Tuple[Tensor, Tensor]:
        time = tokens.size(1)
        ragged = bool((lengths != time).any())
        x = self.words.rows(tokens)
        new: List[Tensor] = []
        start = 0
        for layer in self.layers:
            part = state[:, start : start + layer.state_size]
            start += layer.state_size
            gates = layer.x(x)
            outputs: List[Tensor] = []
            for t in range(time):
                after = layer(gates[:, t], part)
                part = torch.where((t < lengths).unsqueeze(1), after, part) if ragged else after
                outputs.append(part[:, : layer.output_size])
            x = torch.stack(outputs, dim=1) if time > 0 else state.new_zeros(tokens.size(0), 0, layer.output_size)
            new.append(part)
        return x, torch.cat(new, dim=1)

    @torch.jit.export
    def output(self, state: Tensor) -> Tensor:
        start = 0
        x = state
        for layer in self.layers:
            x = state[:, start : start + layer.output_size]
            start += layer.state_size
        return x

    @torch.jit.export
    def log_probs(self, output: Tensor) -> Tensor:
        return torch.log_softmax(self.words(self.projection(output)), dim=1)


@torch.no_grad()
def script(network: Network, calibration: Optional[Tensor] = None) -> torch.jit.ScriptModule:
    """The exported program of a network: float32, or 8-bit where `calibration` is given.

    calibration: real text, token ids (batch, time) int64, from which the grids of the 8-bit inputs are found.
    """
    network = network.cpu().eval()
    inputs = {} if calibration is None else _inputs(network, calibration)

    def linear(name, weight, bias):
        if calibration is None:
            return _FloatLinear(weight.detach(), bias.detach())
        kind = _QuantizedWords if name == "words" else _QuantizedLinear
        return kind(weight.detach(), bias.detach(), *inputs[name])

    with _quiet():
        return torch.jit.script(_Inference(network, linear).eval())


def _inputs(network: Network, tokens: Tensor) -> dict:
    """What each linear map meets when the float forward pass reads real text (batch, time): by name, the largest |x|
    with some headroom, and the mean of x xᵀ."""
    largest: dict = {}
    moments: dict = {}
    met: dict = {}

    def linear(name, weight, bias):
        def note(_, inputs):
            x = inputs[0].reshape(-1, weight.shape[1])
            largest[name] = max(largest.get(name, 1e-3), float(x.abs().max()))
            moments[name] = moments.get(name, 0) + x.t() @ x
            met[name] = met.get(name, 0) + len(x)

        module = _FloatLinear(weight.detach(), bias.detach())
        module.register_forward_pre_hook(note)
        return module

    inference = _Inference(network, linear)
    outputs, _ = inference.read_all(tokens, torch.full((len(tokens),), tokens.shape[1]), inference.initial_state(len(tokens)))
    for output in outputs.flatten(0, 1).split(256):
        inference.log_probs(output)
    return {name: (HEADROOM * largest[name], moments[name] / met[name]) for name in largest}


def save(module: torch.jit.ScriptModule) -> bytes:
    buffer = io.BytesIO()
    with _quiet():
        torch.jit.save(module, buffer)
    return buffer.getvalue()


def load(archive: bytes) -> torch.jit.ScriptModule:
    """The program that `save` gave, on the CPU. Raises ValueError or RuntimeError where it is none; see lm.archive."""
    archive = vetted(archive)
    with _quiet():
        _pack(torch.zeros(1, 1, dtype=torch.int8), torch.ones(1), torch.zeros(1))  # warns once, here and not inside
        return torch.jit.load(io.BytesIO(archive), map_location="cpu").eval()


@torch.no_grad()
def weights(program: torch.jit.ScriptModule) -> dict[str, Tensor]:
    """The float32 weights that a program computes with, by the names that they have in `lm.network.Network`."""
    found = {}
    for number, layer in program.layers.named_children():
        recurrent = f"recurrent.{number}"
        found[f"{recurrent}.weight_ih_l0"], found[f"{recurrent}.bias_ih_l0"] = _weight_and_bias(layer.x)
        found[f"{recurrent}.weight_hh_l0"], found[f"{recurrent}.bias_hh_l0"] = _weight_and_bias(layer.h)
        if hasattr(getattr(layer, "projection", None), "weight"):
            found[f"{recurrent}.weight_hr_l0"] = _weight_and_bias(layer.projection)[0]
    if hasattr(program.projection, "weight"):
        found["projection.weight"], found["projection.bias"] = _weight_and_bias(program.projection)
    found["embedding.weight"], found["bias"] = _weight_and_bias(program.words)
    return found


def _weight_and_bias(linear: torch.jit.ScriptModule) -> Tuple[Tensor, Tensor]:
    outputs, inputs = linear.weight.shape
    return linear.rows(torch.arange(outputs)), linear(torch.zeros(1, inputs))[0]


class _quiet(warnings.catch_warnings):
    """TorchScript and quantised tensors are deprecated upstream; that is said here, not on every user's terminal."""

    def __enter__(self):
        super().__enter__()
        warnings.filterwarnings("ignore", message=r"(?s).*(torch\.jit|TorchScript)")
        warnings.filterwarnings("ignore", message=r"(?s).*quantized tensor creation functions")
