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
from itertools import product, repeat
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nextword.lm.command import Parser, Run, positive
from nextword.lm.network import Network
from nextword.training import equal_size
from nextword.training.atomic_files import write_json
from nextword.training.equal_size import equal_width, parameters
from nextword.training.examples import improve
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
RISING = "rnn-rising"  # trained on short distances first
TRAININGS = {**equal_size.MODELS, RISING: "RNN, from short to long"}


def sequences(distance: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (time, batch) and the symbols to recall (batch,); the place of the mark is random."""
    before = int(torch.randint(BEFORE + 1, (), generator=generator))
    symbols = torch.randint(SYMBOLS, (before + 1 + distance, batch), generator=generator)
    mark, question = (torch.full((1, batch), token) for token in (MARK, QUESTION))
    return torch.cat([symbols[:before], mark, symbols[before:], question]), symbols[before]


def build(training: str) -> Network | Transformer:
    """The network of one of TRAININGS."""
    name = "rnn" if training == RISING else training
    return equal_size.build(name, QUESTION + 1, WIDTH, equal_width(name, QUESTION + 1, WIDTH, HIDDEN))


def logits(network: Network | Transformer, tokens: Tensor) -> Tensor:
    """The logits of each symbol at the last token, (batch, SYMBOLS)."""
    outputs, _ = network(tokens, network.initial_state(tokens.shape[1]))
    return network.logits(outputs[-1])[:, :SYMBOLS]


@torch.inference_mode()
def recall(network: Network | Transformer, distance: int, seed: int) -> float:
    """The share of recalled symbols in 500 sequences drawn with a seed."""
    network.eval()
    tokens, symbols = sequences(distance, 500, torch.Generator().manual_seed(seed))
    return float((logits(network, tokens).argmax(1) == symbols).float().mean())


def trained_recall(training: str, seed: int, steps: int, distances: Sequence[int] = DISTANCES) -> list[float]:
    """The test recall over each distance after one of TRAININGS, with the better of two learning rates.

    Training distances are log-uniform from 1 to the longest one, or to the first, then to the second and so on. Each
    training ends after `steps` steps, or when the recall over its longest distance exceeds LEARNED.
    """
    torch.set_num_threads(1)  # more threads make products of this size slower
    results = []
    for rate in RATES:
        torch.manual_seed(seed)
        network, generator = build(training), torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(network.parameters(), rate)
        for longest in distances if training == RISING else distances[-1:]:
            for step in range(steps):
                if step % 50 == 0 and recall(network, longest, VALIDATION) > LEARNED:
                    break
                network.train()
                distance = round(longest ** float(torch.rand((), generator=generator)))
                tokens, symbols = sequences(distance, BATCH, generator)
                improve(network, optimizer, cross_entropy(logits(network, tokens), symbols))
        results.append([[recall(network, distance, sample) for distance in distances] for sample in (VALIDATION, TEST)])
    return max(results, key=lambda shares: sum(shares[0]))[1]


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
    recalls: dict[str, list[list[float]]] = {name: [] for name in arguments.training or TRAININGS}
    trainings = list(product(recalls, range(arguments.seeds)))
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
        each = map if arguments.processes == 1 else pool.map
        for (name, seed), shares in zip(trainings, each(trained_recall, *zip(*trainings), repeat(arguments.steps))):
            recalls[name].append(shares)
            line = "  ".join(f"{distance}: {share:.0%}" for distance, share in zip(DISTANCES, shares))
            print(f"{TRAININGS[name]}, seed {seed}: {line}", file=sys.stderr)
    print(f"{'':24}{'parameters':>10}" + "".join(f"{distance:>7}" for distance in DISTANCES))
    curves, bands = {}, {}
    for name, rows in recalls.items():
        by_distance = list(zip(*rows))
        curves[TRAININGS[name]] = DISTANCES, [*map(mean, by_distance)]
        bands[TRAININGS[name]] = [*map(min, by_distance)], [*map(max, by_distance)]
        print(f"{TRAININGS[name]:24}{parameters(build(name)):10,}" + "".join(
            f"{mean(column):7.0%}" for column in by_distance))
    curves["chance"] = DISTANCES, [1 / SYMBOLS] * len(DISTANCES)
    write_json(arguments.out / "recall.json", recalls)
    print(draw(arguments.out / "recall.png", curves, x="steps of noise between the marked symbol and the question",
               y=f"share of {SYMBOLS} symbols recalled", percent=True, x_ticks=DISTANCES, bands=bands,
               dashed=["chance", TRAININGS[RISING]],
               title=f"Recall by distance: equal networks, mean and range of {arguments.seeds} seeds"))
    return 0
