"""The learning rate of each step, also of a training whose length was changed on the way."""
from __future__ import annotations

import math
from collections.abc import Sequence

from nextword.training.recipe import Recipe

RESTART = 2.0  # a finished training that is made longer by 1 / RESTART of its steps gets the full rate again


def learning_rate(recipe: Recipe, step: int, steps: int, start: float = 0.0, top: float | None = None) -> float:
    """The rate of step 0, 1, …

    In the first `warmup` share of the steps it is a line from `start` to `top` (None: the recipe's learning rate), then
    half a cosine or a line down.
    """
    top, low = recipe.learning_rate if top is None else top, recipe.learning_rate * recipe.final_rate
    warmup = max(1, round(recipe.warmup * steps))
    if step < warmup:
        return start + (top - start) * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    left = 1 - done if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return low + (top - low) * left


class Schedule:
    """The learning rates of a training whose number of steps may change.

    After such a change, the rate rises and falls again over the steps that are left (warm restarts: Loshchilov & Hutter
    2017). It rises to the recipe's rate if the training becomes much longer, and less far if it becomes a little
    longer, because there is little time to fall again. If the training becomes shorter, the rate only falls.

    steps       steps of the whole training
    lengths     (first step, steps of the whole training) at the start and after each change
    """

    def __init__(self, recipe: Recipe, steps: int, lengths: Sequence[Sequence[int]] = ()):
        self.recipe = recipe
        self.lengths = [(int(first), int(total)) for first, total in lengths] or [(0, steps)]

    @property
    def steps(self) -> int:
        return self.lengths[-1][1]

    def change(self, step: int, steps: int) -> None:
        """From `step` on, the whole training has `steps` steps."""
        self.lengths.append((step, steps))

    def rate(self, step: int) -> float:
        """The rate of step 0, 1, …"""
        part = max(number for number, (first, _) in enumerate(self.lengths) if first <= step)
        first, steps = self.lengths[part]
        if part == 0:
            return learning_rate(self.recipe, step, steps)
        return learning_rate(self.recipe, step - first, steps - first, self.rate(first - 1), self._top(part))

    def _top(self, part: int) -> float:
        """The highest rate after a change."""
        (first, steps), before = self.lengths[part], Schedule(self.recipe, 0, self.lengths[:part])
        last, full = before.rate(first - 1), self.recipe.learning_rate
        if before.rate(first) > last:  # it was rising
            return full
        return max(last, full * min(1.0, RESTART * (steps - before.steps) / first))

    def last_change(self) -> str:
        """The last change in words."""
        (first, steps), before = self.lengths[-1], self.lengths[-2][1]
        line = f"The training has now {steps:,} steps in all, before {before:,}"
        if first == steps:
            return f"{line}; all of them are done"
        return (f"{line}. From step {first:,} on, the learning rate moves from {self.rate(first - 1):.2g} to "
                f"{self._top(len(self.lengths) - 1):.2g}, then it falls until the end")
