"""What a running training shows: a progress bar on a terminal, plain lines elsewhere."""
from __future__ import annotations

import math
import sys
import time

from tqdm import tqdm

EVERY_SECONDS = 30.0  # between plain lines


class Progress:
    """Counts steps; shows tokens/s, the loss in nats a token (a moving mean), its perplexity and the time left."""

    def __init__(self, total: int, done: int, stream=sys.stderr):
        self.total, self.done, self.first = total, done, done
        self.stream, self.loss = stream, None
        self.began = self.shown = time.monotonic()
        self.tokens = 0
        self.bar = None
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
        speed = self.tokens / max(now - self.began, 1e-9)
        return f"{speed:,.0f} tokens/s  loss {self.loss:.3f}  perplexity {math.exp(min(self.loss, 20)):.1f}"

    def say(self, line: str) -> None:
        if self.bar is not None:
            self.bar.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
