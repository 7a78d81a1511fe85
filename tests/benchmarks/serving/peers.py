"""The servers that are measured, and the loads that each is given."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.serving.load import Case

SERVICE, NOTHING, TRANSFORMER = "service", "nothing", "transformer"


@dataclass(frozen=True)
class Peer:
    """A kind of server.

    name        its name in JSON and on the command line
    label       its name in the table
    module      started with `python -m` and `arguments`
    most_words  in all requests at once, context times connections; slow servers get fewer loads
    every_kind  whether it is asked in other ways than by typing words; to servers that keep no state all ways are alike
    seconds     the length of a measurement, times the usual one
    needs       a library that it needs and the service does not
    """

    name: str
    label: str
    module: str
    arguments: tuple[str, ...]
    most_words: int = 100_000
    every_kind: bool = False
    seconds: int = 1
    needs: str = ""

    def takes(self, case: Case) -> bool:
        return case.words * case.connections <= self.most_words and (self.every_kind or case.kind == "typing")

    def missing(self) -> bool:
        return bool(self.needs) and importlib.util.find_spec(self.needs) is None

    def command(self, bundle: Path | None, weights: Path | None, folder: Path) -> list[str]:
        """Return the command that starts it, without `--port`."""
        command = [sys.executable, "-m", self.module, *self.arguments]
        if bundle:
            command += ["--bundle", str(bundle.resolve())]
        if self.name != SERVICE:
            command += ["--folder", str(folder)]
            if weights:
                command += ["--weights", str(weights.resolve())]
        return command


def _litserve(name: str, label: str, **more: Any) -> Peer:
    return Peer(name, label, "tests.benchmarks.serving.litserve_peers", (name,), **more)


def _fastapi(name: str, label: str, **more: Any) -> Peer:
    return Peer(name, label, "tests.benchmarks.serving.fastapi_peers", (name,), **more)


PEERS = [
    Peer(SERVICE, "this service", "nextword.serve", (), every_kind=True),
    _litserve(NOTHING, "LitServe, doing nothing"),
    _litserve("float", "LitServe, float32 model from the first word", most_words=4_000, seconds=2),
    _fastapi("fastapi", "FastAPI, the same model inline", most_words=10_000),
    _fastapi("kenlm", "FastAPI, KenLM 5-gram", needs="kenlm"),
    _fastapi(TRANSFORMER, "FastAPI, Transformer of DistilGPT2's size", most_words=500, seconds=2, needs="transformers"),
]
