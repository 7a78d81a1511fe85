"""The learning rate of each step, also of a training whose length was changed on the way."""
from __future__ import annotations

import math
from collections.abc import Sequence

from nextword.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of step 0, 1, …: a linear rise in the first `warmup` share of the steps, then half a cosine down."""
    warmup = max(1, round(recipe.warmup * steps))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    low = recipe.final_rate
    return recipe.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


class Schedule:
    """The learning rates of a training whose number of steps may change.

    Such a change replaces the rates of the steps that follow by those of a training of the new length. They do not
    jump: in as many steps as a warm-up, they move from the last rate to the new ones.

    steps       steps of the whole training
    lengths     (first step, steps of the whole training) of the first plan and of each change
    """

    def __init__(self, recipe: Recipe, steps: int, lengths: Sequence[Sequence[int]] = ()):
        self.recipe = recipe
        self.lengths = [(int(first), int(total)) for first, total in lengths] or [(0, steps)]

    @property
    def steps(self) -> int:
        return self.lengths[-1][1]

    def change(self, step: int, steps: int) -> None:
        """From `step` on, follow the plan of a training of `steps` steps."""
        self.lengths.append((step, steps))

    def rate(self, step: int) -> float:
        """The rate of step 0, 1, …"""
        plan = max(number for number, (first, _) in enumerate(self.lengths) if first <= step)
        first, steps = self.lengths[plan]
        rate = learning_rate(self.recipe, step, steps)
        moved = (step - first + 1) / self._transition(plan)
        if plan == 0 or moved >= 1:
            return rate
        before = self.rate(first - 1)
        return before + moved * (rate - before)

    def _transition(self, plan: int) -> int:
        first, steps = self.lengths[plan]
        return max(1, min(round(self.recipe.warmup * steps), steps - first))

    def last_change(self) -> str:
        """The last change in words."""
        (first, steps), before = self.lengths[-1], self.lengths[-2][1]
        line = f"The training has now {steps:,} steps in all, before {before:,}"
        if first == steps:
            return f"{line}; all of them are done"
        transition = self._transition(len(self.lengths) - 1)
        return (f"{line}. Within {transition:,} step{'s' * (transition > 1)} the learning rate moves from "
                f"{self.rate(first - 1):.2g} to {self.rate(first + transition - 1):.2g}, then it follows the curve of "
                "a training of that length")
