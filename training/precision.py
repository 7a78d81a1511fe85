"""The type of training's matrix products: bfloat16 if a trial on this processor shows that it is faster.

A processor's instructions for bfloat16 can be slow. With AMX they are several times as fast as those for float32, on
AMD's Zen 4 twice as fast, and on Intel's processors without AMX slower.
"""
from __future__ import annotations

import functools
import time
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import NamedTuple

import torch

WORTH_IT = 0.8  # bfloat16 is less precise, so it must take at most this share of float32's time
ROUNDS, TRIALS = 15, 4  # rounds of a trial; the most trials
NOISY = 1.5  # a trial is noisy if its median round takes this many times as long as its fastest one


class Choice(NamedTuple):
    """The type of the matrix products, and the reason for it in words."""

    dtype: torch.dtype
    reason: str


def choose_precision(setting: str, device: torch.device) -> Choice:
    """The type for a recipe's `precision`. "auto": bfloat16 if this processor multiplies faster with it."""
    if setting != "auto":
        return Choice(getattr(torch, setting), "as the recipe says")
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return Choice(torch.bfloat16 if fast else torch.float32, f"as this GPU has {'' if fast else 'no '}bfloat16")
    if not _has_bfloat16():
        return Choice(torch.float32, "as this processor has no instructions for bfloat16")
    fast, quiet = _bfloat16_is_faster()
    return Choice(torch.bfloat16 if fast else torch.float32, "the faster type in a trial" if quiet else
                  f"the faster type in {TRIALS} trials; they ran beside other work, so the choice is not certain")


def autocast(dtype: torch.dtype, device: str = "cpu") -> AbstractContextManager:
    """A context in which matrix products are in `dtype`."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype)


def _has_bfloat16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@functools.cache
def _bfloat16_is_faster() -> tuple[bool, bool]:
    """Whether bfloat16 is faster, and whether a trial was quiet. There is one trial a process.

    Both types are timed in turns, so that other work on the machine slows both. The fastest round of each counts. A
    noisy trial is repeated.
    """
    fastest = {torch.bfloat16: float("inf"), torch.float32: float("inf")}
    for _ in range(TRIALS):
        rounds = [[_seconds(dtype) for dtype in fastest] for _ in range(ROUNDS)]
        quiet = True
        for dtype, times in zip(fastest, zip(*rounds)):
            fastest[dtype] = min(fastest[dtype], *times)
            quiet = quiet and median(times) < NOISY * min(times)
        if quiet:
            break
    return fastest[torch.bfloat16] < WORTH_IT * fastest[torch.float32], quiet


def _seconds(dtype: torch.dtype) -> float:
    """The time of a product of an output layer's size: 2,048 x 256 by 256 x 2,048."""
    a, b = torch.ones(2048, 256, dtype=dtype), torch.ones(2048, 256, dtype=dtype)
    start = time.perf_counter()
    a @ b.t()
    return time.perf_counter() - start
