"""A fast LSTM layer for training, with torch's equations and weights.

In training, torch's own layer computes the forward pass twice (oneDNN's), or adds the gradients of the weights at each
step (the one with projections). Here the backward pass is written by hand. Each step has only the product with the
recurrent weights; the gradients of all weights are one product over all steps. Products are in `dtype`; the cell state,
the gates and their gradients are float32. A GPU has a layer of its own: nextword.training.lstm_cuda.

A third of the tokens of a window are different words. So the first layer can take each word once: the product of the
input weights, and its gradient, are then computed for the words. The gradient of a word's product is the sum over its
places. The result is the same but for the order of sums.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nextword.training.lstm_cuda import CudaLSTM


def lstm(layer: nn.LSTM, x: Tensor, state: tuple[Tensor, Tensor], w_recurrent: Tensor, keep: Tensor | None = None,
         words: Tensor | None = None) -> tuple[Tensor, tuple]:
    """The result of `layer(x, state)`, with `w_recurrent` in place of `layer.weight_hh_l0`.

    x: (time, batch, input). state: h (1, batch, output) and c (1, batch, hidden).
    keep: (time, batch, 1) float32, factors for the state before each step; 0 forgets it. None: all 1.
    words: (time, batch) int64. Then x is (different words, input), and the input of a step is x[words]. Not on a GPU.
    Returns outputs (time, batch, output) and the new state. Under autocast, products and outputs have its type.
    """
    h, c = state
    weights: Any = layer
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    function: type[torch.autograd.Function] = CudaLSTM if device == "cuda" else _LSTM
    outputs, new_c = function.apply(
        x, h[0], c[0], weights.weight_ih_l0, w_recurrent, weights.bias_ih_l0 + weights.bias_hh_l0,
        weights.weight_hr_l0 if layer.proj_size else None, keep, dtype, *([] if words is None else [words]))
    return outputs, (outputs[-1:], new_c[None])


class _LSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, c: Tensor, w_input: Tensor, w_recurrent: Tensor, bias: Tensor,
                w_projection: Tensor | None, keep: Tensor | None, dtype: torch.dtype, words: Tensor | None = None
                ) -> tuple[Tensor, Tensor]:
        time, hidden = len(x if words is None else words), c.shape[1]
        batch = len(c)
        x, w_input, w_recurrent, bias = (tensor.detach().to(dtype) for tensor in (x, w_input, w_recurrent, bias))
        w_projection = None if w_projection is None else w_projection.detach().to(dtype)
        from_input = nn.functional.linear(x, w_input, bias)
        gates = torch.empty(time, batch, 4 * hidden)
        cells = torch.empty(time + 1, batch, hidden)
        squashed = torch.empty(time, batch, hidden)  # tanh of the cells
        inner = torch.empty(time, batch, hidden, dtype=dtype)  # the input of the projection
        outputs = inner if w_projection is None else torch.empty(time, batch, len(w_projection), dtype=dtype)
        first, cells[0] = h.to(dtype), c
        last = first
        for t in range(time):
            if keep is not None:
                last = last * keep[t].to(dtype)
                cells[t] *= keep[t]
            of_step = from_input[t] if words is None else from_input[words[t]]
            gates[t] = of_step.addmm_(last, w_recurrent.t())
            i, f, g, o = gates[t].chunk(4, 1)
            g.mul_(2)
            gates[t].sigmoid_()
            g.mul_(2).sub_(1)  # tanh(z) = 2 σ(2 z) - 1, because torch's sigmoid is several times faster than its tanh
            torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g)
            torch.mul(cells[t + 1], 2, out=squashed[t]).sigmoid_().mul_(2).sub_(1)
            torch.mul(o, squashed[t], out=inner[t])
            if w_projection is not None:
                torch.mm(inner[t], w_projection.t(), out=outputs[t])
            last = outputs[t]
        ctx.save_for_backward(x, first, outputs, inner, gates, cells, squashed, w_input, w_recurrent, w_projection,
                              keep, words)
        return outputs, cells[-1].clone()

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        x, first, outputs, inner, gates, cells, squashed, w_input, w_recurrent, w_projection, keep, words = (
            ctx.saved_tensors)
        time, batch, hidden = squashed.shape
        d_gates = torch.empty(gates.shape, dtype=x.dtype)
        d_total = torch.empty_like(outputs)  # with the gradient from the next step
        step = torch.empty(batch, 4 * hidden)
        d_i, d_f, d_g, d_o = step.chunk(4, 1)
        d_c, d_h = d_c.clone(), torch.zeros_like(first)
        for t in reversed(range(time)):
            i, f, g, o = gates[t].chunk(4, 1)
            d_inner = torch.add(d_outputs[t], d_h, out=d_total[t])
            d_inner = (d_inner if w_projection is None else d_inner @ w_projection).float()
            d_c += _tanh_backward(d_inner * o, squashed[t])
            _sigmoid_backward(d_inner.mul_(squashed[t]), o, grad_input=d_o)
            _sigmoid_backward(d_c * g, i, grad_input=d_i)
            _sigmoid_backward(d_c * cells[t], f, grad_input=d_f)
            _tanh_backward_out(d_c * i, g, grad_input=d_g)
            d_c *= f
            d_gates[t] = step
            d_h = d_gates[t] @ w_recurrent
            if keep is not None:
                d_c *= keep[t]
                d_h *= keep[t]
        flat = d_gates.flatten(0, 1)
        before = torch.cat([first[None], outputs[:-1]])
        before = (before if keep is None else before * keep.to(before.dtype)).flatten(0, 1)
        ones = before.new_ones(len(before), 1)  # the input whose weight is the bias
        d_recurrent = _weight_gradient(flat, torch.cat([before, ones], 1))
        d_projection = None if w_projection is None else _weight_gradient(d_total.flatten(0, 1), inner.flatten(0, 1))
        d_inputs = flat if words is None else _sums_by_word(flat, words.flatten(), len(x))
        d_x = (d_inputs @ w_input).view(x.shape) if ctx.needs_input_grad[0] else None
        d_input = _weight_gradient(d_inputs, x.flatten(0, -2))
        return (d_x, d_h.float(), d_c, d_input, d_recurrent[:, :-1], d_recurrent[:, -1], d_projection,
                None, None, None)


def _weight_gradient(d: Tensor, x: Tensor) -> Tensor:
    """d'x (outputs, inputs) float32, for d (rows, outputs) and x (rows, inputs).

    The matrix that is transposed before the product is the smaller one. In bfloat16 that takes half the time.
    """
    if d.shape[1] < x.shape[1]:
        return (d.t().contiguous() @ x).float()
    return (x.t().contiguous() @ d).t().contiguous().float()


def _sums_by_word(rows: Tensor, words: Tensor, count: int) -> Tensor:
    """(count, columns): the sum of the rows of each word. rows (n, columns), words (n,) int64 from 0 to count - 1."""
    ends = torch.bincount(words, minlength=count).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return nn.functional.embedding_bag(words.argsort(), rows, starts, mode="sum")


_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward
_tanh_backward_out = torch.ops.aten.tanh_backward.grad_input
