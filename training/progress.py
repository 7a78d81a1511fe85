"""Progress of long work: a bar on a terminal, elsewhere a line every few seconds."""
from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

EVERY_SECONDS = 30.0  # between lines of a training
WORK_SECONDS = 10.0  # between lines of other work


class Progress:
    """Counts steps, and shows tokens/s, the loss in nats a token (a moving mean), its perplexity and the time left."""

    def __init__(self, total: int, done: int, stream: TextIO = sys.stderr):
        self.total, self.done, self.first = total, done, done
        self.stream = stream
        self.loss: float | None = None
        self.began = self.shown = time.monotonic()
        self.tokens = 0
        self.bar: tqdm | None = None
        if stream.isatty():
            self.bar = tqdm(total=total, initial=done, unit="step", file=stream, dynamic_ncols=True)

    def step(self, loss: float, tokens: int) -> None:
        self.loss = loss if self.loss is None else 0.98 * self.loss + 0.02 * loss
        self.done, self.tokens = self.done + 1, self.tokens + tokens
        now = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(self.figures(now), refresh=False)
            self.bar.update()
        elif now - self.shown >= EVERY_SECONDS or self.done == self.total:
            self.shown = now
            left = (now - self.began) / (self.done - self.first) * (self.total - self.done)
            self.say(f"step {self.done}/{self.total}  {self.figures(now)}  {clock(left)} left")

    def figures(self, now: float) -> str:
        speed, loss = self.tokens / max(now - self.began, 1e-9), self.loss or 0.0
        return f"{speed:,.0f} tokens/s  loss {loss:.3f}  perplexity {math.exp(min(loss, 20)):.1f}"

    def say(self, line: str) -> None:
        if self.bar is not None:
            self.bar.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


@contextmanager
def work_progress(total: float, label: str, show: bool = True) -> Iterator[Callable[[float], object]]:
    """Yield a function to call with each amount of finished work. The finished share of `total` is shown on stderr."""
    if not show or sys.stderr.isatty():
        with tqdm(total=total, desc=label, file=sys.stderr, disable=not show,
                  bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}") as bar:
            yield bar.update
        return
    began = shown = time.monotonic()
    done = 0.0

    def add(amount: float) -> None:
        nonlocal done, shown
        done += amount
        now = time.monotonic()
        if now - shown >= WORK_SECONDS:
            shown = now
            left = (now - began) * (total - done) / done
            print(f"{label}: {done / total:.0%} done, {clock(left)} left", file=sys.stderr, flush=True)

    yield add


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
