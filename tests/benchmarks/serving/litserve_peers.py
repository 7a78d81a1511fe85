"""LitServe at its defaults, to compare with: `python -m tests.benchmarks.serving.litserve_peers NAME --port N …`.

No `from __future__ import annotations` here, as LitServe reads the annotations of `decode_request`.
"""
from litserve import LitAPI, LitServer

from tests.benchmarks.serving import options
from tests.benchmarks.serving.answers import float_model, response
from tests.benchmarks.serving.load import PATH
from nextword.serve.schemas import NextWordsRequest


class Nothing(LitAPI):
    """Answers every question with no words."""

    def __init__(self, asked):
        super().__init__(api_path=PATH)

    def setup(self, device):
        pass

    def predict(self, request):
        return {"words": []}


class Float(LitAPI):
    """The model in 32-bit floats; each text is read from its first word."""

    def __init__(self, asked):
        super().__init__(api_path=PATH)
        self._asked = asked

    def setup(self, device):
        self._answer = float_model(self._asked.bundle, self._asked.weights)

    def decode_request(self, request: NextWordsRequest):
        return request

    def predict(self, request):
        return self._answer(request.text, request.k)

    def encode_response(self, words):
        return response(words)


if __name__ == "__main__":
    asked = options.of_a_peer()
    api = {"nothing": Nothing, "float": Float}[asked.name](asked)
    LitServer(api, accelerator="cpu").run(host="127.0.0.1", port=asked.port, generate_client_file=False)
