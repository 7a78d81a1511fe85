"""`python -m tests.torture.slowed RATE …`: the service, with a worker slowed to RATE answers a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import nextword.serve.worker.lit_api
from nextword.serve.__main__ import main


class SlowAPI(nextword.serve.worker.lit_api.NextWordsAPI):
    """Waits before it computes, as if it were on a far slower machine."""

    rate = 20.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seconds = 1 / self.rate

    def predict(self, questions: Sequence[Any]) -> list[bytes | Exception]:
        time.sleep(self.seconds * len(questions))
        return super().predict(questions)


def slowed(rate: float) -> tuple[str, ...]:
    """Return the command of a service that answers `rate` questions a second."""
    return sys.executable, "-m", __name__, str(rate)


if __name__ == "__main__":
    from tests.torture.slowed import SlowAPI  # under the name by which a worker finds it

    SlowAPI.rate = float(sys.argv[1])
    nextword.serve.worker.lit_api.NextWordsAPI = SlowAPI
    sys.exit(main(sys.argv[2:]))
