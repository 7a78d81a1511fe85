"""`nextword compare`: RNN, GRU, LSTM and a small Transformer of equal size, trained in the same way on the same tokens.

In all of them the embedding is the output layer too. The widths of the others give them the LSTM's number of
parameters. Each network is trained briefly with each of several learning rates, and then fully with the rate that had
the best validation perplexity. Times are processor times on one thread, so that other programs do not disturb them.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nextword.lm.network import Network
from nextword.training.atomic_files import write_atomically, write_json
from nextword.training.corpora import Corpus
from nextword.training.equal_size import MODELS, build, equal_width, parameters
from nextword.training.loop import fit
from nextword.training.machine import processor
from nextword.training.measure import measure
from nextword.training.plots import plot_comparison
from nextword.training.recipe import Recipe
from nextword.training.run_folder import RunFolder
from nextword.training.tokens import build_vocabulary, encode_split
from nextword.training.trainer import Trainer, TrainingData
from nextword.training.windows import Windows

CONTEXTS = (10, 100, 1000)


@dataclass(frozen=True)
class Plan:
    """The size of the models and the length of their training.

    embedding_size, hidden_size     widths of the LSTM
    epochs, evaluations             epochs and evaluations of the full training
    rates, trial_epochs             learning rates to try, and the epochs of each trial
    reach                           number of earlier words for which the gradient is measured
    repeats                         repetitions of each timing
    rehearsal                       True: the training is too short for a comparison; table and plots say so
    """

    embedding_size: int = 128
    hidden_size: int = 256
    epochs: float = 5.0
    trial_epochs: float = 0.5
    rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
    evaluations: int = 20
    reach: int = 200
    repeats: int = 30
    rehearsal: bool = False


QUICK = Plan(16, 24, 0.5, 0.2, (4e-3, 1e-2), 3, 20, 2, rehearsal=True)
REHEARSAL = "a rehearsal: tiny networks, trained briefly"


def compare(corpus: Corpus, out: Path, plan: Plan, pretokenized: bool = False) -> Path:
    """Train and measure all models, and return the path of `comparison.md`; plots and `comparison.json` are beside it.

    A stopped comparison continues where it stopped.
    """
    torch.set_num_threads(1)
    models = [_Model(name, corpus, out / name, plan, pretokenized) for name in MODELS]
    for model in models:
        model.train()
    for model, speed in zip(models, _in_rounds([model.training_steps for model in models], plan.repeats)):
        model.figures["train_tokens_per_second"] = model.tokens_a_step / speed
    for model in models:
        model.measure()
    results = {model.name: model.figures for model in models}
    write_json(out / "comparison.json", results)
    plot_comparison(out, {MODELS[name]: result["learning_curve"] for name, result in results.items()},
                    {MODELS[name]: result["gradient_norm"] for name, result in results.items()},
                    corpus.name, REHEARSAL if plan.rehearsal else "")
    report = out / "comparison.md"
    write_atomically(report, _report(corpus, plan, results).encode())
    return report


class _Model:
    def __init__(self, name: str, corpus: Corpus, out: Path, plan: Plan, pretokenized: bool):
        self.name, self.corpus, self.out, self.plan = name, corpus, out, plan
        recipe = Recipe(corpus=corpus.name, pretokenized=pretokenized, embedding_size=plan.embedding_size,
                        hidden_size=plan.hidden_size, affixes=False, evaluation_tokens=5_000, patience=1_000,
                        threads=1)
        self.vocabulary = build_vocabulary(corpus, recipe.vocabulary_size, recipe.minimum_count, pretokenized)
        width = equal_width(name, len(self.vocabulary), plan.embedding_size, plan.hidden_size)
        cell = name if name != "transformer" else "lstm"  # recipes have no Transformer, which ignores the cell
        self.recipe = recipe.model_copy(update={"cell": cell, "hidden_size": width})
        self.figures: dict[str, Any] = {
            "parameters": parameters(self.network()), "width": width, "vocabulary": len(self.vocabulary),
            "embedding_parameters": len(self.vocabulary) * (plan.embedding_size + 1)}
        self.tokens_a_step = recipe.batch_size * recipe.bptt

    def network(self, dropout: float = 0.0, memory: int = 128) -> Any:
        return build(self.name, len(self.vocabulary), self.recipe.embedding_size, self.recipe.hidden_size, dropout,
                     memory)

    def _in_training(self, recipe: Recipe, vocabulary_size: int) -> Any:
        return self.network(recipe.dropout)

    def train(self) -> None:
        trial = {"epochs": self.plan.trial_epochs, "evaluate_every": 1_000_000}
        trials = {rate: self._fit(f"rate-{rate:g}", self.recipe.model_copy(update={**trial, "learning_rate": rate}))
                  [-1]["validation"]["perplexity"] for rate in self.plan.rates}
        best = min(trials, key=lambda rate: trials[rate])
        tokens = len(encode_split(self.corpus, "train", self.vocabulary))
        every = max(1, int(self.plan.epochs * tokens / self.tokens_a_step / self.plan.evaluations))
        full = {"learning_rate": best, "epochs": self.plan.epochs, "evaluate_every": every}
        self.recipe = self.recipe.model_copy(update=full)
        rows = self._fit("full", self.recipe)
        self.figures |= {"learning_rate": best, "trials": {f"{rate:g}": value for rate, value in trials.items()},
                         "learning_curve": [(row["tokens"], row["validation"]["perplexity"]) for row in rows]}

    def _fit(self, name: str, recipe: Recipe) -> list[dict]:
        print(f"{MODELS[self.name]}, learning rate {recipe.learning_rate:g}, {recipe.epochs:g} epochs", file=sys.stderr)
        fit(recipe, self.corpus, self.out / name, build=self._in_training)
        return RunFolder(self.out / name).evaluations()

    def training_steps(self) -> Callable[[], float]:
        """A function that makes one training step at each call."""
        data = TrainingData.load(self.recipe, self.corpus, self.vocabulary)
        trainer = Trainer(self.recipe, data, build=self._in_training)
        windows = data.windows.epoch(0)
        return lambda: trainer.train_step(*next(windows))

    def measure(self) -> None:
        weights = RunFolder(self.out / "full").best().weights
        network, remembering = self.network(), self.network(memory=max(CONTEXTS))
        network.load_state_dict(weights)
        remembering.load_state_dict(weights)
        test = encode_split(self.corpus, "test", self.vocabulary)
        windows = Windows(test, max(1, len(test) // 4_000), self.recipe.bptt)
        self.figures |= measure(network, windows.epoch(0), windows.batch, len(test), torch.inference_mode)
        self.figures["gradient_norm"] = gradient_norms(network, *_excerpts(
            encode_split(self.corpus, "validation", self.vocabulary), self.plan.reach))
        text = torch.as_tensor(test[:1001].astype(int))
        self.figures["word_ms"] = {kind: {str(context): 1000 * seconds for context, seconds in zip(CONTEXTS, times)}
                                   for kind, times in self._word_times(remembering.eval(), text)}

    def _word_times(self, network: Network, text: Tensor) -> Iterator[tuple[str, list[float]]]:
        """Seconds to predict the next word after contexts of several lengths."""
        text = text.repeat(-(-1001 // len(text)))[:, None]

        @torch.inference_mode()
        def predict(tokens: Tensor, state: Tensor) -> Tensor:
            outputs, new = network(tokens, state)
            network.logits(outputs[-1]).topk(5)
            return new

        empty = network.initial_state(1)
        states = [predict(text[:context], empty) for context in CONTEXTS]
        yield "going on", list(_in_rounds([partial(partial, predict, text[-1:], state) for state in states],
                                          self.plan.repeats))
        yield "from the first word", list(_in_rounds(
            [partial(partial, predict, text[:context], empty) for context in CONTEXTS], self.plan.repeats))


def _in_rounds(makers: list[Callable[[], Callable[[], object]]], rounds: int) -> list[float]:
    """The median processor seconds of a call of each function. They are called in turn, under the same conditions."""
    calls = [make() for make in makers]
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, times in zip(calls, seconds):
            began = time.process_time()
            call()
            times.append(time.process_time() - began)
    return [median(times[1:]) for times in seconds]


def gradient_norms(network: Network, inputs: Tensor, targets: Tensor) -> list[float]:
    """The dependence of the last word's loss on the words before it.

    It is the norm of the loss's gradient with respect to the embedded input k steps earlier, k = 0, 1, …, as a mean
    over the sequences.

    inputs: (time, batch) int64, read from the empty state. targets: (batch,), the next words.
    """
    embedded: list[Tensor] = []
    hook = network.embedding.register_forward_hook(lambda module, arguments, output: embedded.append(output))
    try:
        outputs, _ = network.eval()(inputs, network.initial_state(inputs.shape[1]))
    finally:
        hook.remove()
    loss = nn.functional.cross_entropy(network.logits(outputs[-1]), targets, reduction="sum")
    norms = torch.autograd.grad(loss, embedded[0])[0].norm(dim=2)
    norms = norms if norms.shape == inputs.shape else norms.t()  # the Transformer reads with the batch first
    return norms.mean(1).flip(0).tolist()


def _excerpts(tokens: np.ndarray, time: int, count: int = 64) -> tuple[Tensor, Tensor]:
    """Evenly spread pieces of a text, (time, count), and the word after each piece, (count,)."""
    windows = Windows(tokens, min(count, (len(tokens) - 1) // time), time)
    inputs, targets = next(windows.epoch(0))
    return inputs, targets[-1]


def _report(corpus: Corpus, plan: Plan, results: dict[str, dict]) -> str:
    lines = ["| | parameters | learning rate | perplexity | top-1 | top-3 | tokens/s in training | "
             + " | ".join(f"ms a word at {context:,}" for context in CONTEXTS) + " |",
             "|---" * (7 + len(CONTEXTS)) + "|"]
    for name, result in results.items():
        times = result["word_ms"]
        lines.append(f"| {MODELS[name]} | {result['parameters']:,} | {result['learning_rate']:g} | "
                     f"{result['perplexity']:.1f} | {result['top1']:.1%} | {result['top3']:.1%} | "
                     f"{result['train_tokens_per_second']:,.0f} | " + _milliseconds(times["going on"]))
        if name == "transformer":
            lines.append("| the same without a cache | | | | | | | " + _milliseconds(times["from the first word"]))
    first = results["lstm"]
    trials = "; ".join(
        f"{MODELS[name]} " + ", ".join(f"{rate}: {value:.0f}" for rate, value in result["trials"].items())
        for name, result in results.items())
    counts = [result["parameters"] for result in results.values()]
    ends = plan.rates[0], plan.rates[-1]
    edge = [MODELS[name] for name, result in results.items() if result["learning_rate"] in ends]
    title = [f"# Four networks on {corpus.name}", ""]
    if plan.rehearsal:
        title += [f"**This is {REHEARSAL}. It shows that the command works; the order of the networks means nothing. "
                  "Leave out --quick to compare them.**", ""]
    return "\n".join([
        *title, *lines, "",
        f"Perplexity and accuracy are on the {first['tokens']:,} tokens of the test text, with the weights of the best "
        f"validation perplexity of {plan.epochs:g} epochs, {first['learning_curve'][-1][0]:,} tokens read. Vocabulary "
        f"{first['vocabulary']:,}; of the parameters, {first['embedding_parameters']:,} are the embedding, which is "
        f"the output layer too, and its bias. The totals differ by {max(counts) / min(counts) - 1:.2%}.",
        "",
        f"Embedding {plan.embedding_size}; one layer of " + ", ".join(
            f"{results[name]['width']} ({MODELS[name]})" for name in MODELS if name != "transformer")
        + f"; the Transformer has two layers of {plan.embedding_size} with 4 heads and "
        f"{results['transformer']['width']} in between, and attends to the 128 words before a window of 35 too. All: "
        "AdamW, 32 sequences of 35 words a step, the same schedule, dropout 0.2. Learning rates, with the "
        "validation perplexity after "
        f"{plan.trial_epochs:g} epochs: {trials}."
        + (f" The best rate is the lowest or the highest one: {', '.join(edge)}." if edge else ""),
        "",
        f"Times are of one thread on {processor()}, torch {torch.__version__}, in processor time (median of "
        f"{plan.repeats}). A recurrent network and the Transformer's cache of keys and values go on from the text; "
        "without the cache the Transformer reads the whole context again for each word. The LSTM is trained with this "
        "project's own layer, the others with torch's.",
        "", "![learning curves](learning.png)", "", "![how far the gradient reaches back](gradient.png)", "",
    ])


def _milliseconds(times: dict[str, float]) -> str:
    return " | ".join(f"{value:.2f}" for value in times.values()) + " |"
