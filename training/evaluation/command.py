"""`nextword evaluate`: a model's figures on a corpus, as a table or as JSON."""
from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch

from nextword.lm import malloc
from nextword.lm.command import positive
from nextword.lm.model import load
from nextword.training.corpora import load_corpus
from nextword.training.evaluation.adapted_run import AdaptedRun
from nextword.training.evaluation.excerpts import excerpts, halves
from nextword.training.evaluation.figures import SAMPLE, evaluate, perplexity, profile_of_text
from nextword.training.evaluation.ngram import NGram
from nextword.training.evaluation.person_tuning import MOST_POSITIONS, tune_person


def command(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    parser.description = ("Perplexity, accuracy and keystroke savings of a bundle on a corpus. "
                          "Progress is shown on stderr.")
    parser.add_argument("--bundle", help="a bundle's folder (default: the English model that comes with Nextword)")
    parser.add_argument("--run", type=Path, dest="folder", help=(
        "instead of a bundle: a run's folder, whose 32-bit weights are measured, with a cache tuned on validation "
        "text"))
    parser.add_argument("--corpus", required=True, help="a corpus, as in training: a name, a hub id, a folder, a file")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="default: test")
    parser.add_argument("--tokens", type=positive, help=(
        "approximate number of tokens, from random documents of the split (default: all tokens)"))
    parser.add_argument("--sample", type=int, default=SAMPLE, help=(
        f"positions at which accuracy and savings are measured; 0: only perplexity (default: {SAMPLE:,})"))
    parser.add_argument("--cache", action=argparse.BooleanOptionalAction, default=True, help=(
        "measure with the continuous cache too (default)"))
    parser.add_argument("--slips", action=argparse.BooleanOptionalAction, default=True, help=(
        "measure how slips of the finger are corrected too, at the positions of the sample (default)"))
    parser.add_argument("--history", action="store_true", help=(
        "measure the second half of each text, also with its first half as the writer's history"))
    parser.add_argument("--tune-person", action="store_true", help=(
        "with --history: choose the settings of the model of a person on these texts, and print them"))
    parser.add_argument("--dynamic", action="store_true", help=(
        "measure dynamic evaluation too (needs --run): the weights learn from the text while it is read"))
    parser.add_argument("--tune", action="store_true", help=(
        "choose the settings of cache and dynamic evaluation again, on validation text; the run's folder keeps them"))
    parser.add_argument("--tune-tokens", type=positive, default=20_000, help="default: 20000")
    parser.add_argument("--ngram", type=Path, help="a KenLM model to compare with (see training/evaluation/ngram.py)")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def run(arguments: argparse.Namespace) -> None:
        if arguments.folder and arguments.bundle:
            parser.error("--run and --bundle exclude each other")
        if arguments.dynamic and not arguments.folder:
            parser.error("--dynamic needs --run: a bundle's weights do not learn")
        if arguments.tune_person and not arguments.history:
            parser.error("--tune-person needs --history: the first half of each text is the writer's")
        malloc.keep_freed()  # else a third of the time goes to getting the same memory again and again
        adapted = AdaptedRun(arguments.folder) if arguments.folder else None
        model = adapted.model if adapted else load(arguments.bundle)
        corpus = load_corpus(arguments.corpus, pretokenized=model.vocabulary.pretokenized)
        texts = excerpts(corpus, arguments.split, model.vocabulary, arguments.tokens)
        if adapted:
            adapted.tune(corpus, arguments.tune_tokens, arguments.dynamic, anew=arguments.tune)
        histories = None
        if arguments.history:
            pairs = [pair for pair in map(halves, texts) if pair]
            histories, texts = [first for first, _ in pairs], [second for _, second in pairs]
        figures = evaluate(model, texts, arguments.sample, arguments.cache, histories,
                           slips=arguments.slips and arguments.sample > 0)
        result = {"model": model.name, "corpus": corpus.name, "split": arguments.split, **figures}
        if histories and arguments.tune_person:
            writers = [profile_of_text(model, text) for text in histories]
            result["person"] = tune_person(model, texts, writers, min(arguments.sample, MOST_POSITIONS))
        if adapted and arguments.dynamic:
            dynamic = adapted.dynamic_log_probs(texts, arguments.cache)
            result |= {way: perplexity(log_probs) for way, log_probs in dynamic.items()}
        if arguments.ngram:
            ngram = NGram(arguments.ngram)
            result["ngram"] = perplexity([torch.from_numpy(ngram.log_probs(text.ids[1:].numpy())) for text in texts])
        print(json.dumps(result, indent=1) if arguments.json else _readable(result))

    return run


COLUMNS = ("perplexity", "top1", "top3", "top5", "word_top1", "word_top3", "word_top5", "keystroke_savings")


def _readable(result: dict) -> str:
    """The figures as a table: a line for each method, ± standard error."""
    title = (f"{result['model']} on {result['corpus']}, {result['split']}: {result['tokens']:,} tokens, "
             f"{result['oov_rate']:.2%} outside the vocabulary; accuracy and savings at {result['sample']:,} positions")
    header = ("", "perplexity", "top-1", "top-3", "top-5", "word top-1", "word top-3", "word top-5", "savings")
    lines = [title, "", "".join(f"{name:>16}" for name in header) + "     words"]
    ways = {"network": result, **{way: result[way] for way in ("cache", "history", "dynamic", "dynamic_cache", "ngram")
                                  if way in result}}
    rows = [(way.replace("_", " + "), figures) for way, figures in ways.items()]
    for group, name in (("long", "after 500"), ("unknown", "unknown")):
        rows += [(f"{name}, {way}", figures[group]) for way, figures in ways.items()
                 if figures.get(group, {}).get("words")]
    for name, figures in rows:
        cells = [_cell(figures, column) for column in COLUMNS]
        lines.append(f"{name:>16}" + "".join(f"{cell:>16}" for cell in cells) + f"{figures.get('words', ''):>10}")
    if "person" in result:
        lines += ["", "person: " + json.dumps(result["person"])]
    if "slips" in result:
        lines += ["", *_readable_slips(result["slips"])]
    lines += ["", *(f"{key.removesuffix('_definition').replace('_', ' ')}: {text}." for key, text in result.items()
                    if key.endswith("_definition"))]
    return "\n".join(lines)


def _readable_slips(figures: dict) -> list[str]:
    """The figures for slips: a line for each source of slips, and one for typing."""
    rows = {f"slips, {name}": row for name, row in figures.items() if isinstance(row, dict)}
    rows["typing"] = {name: value for name, value in figures.items() if isinstance(value, float)}
    return [f"{name:>16}   " + "   ".join(f"{figure.replace('_', ' ')} {value:.1%}" for figure, value in row.items())
            for name, row in rows.items()] + [f"slips: {figures['definition']}."]


def _cell(figures: dict, column: str) -> str:
    if column not in figures:
        return ""
    value, error = figures[column], figures[f"{column}_error"]
    return f"{value:.2f} ± {error:.2f}" if column == "perplexity" else f"{value:.1%} ± {100 * error:.1f}"
