"""One step of each recurrent cell, written as in the papers.

x        (batch, gates) the layer's linear map of the input, with its bias
h_gates  (batch, gates) the layer's linear map of the previous output, with its bias; the LSTM overwrites it
c, h     (batch, hidden) the previous cell state or output

The gates are in torch's order. σ is the logistic function; * multiplies element by element.
"""
from __future__ import annotations

import torch
from torch import Tensor


def tanh(x: Tensor) -> Tensor:
    """tanh x = 2 σ(2x) - 1. On a CPU torch's sigmoid takes a tenth of the time of its tanh."""
    return (2 * torch.sigmoid(2 * x)).sub_(1)


def lstm_cell(x: Tensor, h_gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000) → new h, new c."""
    i, f, g, o = h_gates.add_(x).chunk(4, dim=1)
    i = torch.sigmoid(i)        # input gate      i = σ(W_ii x + b_ii + W_hi h + b_hi)
    f = torch.sigmoid(f)        # forget gate     f = σ(W_if x + b_if + W_hf h + b_hf)
    g = tanh(g)                 # cell candidate  g = tanh(W_ig x + b_ig + W_hg h + b_hg)
    o = torch.sigmoid(o)        # output gate     o = σ(W_io x + b_io + W_ho h + b_ho)
    c = (f * c).addcmul_(i, g)  # cell state      c' = f * c + i * g
    return o * tanh(c), c       # hidden state   h' = o * tanh(c')


def gru_cell(x: Tensor, h_gates: Tensor, h: Tensor) -> Tensor:
    """Gated recurrent unit (Cho et al. 2014, the variant that cuDNN and torch compute) → new h."""
    x_r, x_z, x_n = x.chunk(3, dim=1)
    h_r, h_z, h_n = h_gates.chunk(3, dim=1)
    r = torch.sigmoid(x_r + h_r)     # reset gate   r = σ(W_ir x + b_ir + W_hr h + b_hr)
    z = torch.sigmoid(x_z + h_z)     # update gate  z = σ(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(x_n + r * h_n)          # candidate    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    return (1 - z) * n + z * h       # hidden       h' = (1 - z) * n + z * h


def rnn_cell(x: Tensor, h_gates: Tensor) -> Tensor:
    """The simple recurrent network (Elman 1990) → new h = tanh(W_i x + b_i + W_h h + b_h)."""
    return tanh(x + h_gates)
