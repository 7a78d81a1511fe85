"""Questions that cost as much as questions may: those who ask for little are still answered."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

from tests.harness.client import Answer, Client, Request, next_words
from tests.torture.promise import Promise, percentile, tally
from tests.torture.quiet_service import serving
from tests.torture.traffic import load, typing


def costly(bundle: Path | None, folder: Path, connections: int = 16, seconds: float = 15) -> Iterator[Promise]:
    """Ask for 100 phrases of 10 words without 1,000 others, and for next words and the health beside that."""
    with serving(folder, bundle) as service, Client(service) as client:
        draw, answers = random.Random(0), list[Answer]()
        with load(service, connections, _costly) as crowd:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                answers += [client.ask(*typing(draw)), client.ask("GET", "/health")]
                time.sleep(0.05)
        hanging = crowd.stop()
    slowest = percentile([answer.seconds for answer in answers], 1.0)
    answered = sum(answer.status == 200 for answer in answers) / len(answers)
    yield Promise(
        "Costly questions do not keep short ones from being answered",
        f"{connections} connections that ask for 100 phrases of 10 words without 1,000 others",
        not hanging and answered >= 0.99 and slowest < 2,
        f"{answered:.1%} of {len(answers)} short requests answered, the slowest {slowest * 1000:.0f} ms; "
        f"of the costly ones {tally(answer.outcome for answer in crowd.answers)}",
    )


def _costly(draw: random.Random) -> Request:
    return next_words(f"We saw {draw.random()} of", k=100, max_words=10, exclude=[f"Word{n}" for n in range(1000)])
