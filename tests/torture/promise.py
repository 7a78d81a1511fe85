"""What was promised, what was done about it, and what came of it."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Promise(NamedTuple):
    """A promise put to the test. `kept` is None where this machine cannot test it; `figures` say then why."""

    promise: str
    done: str
    kept: bool | None
    figures: str


def table(promises: Iterable[Promise]) -> str:
    """Returns them as a Markdown table."""
    rows = ["| promise | what was done | result | figures |", "|---|---|---|---|"]
    result = {True: "kept", False: "**broken**", None: "not tested"}
    rows += [f"| {one.promise} | {one.done} | {result[one.kept]} | {one.figures} |" for one in promises]
    return "\n".join(rows)


def tally(values: Iterable) -> str:
    """Returns how often each value comes: "990 × 200, 10 × 503"."""
    values = list(values)
    return ", ".join(f"{values.count(value):,} × {value}" for value in sorted(set(values), key=str)) or "none"


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
