"""The numbers of training's matrix products: bfloat16 where this processor is faster in it, as a trial tells.

A processor can have instructions for bfloat16 that are slow. With AMX they are several times as fast as those for
float32, on AMD's Zen 4 twice as fast, and on Intel's processors without AMX slower.
"""
from __future__ import annotations

import time

import torch

WORTH_IT = 0.8  # bfloat16 is coarser, so it has to take at most this share of the time


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """bfloat16 where this processor multiplies faster in it, or as asked for ("float32", "bfloat16")."""
    if wanted != "auto":
        return getattr(torch, wanted)
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()) and (
            _seconds(torch.bfloat16) < WORTH_IT * _seconds(torch.float32))
    return torch.bfloat16 if fast else torch.float32


def _seconds(dtype: torch.dtype, rounds: int = 7) -> float:
    """Of the fastest of some products as an output layer does them: 2,048 x 256 by 256 x 2,048."""
    a, b = torch.ones(2048, 256, dtype=dtype), torch.ones(2048, 256, dtype=dtype)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        a @ b.t()
        times.append(time.perf_counter() - start)
    return min(times)
