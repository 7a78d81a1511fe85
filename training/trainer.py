"""A network, its optimizer, and one training step: truncated back-propagation through time with carried state.

All random numbers of a step depend only on the seed and the step's number. So a training that continues from a
checkpoint ends with the same weights as one that never stopped (on a CPU, with the same number of threads).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nextword.lm.network import Network
from nextword.lm.vocabulary import Vocabulary
from nextword.training.affixes import end_sharing, share
from nextword.training.corpora import Corpus
from nextword.training.cuda_graph import GraphedStep
from nextword.training.distributed import ALONE, Processes
from nextword.training.loss import cross_entropy, sample_candidates
from nextword.training.measure import measure
from nextword.training.muon import Muon
from nextword.training.precision import autocast, choose_precision
from nextword.training.recipe import Recipe
from nextword.training.regularisation import RegularisedNetwork, activation_penalty
from nextword.training.schedule import Schedule
from nextword.training.tokens import digest, encode_split, word_counts
from nextword.training.windows import Windows, prepared_ahead

PIECES = 20  # pieces of an excerpt, spread evenly over its text
CONTEXT = 200  # fewest tokens for a reading head of an excerpt, so that a short text is read with context too


@dataclass(frozen=True)
class TrainingData:
    """The text of a training as token ids.

    windows     the part of the training text that this process reads
    excerpts    windows of parts of the training text and of the validation text, the same at each evaluation
    vocabulary  the words of the ids
    counts      (V,) float64, occurrences of each word in the training text, plus 1
    digest      a checksum of the vocabulary and both texts
    """

    windows: Windows
    excerpts: dict[str, Windows]
    vocabulary: Vocabulary
    counts: Tensor
    digest: str

    @classmethod
    def load(cls, recipe: Recipe, corpus: Corpus, vocabulary: Vocabulary, processes: Processes = ALONE
             ) -> TrainingData:
        with processes.in_turn():
            train, validation = (encode_split(corpus, split, vocabulary) for split in ("train", "validation"))
        windows = Windows(train, recipe.batch_size, recipe.bptt, recipe.shuffle_block, recipe.seed,
                          processes.share(recipe.batch_size))
        excerpts = {}
        for name, tokens in (("train", train), ("validation", validation)):
            tokens = _excerpt(tokens, recipe.evaluation_tokens)
            excerpts[name] = Windows(tokens, min(recipe.batch_size, max(1, len(tokens) // CONTEXT)), recipe.bptt)
        counts = word_counts(train, len(vocabulary))
        return cls(windows, excerpts, vocabulary, counts, digest(vocabulary, train, validation))


def _excerpt(tokens: np.ndarray, count: int) -> np.ndarray:
    """About `count` tokens of a text, in PIECES evenly spread pieces."""
    size = count // PIECES
    if len(tokens) <= PIECES * size:
        return tokens
    return np.concatenate([tokens[start : start + size]
                           for start in np.linspace(0, len(tokens) - size, PIECES).astype(int)])


def build_network(recipe: Recipe, vocabulary_size: int) -> Network:
    """The recipe's architecture with its regularisers."""
    return RegularisedNetwork(recipe.architecture(vocabulary_size), recipe.dropout, recipe.word_dropout,
                              recipe.weight_drop, recipe.fresh_starts, recipe.dropout_by_word)


def recurrent_matrices(network: Network) -> list[tuple[Tensor, int]]:
    """The matrices of the recurrent layers, each with its number of gates."""
    hidden_size = network.architecture.hidden_size
    return [(weight, 1 if name.startswith("weight_hr") else len(weight) // hidden_size)
            for layer in network.recurrent for name, weight in layer.named_parameters() if weight.dim() == 2]


class Trainer:
    """Trains a network step by step. It writes no files.

    schedule    the learning rates, and the number of steps of the whole training
    step        finished steps
    tokens      tokens of the finished steps
    kept        the network to evaluate and to save: the moving average if the recipe has one
    """

    def __init__(self, recipe: Recipe, data: TrainingData, processes: Processes = ALONE,
                 build: Callable[[Recipe, int], Network] = build_network, dtype: torch.dtype | None = None):
        """dtype: the type of the matrix products; None: the recipe's `precision` chooses it on this machine."""
        self.recipe, self.data, self.processes = recipe, data, processes
        self.device = processes.device()
        self.dtype = dtype or choose_precision(recipe.precision, self.device).dtype
        torch.manual_seed(recipe.seed)
        self.network: Any = build(recipe, len(data.counts)).to(self.device)
        with torch.no_grad():  # the untrained network predicts each word with its share of the text
            self.network.bias.copy_((data.counts / data.counts.sum()).log().float())
        self.schedule = Schedule(recipe, math.ceil(recipe.epochs * data.windows.steps))
        self.step, self.tokens = 0, 0
        self._state = self.network.initial_state(len(data.windows.heads))
        self._prepare()

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.schedule.steps

    def begin_with(self, load: Callable[[Network], None]) -> None:
        """Let `load` give the network its first weights. Call it before the first step."""
        end_sharing(self.network)
        load(self.network)
        self._prepare()

    def _prepare(self) -> None:
        recipe = self.recipe
        if recipe.affixes:
            share(self.network, self.data.vocabulary)
        on_gpu = self.device.type == "cuda"  # there the rate is a tensor, because a CUDA graph reads it
        rate = torch.tensor(recipe.learning_rate, device=self.device) if on_gpu else recipe.learning_rate
        matrices = recurrent_matrices(self.network) if recipe.optimizer == "muon" else []
        others = [p for p in self.network.parameters() if all(p is not matrix for matrix, _ in matrices)]
        self.optimizer = torch.optim.AdamW(others, rate, weight_decay=recipe.weight_decay, fused=True,
                                           capturable=on_gpu)
        self.muon = Muon(matrices, rate, recipe.weight_decay, self.dtype) if matrices else None
        self.average = None
        if recipe.averaging:
            self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging))
        self.kept: Any = self.average.module if self.average else self.network
        self._synchronised = self.processes.synchronised(self.network)
        # A graph holds what is the same in all steps; the LSTM's step never waits for the GPU.
        same = not (recipe.averaging or recipe.dropout_rise or recipe.affixes) and recipe.cell == "lstm"
        graphed = on_gpu and same and self.processes.size == 1 and isinstance(self.network, RegularisedNetwork)
        self._learn_on_device: Callable[..., Tensor] = GraphedStep(self._learn) if graphed else self._learn

    def windows_left(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of the remaining steps."""
        return prepared_ahead(self._windows_left()) if self.device.type == "cuda" else self._windows_left()

    def _windows_left(self) -> Iterator[tuple[Tensor, Tensor]]:
        step = self.step
        while step < self.steps:
            epoch, first = divmod(step, self.data.windows.steps)
            for window in self.data.windows.epoch(epoch, first):
                if step == self.steps:
                    return
                step += 1
                yield window

    def train_step(self, inputs: Tensor, targets: Tensor) -> float:
        """Train on a window, (time, heads) int64 each. Returns this process's mean loss in nats a token."""
        recipe, network, data = self.recipe, self.network, self.data
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self.step)
        torch.manual_seed((recipe.seed * 1_000_003 + self.step) * self.processes.size + self.processes.rank)  # dropout
        self._set_rate(self.schedule.rate(self.step))
        heads = slice(data.windows.heads.start, data.windows.heads.stop)
        keep = torch.rand(recipe.batch_size, 1, generator=generator)[heads] >= recipe.forget
        candidates, log_weights = sample_candidates(
            network.architecture.vocabulary_size, recipe.samples or network.architecture.vocabulary_size, generator)
        network.train()
        if recipe.dropout_rise:
            network.level = min(1.0, (self.step + 1) / (recipe.dropout_rise * self.steps))
        loss = self._learn_on_device(*(tensor.to(self.device) for tensor in
                                       (inputs, targets, keep, candidates, log_weights)))
        self.step += 1
        self.tokens += targets.numel() * self.processes.size
        return float(loss)

    def _learn(self, inputs: Tensor, targets: Tensor, keep: Tensor, candidates: Tensor, log_weights: Tensor) -> Tensor:
        """The part of a step that the device does. Returns the mean loss."""
        recipe, network = self.recipe, self.network
        with parametrize.cached():  # the sums of the affixes' vectors are computed once
            with self._autocast():
                outputs, state = self._synchronised(inputs, self._state * keep)
            loss = cross_entropy(outputs.flatten(0, 1), network.embedding.weight, network.bias, targets.flatten(),
                                 candidates, log_weights, self.dtype)
        objective = loss
        if recipe.output_penalty or recipe.change_penalty:
            objective = loss + activation_penalty(outputs, recipe.output_penalty, recipe.change_penalty)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        self.optimizer.step()
        if self.muon:
            self.muon.step()
        if self.average:
            self.average.update_parameters(network)
        network.zero_grad(set_to_none=True)
        if self._state.shape == state.shape:
            self._state.copy_(state.detach())  # in place, for the CUDA graph
        else:
            self._state = state.detach()  # a Transformer's state grows
        return loss.detach()

    def _set_rate(self, rate: float) -> None:
        for group in [*self.optimizer.param_groups, *(self.muon.param_groups if self.muon else [])]:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def measure(self) -> dict[str, dict[str, float]]:
        """The figures of `kept` on both excerpts (see nextword.training.measure)."""
        return {name: measure(self.kept, windows.epoch(0), windows.batch, self.recipe.evaluation_tokens, self._autocast)
                for name, windows in self.data.excerpts.items()}

    def _autocast(self) -> AbstractContextManager:
        return autocast(self.dtype, self.device.type)

    def state_dict(self) -> dict[str, Any]:
        """All data that is needed to continue in any number of processes. All processes must call this."""
        return {"step": self.step, "lengths": self.schedule.lengths, "tokens": self.tokens,
                "state": self.processes.gathered(self._state), "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(), "muon": self.muon.state_dict() if self.muon else None,
                "average": self.average.state_dict() if self.average else None}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a result of `state_dict`.

        If that was of a training of another length, this one's length counts. Raises ValueError if it is too short.
        """
        heads, steps = self.data.windows.heads, self.steps
        if steps < saved["step"]:
            raise ValueError(f"{saved['step'] / self.data.windows.steps:.4g} epochs are done already, more than the "
                             f"{self.recipe.epochs:g} of this training")
        self.step, self.tokens = saved["step"], saved["tokens"]
        self.schedule = Schedule(self.recipe, steps, saved.get("lengths", ()))
        if self.steps != steps:
            self.schedule.change(self.step, steps)
        self._state = saved["state"][heads.start : heads.stop].to(self.device)
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.muon:
            self.muon.load_state_dict(saved["muon"])
        if self.average:
            self.average.load_state_dict(saved["average"])
