"""The last lines of a training: figures of the new model and of others, and some of its suggestions.

The figures are from samples. A shorter training has smaller samples, so the summary takes a small part of its time.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nextword.lm.bundle import ENGLISH, Bundle
from nextword.lm.model import Model, load
from nextword.lm.vocabulary import EOS_ID, UNK_ID, Vocabulary
from nextword.lm.words import has_letter
from nextword.training.corpora import Corpus
from nextword.training.evaluation.excerpts import Text, excerpts
from nextword.training.evaluation.figures import evaluate
from nextword.training.recipe import Recipe
from nextword.training.tokens import encode_split, word_counts
from nextword.training.warm_start import Start, change_vocabulary

LARGEST = 2_000  # most sampled positions of a text
SHORT = 60.0  # seconds; after a shorter training, the bundled model is not measured
POSITIONS_A_SECOND = 10  # sampled positions for each second of training
TOKENS_A_POSITION = 5
LITTLE = 2_000  # tokens of test text; with fewer, a gain may be chance
UNKNOWN = 0.15  # with a larger share of unknown words, the bundled model does not fit the text
MOST = 0.5  # with a larger share of unknown words, figures are misleading
EXAMPLES = 3
WORDS = 8  # words of the text before an example


def summary(bundle: Bundle, recipe: Recipe, corpus: Corpus, start: Start | None, unsegmented: bool = False) -> str:
    """Lines with figures on validation and test text, and examples. The figures of other models are beside them.

    A model that does not know most words of the text predicts little but `<unk>`, and that easily. Its figures would
    look good, so a sentence takes their place.

    unsegmented: the text has no spaces between words.
    start: the model that the training began with. Then the lines include the gain over it, with a warning if there is
    too little text to measure a gain.
    """
    model = load(bundle)
    seconds = bundle.metadata["training"]["seconds"]
    sample = int(min(LARGEST, max(50, POSITIONS_A_SECOND * seconds)))
    unknown = _unknown_words(_texts(corpus, "validation", model.vocabulary, sample), model.vocabulary)
    if unsegmented or unknown > MOST:
        return (f"Of the validation text's words, {unknown:.0%} are not in the vocabulary; perplexity and accuracy "
                "would look better than this model is, so they are left out."
                + " Put spaces between the words of the text first." * unsegmented)
    counts = word_counts(encode_split(corpus, "train", model.vocabulary), len(model.vocabulary))
    unigram = (counts / counts.sum()).log().float()
    watched = bundle.metadata["metrics"]["validation"]
    lines = [f"Validation perplexity {watched['perplexity']:.2f}; export lost "
             f"{bundle.metadata['export']['perplexity_lost']:.2%} of it."]
    for split in ("validation", "test"):
        if split not in corpus.splits:
            continue
        texts = _texts(corpus, split, model.vocabulary, sample)
        if not texts:
            continue
        figures = evaluate(model, texts, sample, unigram=unigram, show=False)
        title = f"A sample of the {split} text, {figures['tokens']:,} tokens"
        lines += ["", f"{title:40}    perplexity   top-3 words    keys saved"]
        if split == "validation":
            lines.append(_row("in training: state carried, no cache", watched["perplexity"]))
        each = "the text as one" if recipe.pretokenized else "each document by itself"
        lines.append(_row(f"{each}, no cache", figures["perplexity"], figures))
        lines.append(_row(f"{each}, with cache", figures["cache"]["perplexity"], figures["cache"]))
        lines.append(_row("the most frequent words", figures["unigram"]["perplexity"], figures["unigram"]))
        if split == "test":
            lines += _beside_others(model, texts, figures, recipe, corpus, start, sample, counts, seconds)
    return "\n".join([*lines, *_examples_of(model, corpus)])


def _texts(corpus: Corpus, split: str, vocabulary: Vocabulary, sample: int) -> list[Text]:
    return [text for text in excerpts(corpus, split, vocabulary, TOKENS_A_POSITION * sample) if text.length]


def _unknown_words(texts: Sequence[Text], vocabulary: Vocabulary) -> float:
    """The share of the words that the vocabulary lacks."""
    is_word = torch.tensor(vocabulary.is_word())
    known = sum(int(is_word[text.ids[1:]].sum()) for text in texts)
    unknown = sum(has_letter(word) for text in texts for word in text.unknown.values())
    return unknown / max(1, known + unknown)


def _row(name: str, perplexity: float | None, figures: dict | None = None) -> str:
    cells = ["" if perplexity is None else f"{perplexity:.2f}", "", ""]
    if figures and figures.get("words"):
        cells[1:] = [f"{figures['word_top3']:.1%} ± {100 * figures['word_top3_error']:.1f}",
                     f"{figures['keystroke_savings']:.1%} ± {100 * figures['keystroke_savings_error']:.1f}"]
    return f"  {name:38}" + "".join(f"{cell:>14}" for cell in cells).rstrip()


def _beside_others(model: Model, texts: list[Text], figures: dict, recipe: Recipe, corpus: Corpus, start: Start | None,
                   sample: int, counts: Tensor, seconds: float) -> list[str]:
    """Rows for the model that the training began with, or for the bundled model, on the same text."""
    if start and start.bundle:
        before = load(start.bundle)
        same = _texts(corpus, "test", before.vocabulary, sample)
        old = evaluate(before, same, sample, show=False)
        perplexity = None
        if [text.length for text in same] == [text.length for text in texts]:
            shares = _log_shares_of_new_words(before.vocabulary, model.vocabulary, texts, counts)
            perplexity = old["perplexity"] * math.exp(-shares)
        lines = [_row(f"before: {before.name}, no cache", perplexity, old),
                 _row(f"before: {before.name}, with cache", None, old["cache"])]
        lines += _gain(old["cache"], figures["cache"], perplexity, figures)
        return [*lines, *_differences(before, model, same, texts)]
    if seconds < SHORT or recipe.pretokenized or not (ENGLISH / "bundle.json").exists():
        return []
    bundled = load()
    same = _texts(corpus, "test", bundled.vocabulary, sample)
    unknown = sum(len(text.unknown) for text in same) / sum(text.length for text in same)
    if unknown > UNKNOWN:
        return []
    other = evaluate(bundled, same, sample, show=False)
    return [_row("the bundled model, with cache", None, other["cache"])]


def _log_shares_of_new_words(old: Vocabulary, new: Vocabulary, texts: Sequence[Text], counts: Tensor) -> float:
    """The mean over all tokens of log P(word | <unk>), which is 0 for words of the old vocabulary.

    It converts the perplexity of a model with the old vocabulary to the tokens of the new vocabulary.
    """
    zeros = {"embedding.weight": torch.zeros(len(old), 1), "bias": torch.zeros(len(old))}
    bias = change_vocabulary(zeros, old, new, counts)["bias"]
    return float(torch.cat([bias[text.ids[1:]] for text in texts]).double().mean())


def _gain(old: dict, new: dict, perplexity: float | None, figures: dict) -> list[str]:
    """A sentence on the gain of the training over its start, and a warning if the text is too short to measure it."""
    if not old.get("words") or not new.get("words"):
        return ["", "  There is too little test text to tell what was gained."]
    change = new["word_top3"] - old["word_top3"]
    error = math.hypot(old["word_top3_error"], new["word_top3_error"])
    perplexities = "" if perplexity is None else f"perplexity {perplexity:.2f} -> {figures['perplexity']:.2f}, "
    lines = ["", f"  Gained on text that was not trained on: {perplexities}top-3 words {old['word_top3']:.1%} -> "
             f"{new['word_top3']:.1%}, keys saved {old['keystroke_savings']:.1%} -> {new['keystroke_savings']:.1%}."]
    if figures["tokens"] < LITTLE or abs(change) < 2 * error:
        lines.append(f"  Warning: {figures['tokens']:,} tokens of test text are too little to tell the change in top-3 "
                     f"words from chance ({100 * change:+.1f} ± {100 * error:.1f} points). Judge by more text.")
    return lines


def _differences(before: Model, after: Model, old_texts: list[Text], new_texts: list[Text]) -> list[str]:
    """Random places of the test text at which the three suggestions before and after the training differ."""
    lines: list[str] = []
    places = [(number, place) for number, (text, old) in enumerate(zip(new_texts, old_texts))
              if text.length == old.length for place in range(text.length)]
    order = np.random.default_rng(1).permutation(len(places))
    for index in order[: 20 * EXAMPLES]:
        number, place = places[index]
        word = _spelling(after.vocabulary, new_texts[number], place)
        if len(lines) == EXAMPLES or not word or not any(map(str.isalpha, word)):
            continue
        first = max(0, place - WORDS)
        text = " ".join(_spelling(after.vocabulary, new_texts[number], i) or "/" for i in range(first, place))
        three = [", ".join(suggestion.word for suggestion in _three(model, texts[number], place))
                 for model, texts in ((before, old_texts), (after, new_texts))]
        line = f"    … {text} [{word}]    before: {three[0]}    after: {three[1]}"
        if three[0] != three[1] and line not in lines:
            lines.append(line)
    return ["  Suggestions before and after, at places of the test text drawn at random:", *lines] if lines else []


def _three(model: Model, text: Text, place: int) -> list:
    unknown = {at: word for at, word in text.unknown.items() if at < place}
    context = model.read([model.start], [(text.ids[1 : place + 1].tolist(), unknown)])[0] if place else model.start
    return model.rank(model.predict([context])[0], 3)


def _spelling(vocabulary: Vocabulary, text: Text, place: int) -> str | None:
    """The spelling of the token at a place of a text; None for the end of a paragraph."""
    token = int(text.ids[place + 1])
    if token == EOS_ID:
        return None
    return text.unknown.get(place, "?") if token == UNK_ID else vocabulary.words[token]


def _examples_of(model: Model, corpus: Corpus) -> list[str]:
    """Suggestions at the start of a text and after the first words of some validation documents."""
    if "validation" not in corpus.splits or model.vocabulary.pretokenized:
        return []
    lines = ["", "Suggestions:"]
    beginnings = [""]
    for text in _texts(corpus, "validation", model.vocabulary, 50)[:EXAMPLES]:
        words = [_spelling(model.vocabulary, text, place) for place in range(min(4, text.length - 1))]
        beginnings.append(" ".join(word for word in itertools.takewhile(bool, words) if word))
    for beginning in dict.fromkeys(beginnings):
        three = ", ".join(word.word for word in model.next_words(beginning, 3))
        lines.append(f"  {beginning or '(start of a text)':38}  {three}")
    return lines
