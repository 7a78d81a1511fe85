"""Plain FastAPI in one process, to compare with: `python -m tests.benchmarks.serving.fastapi_peers NAME --port N …`."""
from __future__ import annotations

import uvicorn
from fastapi import FastAPI

from tests.benchmarks.serving import options
from tests.benchmarks.serving.answers import kenlm_model, response, same_model, transformer
from tests.benchmarks.serving.load import PATH
from nextword.serve.schemas import NextWordsRequest, NextWordsResponse

ANSWERS = {
    "fastapi": lambda asked: same_model(asked.bundle),
    "kenlm": lambda asked: kenlm_model(asked.folder),
    "transformer": lambda asked: transformer(),
}

app = FastAPI()


@app.post(PATH)
async def next_words(question: NextWordsRequest) -> NextWordsResponse:
    return response(app.state.answer(question.text, question.k))


if __name__ == "__main__":
    asked = options.of_a_peer()
    app.state.answer = ANSWERS[asked.name](asked)
    uvicorn.run(app, host="127.0.0.1", port=asked.port, log_level="warning")
