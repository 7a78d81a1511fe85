"""What a bundle is worth on a corpus: exact perplexity and accuracy, by the program that is served."""
from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from tqdm import tqdm

from lm.model import Model, load, padded
from lm.vocabulary import EOS_ID, UNK_ID
from training.corpora import load_corpus

ROWS, TIME = 32, 64  # documents read side by side, tokens a call
GROUP = 512  # documents sorted by length together, so that those read side by side end together
TOP = (1, 3, 5)

PERPLEXITY = (
    "exp of the mean negative natural log-probability of every token of the split: words, punctuation marks, one <eos> "
    "after each paragraph; words outside the vocabulary count as the one token <unk>. The softmax is over the whole "
    "vocabulary. Each document is read from the start, the state carried from its first token to its last"
)
PRETOKENIZED = (
    "exp of the mean negative natural log-probability of every token of the split, <unk> and one <eos> a line included. "
    "The softmax is over the whole vocabulary, the state is carried through the whole split"
)
ACCURACY = (
    "topK: share of all tokens that are among the K most probable tokens; word_topK: share of the words (tokens with a "
    "letter) that are among the K words suggested, in any case of letters. A word outside the vocabulary is never right"
)


@torch.no_grad()
def evaluate(model: Model, documents: Iterable[str], limit: int | None = None) -> dict:
    """Perplexity and accuracy on documents (text, paragraphs ended by line breaks), each read from its start.

    limit: stop after about this many tokens. The keys of the result are those of `python -m lm evaluate --json`.
    """
    totals = _Totals(model)
    encoded = ([EOS_ID, *model.vocabulary.encode(document + "\n")] for document in documents)
    while group := list(islice(encoded, GROUP)):
        group.sort(key=len, reverse=True)
        for start in range(0, len(group), ROWS):
            _read(model, group[start : start + ROWS], totals)
            if limit and totals.tokens >= limit:
                return totals.figures()
    return totals.figures()


def _read(model: Model, rows: list[list[int]], totals: _Totals) -> None:
    """Score rows of token ids, longest first."""
    states = model.program.initial_state(len(rows))
    for left in range(0, len(rows[0]) - 1, TIME):
        rows = [row for row in rows if len(row) - 1 > left]
        inputs, lengths = padded([row[left : min(left + TIME, len(row) - 1)] for row in rows])
        targets, _ = padded([row[left + 1 : left + TIME + 1] for row in rows])
        outputs, states = model.program.read_all(inputs, lengths, states[: len(rows)])
        real = torch.arange(inputs.shape[1]) < lengths[:, None]
        for output, target in zip(outputs[real].split(256), targets[real].split(256)):
            totals.add(model.program.log_probs(output), target)


class _Totals:
    def __init__(self, model: Model):
        self.model = model
        self.word = torch.tensor(model.vocabulary.is_word())
        self.tokens, self.unknown, self.words, self.loss = 0, 0, 0, 0.0
        self.hits, self.word_hits = dict.fromkeys(TOP, 0), dict.fromkeys(TOP, 0)
        self.bar = tqdm(unit="token", unit_scale=True, file=sys.stderr, disable=not sys.stderr.isatty())

    def add(self, log_probs: torch.Tensor, targets: torch.Tensor) -> None:
        """log_probs (n, V), targets (n,)."""
        of_target = log_probs.gather(1, targets[:, None])
        known = targets != UNK_ID
        rank = (log_probs > of_target).sum(1)
        word_rank = self.model.word_rank(log_probs, targets)
        # An unknown word may be a number or a name; it counts as a word, as nearly all of them are.
        is_word = self.word[targets] | ~known
        self.tokens += len(targets)
        self.loss -= float(of_target.sum())
        self.unknown += int((~known).sum())
        self.words += int(is_word.sum())
        for k in TOP:
            self.hits[k] += int(((rank < k) & known).sum())
            self.word_hits[k] += int(((word_rank < k) & self.word[targets]).sum())
        self.bar.update(len(targets))

    def figures(self) -> dict:
        self.bar.close()
        if not self.tokens:
            raise ValueError("there is no text to evaluate on")
        pretokenized = self.model.vocabulary.pretokenized
        return {
            "perplexity": math.exp(self.loss / self.tokens),
            "perplexity_definition": PRETOKENIZED if pretokenized else PERPLEXITY,
            "tokens": self.tokens, "words": self.words, "oov_rate": self.unknown / self.tokens,
            **{f"top{k}": hits / self.tokens for k, hits in self.hits.items()},
            **{f"word_top{k}": hits / max(1, self.words) for k, hits in self.word_hits.items()},
            "accuracy_definition": ACCURACY,
        }


def command(parser: argparse.ArgumentParser):
    """perplexity and accuracy of a bundle on a corpus"""
    parser.description = "Perplexity and accuracy of a bundle on a corpus."
    parser.add_argument("--bundle", help="a bundle's folder (default: the English model that comes with Nextword)")
    parser.add_argument("--corpus", required=True, help="a corpus, as in training: a name, a hub id, a folder, a file")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="default: test")
    parser.add_argument("--tokens", type=int, help="stop after about this many tokens (default: the whole split)")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def run(arguments: argparse.Namespace) -> None:
        model = load(arguments.bundle)
        pretokenized = model.vocabulary.pretokenized
        corpus = load_corpus(arguments.corpus, pretokenized=pretokenized)
        corpus.split(arguments.split)
        documents: Iterator[str] = iter(corpus.documents(arguments.split))
        if pretokenized:
            documents = iter(["\n".join(documents)])
        figures = evaluate(model, documents, arguments.tokens)
        result = {"model": model.name, "corpus": corpus.name, "split": arguments.split, **figures}
        if arguments.json:
            print(json.dumps(result, indent=1))
            return
        for key, value in result.items():
            if not key.endswith("definition"):
                print(f"{key:12} {value:,.4f}" if isinstance(value, float) else f"{key:12} {value}")
        print(f"perplexity: {figures['perplexity_definition']}.\n{ACCURACY}.")

    return run
