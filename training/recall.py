"""Memory on its own: a symbol is shown, noise follows, and the symbol is asked for: `nextword recall`.

    symbol  noise noise … noise  question  →  symbol          distance: steps of noise, 5 to 200

An RNN, a GRU, an LSTM and a Transformer with as many parameters are trained alike on random distances, several times from
different seeds. Their recall by distance shows what running text hides: how far each of them carries one fact. (After the
long-lag tasks of Hochreiter & Schmidhuber 1997.)
"""
from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from nextword.lm.architecture import Architecture
from nextword.lm.command import Parser, Run
from nextword.training.plots import draw
from nextword.training.regularisation import RegularisedNetwork
from nextword.training.tokens import write_atomically
from nextword.training.transformer import Shape, Transformer

DISTANCES = (5, 10, 20, 50, 100, 200)
SYMBOLS, NOISE = 8, 8  # symbols to carry, and others that are noise; one more token is the question
QUESTION = SYMBOLS + NOISE
WIDTH, HIDDEN = 16, 32  # of the LSTM; the others' widths give as many parameters
BATCH = 64
NAMES = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM", "transformer": "Transformer"}


def sequences(distance: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (distance + 2, batch) and the symbols to recall (batch,)."""
    symbols = torch.randint(SYMBOLS, (batch,), generator=generator)
    noise = torch.randint(SYMBOLS, QUESTION, (distance, batch), generator=generator)
    return torch.cat([symbols[None], noise, torch.full((1, batch), QUESTION)]), symbols


def build(name: str, hidden_size: int) -> nn.Module:
    """One of the four networks."""
    if name == "transformer":
        return Transformer(Shape(QUESTION + 1, WIDTH, hidden_size))
    return RegularisedNetwork(Architecture(QUESTION + 1, name, WIDTH, hidden_size))


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def equal_width(name: str) -> int:
    """The hidden size that brings a network closest to the LSTM's number of parameters."""
    wanted = count(build("lstm", HIDDEN))
    return min(range(8, 8 * HIDDEN), key=lambda width: abs(count(build(name, width)) - wanted))


def logits(network: nn.Module, tokens: Tensor) -> Tensor:
    """(batch, SYMBOLS): of each symbol at the last token."""
    outputs, _ = network(tokens, network.initial_state(tokens.shape[1]))
    return network.logits(outputs[-1])[:, :SYMBOLS]


def train(network: nn.Module, steps: int, longest: int, learning_rate: float, seed: int) -> None:
    """Train in place: the distance of each batch is drawn log-uniformly from 1 to a limit, which grows with the steps of
    the first half from 5 to `longest`, so that each network first learns the task where it is easy."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    network.train()
    for step in range(steps):
        limit = min(longest, 5 * (longest / 5) ** (2 * step / steps))
        distance = round(math.exp(math.log(limit) * float(torch.rand((), generator=generator))))
        tokens, symbols = sequences(distance, BATCH, generator)
        loss = cross_entropy(logits(network, tokens), symbols)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@torch.inference_mode()
def recall(network: nn.Module, distance: int, batch: int = 500) -> float:
    """The share of symbols that are recalled, in new sequences."""
    network.eval()
    tokens, symbols = sequences(distance, batch, torch.Generator().manual_seed(10_000 + distance))
    return float((logits(network, tokens).argmax(1) == symbols).float().mean())


def compare(names: Sequence[str], distances: Sequence[int], seeds: int, steps: int, learning_rate: float
            ) -> dict[str, list[list[float]]]:
    """Recall by network, seed and distance."""
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    runs = [(name, seed) for name in names for seed in range(seeds)]
    for name, seed in tqdm(runs, unit="training", file=sys.stderr, disable=not sys.stderr.isatty()):
        torch.manual_seed(seed)
        network = build(name, equal_width(name))
        train(network, steps, max(distances), learning_rate, seed)
        found[name].append([recall(network, distance) for distance in distances])
        print(f"{NAMES[name]}, seed {seed}: " + "  ".join(
            f"{distance}: {share:.0%}" for distance, share in zip(distances, found[name][-1])), file=sys.stderr)
    return found


def command(parser: Parser) -> Run:
    parser.formatter_class, parser.description = argparse.RawDescriptionHelpFormatter, __doc__
    parser.add_argument("--model", action="append", choices=list(NAMES), help="may be repeated (default: all four)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network (default: 3)")
    parser.add_argument("--steps", type=int, default=1000, help="of a training (default: 1,000)")
    parser.add_argument("--learning-rate", type=float, default=5e-3, help="Adam's, at its peak (default: 0.005)")
    parser.add_argument("--out", type=Path, default=Path("runs/recall"), help="the plot's folder (default: runs/recall)")
    return run


def run(arguments: argparse.Namespace) -> int:
    for name in ("seeds", "steps"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name} is {getattr(arguments, name)}; it must be at least 1")
    torch.set_num_threads(1)  # more threads make products of this size slower
    found = compare(arguments.model or list(NAMES), DISTANCES, arguments.seeds, arguments.steps, arguments.learning_rate)
    print(f"{'':12}{'parameters':>11}" + "".join(f"{distance:>7}" for distance in DISTANCES))
    curves, bands = {}, {}
    for name, shares in found.items():
        by_distance = list(zip(*shares))
        means = [mean(column) for column in by_distance]
        curves[NAMES[name]] = (DISTANCES, means)
        bands[NAMES[name]] = ([min(column) for column in by_distance], [max(column) for column in by_distance])
        print(f"{NAMES[name]:12}{count(build(name, equal_width(name))):11,}" + "".join(f"{share:7.0%}" for share in means))
    curves["chance"] = (DISTANCES, [1 / SYMBOLS] * len(DISTANCES))
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out / "recall.json", json.dumps(found).encode())
    print(draw(arguments.out / "recall.png", curves, x="steps of noise between the symbol and the question",
               y=f"share of {SYMBOLS} symbols recalled", percent=True, x_ticks=DISTANCES, bands=bands, dashed=["chance"],
               title=f"Recall by distance, networks of {count(build('lstm', HIDDEN)):,} parameters "
                     f"(mean and range of {arguments.seeds} seeds)"))
    return 0
