"""The start of a training from the vocabulary and the weights of a bundle or of an earlier run.

A bundle's 8-bit weights are converted to the float32 numbers that they stand for.

Other vocabulary: words in both vocabularies keep their weights. A new word begins with the weights of `<unk>`. The
probability of `<unk>` is divided among `<unk>` and the new words by their counts in the training text. So the network
begins as the same function. The method comes from class-based language models (Brown et al. 1992), which split a class
into its words: P(word | context) = P(<unk> | context) P(word | <unk>).

More cells: an LSTM with a projection may be wider than its start. The projection gives the new cells the weight 0, so
the wider network begins as the same function too (as in Net2Net: Chen et al. 2016).
"""
from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from nextword.lm import torchscript
from nextword.lm.architecture import Architecture
from nextword.lm.bundle import DESCRIPTION, ENGLISH, TOKENIZER, Bundle, open_bundle
from nextword.lm.model import load
from nextword.lm.network import Network
from nextword.lm.vocabulary import EOS_ID, UNK_ID, Vocabulary
from nextword.training.corpora import Corpus
from nextword.training.recipe import Recipe
from nextword.training.run_folder import RunError, RunFolder
from nextword.training.tokens import build_vocabulary

BUNDLED = {"english": ENGLISH}  # models that come with the package


class WarmStartError(ValueError):
    """The start does not exist, or does not fit the recipe."""


class Start:
    """The start of a training: a bundle's folder, a finished run's folder, or the name of a bundled model.

    Raises WarmStartError if there is no such folder, BundleError if a bundle is damaged.
    """

    def __init__(self, name: str):
        self.name = name
        self.folder = BUNDLED.get(name) or Path(name)
        self.bundle: Bundle | None = None  # a run's bundle, if it has one
        self._run: RunFolder | None = None
        if (self.folder / DESCRIPTION).exists():
            self.bundle = open_bundle(self.folder)
            return
        self._run = RunFolder(self.folder)
        try:
            self._run.check_finished()
        except RunError as error:
            raise WarmStartError(f"{name!r} is neither a bundle nor the folder of a finished run: "
                                 f"{error}") from None
        if (self._run.bundle / DESCRIPTION).exists():
            self.bundle = open_bundle(self._run.bundle)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        if self._run:
            return self._run.vocabulary()
        assert self.bundle
        return Vocabulary.from_json(self.bundle.content[TOKENIZER].decode())

    def _weights(self) -> dict[str, Tensor]:
        """The weights by their names in nextword.lm.network.Network."""
        if self._run:
            return self._run.best().weights
        assert self.bundle
        return torchscript.weights(load(self.bundle).program)

    @torch.no_grad()
    def load_into(self, network: Network, vocabulary: Vocabulary, counts: Tensor) -> None:
        """Give a network with this vocabulary the weights of the start.

        counts: (len(vocabulary),) occurrences of each id in the training text.
        Raises WarmStartError if the network has another architecture and is not only wider.
        """
        weights = change_vocabulary(self._weights(), self.vocabulary, vocabulary, counts)
        own = network.state_dict()
        try:
            wider = {name: _wider(name, old, own[name]) for name, old in weights.items() if name in own}
            network.load_state_dict({**weights, **wider})
        except RuntimeError:
            described = self._architecture()
            shape = ", ".join(f"{name} {value}" for name, value in described.to_dict().items()
                              if name != "vocabulary_size") if described else "it is not described"
            raise WarmStartError(f"start_from: the network in {self.folder} has another architecture than the "
                                 f"recipe's: {shape}. All but hidden_size must be the same, and that may only be "
                                 "larger, with a projection_size") from None

    def _architecture(self) -> Architecture | None:
        if self._run:
            return self._run.recipe().architecture(len(self.vocabulary))
        assert self.bundle
        return self.bundle.description.architecture


def choose_vocabulary(recipe: Recipe, corpus: Corpus, start: Start | None) -> Vocabulary:
    """The vocabulary of the training text, of the start, of both, or of `vocabulary_from`: see Recipe."""
    if recipe.vocabulary_from:
        return Start(recipe.vocabulary_from).vocabulary
    if start and start.vocabulary.pretokenized != recipe.pretokenized:
        raise RunError(f"start_from: the model in {recipe.start_from} and this run do not have the same `pretokenized`")
    if start and recipe.start_vocabulary == "keep":
        return start.vocabulary
    counted = build_vocabulary(corpus, recipe.vocabulary_size, recipe.minimum_count, recipe.pretokenized)
    if not start or recipe.start_vocabulary == "new":
        return counted
    words = dict.fromkeys(start.vocabulary.words + counted.words)
    return Vocabulary.of_words(list(words)[EOS_ID + 1 :], recipe.pretokenized)


@torch.no_grad()
def change_vocabulary(weights: dict[str, Tensor], old: Vocabulary, new: Vocabulary, counts: Tensor
                      ) -> dict[str, Tensor]:
    """Convert the weights of a network with the vocabulary `old` to those of a network with the vocabulary `new`.

    counts: (len(new),) occurrences of each new id in the training text.
    """
    if old.words == new.words:
        return weights
    ids = {word: i for i, word in enumerate(old.words)}
    rows = torch.tensor([ids.get(word, UNK_ID) for word in new.words])
    were_unknown = rows == UNK_ID
    shares = torch.where(were_unknown, counts.double().clamp(min=1), 1.0)
    shares = torch.where(were_unknown, shares / shares[were_unknown].sum(), 1.0)
    bias = weights["bias"][rows] + shares.log().float()
    return {**weights, "embedding.weight": weights["embedding.weight"][rows], "bias": bias}


def _wider(name: str, old: Tensor, new: Tensor) -> Tensor:
    """The old weights and those of the new cells, in a tensor of the new shape; the old weights if they do not fit."""
    kind = name.rpartition(".")[2]
    if old.shape == new.shape or "recurrent." not in name:
        return old
    if kind == "weight_hr_l0":  # (output, cells)
        if len(old) != len(new) or old.shape[1] > new.shape[1]:
            return old
        return torch.cat([old, old.new_zeros(len(old), new.shape[1] - old.shape[1])], 1)
    if len(old) > len(new) or old.shape[1:] != new.shape[1:]:
        return old
    gates = new.clone().unflatten(0, (4, -1))  # the rows of four gates, each with all cells
    gates[:, : len(old) // 4] = old.unflatten(0, (4, -1))
    return gates.flatten(0, 1)
