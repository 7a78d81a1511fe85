"""What the service should reach in typing sessions, beside what it did reach."""
from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from tests.benchmarks.serving.load import Case
from tests.benchmarks.serving.measure import Measurement
from tests.benchmarks.serving.peers import NOTHING, SERVICE, TRANSFORMER

FEW, MANY = 1, 64  # connections
SHORT, LONG = 5, 500  # words


class Verdict(NamedTuple):
    """A figure wanted and the figures measured; `met` is None where nothing was measured."""

    wanted: str
    measured: str
    met: bool | None


def middle(
    measured: list[Measurement], server: str, case: Case, value: Callable[[Measurement], float]
) -> float | None:
    """The median over the rounds."""
    values = [value(one) for one in measured if one.server == server and one.case == case]
    return median(values) if values else None


def ratio(
    measured: list[Measurement],
    over: tuple[str, Case],
    under: tuple[str, Case],
    value: Callable[[Measurement], float],
) -> float | None:
    """The median over the rounds of two servers' (or loads') ratio within a round."""
    rounds: list[dict[int, float]] = [
        {one.round: value(one) for one in measured if (one.server, one.case) == which} for which in (over, under)
    ]
    both = [rounds[0][number] / rounds[1][number] for number in rounds[0] if rounds[1].get(number)]
    return median(both) if both else None


def verdicts(measured: list[Measurement], idle: dict[str, float]) -> list[Verdict]:
    """Every wanted figure; where several loads belong to it, all must reach it."""
    lengths = sorted({one.words for one in measured})

    def against(server: str, connections: int, value) -> dict[str, float | None]:
        cases = [Case("typing", words, connections) for words in lengths]
        return {
            f"{case.words} words": ratio(measured, (SERVICE, case), (server, case), value) for case in cases
        }

    def growth(value) -> float | None:
        short, long = (Case("typing", words, FEW) for words in (SHORT, LONG))
        return ratio(measured, (SERVICE, long), (SERVICE, short), value)

    def late(one: Measurement) -> float:
        return max(one.p99, one.mean) if one.brief else one.p99

    p99 = {f"{words} words": middle(measured, SERVICE, Case("typing", words, MANY), late) for words in lengths}
    costs = {"p50": growth(lambda one: one.p50), "CPU": growth(lambda one: one.cpu)}
    return [
        _verdict("p50 at 1 connection, at most 2.0 times LitServe's doing nothing",
                 against(NOTHING, FEW, lambda one: one.p50), lambda value: value <= 2.0),
        _verdict("requests/s at 64 connections, at least 1.3 times LitServe's doing nothing",
                 against(NOTHING, MANY, lambda one: one.rate), lambda value: value >= 1.3),
        _verdict("p99 at 64 connections, under 100 ms", p99, lambda value: value < 100),
        _verdict("cost at 500 words of context, at most 1.15 times that at 5 (1 connection)",
                 costs, lambda value: value <= 1.15),
        _verdict("requests/s at 64 connections, at least 20 times the Transformer's",
                 against(TRANSFORMER, MANY, lambda one: one.rate), lambda value: value >= 20),
        _verdict("idle CPU, under 2 %", {"all processes": idle.get(SERVICE)}, lambda value: value < 2),
    ]  # fmt: skip


def _verdict(wanted: str, found: dict[str, float | None], enough: Callable[[float], bool]) -> Verdict:
    values = {name: value for name, value in found.items() if value is not None}
    said = ", ".join(f"{value:.2f} ({name})" for name, value in values.items())
    return Verdict(wanted, said or "not measured", all(map(enough, values.values())) if values else None)
