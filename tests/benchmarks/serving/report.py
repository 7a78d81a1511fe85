"""The measurements as Markdown, to be put into a README as it is."""
from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.serving.load import SESSION, Case
from tests.benchmarks.serving.measure import Measurement
from tests.benchmarks.serving.peers import NOTHING, Peer
from tests.benchmarks.serving.wanted import Verdict, middle, ratio

_TITLES = {
    "typing": "**Typing**: as many people as connections, each with a text of so many words, ask for the next word after "
    f"it and after each of {SESSION} words that they type behind it, then go back and type other ones.",
    "unrelated": "**Unrelated texts** of so many words.",
}


def markdown(
    command: str,
    machine: dict[str, str],
    peers: list[Peer],
    measured: list[Measurement],
    memory: dict[str, int],
    idle: dict[str, float],
    notes: list[str],
) -> str:
    """Tables of the loads, and of what the servers take while they do nothing; medians over the rounds."""
    rounds = max(one.round for one in measured)
    parts = [
        f"`{command}` on {machine['date']}; {machine['cpu']}, cores: {machine['cores']}, which the load generator "
        f"({machine['wrk']}) shares; Python {machine['python']}, torch {machine['torch']}, "
        f"LitServe {machine['litserve']}. "
        + (f"Medians of {rounds} interleaved rounds." if rounds > 1 else "One round.")
        + " In brackets: times LitServe's doing nothing, in the same round. "
        "~: the mean, from the rate, where too few answers came for percentiles."
    ]
    for kind, title in _TITLES.items():
        chosen = [one for one in measured if one.kind == kind]
        if chosen:
            parts += [title, _loads(kind, peers, chosen, measured)]
    parts += [_resources(peers, memory, idle), *notes]
    return "\n\n".join(parts)


def verdict_table(verdicts: list[Verdict]) -> str:
    met = {True: "met", False: "**not met**", None: "not measured"}
    return _table(["Wanted in typing sessions", "Measured", ""], [[v.wanted, v.measured, met[v.met]] for v in verdicts], "---")


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
    p50 = middle(measured, server, case, lambda one: one.p50)
    if p50 is None:
        return ""
    failed = middle(measured, server, case, lambda one: one.failed)
    note = f" ({failed:.0%} refused)" if failed >= 0.005 else ""
    if any(one.brief for one in measured if one.server == server and one.case == case):
        return f"~{_short(middle(measured, server, case, lambda one: one.mean))}{note}"
    return f"{_short(p50)} / {_short(middle(measured, server, case, lambda one: one.p99))}{note}"


def _rate(measured: list[Measurement], server: str, case: Case) -> str:
    rate = middle(measured, server, case, lambda one: one.rate)
    times = ratio(measured, (server, case), (NOTHING, case._replace(kind="typing")), lambda one: one.rate)
    if rate is None:
        return ""
    return _short(rate) + (f" ({_short(times)})" if times is not None and server != NOTHING else "")


def _cpu(measured: list[Measurement], server: str, cases: list[Case]) -> str:
    values = [middle(measured, server, case, lambda one: one.cpu) for case in cases]
    return " / ".join("–" if value is None else _short(value) for value in values)


def _resources(peers: list[Peer], memory: dict[str, int], idle: dict[str, float]) -> str:
    rows = [[peer.label, f"{memory[peer.name] / 1e6:.0f}", f"{idle[peer.name]:.1f}"] for peer in peers]
    return _table(["", "memory, MB (PSS of all its processes)", "idle CPU, % of a core"], rows)


def _short(value: float) -> str:
    """Three significant digits, without an exponent."""
    places = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{places}f}"


def _table(head: list[str], rows: list[list[str]], others: str = "---:") -> str:
    align = ["---", *(others for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, align, *rows])
