"""Promises and their results, as a table; and the statistics that the results are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Promise(NamedTuple):
    """A promise put to the test. `kept` is None where this machine cannot test it; `figures` then say why."""

    promise: str
    attack: str
    kept: bool | None
    figures: str


def table(promises: Iterable[Promise]) -> str:
    """Return them as a Markdown table."""
    rows = ["| promise | what was done | result | figures |", "|---|---|---|---|"]
    result = {True: "kept", False: "**broken**", None: "not tested"}
    rows += [f"| {one.promise} | {one.attack} | {result[one.kept]} | {one.figures} |" for one in promises]
    return "\n".join(rows)


def tally(values: Iterable[object]) -> str:
    """Return how often each value occurs: "990 × 200, 10 × 503"."""
    values = list(values)
    return ", ".join(f"{values.count(value):,} × {value}" for value in sorted(set(values), key=str)) or "none"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
