"""Where a training begins that does not begin from nothing: the vocabulary and the weights of a run or of a bundle.

A bundle's 8-bit weights are taken as they are computed with. A run may have another vocabulary than its start. Words in
both keep their weights. A new word begins with the weights of `<unk>`, and the probability of `<unk>` is shared out among
`<unk>` and the new words by their counts in the training text; so the network begins as the same function. Where the recipe's LSTM has more cells than were trained, and a
projection behind them, the new ones begin with weights of nothing in the projection: the wider network starts as the same
function, and learns from there (as in Net2Net: Chen et al. 2016).
"""
from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from nextword.lm import torchscript
from nextword.lm.bundle import DESCRIPTION, MODEL, TOKENIZER, open_bundle
from nextword.lm.network import Architecture, Network
from nextword.lm.vocabulary import UNK_ID, Vocabulary


class WarmStartError(ValueError):
    """There is nothing to start from, or it does not fit the recipe."""


def vocabulary_of(folder: Path) -> Vocabulary:
    """Raises WarmStartError where the folder is neither a run that was trained nor a bundle, BundleError where it is damaged."""
    if (folder / DESCRIPTION).exists():
        return Vocabulary.from_json(open_bundle(folder).content[TOKENIZER].decode())
    if not ((folder / TOKENIZER).exists() and (folder / "best.pt").exists()):
        raise WarmStartError(f"start_from is {str(folder)!r}, which is neither a bundle nor the folder of a finished run: that "
                             f"should have {TOKENIZER} and best.pt")
    return Vocabulary.from_file(folder / TOKENIZER)


def weights_of(folder: Path) -> dict[str, Tensor]:
    """By the names that they have in `lm.network.Network`."""
    if not (folder / DESCRIPTION).exists():
        return torch.load(folder / "best.pt", map_location="cpu", weights_only=True)["network"]
    return torchscript.weights(torchscript.load(open_bundle(folder).content[MODEL]))


@torch.no_grad()
def take_weights(network: Network, weights: dict[str, Tensor], where: Path) -> None:
    """Give the network these weights. Raises WarmStartError where its architecture is another one, and not just wider."""
    own = network.state_dict()
    try:
        wider = {name: _wider(name, old, own[name]) for name, old in weights.items() if name in own}
        network.load_state_dict({**weights, **wider})
    except RuntimeError:
        shape = ", ".join(f"{name} {value}" for name, value in _architecture(where).items())
        raise WarmStartError(f"start_from: the network in {where} has another architecture than the recipe's: {shape}. All but "
                             "hidden_size must be the same, and that may only be larger, with a projection_size") from None


@torch.no_grad()
def change_vocabulary(weights: dict[str, Tensor], old: Vocabulary, new: Vocabulary, counts: Tensor) -> dict[str, Tensor]:
    """The weights of a network with the vocabulary `old` as those of one with the vocabulary `new`.

    counts: (len(new),) occurrences of each new id in the training text. Source of the method: a class of words is split
    into its words as in class-based language models (Brown et al. 1992): P(word | context) = P(<unk> | context) P(word | <unk>).
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


def _architecture(folder: Path) -> dict:
    if (folder / DESCRIPTION).exists():
        return open_bundle(folder).metadata["architecture"]
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    return {field.name: recipe[field.name] for field in fields(Architecture) if field.name in recipe}


def _wider(name: str, old: Tensor, new: Tensor) -> Tensor:
    """The old weights, and beside them those of the new cells, in a tensor of the new shape where that can be."""
    kind = name.rpartition(".")[2]
    if old.shape == new.shape or "recurrent." not in name:
        return old
    if kind == "weight_hr_l0":  # (output, cells)
        if len(old) != len(new) or old.shape[1] > new.shape[1]:
            return old
        return torch.cat([old, old.new_zeros(len(old), new.shape[1] - old.shape[1])], 1)
    if len(old) > len(new) or old.shape[1:] != new.shape[1:]:
        return old
    gates = new.clone().unflatten(0, (4, -1))  # four gates, one below the other, each of all cells
    gates[:, : len(old) // 4] = old.unflatten(0, (4, -1))
    return gates.flatten(0, 1)
