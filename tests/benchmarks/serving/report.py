"""The measurements and their ratios as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from tests.benchmarks.machine import in_words
from tests.benchmarks.serving.load import SESSION, Case
from tests.benchmarks.serving.measure import Measurement
from tests.benchmarks.serving.peers import NOTHING, SERVICE, TRANSFORMER, Peer

Value = Callable[[Measurement], float]
TITLES = {
    "typing": "**Typing**: as many people as connections, each with a text of so many words, ask for the next word "
    f"after it and after each of {SESSION} words that they type behind it, then go back and type other ones.",
    "letters": "**Typing letters**: the same, but each request has one letter more of the next word in `partial`.",
    "unrelated": "**Unrelated texts** of so many words.",
}


def median_of(measured: list[Measurement], server: str, case: Case, value: Value) -> float | None:
    """Return the median over the rounds, None where nothing was measured."""
    values = [value(one) for one in measured if one.server == server and one.case == case]
    return median(values) if values else None


def ratio(measured: list[Measurement], over: tuple[str, Case], under: tuple[str, Case], value: Value) -> float | None:
    """Return the median over the rounds of the ratio between two servers or loads in the same round."""
    above, below = (
        {one.round: value(one) for one in measured if (one.server, one.case) == which} for which in (over, under)
    )
    both = [above[number] / below[number] for number in above if below.get(number)]
    return median(both) if both else None


def ratios(measured: list[Measurement]) -> dict[str, dict[int, float]]:
    """Return the ratios of this service in typing sessions: to other servers, and to itself behind the shortest text.

    By description, then by the words of the text. Nothing is in it for what was not measured.
    """
    typing = [one for one in measured if one.kind == "typing" and one.server == SERVICE]
    if not typing:
        return {}
    lengths = sorted({one.words for one in typing})
    few, many = min(one.connections for one in typing), max(one.connections for one in typing)

    def latency(one: Measurement) -> float:
        return one.p50

    def rate(one: Measurement) -> float:
        return one.rate

    def cost(one: Measurement) -> float:
        return one.cpu

    def against(server: str, connections: int, value: Value, kind: str = "typing") -> dict[int, float | None]:
        cases = {words: Case("typing", words, connections) for words in lengths}
        return {words: ratio(measured, (SERVICE, case._replace(kind=kind)), (server, case), value)
                for words, case in cases.items()}

    def growth(value: Value) -> dict[int, float | None]:
        shortest = (SERVICE, Case("typing", lengths[0], few))
        return {words: ratio(measured, (SERVICE, Case("typing", words, few)), shortest, value) for words in lengths[1:]}

    rows = {
        f"p50 at {few}, to LitServe's doing nothing": against(NOTHING, few, latency),
        f"p50 at {few}, letters, to LitServe's doing nothing": against(NOTHING, few, latency, "letters"),
        f"requests/s at {many}, to LitServe's doing nothing": against(NOTHING, many, rate),
        f"requests/s at {many}, letters, to LitServe's doing nothing": against(NOTHING, many, rate, "letters"),
        f"requests/s at {many}, unrelated, to LitServe's doing nothing": against(NOTHING, many, rate, "unrelated"),
        f"requests/s at {many}, to the Transformer's": against(TRANSFORMER, many, rate),
        f"p50 at {few}, to that behind {lengths[0]} words": growth(latency),
        f"CPU-ms a request at {few}, to that behind {lengths[0]} words": growth(cost),
    }
    known = {name: {words: value for words, value in row.items() if value is not None} for name, row in rows.items()}
    return {name: row for name, row in known.items() if row}


def markdown(
    command: str,
    machine: dict[str, str],
    peers: list[Peer],
    measured: list[Measurement],
    memory: dict[str, int],
    idle: dict[str, float],
    notes: list[str],
) -> str:
    """Return tables of the loads, of the ratios, and of memory and idle processor time; medians over the rounds.

    Args:
        memory: bytes, by server.
        idle: per cent of a core, by server.
    """
    rounds = max(one.round for one in measured)
    parts = [
        f"`{command}` on {in_words(machine)}; wrk shares the cores. "
        + (f"Medians of {rounds} interleaved rounds. " if rounds > 1 else "One round. ")
        + "In brackets: times LitServe's doing nothing, in the same round. "
        "~: the mean, from the rate, where too few answers came for percentiles."
    ]
    for kind, title in TITLES.items():
        chosen = [one for one in measured if one.kind == kind]
        if chosen:
            parts += [title, _loads(kind, peers, chosen, measured)]
    if own := ratios(measured):
        parts += ["**Ratios** of this service, typing.", _ratio_table(own)]
    parts += [_resources(peers, memory, idle), *notes]
    return "\n\n".join(parts)


def _ratio_table(rows: dict[str, dict[int, float]]) -> str:
    lengths = sorted({words for row in rows.values() for words in row})
    body = [[name, *(f"{row[words]:.2f}" if words in row else "" for words in lengths)] for name, row in rows.items()]
    return _table(["Connections:", *(f"{words} words" for words in lengths)], body)


def _loads(kind: str, peers: list[Peer], chosen: list[Measurement], measured: list[Measurement]) -> str:
    counts = sorted({one.connections for one in chosen})
    first, *others = counts
    heads = [f"{title} {first}" for title in ("p50 / p99 ms at", "requests/s at")]
    heads = [heads[0], *(f"at {count}" for count in others), heads[1], *(f"at {count}" for count in others)]
    rows = []
    for peer in peers:
        for words in sorted({one.words for one in chosen if one.server == peer.name}):
            cases = [Case(kind, words, count) for count in counts]
            cells = [_latency(chosen, peer.name, case) for case in cases]
            cells += [_rate(measured, peer.name, case) for case in cases]
            rows.append([peer.label, str(words), *cells, _cpu(chosen, peer.name, cases)])
    return _table(["Connections:", "words", *heads, f"CPU-ms a request at {' / '.join(map(str, counts))}"], rows)


def _latency(measured: list[Measurement], server: str, case: Case) -> str:
    p50 = median_of(measured, server, case, lambda one: one.p50)
    if p50 is None:
        return ""
    failed = median_of(measured, server, case, lambda one: one.failed) or 0
    note = f" ({failed:.0%} refused)" if failed >= 0.005 else ""
    if any(one.brief for one in measured if one.server == server and one.case == case):
        return f"~{_short(median_of(measured, server, case, lambda one: one.mean))}{note}"
    return f"{_short(p50)} / {_short(median_of(measured, server, case, lambda one: one.p99))}{note}"


def _rate(measured: list[Measurement], server: str, case: Case) -> str:
    rate = median_of(measured, server, case, lambda one: one.rate)
    times = ratio(measured, (server, case), (NOTHING, case._replace(kind="typing")), lambda one: one.rate)
    if rate is None:
        return ""
    return _short(rate) + (f" ({_short(times)})" if times is not None and server != NOTHING else "")


def _cpu(measured: list[Measurement], server: str, cases: list[Case]) -> str:
    return " / ".join(_short(median_of(measured, server, case, lambda one: one.cpu)) for case in cases)


def _resources(peers: list[Peer], memory: dict[str, int], idle: dict[str, float]) -> str:
    rows = [[peer.label, f"{memory[peer.name] / 1e6:.0f}", f"{idle[peer.name]:.1f}"] for peer in peers]
    return _table(["", "memory, MB (PSS of all its processes)", "idle CPU, % of a core"], rows)


def _short(value: float | None) -> str:
    """Return three significant digits without an exponent, and a dash for None."""
    if value is None:
        return "–"
    places = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{places}f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    align = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, align, *rows])
