"""The time to a quality: processor minutes until a validation perplexity is reached.

The engine with AdamW trains to the end of its steps, and is measured after each part of them. Its lowest perplexity is
the target of the others. They are measured in the same way, and train until they reach the target, have done their
steps, or have taken LIMIT times the minutes of the first training. Minutes are those that all threads of a process
computed, so other work on the machine counts little. Measurements are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from nextword.training.recipe import Recipe
from tests.benchmarks.training.rivals import Job, started

PARTS = 10  # measurements of a training
EVALUATED = 60_000  # tokens of validation text
LIMIT = 2  # most minutes of a training, in those of the first one
DROPOUT = 0.2  # of the engine, because the text is read several times; the straightforward loop has none


class Contestant(NamedTuple):
    """A way to train: its loop, its settings, and its steps as a share of the reference's."""

    loop: str
    settings: dict[str, Any]
    share: float = 1.0


# A shorter training has a shorter schedule: its rate has fallen when it reaches the target.
# It reads the text about once, so it drops nothing.
SHORT: dict[str, Any] = {"schedule": "linear", "final_rate": 0.0, "dropout": 0.0}
REFERENCE = "engine, AdamW"
CONTESTANTS = {
    REFERENCE: Contestant("engine", {}),
    "engine, affixes": Contestant("engine", SHORT | {"affixes": True, "learning_rate": 4e-3}, 0.5),
    "engine, Muon": Contestant("engine", SHORT | {"optimizer": "muon", "learning_rate": 8e-3}, 0.5),
    "straightforward": Contestant("straightforward", {}),
}


def measure(recipe: Recipe, steps: int, first_tokens: int, say: Callable[[str], None]) -> list[dict]:
    """Return for each contestant its "name", "steps", "minutes" and "perplexity" at each of them, and "reached".

    reached: minutes to the target; None if it was not reached.
    """
    rows: list[dict] = []
    target, limit = 0.0, math.inf  # of the first training: none
    for name, contestant in CONTESTANTS.items():
        own = Recipe(**{**recipe.to_dict(), "dropout": DROPOUT, **contestant.settings})
        job = Job(own, round(steps * contestant.share), EVALUATED, first_tokens)
        row = _trained(name, contestant.loop, job, target, limit, say)
        rows.append(row)
        target, limit = min(rows[0]["perplexity"]), LIMIT * rows[0]["minutes"][-1]
        pairs = zip(row["minutes"], row["perplexity"])
        row["reached"] = next((minutes for minutes, perplexity in pairs if perplexity <= target), None)
    return rows


def _trained(name: str, loop: str, job: Job, target: float, limit: float, say: Callable[[str], None]) -> dict:
    """Train to the target, to the end of the steps, or for `limit` minutes."""
    marks = sorted({max(1, round(job.steps * part / PARTS)) for part in range(1, PARTS + 1)})
    row: dict[str, Any] = {"name": name, "recipe": job.recipe.to_dict(), "steps": [], "minutes": [], "perplexity": []}
    minutes = 0.0
    with started(loop, job) as ask:
        for before, mark in zip([0, *marks], marks):
            minutes += ask("processor_seconds", mark - before) / 60
            row["steps"].append(mark)
            row["minutes"].append(minutes)
            row["perplexity"].append(ask("quality"))
            say(f"{name}: step {mark} of {job.steps}: {minutes:.2f} minutes, perplexity {row['perplexity'][-1]:.2f}")
            if row["perplexity"][-1] <= target or minutes >= limit:
                break
    return row


def markdown(rows: list[dict]) -> str:
    """Return the figures as a table."""
    target = min(rows[0]["perplexity"])
    lines = [
        f"| training | steps | learning rate | processor minutes to perplexity {target:.2f} | at its end |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        reached = f"{row['reached']:.2f}" if row["reached"] else "not reached"
        lines.append(
            f"| {row['name']} | {row['steps'][-1]:,} | {row['recipe']['learning_rate']:g} | {reached} | "
            f"{row['perplexity'][-1]:.2f} after {row['minutes'][-1]:.2f} minutes |"
        )
    return "\n".join(lines)
