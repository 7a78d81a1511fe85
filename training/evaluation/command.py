"""The command `nextword evaluate`: what a model is worth on a corpus, as a typist and as the literature count it."""
from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nextword.lm.context import CachedTokens, Context, Distribution
from nextword.lm.continuous_cache import as_keys, mixed
from nextword.lm.model import Model, load, padded
from nextword.lm.vocabulary import UNK_ID, has_letter
from nextword.training.evaluation.adapted_run import AdaptedRun
from nextword.training.evaluation.cache_tuning import mixed_log_probs, token_log_probs
from nextword.training.corpora import load_corpus
from nextword.training.evaluation.excerpts import Text, excerpts, halves
from nextword.training.evaluation.ngram import NGram

ROWS, TIME = 32, 64  # texts read side by side, tokens a call
PART = 256  # positions whose distributions are held at once
TOP = (1, 3, 5)
OFFERED = 3  # words, as one types
LONG = 500  # tokens that came before, in a long text
SAMPLE = 10_000

PERPLEXITY = (
    "exp of the mean negative natural log-probability of every token: words, punctuation marks, one <eos> after each "
    "paragraph; words outside the vocabulary count as the one token <unk>. The softmax is over the whole vocabulary. Each "
    "document is read from its start, the state carried from its first token to its last"
)
PRETOKENIZED = (
    "exp of the mean negative natural log-probability of every token, <unk> and one <eos> a line included. The softmax is "
    "over the whole vocabulary, the state is carried through the whole split"
)
CACHE = (
    "the network's distribution mixed with the continuous cache over the text's own words before; for the perplexity the "
    "words outside the vocabulary stay one token, which has the probability of <unk> and of all remembered ones together, "
    "so that the distribution is over the same tokens"
)
ACCURACY = (
    "topK: share of all tokens that are among the K most probable tokens; word_topK: share of the words (tokens with a "
    "letter) that are among the K words suggested, in any case of letters. A word outside the vocabulary can be right "
    "only where the cache or a history offers it"
)
SAVINGS = (
    f"of each word w the {OFFERED} best words are asked for that begin with its first j characters, j = 0, 1, …; keys = "
    f"j + 1 at the first j where w is among them, else len(w) + 1; savings = 1 - sum of keys / sum of (len(w) + 1)"
)
ERRORS = "standard errors take positions as independent"


class _Words:
    """Of words: how many there are, how many are among the first K suggested, and the keys they take."""

    def __init__(self):
        self.hits, self.keys, self.letters = dict.fromkeys(TOP, 0), [], []

    def add(self, first: int, keys: int, word: str) -> None:
        for k in TOP:
            self.hits[k] += first < k
        self.keys.append(keys)
        self.letters.append(len(word) + 1)

    def figures(self) -> dict:
        count = len(self.keys)
        if not count:
            return {"words": 0}
        keys, letters = np.array(self.keys), np.array(self.letters)
        ratio = keys.sum() / letters.sum()
        error = math.sqrt(((keys - ratio * letters) ** 2).sum()) / letters.sum()
        return {"words": count, **_shares("word_top", self.hits, count),
                "keystroke_savings": float(1 - ratio), "keystroke_savings_error": error}


def _shares(name: str, hits: dict[int, int], count: int) -> dict:
    shares = {f"{name}{k}": hit / count for k, hit in hits.items()}
    return shares | {f"{key}_error": math.sqrt(p * (1 - p) / count) for key, p in shares.items()}


class _Ranks:
    """Accuracy and keystroke savings at some positions, of one way to predict."""

    def __init__(self, model: Model):
        self.model, self.is_word = model, model.vocabulary.is_word()
        self.tokens, self.hits = 0, dict.fromkeys(TOP, 0)
        self.all, self.long, self.unknown = _Words(), _Words(), _Words()

    def add(self, distribution: Distribution, token: int, spelling: str | None, before: int) -> None:
        """spelling: of a word outside the vocabulary. before: tokens of the text that came before."""
        self.tokens += 1
        rank = _rank(distribution, token, spelling)
        for k in TOP:
            self.hits[k] += rank < k
        word = spelling if token == UNK_ID else self.model.vocabulary.words[token]
        if self.is_word[token] or (word is not None and token == UNK_ID and has_letter(word)):
            first, keys = _typed(self.model.places(distribution, word, max(TOP)), word)
            for group, wanted in ((self.all, True), (self.long, before >= LONG), (self.unknown, token == UNK_ID)):
                if wanted:
                    group.add(first, keys, word)

    def figures(self) -> dict:
        return {**_shares("top", self.hits, self.tokens), **self.all.figures(),
                "long": self.long.figures(), "unknown": self.unknown.figures()}


def _rank(distribution: Distribution, token: int, spelling: str | None) -> float:
    """The place (0: the best) of a token among all tokens."""
    log_probs, unknown = distribution.log_probs, distribution.unknown
    if token == UNK_ID and spelling not in unknown:
        return math.inf
    probability = unknown[spelling] if token == UNK_ID else float(log_probs[token].exp())
    bound = math.log(probability) if token == UNK_ID and probability > 0 else float(log_probs[token])
    return int((log_probs > bound).sum()) + sum(other > probability for other in unknown.values())


def _typed(places: Iterator[int], word: str) -> tuple[int, int]:
    """The place before anything is typed, and the keys that the word takes."""
    first = place = next(places)
    keys = 1
    while place >= OFFERED:
        keys += 1
        if (place := next(places, None)) is None:
            return first, len(word) + 1
    return first, keys


@torch.no_grad()
def evaluate(model: Model, texts: Sequence[Text], sample: int = SAMPLE, cache: bool = True,
             histories: Sequence[Text] | None = None) -> dict:
    """Perplexity, accuracy and keystroke savings on texts, each read from its start.

    sample: accuracy and savings are those at so many positions, drawn at random (always the same); 0: perplexity alone.
    histories: of each text, another that its writer wrote before. The keys of the result are those of the command.
    """
    count = sum(text.length for text in texts)
    if not count:
        raise ValueError("there is no text to evaluate on")
    ways = ["network", *["cache"] * cache, *["history"] * (histories is not None)]
    ranks = {way: _Ranks(model) for way in ways}
    chosen = np.sort(np.random.default_rng(0).choice(count, min(sample, count), replace=False))
    starts = np.cumsum([0, *(text.length for text in texts)])
    read_histories = _histories(model, histories) if histories is not None else None
    loss = {way: [] for way in ways[:2] if way != "history"}
    for number, outputs, log_probs in _read(model, texts):
        text, targets = texts[number], texts[number].ids[1:]
        loss["network"].append(log_probs)
        if cache:
            loss["cache"].append(mixed_log_probs(log_probs, outputs, targets, model.cache))
        places = chosen[(chosen >= starts[number]) & (chosen < starts[number + 1])] - starts[number]
        _rank_at(model, ranks, text, outputs, places, read_histories and read_histories[number])
    pretokenized = model.vocabulary.pretokenized
    figures = {way: {**_perplexity(loss.get(way)), **(ranks[way].figures() if len(chosen) else {})} for way in ways}
    return {
        "tokens": count, "oov_rate": sum(int((text.ids[1:] == UNK_ID).sum()) for text in texts) / count,
        "sample": len(chosen), **figures.pop("network"), **figures,
        "perplexity_definition": PRETOKENIZED if pretokenized else PERPLEXITY, "cache_definition": CACHE,
        "accuracy_definition": ACCURACY, "keystroke_savings_definition": SAVINGS, "error_definition": ERRORS,
    }


def _perplexity(log_probs: list[Tensor] | None) -> dict:
    """And its standard error."""
    if not log_probs:
        return {}
    values = torch.cat(log_probs).double()
    perplexity = math.exp(-float(values.mean()))
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"perplexity": perplexity, "perplexity_error": perplexity * error}


def _read(model: Model, texts: Sequence[Text]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Of each text, in some order: its number, and of its tokens the output vectors from which they are to be predicted
    (n, D) and their log-probabilities (n,)."""
    order = sorted((number for number, text in enumerate(texts) if text.length), key=lambda number: -texts[number].length)
    with tqdm(total=sum(text.length for text in texts), unit="token", unit_scale=True, file=sys.stderr,
              disable=not sys.stderr.isatty()) as bar:
        for start in range(0, len(order), ROWS):
            numbers = order[start : start + ROWS]
            for number, (outputs, log_probs) in zip(numbers, _read_rows(model, [texts[number].ids for number in numbers])):
                yield number, outputs, log_probs
                bar.update(len(log_probs))


def _read_rows(model: Model, rows: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Rows of ids, longest first → for each what `_read` gives."""
    parts: list[list[Tensor]] = [[] for _ in rows]
    states = model.program.initial_state(len(rows))
    for left in range(0, len(rows[0]) - 1, TIME):
        longer = [row for row in rows if len(row) - 1 > left]
        inputs, lengths = padded([row[left : min(left + TIME, len(row) - 1)].tolist() for row in longer])
        outputs, states = model.program.read_all(inputs, lengths, states[: len(longer)])
        for found, output, length in zip(parts, outputs, lengths.tolist()):
            found.append(output[:length].clone())
    outputs = [torch.cat(found) for found in parts]
    targets = torch.cat([row[1:] for row in rows])
    log_probs = token_log_probs(model.program, torch.cat(outputs), targets)
    return list(zip(outputs, log_probs.split([len(output) for output in outputs])))


def _rank_at(model: Model, ranks: dict[str, _Ranks], text: Text, outputs: Tensor, places: np.ndarray,
             history: Context | None) -> None:
    """Counts the tokens at some places of a text."""
    targets, keys, size, off = text.ids[1:], as_keys(outputs), model.cache.size, replace(model.cache, weight=0.0)
    for part in torch.from_numpy(places).split(PART):
        for place, row in zip(part.tolist(), model.program.log_probs(outputs[part])):
            first = max(0, place - size)
            spellings = {at - first: word for at, word in text.unknown.items() if first <= at < place}
            cached = CachedTokens(keys[first:place], targets[first:place])
            context = Context(row, outputs[place], keys[place], cached, spellings, place)
            for way, counted in ranks.items():
                distribution = mixed(row, context, history if way == "history" else None,
                                     off if way == "network" else model.cache, UNK_ID)
                counted.add(distribution, int(targets[place]), text.unknown.get(place), place)


def _histories(model: Model, histories: Sequence[Text]) -> list[Context]:
    read = []
    for start in range(0, len(histories), ROWS):
        part = [(text.ids[1:].tolist(), text.unknown) for text in histories[start : start + ROWS]]
        read += model.read([model.start] * len(part), part)
    return read


def command(parser: argparse.ArgumentParser):
    parser.description = "Perplexity, accuracy and keystroke savings of a bundle on a corpus."
    parser.add_argument("--bundle", help="a bundle's folder (default: the English model that comes with Nextword)")
    parser.add_argument("--run", type=Path, dest="folder", help="instead of a bundle: a run's folder, whose 32-bit weights are measured, "
                        "with a cache tuned on validation text")
    parser.add_argument("--corpus", required=True, help="a corpus, as in training: a name, a hub id, a folder, a file")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="default: test")
    parser.add_argument("--tokens", type=_positive, help="about so many tokens, from all over the split (default: all of it)")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="positions at which accuracy and savings are measured; "
                        f"0: perplexity alone (default: {SAMPLE:,})")
    parser.add_argument("--cache", action=argparse.BooleanOptionalAction, default=True, help="with the continuous cache too "
                        "(default)")
    parser.add_argument("--history", action="store_true", help="measure the second half of each text, also with the first "
                        "half given as its writer's history")
    parser.add_argument("--dynamic", action="store_true", help="dynamic evaluation too (needs --run): the weights go on "
                        "learning from the text as it is read")
    parser.add_argument("--tune", action="store_true", help="choose the settings of cache and dynamic evaluation anew (they "
                        "are kept in the run's folder; chosen on validation text, whatever the split)")
    parser.add_argument("--tune-tokens", type=_positive, default=20_000, help="default: 20000")
    parser.add_argument("--ngram", type=Path, help="a KenLM model to compare with (see training/evaluation/ngram.py)")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def run(arguments: argparse.Namespace) -> None:
        if arguments.folder and arguments.bundle:
            parser.error("--run and --bundle exclude each other")
        if arguments.dynamic and not arguments.folder:
            parser.error("--dynamic needs --run: a bundle's weights do not learn")
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
        figures = evaluate(model, texts, arguments.sample, arguments.cache, histories)
        result = {"model": model.name, "corpus": corpus.name, "split": arguments.split, **figures}
        if arguments.dynamic:
            found = adapted.dynamic_log_probs(texts, arguments.cache)
            result |= {way: _perplexity(log_probs) for way, log_probs in found.items()}
        if arguments.ngram:
            ngram = NGram(arguments.ngram)
            result["ngram"] = _perplexity([torch.from_numpy(ngram.log_probs(text.ids[1:].numpy())) for text in texts])
        print(json.dumps(result, indent=1) if arguments.json else _readable(result))

    return run


def _positive(text: str) -> int:
    if (value := int(text.replace("_", ""))) < 1:
        raise argparse.ArgumentTypeError(f"{text}: it must be at least 1")
    return value


COLUMNS = ("perplexity", "top1", "top3", "top5", "word_top1", "word_top3", "word_top5", "keystroke_savings")


def _readable(result: dict) -> str:
    """The figures as a table: a line for each way to predict, ± standard error."""
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
    lines += ["", *(f"{key.removesuffix('_definition').replace('_', ' ')}: {text}." for key, text in result.items()
                    if key.endswith("_definition"))]
    return "\n".join(lines)


def _cell(figures: dict, column: str) -> str:
    if column not in figures:
        return ""
    value, error = figures[column], figures[f"{column}_error"]
    return f"{value:.2f} ± {error:.2f}" if column == "perplexity" else f"{value:.1%} ± {100 * error:.1f}"
