"""`python -m tests.benchmarks.training`: the speed of training beside that of a straightforward loop.

Both train the same network on the same windows of the same text, from the same first weights (the engine's: output
biases at the words' frequencies) with the same learning rates, in turns, each in a process of its own. Tokens/s are
medians over the rounds. Perplexities are exact, on validation text that neither was trained on, after all rounds. The
vocabulary is filled up to 32,000 words where the corpus has fewer.

    python -m tests.benchmarks.training                       # python-docs; under 12 minutes on two cores
    python -m tests.benchmarks.training --quick               # one or two minutes, for a first look
    python -m tests.benchmarks.training --corpus my-texts/ --steps 500 --json bench.json
    python -m tests.benchmarks.training --memory 5 1000       # memory for texts of 5 and 1,000 MB
    python -m tests.benchmarks.training --quality --corpus my-texts/ --first-tokens 2000000 --steps 4200 --threads 1
                                                              # minutes to a perplexity; takes hours
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nextword.training.corpora import CorpusError, load_corpus
from nextword.training.recipe import Recipe
from tests.benchmarks.machine import describe, in_words
from tests.benchmarks.training import memory, quality
from tests.benchmarks.training.rivals import Job, Size, started

SIZES = [
    Size("small: 1x512, embedding 256", {"hidden_size": 512, "learning_rate": 4e-3}),
    Size("bundled: 1x2048, projection 256, embedding 256", {"hidden_size": 2048, "projection_size": 256}),
    Size("large: 3x1150, embedding 400", {"hidden_size": 1150, "embedding_size": 400, "layers": 3}),
]
# Recipes for longer trainings take more samples.
COMMON: dict[str, Any] = {
    "vocabulary_size": 32_000,
    "affixes": False,  # the straightforward loop has none
    "dropout": 0.0,
    "batch_size": 64,
    "bptt": 35,
    "samples": 1024,
    "forget": 0.0,
    "warmup": 0.1,
    "final_rate": 0.1,
    "learning_rate": 2e-3,
    "evaluation_tokens": 10_000,
}
STEPS = {"small": 60, "bundled": 60, "large": 20}
ROUNDS = 5


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    chosen = _options(given)
    command = shlex.join(["python", "-m", "tests.benchmarks.training", *given])
    try:
        load_corpus(chosen.corpus)  # read once, or refused, before anything is timed
        if chosen.memory:
            print(memory.markdown(memory.measure(chosen.corpus, chosen.memory, _recipe(SIZES[0], chosen))))
            return 0
        if chosen.quality:
            recipe = _recipe(next(size for size in SIZES if size.name.startswith(chosen.sizes[-1])), chosen)
            steps = chosen.steps or STEPS[chosen.sizes[-1]]
            rows = quality.measure(recipe, steps, chosen.first_tokens, _say)
            print("\n\n".join([f"`{command}`", in_words(describe("torch")), quality.markdown(rows)]))
            if chosen.json:
                chosen.json.write_text(json.dumps({"command": command, "quality": rows}, indent=1) + "\n")
            return 0
        rows = [_compared(size, chosen) for size in SIZES if size.name.partition(":")[0] in chosen.sizes]
    except CorpusError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    machine = describe("torch") | {"threads": str(chosen.threads or torch.get_num_threads())}
    print(markdown(command, machine, rows))
    if chosen.json:
        chosen.json.write_text(json.dumps({"command": command, "machine": machine, "sizes": rows}, indent=1) + "\n")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [size.name.partition(":")[0] for size in SIZES]
    parser.add_argument("--corpus", default="python-docs", help="as in training (default: python-docs)")
    parser.add_argument("--sizes", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument(
        "--steps", type=int, help=f"of {COMMON['batch_size'] * COMMON['bptt']:,} tokens (default: {STEPS})"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"the steps are done in (default: {ROUNDS})")
    parser.add_argument("--samples", type=int, help=f"words in the engine's normaliser (default: {COMMON['samples']})")
    parser.add_argument("--learning-rate", type=float, help="of both, for all sizes")
    parser.add_argument("--threads", type=int, default=0, help="of each (default: as torch decides)")
    parser.add_argument("--quick", action="store_true", help="4 steps in 2 rounds, the large network left out")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument(
        "--memory", type=int, nargs="+", metavar="MB", help="instead: measure memory, for texts so large"
    )
    parser.add_argument(
        "--quality", action="store_true", help="instead: minutes to the same perplexity, of one size (default: bundled)"
    )
    parser.add_argument(
        "--first-tokens", type=int, default=0, help="train on so many tokens from the corpus's beginning (default: all)"
    )
    chosen = parser.parse_args(arguments)
    if chosen.quality and len(chosen.sizes) > 1:
        chosen.sizes = ["bundled"]
    if chosen.memory and sys.platform != "linux":
        parser.error("--memory needs Linux, whose /proc says what a process holds")
    if chosen.quick:
        chosen.steps, chosen.rounds = chosen.steps or 4, min(chosen.rounds, 2)
        chosen.sizes = [name for name in chosen.sizes if name != "large"] or chosen.sizes
    if chosen.rounds < 1 or (chosen.steps is not None and chosen.steps < chosen.rounds):
        parser.error("there must be a round or more, and as many steps")
    return chosen


def _recipe(size: Size, chosen: argparse.Namespace) -> Recipe:
    given = {"samples": chosen.samples, "learning_rate": chosen.learning_rate}
    return Recipe(
        corpus=chosen.corpus,
        threads=chosen.threads,
        shuffle_block=1000,
        **{**COMMON, **size.settings, **{key: value for key, value in given.items() if value is not None}},
    )


def _compared(size: Size, chosen: argparse.Namespace) -> dict:
    recipe = _recipe(size, chosen)
    rounds = chosen.rounds
    steps = (chosen.steps or STEPS[size.name.partition(":")[0]]) // rounds * rounds
    job = Job(recipe, steps, recipe.evaluation_tokens, chosen.first_tokens)
    tokens = steps // rounds * recipe.batch_size * recipe.bptt
    speeds: dict[str, list[float]] = {"straightforward": [], "engine": []}
    with contextlib.ExitStack() as stack:
        rivals = {name: stack.enter_context(started(name, job)) for name in speeds}
        for number in range(1, rounds + 1):
            for name, ask in rivals.items():
                speeds[name].append(tokens / ask("train", steps // rounds))
                _say(f"{size.name}: round {number} of {rounds}: {name} {speeds[name][-1]:,.0f} tokens/s")
        ends = {name: ask("finish") for name, ask in rivals.items()}
    middle = {name: median(values) for name, values in speeds.items()}
    loss = ends["engine"]["perplexity"] / ends["straightforward"]["perplexity"] - 1
    return {
        "size": size.name,
        "recipe": recipe.to_dict(),
        "tokens": tokens * rounds,
        "rounds": speeds,
        "tokens_per_second": middle,
        "ratio": middle["engine"] / middle["straightforward"],
        "perplexity": {name: end["perplexity"] for name, end in ends.items()},
        "perplexity_lost": loss,
        "memory": {name: end["memory"] for name, end in ends.items()},
    }


def markdown(command: str, machine: dict[str, str], rows: list[dict]) -> str:
    """Return the figures as a table: the straightforward loop's first, then the engine's."""
    lines = [
        f"`{command}`",
        "",
        in_words(machine),
        "",
        "| network | tokens/s | ratio | peak memory, MB | tokens | perplexity | change |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            " | ".join(
                (
                    f"| {row['size']}",
                    _pair(row["tokens_per_second"], "{:,.0f}"),
                    f"{row['ratio']:.1f}x",
                    _pair({name: size and size / 1e6 for name, size in row["memory"].items()}, "{:,.0f}"),
                    f"{row['tokens']:,}",
                    _pair(row["perplexity"], "{:.1f}"),
                    f"{row['perplexity_lost']:+.1%} |",
                )
            )
        )
    first = rows[0]["recipe"]
    lines += [
        "",
        f"Each pair of figures is the straightforward loop's (float32, exact softmax) and the engine's "
        f"(precision {first['precision']}, {first['samples']:,} samples in the softmax's normaliser). "
        f"{first['vocabulary_size']:,} words, batch {first['batch_size']}, bptt {first['bptt']}; both with Adam from "
        "the same weights, with the same learning rates (peak "
        f"{', '.join(format(row['recipe']['learning_rate'], 'g') for row in rows)}, one tenth of it at the end).",
    ]
    return "\n".join(lines)


def _pair(values: dict[str, float | None], form: str) -> str:
    return " / ".join(
        "?" if values[name] is None else form.format(values[name]) for name in ("straightforward", "engine")
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
