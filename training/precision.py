"""The type of training's matrix products: bfloat16 if a trial on this processor shows that it is faster.

A processor's instructions for bfloat16 can be slow. With AMX they are several times as fast as those for float32, on
AMD's Zen 4 twice as fast, and on Intel's processors without AMX slower.
"""
from __future__ import annotations

import time

import torch

WORTH_IT = 0.8  # bfloat16 is less precise, so it must take at most this share of float32's time


def choose_precision(setting: str, device: torch.device) -> torch.dtype:
    """The type for a recipe's `precision`. "auto": bfloat16 if this processor multiplies faster with it."""
    if setting != "auto":
        return getattr(torch, setting)
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()) and _bfloat16_is_faster()
    return torch.bfloat16 if fast else torch.float32


def _bfloat16_is_faster(rounds: int = 15) -> bool:
    """Time both types in turns, so that other work on the machine slows both. The fastest round of each counts."""
    seconds: dict[torch.dtype, list[float]] = {torch.bfloat16: [], torch.float32: []}
    for _ in range(rounds):
        for dtype, times in seconds.items():
            times.append(_seconds(dtype))
    return min(seconds[torch.bfloat16]) < WORTH_IT * min(seconds[torch.float32])


def _seconds(dtype: torch.dtype) -> float:
    """The time of a product of an output layer's size: 2,048 x 256 by 256 x 2,048."""
    a, b = torch.ones(2048, 256, dtype=dtype), torch.ones(2048, 256, dtype=dtype)
    start = time.perf_counter()
    a @ b.t()
    return time.perf_counter() - start
