"""Plain FastAPI in one process, to compare with: `python -m serve.bench.fastapi_peers NAME --port N …`."""
from __future__ import annotations

import uvicorn
from fastapi import FastAPI

from serve.bench import options
from serve.bench.answers import kenlm_model, response, same_model, transformer
from serve.bench.load import PATH
from serve.schemas import NextWordsRequest, NextWordsResponse

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
