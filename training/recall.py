"""Memory on its own: one symbol of a noisy sequence is marked and asked for later: `nextword recall`.

    noise … noise  mark  symbol  noise … noise  question  →  symbol        distance: steps of noise behind it, 5 to 200

The noise consists of the same symbols, so a network has to let the marked one in and keep the others out. An RNN, a GRU,
an LSTM and a Transformer with as many parameters are trained alike, several times from different seeds. Their recall by
distance shows what running text hides: how far each of them carries one fact. (After the long-lag tasks of Hochreiter &
Schmidhuber 1997.)
"""
from __future__ import annotations

import argparse
import json
import math
import os
import sys
from bisect import bisect
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nextword.lm.architecture import Architecture
from nextword.lm.command import Parser, Run
from nextword.training.plots import draw
from nextword.training.regularisation import RegularisedNetwork
from nextword.training.tokens import write_atomically
from nextword.training.transformer import Shape, Transformer

DISTANCES = (5, 10, 20, 50, 100, 200)
SYMBOLS, BEFORE = 8, 10  # symbols to carry; noise before the mark, at most
MARK, QUESTION = SYMBOLS, SYMBOLS + 1
WIDTH, HIDDEN = 16, 32  # of the LSTM; the others' widths give as many parameters
BATCH = 64
RATES = (1e-3, 4e-3)  # Adam's, at its peak; the better on validation sequences is kept
VALIDATION, TEST = 10_001, 10_002  # seeds
NAMES = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM", "transformer": "Transformer"}


def sequences(distance: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (time, batch) and the symbols to recall (batch,); the mark's place is drawn at random."""
    before = int(torch.randint(BEFORE + 1, (), generator=generator))
    symbols = torch.randint(SYMBOLS, (before + 1 + distance, batch), generator=generator)
    mark, question = (torch.full((1, batch), token) for token in (MARK, QUESTION))
    return torch.cat([symbols[:before], mark, symbols[before:], question]), symbols[before]


def build(name: str, hidden_size: int) -> nn.Module:
    """One of the four networks."""
    if name == "transformer":
        return Transformer(Shape(QUESTION + 1, WIDTH, hidden_size))
    return RegularisedNetwork(Architecture(QUESTION + 1, name, WIDTH, hidden_size))


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def equal_width(name: str) -> int:
    """The hidden size that brings a network closest to the LSTM's number of parameters."""
    wanted, widths = count(build("lstm", HIDDEN)), range(8, 8 * HIDDEN)
    first = bisect(widths, wanted, key=lambda width: count(build(name, width)))
    return min(widths[first - 1 : first + 1], key=lambda width: abs(count(build(name, width)) - wanted))


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
def recall(network: nn.Module, distance: int, seed: int, batch: int = 500) -> float:
    """The share of symbols that are recalled, in sequences drawn with a seed."""
    network.eval()
    tokens, symbols = sequences(distance, batch, torch.Generator().manual_seed(seed))
    return float((logits(network, tokens).argmax(1) == symbols).float().mean())


def trained_recall(name: str, seed: int, steps: int, distances: Sequence[int]) -> list[float]:
    """Train one network with each learning rate; the recall by distance of the better one."""
    torch.set_num_threads(1)  # more threads make products of this size slower
    networks = []
    for rate in RATES:
        torch.manual_seed(seed)
        network = build(name, equal_width(name))
        train(network, steps, max(distances), rate, seed)
        networks.append((mean(recall(network, distance, VALIDATION) for distance in distances), network))
    best = max(networks, key=lambda pair: pair[0])[1]
    return [recall(best, distance, TEST) for distance in distances]


def compare(names: Sequence[str], seeds: int, steps: int, distances: Sequence[int] = DISTANCES, processes: int = 1
            ) -> dict[str, list[list[float]]]:
    """Recall by network, seed and distance; the trainings are shared among processes."""
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    trainings = [(name, seed) for name in names for seed in range(seeds)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        results = (map if processes == 1 else pool.map)(
            trained_recall, *zip(*trainings), repeat(steps), repeat(distances))
        for (name, seed), recalled in zip(trainings, results):
            found[name].append(recalled)
            shares = "  ".join(f"{distance}: {share:.0%}" for distance, share in zip(distances, recalled))
            print(f"{NAMES[name]}, seed {seed}: {shares}", file=sys.stderr)
    return found


def command(parser: Parser) -> Run:
    parser.formatter_class, parser.description = argparse.RawDescriptionHelpFormatter, __doc__
    parser.add_argument("--model", action="append", choices=list(NAMES), help="may be repeated (default: all four)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network (default: 3)")
    parser.add_argument("--steps", type=int, default=1000, help="of a training (default: 1,000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one a processor core")
    parser.add_argument("--out", type=Path, default=Path("runs/recall"), help="the plot's folder (default: runs/recall)")
    return run


def run(arguments: argparse.Namespace) -> int:
    for name in ("seeds", "steps", "processes"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name} is {getattr(arguments, name)}; it must be at least 1")
    found = compare(arguments.model or list(NAMES), arguments.seeds, arguments.steps, processes=arguments.processes)
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
    print(draw(arguments.out / "recall.png", curves, x="steps of noise between the marked symbol and the question",
               y=f"share of {SYMBOLS} symbols recalled", percent=True, x_ticks=DISTANCES, bands=bands, dashed=["chance"],
               title=f"Recall by distance, networks of {count(build('lstm', HIDDEN)):,} parameters "
                     f"(mean and range of {arguments.seeds} seeds)"))
    return 0
