"""Other ways to find the next words: functions of a text and k that return words with log-probabilities, best first."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nextword.serve.schemas import NextWordsResponse, SuggestedWord

if TYPE_CHECKING:
    from nextword.lm.model import Model

Answer = Callable[[str, int], "list[tuple[str, float]]"]


def same_model(folder: Path | None) -> Answer:
    """Return the service's own model, on one thread as in the service."""
    import torch

    from nextword.lm import load

    torch.set_num_threads(1)
    return _words_of(load(folder))


def float_model(folder: Path | None, weights: Path | None) -> Answer:
    """Return the bundle's architecture in 32-bit floats, with the weights of a run (its best.pt) or random ones."""
    import torch

    from nextword.lm import open_bundle, torchscript
    from nextword.lm.model import Model
    from nextword.lm.network import Architecture, Network
    from nextword.lm.vocabulary import Vocabulary

    bundle = open_bundle(folder)
    network = Network(Architecture(**bundle.metadata["architecture"]))
    if weights:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["network"])
    vocabulary = Vocabulary.from_json(bundle.content["tokenizer.json"].decode())
    return _words_of(Model(bundle, vocabulary, torchscript.script(network)))


def _words_of(model: Model) -> Answer:
    return lambda text, k: [(word.word, word.logprob) for word in model.next_words(text, k)]


def kenlm_model(folder: Path) -> Answer:
    """Return a KenLM 5-gram model of the very text that is asked about; `folder` is for its file."""
    from tests.benchmarks.serving import ngrams, text

    words = ngrams.tokens(" ".join(text.words()))
    ngrams.write_arpa(folder / "5-gram.arpa", words)
    return ngrams.NextWords(folder / "5-gram.arpa", words)


def transformer() -> Answer:
    """Return a Transformer of DistilGPT2's size with random weights, which keeps nothing between requests.

    A word is one token; GPT-2's own tokenizer makes more of many words, which would cost more.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=6)
    network = GPT2LMHeadModel(config).eval()

    @torch.inference_mode()
    def answer(text: str, k: int) -> list[tuple[str, float]]:
        ids = [zlib.crc32(word.encode()) % config.vocab_size for word in text.split()[-config.n_positions :]]
        logits = network(torch.tensor([ids or [0]]), use_cache=False, logits_to_keep=1).logits[0, -1]
        best = logits.log_softmax(0).topk(k)
        return [(f"token {i}", logprob) for i, logprob in zip(best.indices.tolist(), best.values.tolist())]

    return answer


def response(words: list[tuple[str, float]]) -> NextWordsResponse:
    """Return the answer in the form of the service's API."""
    suggested = [SuggestedWord(word=word, probability=math.exp(logprob), logprob=logprob) for word, logprob in words]
    return NextWordsResponse(model="peer", words=suggested)
