"""From a finished run to a bundle: the network as a TorchScript program, compared with the network on real text."""
from __future__ import annotations

import math
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tokenizers
import torch
from torch import Tensor

from nextword.lm import torchscript
from nextword.lm.bundle import Bundle, as_name, write_bundle
from nextword.lm.continuous_cache import CacheSettings
from nextword.lm.network import Network
from nextword.training.corpora import Corpus
from nextword.training.evaluation.cache_tuning import TIMES, measure_cache, tune_cache
from nextword.training.evaluation.excerpts import Text, excerpts
from nextword.training.recipe import Recipe
from nextword.training.run_folder import RunFolder
from nextword.training.suppressed_words import suppressed_words
from nextword.training.tokens import encode_split
from nextword.training.warm_start import Start

HEADS = 16  # sequences that calibration and check read side by side
CACHE_TOKENS = 10_000  # with less validation text, the cache keeps the settings of the start


def export_run(run: Path, recipe: Recipe, corpus: Corpus, result: dict, start: Start | None = None) -> Bundle:
    """Write the bundle `run/bundle` of the run's best weights.

    result: the result of `training.loop.fit`.
    start: the model that the training began with. Its lists of suppressed words are kept (see
        nextword.training.suppressed_words). So are the settings of its cache, if there is too little validation text
        to choose others.
    """
    folder = RunFolder(run)
    vocabulary = folder.vocabulary()
    best = folder.best()
    network = Network(recipe.architecture(len(vocabulary))).eval()
    network.load_state_dict(best.weights)
    train, validation = (_excerpt(encode_split(corpus, split, vocabulary), recipe.calibration_tokens)
                         for split in ("train", "validation"))
    program = torchscript.script(network, train if recipe.quantized else None)
    check = compare(network, program, validation)
    start_metadata = start.bundle.metadata if start and start.bundle else {}
    cache = _cache(program, excerpts(corpus, "validation", vocabulary, TIMES * recipe.calibration_tokens),
                   start_metadata.get("cache"))
    lists = {}
    if not recipe.pretokenized:
        sources = [part.documents("train") for part in corpus.parts or [corpus]]
        lists = suppressed_words(sources, vocabulary, start_metadata if start else None)
    metadata = {
        "name": as_name(run.resolve().name),
        "description": f"{network.architecture.cell.upper()} language model, trained on {corpus.name}",
        "architecture": network.architecture.to_dict(),
        "weights": "int8" if recipe.quantized else "float32",
        "training": {
            "corpus": [asdict(source) for source in corpus.sources],
            "recipe": {**recipe.to_dict(), "corpus": corpus.name}, **result, "best_step": best.step,
            "device": "cuda" if torch.cuda.is_available() else "cpu", "machine": platform.machine(),
        },
        "metrics": {"validation": best.validation, "cache": {key: cache[key] for key in cache if key != "settings"}},
        "cache": cache["settings"],
        **lists,
        "export": check,
        "versions": {"nextword": version("nextword"), "torch": torch.__version__,
                     "tokenizers": tokenizers.__version__, "python": platform.python_version()},
    }
    return write_bundle(folder.bundle, torchscript.save(program), vocabulary.to_json(), metadata)


def _cache(program: torch.jit.ScriptModule, texts: list[Text], of_start: dict | None) -> dict:
    """Settings for the cache, and their figures on these validation texts."""
    if of_start and sum(text.length for text in texts) < CACHE_TOKENS:
        return measure_cache(program, texts, CacheSettings(**of_start))
    return tune_cache(program, texts)


@torch.no_grad()
def compare(network: Network, program: torch.jit.ScriptModule, tokens: Tensor) -> dict:
    """The differences between the exported program and the network on text (batch, time + 1) int64, for `bundle.json`.

    These are: the largest and the mean difference of a log-probability (nats, over all words at all positions), the
    perplexity of both, the share of positions with the same best word, and that with the same set of the best three.
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    outputs, _ = network(inputs.t(), network.initial_state(len(tokens)))
    lengths = torch.full((len(inputs),), inputs.shape[1])
    exported, _ = program.read_all(inputs, lengths, program.initial_state(len(inputs)))
    largest, total, count, top1, top3 = 0.0, 0.0, 0, 0, 0
    loss = {"network": 0.0, "exported": 0.0}
    for a, b, t in zip(outputs.transpose(0, 1), exported, targets):
        for x, y, target in zip(a.split(256), b.split(256), t.split(256)):
            p, q = network.logits(x).log_softmax(1), program.log_probs(y)
            difference = (p - q).abs()
            largest, total = max(largest, float(difference.max())), total + float(difference.mean(1).sum())
            count += len(target)
            for name, values in (("network", p), ("exported", q)):
                loss[name] -= float(values.gather(1, target[:, None]).sum())
            first, second = (values.topk(3, 1).indices for values in (p, q))
            top1 += int((first[:, 0] == second[:, 0]).sum())
            top3 += int((first.sort(1).values == second.sort(1).values).all(1).sum())
    perplexity = {name: math.exp(value / count) for name, value in loss.items()}
    return {
        "text": "validation", "tokens": count,
        "largest_difference": largest, "mean_difference": total / count,
        "perplexity": perplexity, "perplexity_lost": perplexity["exported"] / perplexity["network"] - 1,
        "same_top1": top1 / count, "same_top3_set": top3 / count,
    }


def _excerpt(tokens: np.ndarray, count: int) -> Tensor:
    """Evenly spread pieces of a text, together about `count` tokens: (HEADS, time + 1) int64."""
    time = max(1, min(count, len(tokens) - 1) // HEADS)
    starts = np.linspace(0, max(0, len(tokens) - time - 1), HEADS).astype(int)
    return torch.from_numpy(np.stack([tokens[start : start + time + 1] for start in starts]).astype(np.int64))

