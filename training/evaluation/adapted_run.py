"""A run's 32-bit weights with their own settings of the continuous cache and of dynamic evaluation.

The settings are chosen on validation text. The run's folder keeps them in adaptation.json.
"""
from __future__ import annotations

import json
import math
import sys
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from nextword.lm import torchscript
from nextword.lm.bundle import Bundle, as_name
from nextword.lm.continuous_cache import CacheSettings
from nextword.lm.model import Model
from nextword.lm.network import Network
from nextword.training.atomic_files import write_atomically
from nextword.training.corpora import Corpus
from nextword.training.evaluation.cache_tuning import TIMES, best_settings, mixed_log_probs, tune_cache
from nextword.training.evaluation.dynamic import DynamicSettings, gradient_scales, read_dynamically, tune_dynamic
from nextword.training.evaluation.excerpts import Text, excerpts
from nextword.training.progress import work_progress
from nextword.training.run_folder import RunFolder
from nextword.training.tokens import encode_split
from nextword.training.windows import Windows

SIZES = (500, 2000, 5000, 20_000, 100_000)  # cache sizes to try
SCALE_BATCH, SCALE_STEPS = 16, 60  # text that gives the scales of gradients: heads, segments of each


class AdaptedRun:
    """The network with a run's best weights. Raises RunError if the folder has no finished run."""

    def __init__(self, folder: Path):
        run = RunFolder(folder)
        run.check_finished()
        vocabulary = run.vocabulary()
        self.network = Network(run.recipe().architecture(len(vocabulary))).eval()
        self.network.load_state_dict(run.best().weights)
        bundle = Bundle(folder, {"name": as_name(folder.resolve().name)}, {})
        self.model = Model(bundle, vocabulary, torchscript.script(self.network))
        self._file = folder / "adaptation.json"
        self._settings: dict = {}
        self._scales: list[Tensor] = []

    def tune(self, corpus: Corpus, tokens: int, dynamic: bool, anew: bool = False) -> None:
        """Choose the missing settings on validation text, or all of them if `anew`.

        Those of dynamic evaluation are chosen on about `tokens` tokens, those of the caches on TIMES as many.
        """
        if self._file.exists() and not anew:
            self._settings = json.loads(self._file.read_text(encoding="utf-8"))
        if dynamic:
            train = encode_split(corpus, "train", self.model.vocabulary)
            segment = DynamicSettings.segment
            windows = Windows(train, min(SCALE_BATCH, max(1, len(train) // (2 * segment))), segment)
            self._scales = gradient_scales(self.network, islice(windows.epoch(0), SCALE_STEPS))
        if "cache" not in self._settings or (dynamic and "dynamic_cache" not in self._settings):
            vocabulary = self.model.vocabulary
            texts, longer = ([text for text in excerpts(corpus, "validation", vocabulary, count) if text.length]
                             for count in (tokens, TIMES * tokens))
            if not texts:
                raise ValueError("there is no validation text to tune on")
            print(f"Tuning on {sum(text.length for text in longer):,} tokens of validation text", file=sys.stderr)
            if "cache" not in self._settings:
                self._settings["cache"] = tune_cache(self.model.program, longer, SIZES)
            if dynamic:
                self._settings |= self._tuned_dynamically(texts, longer)
            write_atomically(self._file, (json.dumps(self._settings, indent=1) + "\n").encode())
        self.model.cache = CacheSettings(**self._settings["cache"]["settings"])

    def _tuned_dynamically(self, texts: list[Text], longer: list[Text]) -> dict:
        def loss(settings: DynamicSettings) -> float:
            mean = _mean([log_probs for log_probs, _ in self._dynamic(texts, settings)])
            print(f"  rate {settings.rate:g}, decay {settings.decay:g}: perplexity {math.exp(min(mean, 700)):.2f}",
                  file=sys.stderr, flush=True)
            return mean

        saved = self._settings.get("dynamic")
        best = DynamicSettings(**saved["settings"]) if saved else tune_dynamic(loss)
        rows = [(log_probs, keys, text.ids[1:])
                for text, (log_probs, keys) in zip(longer, self._dynamic(longer, best))]
        return {"dynamic": {"settings": vars(best), "perplexity": math.exp(_mean([row[0] for row in rows]))},
                "dynamic_cache": best_settings(rows, SIZES)}

    def dynamic_log_probs(self, texts: list[Text], cache: bool) -> dict[str, list[Tensor]]:
        """Log-probabilities (n,) of each text's tokens with dynamic evaluation; if `cache`, also with the cache.

        Each text starts from the trained weights.
        """
        rows = self._dynamic(texts, DynamicSettings(**self._settings["dynamic"]["settings"]), show=True)
        results = {"dynamic": [log_probs for log_probs, _ in rows]}
        if cache:
            best = CacheSettings(**self._settings["dynamic_cache"]["settings"])
            results["dynamic_cache"] = [mixed_log_probs(log_probs, keys, text.ids[1:], best)
                                        for text, (log_probs, keys) in zip(texts, rows)]
        return results

    def _dynamic(self, texts: list[Text], settings: DynamicSettings, show: bool = False) -> list[tuple[Tensor, Tensor]]:
        with work_progress(sum(text.length for text in texts), "dynamic evaluation", show) as progress:
            return [read_dynamically(self.network, text.ids, settings, self._scales, progress) for text in texts]


def _mean(log_probs: list[Tensor]) -> float:
    """The mean loss in nats a token."""
    return -float(torch.cat(log_probs).double().mean())
