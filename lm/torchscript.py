"""A trained network as TorchScript. No other module depends on this format, so it can be replaced.

The exported program is self-contained: `torch.jit.load` reads it without this project. This project itself does not
run it, because an archive may come from a stranger: `load` takes only the weights, and compiles its own program with
them.

The program is the forward pass, in 32-bit floats or with 8-bit weights:

    forward(tokens (batch, time) int64, lengths (batch,) int64, state (batch, S) float32, k, allowed (V,) bool or None)
        → log-probabilities (batch, k) float32 best first, ids (batch, k) int64, new state (batch, S)
    read(tokens, lengths, state) → new state
    read_all(tokens, lengths, state) → the output vector after each token (batch, time, width), new state
    output(state) → the output vector after the last token (batch, width)
    log_probs(output (n, width)) → (n, V)
    probabilities(output (n, width)) → (n, V)
    initial_state(batch) → (batch, S) of zeros

Rows of `tokens` may differ in length: `lengths` holds the lengths, and any ids fill the rest of a row. `allowed`
restricts the answers of `forward` to some tokens, and does not change their probabilities.

8-bit weights are int8 with one scale for each output. They are rounded so that the products with real inputs change
least (GPTQ: Frantar et al. 2023). Each input of a matrix product is split into two 7-bit numbers, a coarse and a fine
one, whose error is negligible. The product of 7 and 8 bits does not overflow in the instructions of processors without
VNNI. The products are sums of integers. So an answer does not depend on the other rows of its batch, nor on the places
where a text is cut into calls. This is exact to the last bit if the layers' sizes are multiples of 32, the length of a
processor's vectors. The embedding and the output layer are one matrix, stored once.
"""
# To mypy every attribute of a module is a Tensor or a Module; TorchScript finds the types itself, and checks them.
# mypy: disable-error-code="operator,assignment,call-overload"
from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import List, Optional, Tuple, Union  # TorchScript on Python 3.10 reads these, not `list[...]`

import torch
from torch import Tensor, nn

from nextword.lm.archive import Module, Numbers, read_archive
from nextword.lm.cell import gru_cell, lstm_cell, rnn_cell
from nextword.lm.network import Architecture, Network

LEVELS = 63  # the largest 7-bit number; one step of the coarse part is 2 * LEVELS steps of the fine part
HEADROOM = 2.0  # inputs are clipped at this multiple of the largest input of the calibration text
FREQUENT = 128  # tokens, the most frequent ones, which are half of a usual text
BLOCK = 32  # rows of a product of all inputs of a layer; its results stay in the processor's cache
DAMPING = 0.01  # share of the inputs' mean square that is added to the diagonal of their moments, as in GPTQ


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
    """y = W x + b with int8 weights (one scale for each output). Inputs, in ±LEVELS * step, are split into two parts.

    weight: (out, in) int8. scales: (out,), the size of one step of the weight. bias: (out,) b / (1 + 1 / (2 * LEVELS)):
    once for each part.

    FBGEMM multiplies few rows, because a call of oneDNN has more overhead. oneDNN multiplies many rows, because it is
    faster there: with AMX, three times. Both give the same numbers. With the bias they would round differently, so
    `forward` adds it.
    """

    # One constant only: the order in which torch writes several constants changes from process to process.
    __constants__ = ("levels",)

    def __init__(self, weight: Tensor, scales: Tensor, bias: Tensor, step: float) -> None:
        super().__init__()
        self.levels = LEVELS
        self.scales, self.bias, self.step = scales, bias, step
        self.pack(weight)

    @classmethod
    def rounded(cls, weight: Tensor, bias: Tensor, largest: float, moments: Tensor) -> _QuantizedLinear:
        """Round float32 weights (out, in) and bias (out,) for inputs in ±largest with these moments (in, in)."""
        scales = weight.abs().amax(dim=1).clamp(min=1e-8) / 127
        return cls(_rounded(weight, scales, moments), scales, bias / (1 + 1 / (2 * LEVELS)), largest / LEVELS)

    def pack(self, weight: Tensor) -> None:
        """Keep the weight only in the orders in which the processor reads it."""
        self.steps = self.scales * self.step  # of the products
        self.zeros = torch.zeros(self.scales.size(0), dtype=torch.long)
        quantized = torch._make_per_channel_quantized_tensor(weight, self.steps.double(), self.zeros, 0)
        self.packed = torch.ops.quantized.linear_prepack(quantized, None)
        self.packed_for_many = torch.ops.onednn.qlinear_prepack(weight, None)
        self.whole_bias = self.bias * (1 + 1 / (2 * self.levels))

    def unpacked(self) -> Tensor:
        """The weight (out, in) int8."""
        return torch.ops.quantized.linear_unpack(self.packed)[0].int_repr()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.size(0)
        steps = (x / self.step).clamp_(-self.levels, self.levels)
        coarse = steps.round()
        y = self.product(torch.cat([coarse, steps.sub_(coarse).mul_(2 * self.levels)]))
        # In place, because with many rows these numbers do not fit into the processor's cache.
        return self.biased(y[:rows].add_(y[rows:], alpha=1 / (2 * self.levels)))

    def biased(self, y: Tensor) -> Tensor:
        return y.add_(self.whole_bias)

    def product(self, steps: Tensor) -> Tensor:
        zero = self.levels + 1
        if steps.size(0) < 6:  # two for each row
            return torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(steps, 1.0, zero, self.packed)
        none: List[Optional[Union[int, float, complex]]] = []
        return torch.ops.onednn.qlinear_pointwise(
            steps.add_(zero).round_().to(torch.uint8), 1.0, zero, self.packed_for_many, self.steps, self.zeros, None,
            1.0, 0, torch.float32, "none", none, "")

    @torch.jit.export
    def rows(self, ids: Tensor) -> Tensor:
        return self.unpacked()[ids].float() * self.scales[ids].unsqueeze(-1)

    @torch.jit.export
    def __getstate__(self) -> Tuple[Tensor, Tensor, Tensor, float, bool]:
        return self.unpacked(), self.scales, self.bias, self.step, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[Tensor, Tensor, Tensor, float, bool]) -> None:
        weight, self.scales, self.bias, self.step, self.training = state
        self.pack(weight)


class _QuantizedWords(_QuantizedLinear):
    """The same with oneDNN alone: with so many outputs, it takes half the time for few rows too.

    As nothing else has to give the same numbers, the product adds the bias.
    """

    def pack(self, weight: Tensor) -> None:
        self.weight = weight  # `rows` reads some of its rows for each text
        self.zeros = torch.zeros(self.scales.size(0), dtype=torch.long)
        self.packed = torch.ops.onednn.qlinear_prepack(weight, None)

    def unpacked(self) -> Tensor:
        return self.weight

    def biased(self, y: Tensor) -> Tensor:
        return y

    def product(self, steps: Tensor) -> Tensor:
        none: List[Optional[Union[int, float, complex]]] = []
        return torch.ops.onednn.qlinear_pointwise(
            (steps.round() + (self.levels + 1)).to(torch.uint8), self.step, self.levels + 1, self.packed, self.scales,
            self.zeros, self.bias, 1.0, 0, torch.float32, "none", none, "")


def _rounded(weight: Tensor, scales: Tensor, moments: Tensor) -> Tensor:
    """int8 numbers (out, in) that, times scales (out,), approximate `weight` (GPTQ: Frantar et al. 2023).

    moments: the mean of x xᵀ over real inputs x, (in, in). Columns are rounded one after the other. After each, the
    later columns are changed so that they offset the rounding error in the products, as far as inputs correlate.
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


class _LSTMLayer(nn.Module):
    def __init__(self, x: nn.Module, h: nn.Module, projection: nn.Module, output_size: int, hidden_size: int) -> None:
        super().__init__()
        self.x, self.h, self.projection = x, h, projection
        self.output_size, self.state_size = output_size, output_size + hidden_size

    def forward(self, gates: Tensor, state: Tensor) -> Tensor:
        h, c = lstm_cell(gates, self.h(state[:, : self.output_size]), state[:, self.output_size :])
        return torch.cat([self.projection(h), c], dim=1)


class _GRULayer(nn.Module):
    def __init__(self, x: nn.Module, h: nn.Module, size: int) -> None:
        super().__init__()
        self.x, self.h, self.output_size, self.state_size = x, h, size, size

    def forward(self, gates: Tensor, state: Tensor) -> Tensor:
        return gru_cell(gates, self.h(state), state)


class _RNNLayer(nn.Module):
    def __init__(self, x: nn.Module, h: nn.Module, size: int) -> None:
        super().__init__()
        self.x, self.h, self.output_size, self.state_size = x, h, size, size

    def forward(self, gates: Tensor, state: Tensor) -> Tensor:
        return rnn_cell(gates, self.h(state))


_LAYERS: dict[str, type[nn.Module]] = {"lstm": _LSTMLayer, "gru": _GRULayer, "rnn": _RNNLayer}
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


class _Inference(nn.Module):
    """The forward pass, written for TorchScript. `linear(place, outputs, inputs)` makes each linear map."""

    __constants__ = ("block",)
    # The result of `first_gates` for the most frequent tokens. TorchScript reads types here, not their names.
    __annotations__ = {"frequent": Optional[Tensor]}

    def __init__(self, architecture: Architecture, linear: Callable[[str, int, int], nn.Module]) -> None:
        super().__init__()
        self.block = BLOCK
        a = architecture
        gates = _GATES[a.cell] * a.hidden_size
        layers: list[nn.Module] = []
        for number in range(a.layers):
            x = linear(f"layers.{number}.x", gates, a.output_size if number else a.embedding_size)
            h = linear(f"layers.{number}.h", gates, a.output_size)
            if a.cell != "lstm":
                layers.append(_LAYERS[a.cell](x, h, a.hidden_size))
                continue
            smaller: nn.Module = nn.Identity()
            if a.projection_size:
                smaller = linear(f"layers.{number}.projection", a.projection_size, a.hidden_size)
            layers.append(_LSTMLayer(x, h, smaller, a.output_size, a.hidden_size))
        self.layers = nn.ModuleList(layers)
        self.words = linear("words", a.vocabulary_size, a.embedding_size)
        fits = a.output_size == a.embedding_size
        self.projection = nn.Identity() if fits else linear("projection", a.embedding_size, a.output_size)
        self.state_size = sum(a.state_sizes)
        self.output_size = a.output_size
        self.vocabulary_size = a.vocabulary_size
        self.frequent = None

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
        batch, time = tokens.size(0), tokens.size(1)
        ragged = bool((lengths != time).any())
        rows = [batch] * time  # for each place, the rows that have a token there: the first so many of the sorted rows
        order, present = lengths, tokens
        ids = tokens.t().reshape(-1)  # place by place, so that one step needs neighbours
        if ragged:
            order = lengths.argsort(descending=True)
            present = torch.arange(time).unsqueeze(1) < lengths[order].unsqueeze(0)
            counts: List[int] = present.sum(1).tolist()
            rows = counts[: int(lengths.max())]
            ids, state = tokens[order].t()[present], state[order]
        x = ids
        new: List[Tensor] = []
        start = 0
        for number, layer in enumerate(self.layers):
            part = state[:, start : start + layer.state_size]
            start += layer.state_size
            outputs, ends = torch.jit.annotate(List[Tensor], []), torch.jit.annotate(List[Tensor], [])
            gates = state[:0]
            first, end, place = 0, 0, 0  # `gates` are those of x[first:end]
            for t, count in enumerate(rows):
                if place == end:
                    first = place
                    for later in rows[t:]:
                        if end > first and end + later - first > self.block:
                            break
                        end += later
                    gates = layer.x(x[first:end]) if number else self.first_gates(ids[first:end])
                if count < part.size(0):
                    ends.append(part[count:])
                    part = part[:count]
                part = layer(gates[place - first : place - first + count], part)
                outputs.append(part[:, : layer.output_size])
                place += count
            x = torch.cat(outputs) if place > 0 else state.new_zeros(0, layer.output_size)
            ends.append(part if place > 0 else part[:0])
            ends.reverse()
            new.append(torch.cat(ends) if place > 0 else part)
        state = torch.cat(new, dim=1)
        if not ragged:
            return x.view(time, batch, x.size(1)).transpose(0, 1), state
        padded = x.new_zeros(time, batch, x.size(1))
        padded[present] = x
        back = order.argsort()
        return padded.transpose(0, 1)[back], state[back]

    @torch.jit.export
    def first_gates(self, ids: Tensor) -> Tensor:
        """The first layer's linear map of its inputs, the tokens (n,)."""
        frequent = self.frequent
        if frequent is not None and bool((ids < frequent.size(0)).all()):
            return frequent[ids]
        return self.layers[0].x(self.words.rows(ids))

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

    @torch.jit.export
    def probabilities(self, output: Tensor) -> Tensor:
        return torch.softmax(self.words(self.projection(output)), dim=1)


@torch.no_grad()
def script(network: Network, calibration: Optional[Tensor] = None) -> torch.jit.ScriptModule:
    """The exported program of a network: float32, or 8-bit if `calibration` is given.

    calibration: real text, token ids (batch, time) int64. It gives the range and the moments of the 8-bit inputs.
    """
    network = network.cpu().eval()
    inputs = {} if calibration is None else _inputs(network, calibration)

    def linear(place: str, outputs: int, width: int) -> nn.Module:
        weight, bias = _weight_and_bias_of(network, place)
        if calibration is None:
            return _FloatLinear(weight, bias)
        return _quantized_kind(place).rounded(weight, bias, *inputs[place])

    return _compiled(network.architecture, linear)


def _quantized_kind(place: str) -> type[_QuantizedLinear]:
    return _QuantizedWords if place == "words" else _QuantizedLinear


def _weight_and_bias_of(network: Network, place: str) -> tuple[Tensor, Tensor]:
    """The weight (out, in) and the bias (out,) of a network for a place of its `_Inference`."""
    if place == "words":
        return network.embedding.weight.detach(), network.bias.detach()
    if place == "projection":
        return network.projection.weight.detach(), network.projection.bias.detach()
    _, number, kind = place.split(".")
    layer = network.recurrent[int(number)]
    if kind == "projection":
        return layer.weight_hr_l0.detach(), torch.zeros(layer.proj_size)
    kind = {"x": "ih", "h": "hh"}[kind]
    return getattr(layer, f"weight_{kind}_l0").detach(), getattr(layer, f"bias_{kind}_l0").detach()


def _inputs(network: Network, tokens: Tensor) -> dict[str, tuple[float, Tensor]]:
    """Statistics of each linear map's inputs x when the float network reads real text (batch, time).

    Returns place → the largest |x| times HEADROOM, and the mean of x xᵀ.
    """
    largest: dict[str, float] = {}
    moments: dict[str, Tensor] = {}
    count: dict[str, int] = {}

    def linear(place: str, outputs: int, width: int) -> nn.Module:
        def note(_: nn.Module, inputs: tuple[Tensor]) -> None:
            x = inputs[0].reshape(-1, width)
            largest[place] = max(largest.get(place, 1e-3), float(x.abs().max()))
            moments[place] = moments.get(place, 0) + x.t() @ x
            count[place] = count.get(place, 0) + len(x)

        module = _FloatLinear(*_weight_and_bias_of(network, place))
        module.register_forward_pre_hook(note)
        return module

    inference = _Inference(network.architecture, linear)
    lengths = torch.full((len(tokens),), tokens.shape[1])
    outputs, _ = inference.read_all(tokens, lengths, inference.initial_state(len(tokens)))
    for output in outputs.flatten(0, 1).split(256):
        inference.log_probs(output)
    return {place: (HEADROOM * largest[place], moments[place] / count[place]) for place in largest}


def save(module: torch.jit.ScriptModule) -> bytes:
    buffer = io.BytesIO()
    with _quiet():
        torch.jit.save(module, buffer)
    return buffer.getvalue()


@torch.no_grad()
def load(archive: bytes, described: Architecture | None = None) -> torch.jit.ScriptModule:
    """This project's program with the weights of an archive. The archive's own program is never read.

    Raises ValueError if `save` does not write such an archive (see lm.archive), or if its architecture is not the
    described one.
    """
    root = read_archive(archive)
    try:
        architecture = _architecture(root)
        if described not in (None, architecture):
            raise ValueError(f"the description has another architecture than the weights, {architecture.to_dict()}")
        return _compiled(architecture, lambda place, *shape: _linear(_module_at(root, place), place, *shape))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(f"model.pt does not hold the weights of a network ({reason})") from error

@torch.inference_mode()
def keep_frequent(program: torch.jit.ScriptModule) -> None:
    """Keep the first layer's linear map of the most frequent tokens. After it, a program is not for saving.

    A lone word costs what its weights cost to read from memory. This spares a frequent one a fifth of them.
    """
    program.frequent = program.first_gates(torch.arange(min(FREQUENT, program.vocabulary_size)))


def _architecture(root: Module) -> Architecture:
    """The architecture, from some of an archive's sizes. `_linear` later compares all sizes with it."""
    cell = {kind.__name__: cell for cell, kind in _LAYERS.items()}[_module_at(root, "layers.0").kind]
    gates, output_size = _weight(_module_at(root, "layers.0.h")).shape
    vocabulary_size, embedding_size = _weight(_module_at(root, "words")).shape
    hidden_size = gates // _GATES[cell]
    layers = sum(name.isdecimal() for name in _module_at(root, "layers").state)
    projection_size = output_size if output_size != hidden_size else 0
    return Architecture(vocabulary_size, cell, embedding_size, hidden_size, layers, projection_size)


def _module_at(root: Module, place: str) -> Module:
    module = root
    for name in place.split("."):
        module = module.state[name]
    return module


def _weight(linear: Module) -> Numbers:
    return linear.state["weight"] if linear.kind == _FloatLinear.__name__ else linear.state[0]


def _linear(module: Module, place: str, outputs: int, inputs: int) -> nn.Module:
    """The linear map of an archive's module. Raises ValueError if it does not have these sizes."""
    if module.kind == _FloatLinear.__name__:
        weight, bias = module.state["weight"], module.state["bias"]
        return _FloatLinear(_tensor(weight, "float32", outputs, inputs), _tensor(bias, "float32", outputs))
    kind = _quantized_kind(place)
    if module.kind != kind.__name__:  # an old version used the other kind for words, with another meaning of `step`
        raise ValueError(f"{place} is a {module.kind!r}, not a {kind.__name__}")
    weight, scales, bias, step, _ = module.state
    scales = _tensor(scales, "float32", outputs)
    if type(step) is not float or not 0 < step < math.inf or not (scales > 0).all():
        raise ValueError(f"the steps of {place} are not positive numbers")
    return kind(_tensor(weight, "int8", outputs, inputs), scales, _tensor(bias, "float32", outputs), step)


def _tensor(numbers: Numbers, type: str, *shape: int) -> Tensor:
    """A tensor with its own memory. Raises ValueError if type or shape differ, or a number is not finite."""
    if (numbers.type, numbers.shape) != (type, shape):
        raise ValueError(f"a tensor is {numbers.type} {numbers.shape} where the network has {type} {shape}")
    tensor = torch.frombuffer(numbers.data, dtype=getattr(torch, type)).view(shape).clone()
    if not tensor.isfinite().all():
        raise ValueError("a tensor has infinity or NaN")
    return tensor


def _compiled(architecture: Architecture, linear: Callable[[str, int, int], nn.Module]) -> torch.jit.ScriptModule:
    with _quiet():
        return torch.jit.script(_Inference(architecture, linear).eval())


@torch.no_grad()
def weights(program: torch.jit.ScriptModule) -> dict[str, Tensor]:
    """The float32 weights of a program, by their names in `lm.network.Network`."""
    values = {}
    for number, layer in program.layers.named_children():
        recurrent = f"recurrent.{number}"
        values[f"{recurrent}.weight_ih_l0"], values[f"{recurrent}.bias_ih_l0"] = _weight_and_bias(layer.x)
        values[f"{recurrent}.weight_hh_l0"], values[f"{recurrent}.bias_hh_l0"] = _weight_and_bias(layer.h)
        if hasattr(getattr(layer, "projection", None), "rows"):
            values[f"{recurrent}.weight_hr_l0"] = _weight_and_bias(layer.projection)[0]
    if hasattr(program.projection, "rows"):
        values["projection.weight"], values["projection.bias"] = _weight_and_bias(program.projection)
    values["embedding.weight"], values["bias"] = _weight_and_bias(program.words)
    return values


def _weight_and_bias(linear: torch.jit.ScriptModule) -> tuple[Tensor, Tensor]:
    outputs, inputs = (linear.weight if hasattr(linear, "weight") else linear.unpacked()).shape
    return linear.rows(torch.arange(outputs)), linear(torch.zeros(1, inputs))[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide torch's warnings that TorchScript and quantised tensors are deprecated: a user cannot act on them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*(torch\.jit|TorchScript)")
        warnings.filterwarnings("ignore", message=r"(?s).*quantized tensor creation functions")
        yield
