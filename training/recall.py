"""Memory alone: a network must recall one marked symbol of a noisy sequence: `nextword recall`.

    noise … noise  mark  symbol  noise … noise  question  →  symbol        distance: steps of noise after it, 5 to 200

The noise consists of the same symbols, so a network must keep the marked symbol and ignore the others. An RNN, a GRU,
an LSTM and a Transformer of equal size are trained in the same way on distances from 1 to 200, with several seeds.
Their recall shows which of them learns to carry one fact; in running text, this is hard to see. The RNN is trained a
second time, on short distances first. Then it carries the symbol too: its vanishing gradient prevents learning from a
distance, not remembering. (After the long-lag tasks of Hochreiter & Schmidhuber 1997; short distances first: curriculum
learning, Bengio et al. 2009.)
"""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nextword.lm.command import Parser, Run, positive
from nextword.lm.network import Network
from nextword.training import equal_size
from nextword.training.equal_size import equal_width, parameters
from nextword.training.files import write_json
from nextword.training.plots import draw
from nextword.training.transformer import Transformer

DISTANCES = (5, 10, 20, 50, 100, 200)
SYMBOLS, BEFORE = 8, 10  # symbols to carry; most steps of noise before the mark
MARK, QUESTION = SYMBOLS, SYMBOLS + 1
WIDTH, HIDDEN = 16, 32  # widths of the LSTM; the others' widths give the same number of parameters
BATCH = 64
RATES = (1e-3, 4e-3)  # learning rates of Adam; the better one on validation sequences counts
LEARNED = 0.99  # recall at which training ends
VALIDATION, TEST = 10_001, 10_002  # seeds
RISING = "-rising"  # trained on short distances first
TRAININGS = {**equal_size.MODELS, "rnn-rising": "RNN, from short to long"}


def sequences(distance: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (time, batch) and the symbols to recall (batch,); the place of the mark is random."""
    before = int(torch.randint(BEFORE + 1, (), generator=generator))
    symbols = torch.randint(SYMBOLS, (before + 1 + distance, batch), generator=generator)
    mark, question = (torch.full((1, batch), token) for token in (MARK, QUESTION))
    return torch.cat([symbols[:before], mark, symbols[before:], question]), symbols[before]


def build(training: str) -> Network | Transformer:
    """The network of one of TRAININGS."""
    name = training.removesuffix(RISING)
    return equal_size.build(name, QUESTION + 1, WIDTH, equal_width(name, QUESTION + 1, WIDTH, HIDDEN))


def logits(network: Network | Transformer, tokens: Tensor) -> Tensor:
    """The logits of each symbol at the last token, (batch, SYMBOLS)."""
    outputs, _ = network(tokens, network.initial_state(tokens.shape[1]))
    return network.logits(outputs[-1])[:, :SYMBOLS]


def train(network: Network | Transformer, optimizer: torch.optim.Optimizer, longest: int, steps: int,
          generator: torch.Generator) -> None:
    """Train in place on distances drawn log-uniformly from 1 to `longest`, for at most `steps` steps.

    Training ends when the recall over the longest distance exceeds LEARNED.
    """
    for step in range(steps):
        if step % 50 == 0 and recall(network, longest, VALIDATION) > LEARNED:
            break
        network.train()
        distance = round(longest ** float(torch.rand((), generator=generator)))
        tokens, symbols = sequences(distance, BATCH, generator)
        loss = cross_entropy(logits(network, tokens), symbols)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()


@torch.inference_mode()
def recall(network: Network | Transformer, distance: int, seed: int, batch: int = 500) -> float:
    """The share of recalled symbols in sequences drawn with a seed."""
    network.eval()
    tokens, symbols = sequences(distance, batch, torch.Generator().manual_seed(seed))
    return float((logits(network, tokens).argmax(1) == symbols).float().mean())


def trained_recall(training: str, seed: int, steps: int, distances: Sequence[int]) -> list[float]:
    """The test recall over each distance after one of TRAININGS, with the better of two learning rates."""
    torch.set_num_threads(1)  # more threads make products of this size slower
    results = []
    for rate in RATES:
        torch.manual_seed(seed)
        network = build(training)
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(network.parameters(), rate)
        for longest in distances if training.endswith(RISING) else [max(distances)]:
            train(network, optimizer, longest, steps, generator)
        results.append([[recall(network, distance, sample) for distance in distances]
                        for sample in (VALIDATION, TEST)])
    return max(results, key=lambda shares: sum(shares[0]))[1]


def compare(names: Sequence[str], seeds: int, steps: int, distances: Sequence[int] = DISTANCES, processes: int = 1
            ) -> dict[str, list[list[float]]]:
    """Recall by network, seed and distance. Several processes share the trainings."""
    recalls: dict[str, list[list[float]]] = {name: [] for name in names}
    trainings = [(name, seed) for name in names for seed in range(seeds)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        results = (map if processes == 1 else pool.map)(
            trained_recall, *zip(*trainings), repeat(steps), repeat(distances))
        for (name, seed), shares in zip(trainings, results):
            recalls[name].append(shares)
            line = "  ".join(f"{distance}: {share:.0%}" for distance, share in zip(distances, shares))
            print(f"{TRAININGS[name]}, seed {seed}: {line}", file=sys.stderr)
    return recalls


def command(parser: Parser) -> Run:
    parser.formatter_class, parser.description = argparse.RawDescriptionHelpFormatter, __doc__
    parser.add_argument("--training", action="append", choices=list(TRAININGS), help="may be repeated (default: all)")
    parser.add_argument("--seeds", type=positive, default=3, help="repetitions of each training (default: 3)")
    parser.add_argument("--steps", type=positive, default=1500,
                        help="the most steps; from short to long, the most for each distance (default: 1,500)")
    parser.add_argument("--processes", type=positive, default=os.cpu_count() or 1,
                        help="default: one for each processor core")
    parser.add_argument("--out", type=Path, default=Path("runs/recall"),
                        help="the plot's folder (default: runs/recall)")
    return run


def run(arguments: argparse.Namespace) -> int:
    trainings = arguments.training or list(TRAININGS)
    recalls = compare(trainings, arguments.seeds, arguments.steps, processes=arguments.processes)
    names = [TRAININGS[training] for training in recalls]
    columns = [list(zip(*shares)) for shares in recalls.values()]  # for each training, the seeds' shares by distance
    means = [[mean(column) for column in by_distance] for by_distance in columns]
    print(f"{'':24}{'parameters':>10}" + "".join(f"{distance:>7}" for distance in DISTANCES))
    for training, name, shares in zip(recalls, names, means):
        size = parameters(build(training))
        print(f"{name:24}{size:10,}" + "".join(f"{share:7.0%}" for share in shares))
    out = arguments.out
    write_json(out / "recall.json", recalls)
    curves = {name: (DISTANCES, shares) for name, shares in zip(names, means)}
    curves["chance"] = (DISTANCES, [1 / SYMBOLS] * len(DISTANCES))
    bands = {name: ([*map(min, by_distance)], [*map(max, by_distance)]) for name, by_distance in zip(names, columns)}
    print(draw(out / "recall.png", curves, x="steps of noise between the marked symbol and the question",
               y=f"share of {SYMBOLS} symbols recalled", percent=True, x_ticks=DISTANCES, bands=bands,
               dashed=["chance", TRAININGS["rnn" + RISING]],
               title=f"Recall by distance: equal networks, mean and range of {arguments.seeds} seeds"))
    return 0
