"""LitServe at its defaults: `python -m tests.benchmarks.serving.litserve_peers NAME --port N …`.

No `from __future__ import annotations` here, as LitServe reads the annotations of `decode_request`.
"""

import argparse

from litserve import LitAPI, LitServer

from nextword.serve.schemas import NextWordsRequest, NextWordsResponse
from tests.benchmarks.serving import options
from tests.benchmarks.serving.answers import float_model, response
from tests.benchmarks.serving.load import PATH


class Nothing(LitAPI):
    """Answers every question with no words."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        super().__init__(api_path=PATH)

    def setup(self, device: str) -> None:
        pass

    def predict(self, request: dict) -> dict:
        return {"words": []}


class Float(LitAPI):
    """The model in 32-bit floats; each text is read from its first word."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        super().__init__(api_path=PATH)
        self._chosen = chosen

    def setup(self, device: str) -> None:
        self._answer = float_model(self._chosen.bundle, self._chosen.weights)

    def decode_request(self, request: NextWordsRequest) -> NextWordsRequest:
        return request

    def predict(self, request: NextWordsRequest) -> list[tuple[str, float]]:
        return self._answer(request.text, request.k)

    def encode_response(self, words: list[tuple[str, float]]) -> NextWordsResponse:
        return response(words)


if __name__ == "__main__":
    chosen = options.parse_peer()
    api = {"nothing": Nothing, "float": Float}[chosen.name](chosen)
    LitServer(api, accelerator="cpu").run(host="127.0.0.1", port=chosen.port, generate_client_file=False)
