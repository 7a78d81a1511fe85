"""The LSTM layer of `nextword.training.lstm` on a GPU.

The work of a step is two matrix products and one kernel of torch, which computes all gates of the cell. torch's own
layer (cuDNN's) cannot forget single states within a window.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class CudaLSTM(torch.autograd.Function):
    """Arguments and results are those of the CPU's function. All products are in `dtype`, the cell in float32."""

    @staticmethod
    @torch.autocast("cuda", enabled=False)
    def forward(ctx: Any, x: Tensor, h: Tensor, c: Tensor, w_input: Tensor, w_recurrent: Tensor, bias: Tensor,
                w_projection: Tensor | None, keep: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        x, w_input, w_recurrent, bias, last = (
            tensor.detach().to(dtype) for tensor in (x, w_input, w_recurrent, bias, h))
        w_projection = None if w_projection is None else w_projection.detach().to(dtype)
        from_input = nn.functional.linear(x, w_input, bias).float()
        inner = x.new_empty(*x.shape[:2], c.shape[1])  # the input of the projection
        outputs = inner if w_projection is None else x.new_empty(*x.shape[:2], len(w_projection))
        before, cells, new_cells, gates = x.new_empty(*x.shape[:2], h.shape[1]), [], [], []
        for t in range(len(x)):
            torch.mul(last, 1 if keep is None else keep[t].to(dtype), out=before[t])
            c = c if keep is None else c * keep[t]
            cells.append(c)
            h, c, activated = _cell(from_input[t], (before[t] @ w_recurrent.t()).float(), c)
            new_cells.append(c)
            gates.append(activated)
            inner[t] = h
            if w_projection is not None:
                torch.mm(inner[t], w_projection.t(), out=outputs[t])
            last = outputs[t]
        ctx.save_for_backward(x, before, inner, w_input, w_recurrent, w_projection, keep, *cells, *new_cells, *gates)
        return outputs, c.clone()

    @staticmethod
    @torch.autocast("cuda", enabled=False)
    def backward(ctx: Any, d_outputs: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        x, before, inner, w_input, w_recurrent, w_projection, keep, *rest = ctx.saved_tensors
        time, batch = x.shape[:2]
        cells, new_cells, gates = rest[:time], rest[time : 2 * time], rest[2 * time :]
        d_gates = x.new_empty(time, batch, len(w_recurrent))
        d_total = torch.empty_like(d_outputs)  # with the gradient from the next step
        d_h = torch.zeros_like(before[0])
        for t in reversed(range(time)):
            d_inner = torch.add(d_outputs[t], d_h, out=d_total[t])
            d_inner = d_inner if w_projection is None else d_inner @ w_projection
            step, d_c, _ = _cell_backward(d_inner.float(), d_c, cells[t], new_cells[t], gates[t], False)
            d_gates[t] = step
            d_h = d_gates[t] @ w_recurrent
            if keep is not None:
                d_c, d_h = d_c * keep[t], d_h * keep[t].to(d_h.dtype)
        flat = d_gates.flatten(0, 1)
        d_projection = None if w_projection is None else (d_total.flatten(0, 1).t() @ inner.flatten(0, 1)).float()
        return (d_gates @ w_input if ctx.needs_input_grad[0] else None, d_h.float(), d_c,
                (flat.t() @ x.flatten(0, 1)).float(), (flat.t() @ before.flatten(0, 1)).float(),
                flat.sum(0, dtype=torch.float32), d_projection, None, None)


_cell = torch.ops.aten._thnn_fused_lstm_cell
_cell_backward = torch.ops.aten._thnn_fused_lstm_cell_backward_impl
