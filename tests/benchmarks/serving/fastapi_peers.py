"""Plain FastAPI in one process: `python -m tests.benchmarks.serving.fastapi_peers NAME --port N …`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from nextword.serve.schemas import NextWordsRequest, NextWordsResponse
from tests.benchmarks.serving import options
from tests.benchmarks.serving.answers import Answer, kenlm_model, response, same_model, transformer
from tests.benchmarks.serving.load import PATH

ANSWERS: dict[str, Callable[[argparse.Namespace], Answer]] = {
    "fastapi": lambda chosen: same_model(chosen.bundle),
    "kenlm": lambda chosen: kenlm_model(chosen.folder),
    "transformer": lambda _: transformer(),
}

app = FastAPI()


@app.post(PATH)
async def next_words(question: NextWordsRequest) -> NextWordsResponse:
    return response(app.state.answer(question.text, question.k))


if __name__ == "__main__":
    chosen = options.parse_peer()
    app.state.answer = ANSWERS[chosen.name](chosen)
    uvicorn.run(app, host="127.0.0.1", port=chosen.port, log_level="warning")
