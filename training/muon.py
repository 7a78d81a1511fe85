"""Muon: momentum whose steps are orthogonal matrices, for the weights of recurrent layers.

A gradient of a matrix is dominated by a few directions. Muon (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/) makes all directions of a step equally large: it replaces the momentum
M = U S V' by U V'. A Newton-Schulz iteration finds that without a singular value decomposition, with matrix products
alone.

The step is scaled by 0.2 sqrt(max(rows, columns)) (Liu et al. 2025, arXiv:2502.16982). So its entries are as large as
those of a usual step of AdamW, and both take the same learning rate and weight decay.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial, from Jordan et al.
ITERATIONS = 5
MOMENTUM = 0.95
RMS = 0.2  # of the entries of a step, as AdamW has it


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum, for matrices only.

    Each matrix is cut into equal parts, row by row (the gates of an LSTM), and each part is made orthogonal alone.
    """

    def __init__(self, matrices: Iterable[tuple[Tensor, int]], lr: float | Tensor, weight_decay: float = 0.0,
                 dtype: torch.dtype = torch.bfloat16):
        """Each matrix comes with its number of parts. dtype: the type of the iteration's products."""
        groups = [{"params": [matrix], "parts": parts} for matrix, parts in matrices]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """closure: not called; it is there because torch's optimizers have it."""
        for group in self.param_groups:
            (weight,) = group["params"]
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
            update = torch.lerp(weight.grad, momentum, MOMENTUM)
            update = orthogonal(update.to(self._dtype).unflatten(0, (group["parts"], -1))).flatten(0, 1)
            scale = RMS * math.sqrt(max(len(weight) // group["parts"], weight.shape[1]))
            if group["weight_decay"]:
                weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.sub_(update.to(weight.dtype) * (scale * group["lr"]))


def orthogonal(matrices: Tensor) -> Tensor:
    """Replace the singular values of each matrix (batch, rows, columns) by about 1: from 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
