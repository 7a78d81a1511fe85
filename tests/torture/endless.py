"""`python -m tests.torture.endless …`: the service, with a worker that computes for ever at one text."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import nextword.serve.worker.lit_api
from nextword.serve.__main__ import main
from nextword.serve.questions import Question

HANG = "Compute for ever"


class EndlessAPI(nextword.serve.worker.lit_api.NextWordsAPI):
    """Does not end where a question has the text HANG."""

    def predict(self, questions: Sequence[Question]) -> list[bytes | Exception]:
        while any(getattr(question, "text", None) == HANG for question in questions):
            pass
        return super().predict(questions)


def endless() -> tuple[str, ...]:
    """Return the command of that service."""
    return sys.executable, "-m", __name__


if __name__ == "__main__":
    from tests.torture.endless import EndlessAPI  # under the name by which a worker finds it

    nextword.serve.worker.lit_api.NextWordsAPI = EndlessAPI
    sys.exit(main(sys.argv[1:]))
