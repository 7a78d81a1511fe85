"""A comparison on equal tokens: KenLM's n-gram with modified Kneser-Ney smoothing (Chen & Goodman 1999).

    nextword ngram --bundle B --corpus C | lmplz -o 5 > peer.arpa     # KenLM's; build_binary makes it small
    nextword evaluate --bundle B --corpus C --split test --ngram peer.arpa

The n-gram reads the bundle's tokens: every paragraph is a line of token numbers, and 0 stands for all words outside the
vocabulary. It predicts the end of a paragraph too. It does not see the paragraph before.
"""
from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nextword.lm.bundle import TOKENIZER, open_bundle
from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.training.corpora import load_corpus
from nextword.training.tokens import encode_split


class NGram:
    """A model in one of KenLM's formats; `model` is KenLM's own. Raises ValueError if it cannot be read."""

    def __init__(self, path: Path):
        try:
            import kenlm
        except ModuleNotFoundError:
            raise ValueError(
                "an n-gram is read by the package kenlm, which is not installed: pip install kenlm"
            ) from None
        try:
            self.model = kenlm.Model(str(path))
        except OSError as error:
            raise ValueError(f"{path} is no n-gram that KenLM can read: {str(error).splitlines()[0]}") from None

    def log_probs(self, ids: np.ndarray) -> np.ndarray:
        """Natural log-probabilities of a text's tokens (n,); the last token is `<eos>`."""
        scores = [log10 for paragraph in np.split(ids, np.flatnonzero(ids == EOS_ID)[:-1] + 1)
                  for log10, _, _ in self.model.full_scores(" ".join(map(str, paragraph[:-1])))]
        return np.array(scores) * math.log(10)


def command(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    parser.add_argument("--bundle", help="the bundle whose vocabulary numbers the tokens (default: the English model)")
    parser.add_argument("--corpus", required=True, help="a corpus, as in training: a name, a hub id, a folder, a file")
    parser.add_argument("--split", default="train", choices=("train", "validation", "test"), help="default: train")
    return _print_token_numbers


def _print_token_numbers(arguments: argparse.Namespace) -> None:
    vocabulary = Vocabulary.from_json(open_bundle(arguments.bundle).content[TOKENIZER].decode())
    corpus = load_corpus(arguments.corpus, pretokenized=vocabulary.pretokenized)
    tokens = encode_split(corpus, arguments.split, vocabulary)[1:]
    start = 0
    for end in np.flatnonzero(tokens == EOS_ID):
        print(*tokens[start:end])
        start = end + 1
