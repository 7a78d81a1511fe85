"""Trainers of the invented text, for the tests that train step by step."""

from __future__ import annotations

from pathlib import Path

from nextword.training.corpora import load_corpus
from nextword.training.recipe import Recipe
from nextword.training.tokens import build_vocabulary
from nextword.training.trainer import Trainer, TrainingData


def data_of(corpus_file: Path, recipe: Recipe) -> TrainingData:
    """Return the text of a file as a training reads it."""
    corpus = load_corpus(str(corpus_file))
    return TrainingData.load(recipe, corpus, build_vocabulary(corpus, 500, 1, False))


def train(trainer: Trainer, steps: int) -> None:
    """Do the next steps of a training."""
    windows = trainer.windows_left()
    for _ in range(steps):
        trainer.train_step(*next(windows))
