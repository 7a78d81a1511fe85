"""Figures of a model on texts: perplexity, accuracy, and keystroke savings."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nextword.lm.context import CachedTokens, Context, Distribution
from nextword.lm.continuous_cache import as_keys, mixed
from nextword.lm.model import Model, padded
from nextword.lm.profile import Profile
from nextword.lm.vocabulary import UNK_ID
from nextword.lm.words import has_letter
from nextword.training.evaluation.cache_tuning import mixed_log_probs, token_log_probs
from nextword.training.evaluation.excerpts import Text
from nextword.training.evaluation.slips import Slips
from nextword.training.progress import work_progress

ROWS, TIME = 32, 64  # texts that are read side by side, tokens a call
PART = 256  # positions whose distributions are in memory at the same time
TOP = (1, 3, 5)
OFFERED = 3  # suggestions while a person types
LONG = 500  # tokens before a word; with more, the word counts as one of a long text
SAMPLE = 5_000

POSITION = 30  # a sampled position takes about as long as reading this many tokens
NO_STATE = torch.empty(0)  # for contexts that are not continued

PERPLEXITY = (
    "exp of the mean negative natural log-probability of every token: words, punctuation marks, one <eos> after each "
    "paragraph; words outside the vocabulary count as the one token <unk>. The softmax is over the whole vocabulary. "
    "Each document is read from its start, the state carried from its first token to its last"
)
PRETOKENIZED = (
    "exp of the mean negative natural log-probability of every token, <unk> and one <eos> a line included. The softmax "
    "is over the whole vocabulary, the state is carried through the whole split"
)
CACHE = (
    "the network's distribution mixed with the continuous cache over the text's earlier words. For the perplexity, all "
    "words outside the vocabulary stay one token; its probability is that of <unk> plus that of all such words in the "
    "cache, so the distribution is over the same tokens"
)
ACCURACY = (
    "topK: share of all tokens that are among the K most probable tokens; word_topK: share of the words (tokens with a "
    "letter) that are among the K suggested words, in any letter case. A word outside the vocabulary can be right only "
    "if the cache or a history suggests it"
)
SAVINGS = (
    f"for each word w, the model suggests the {OFFERED} best words that begin with its first j characters, j = 0, 1, "
    f"…; keys = j + 1 for the first j at which w is suggested, else len(w) + 1; savings = 1 - sum of keys / sum of "
    f"(len(w) + 1)"
)
ERRORS = "standard errors assume independent positions"


class _Words:
    """Counts of words among the first K suggestions, and of the keys that the words need."""

    def __init__(self) -> None:
        self.hits = dict.fromkeys(TOP, 0)
        self.keys: list[int] = []
        self.letters: list[int] = []

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


class _Counts:
    """Accuracy and keystroke savings of one method, at the positions that were added."""

    def __init__(self, model: Model):
        self.model, self.is_word = model, model.vocabulary.is_word()
        self.tokens, self.hits = 0, dict.fromkeys(TOP, 0)
        self.all, self.long, self.unknown = _Words(), _Words(), _Words()

    def add(self, distribution: Distribution, token: int, spelling: str | None, before: int) -> None:
        """spelling: the spelling of a word outside the vocabulary. before: the number of tokens before it."""
        self.tokens += 1
        rank = _rank(distribution, token, spelling)
        for k in TOP:
            self.hits[k] += rank < k
        if word := self.word(token, spelling):
            first, keys = _first_place_and_keys(self.model.places(distribution, word, max(TOP)), word)
            for group, belongs in ((self.all, True), (self.long, before >= LONG), (self.unknown, token == UNK_ID)):
                if belongs:
                    group.add(first, keys, word)

    def word(self, token: int, spelling: str | None) -> str | None:
        """The spelling of a token that is a word; None for others."""
        word = spelling if token == UNK_ID else self.model.vocabulary.words[token]
        return word if word is not None and (self.is_word[token] or (token == UNK_ID and has_letter(word))) else None

    def figures(self) -> dict:
        return {**_shares("top", self.hits, self.tokens), **self.all.figures(),
                "long": self.long.figures(), "unknown": self.unknown.figures()}


def _rank(distribution: Distribution, token: int, spelling: str | None) -> float:
    """The place (0: the best) of a token among all tokens."""
    log_probs, unknown = distribution.log_probs, distribution.unknown
    if token == UNK_ID and spelling not in unknown:
        return math.inf
    probability = unknown[spelling or ""] if token == UNK_ID else float(log_probs[token].exp())
    bound = math.log(probability) if token == UNK_ID and probability > 0 else float(log_probs[token])
    return int((log_probs > bound).sum()) + sum(other > probability for other in unknown.values())


def _first_place_and_keys(places: Iterator[int], word: str) -> tuple[int, int]:
    """The word's place among the suggestions before its first letter, and the keys that the word needs."""
    first = place = next(places)
    keys = 1
    while place >= OFFERED:
        keys += 1
        if (following := next(places, None)) is None:
            return first, len(word) + 1
        place = following
    return first, keys


@torch.no_grad()
def evaluate(model: Model, texts: Sequence[Text], sample: int = SAMPLE, cache: bool = True,
             histories: Sequence[Text] | None = None, unigram: Tensor | None = None, show: bool = True,
             slips: bool = False) -> dict:
    """Perplexity, accuracy and keystroke savings on texts, each read from its start.

    sample: number of random positions (always the same) at which accuracy and savings are measured; 0: only perplexity.
    histories: for each text, an earlier text of its writer.
    unigram: (V,) log-probabilities of the words by their frequency; they are measured too.
    show: True: show progress on stderr.
    slips: True: measure how slips of the finger are corrected too, at the same positions, with cache and history.
    The keys of the result are those of the command, and "unigram".
    """
    count = sum(text.length for text in texts)
    if not count:
        raise ValueError("there is no text to evaluate on")
    ways = ["network", *["cache"] * cache, *["history"] * (histories is not None), *["unigram"] * (unigram is not None)]
    counts = {way: _Counts(model) for way in ways}
    slip_counts = Slips(model) if slips else None
    chosen = np.sort(np.random.default_rng(0).choice(count, min(sample, count), replace=False))
    starts = np.cumsum([0, *(text.length for text in texts)])
    learnt = [profile_of_text(model, history) for history in histories] if histories is not None else None
    loss: dict[str, list[Tensor]] = {way: [] for way in ways if way != "history"}
    with work_progress(count + POSITION * len(chosen), "evaluating", show) as progress:
        for number, outputs, log_probs in _outputs(model, texts, progress):
            text, targets = texts[number], texts[number].ids[1:]
            loss["network"].append(log_probs)
            if cache:
                loss["cache"].append(mixed_log_probs(log_probs, outputs, targets, model.cache))
            if unigram is not None:
                loss["unigram"].append(unigram[targets])
            places = chosen[(chosen >= starts[number]) & (chosen < starts[number + 1])] - starts[number]
            history = learnt[number] if learnt else None
            for place, distributions in _distributions(model, ways, text, outputs, places, history):
                if unigram is not None:
                    distributions["unigram"] = Distribution(unigram, {})
                for way, distribution in distributions.items():
                    counts[way].add(distribution, int(targets[place]), text.unknown.get(place), place)
                if slip_counts and (word := counts[ways[-1]].word(int(targets[place]), text.unknown.get(place))):
                    slip_counts.add(distributions[ways[-1]], word, int(starts[number]) + place)
                progress(POSITION)
    pretokenized = model.vocabulary.pretokenized
    figures = {way: {**perplexity(loss.get(way)), **(counts[way].figures() if len(chosen) else {})} for way in ways}
    return {
        "tokens": count, "oov_rate": sum(int((text.ids[1:] == UNK_ID).sum()) for text in texts) / count,
        "sample": len(chosen), **figures.pop("network"), **figures,
        **({"slips": slip_counts.figures()} if slip_counts else {}),
        "perplexity_definition": PRETOKENIZED if pretokenized else PERPLEXITY, "cache_definition": CACHE,
        "accuracy_definition": ACCURACY, "keystroke_savings_definition": SAVINGS, "error_definition": ERRORS,
    }


def perplexity(log_probs: Sequence[Tensor] | None) -> dict[str, float]:
    """Perplexity and its standard error, from natural log-probabilities; {} if there are none."""
    if not log_probs:
        return {}
    values = torch.cat(list(log_probs)).double()
    value = math.exp(-float(values.mean()))
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"perplexity": value, "perplexity_error": value * error}


def _outputs(model: Model, texts: Sequence[Text], progress: Callable[[float], object]
             ) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For each text, the longest first: its number, the output vectors (n, D) before its tokens, and the tokens'
    log-probabilities (n,).
    """
    order = [number for number, text in enumerate(texts) if text.length]
    order.sort(key=lambda number: -texts[number].length)
    for start in range(0, len(order), ROWS):
        numbers = order[start : start + ROWS]
        rows = _outputs_of_rows(model, [texts[number].ids for number in numbers])
        progress(sum(len(log_probs) for _, log_probs in rows))
        yield from ((number, *row) for number, row in zip(numbers, rows))


def _outputs_of_rows(model: Model, rows: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Output vectors and log-probabilities of rows of ids; the rows are sorted, the longest first."""
    parts: list[list[Tensor]] = [[] for _ in rows]
    states = model.program.initial_state(len(rows))
    for left in range(0, len(rows[0]) - 1, TIME):
        longer = [row for row in rows if len(row) - 1 > left]
        inputs, lengths = padded([row[left : min(left + TIME, len(row) - 1)].tolist() for row in longer])
        outputs, states = model.program.read_all(inputs, lengths, states[: len(longer)])
        for row_parts, output, length in zip(parts, outputs, lengths.tolist()):
            row_parts.append(output[:length].clone())
    joined = [torch.cat(row_parts) for row_parts in parts]
    targets = torch.cat([row[1:] for row in rows])
    log_probs = token_log_probs(model.program, torch.cat(joined), targets)
    return list(zip(joined, log_probs.split([len(output) for output in joined])))


def _distributions(model: Model, ways: Sequence[str], text: Text, outputs: Tensor, places: np.ndarray,
                   history: Profile | None) -> Iterator[tuple[int, dict[str, Distribution]]]:
    """For each of these places of a text: the place, and the distribution of each method there."""
    tokens, keys, size = text.ids[1:], as_keys(outputs), model.cache.size
    without_cache = replace(model.cache, weight=0.0)
    for part in torch.from_numpy(places).split(PART):
        for place, probabilities in zip(part.tolist(), model.program.probabilities(outputs[part])):
            first = max(0, place - size)
            spellings = {at - first: word for at, word in text.unknown.items() if first <= at < place}
            cached = CachedTokens(keys[first:place], tokens[first:place])
            context = Context(NO_STATE, outputs[place], keys[place], cached, spellings, place)
            distributions = {}
            for way in ways:
                if way != "unigram":
                    settings = without_cache if way == "network" else model.cache
                    distribution = mixed(probabilities[None], [context], settings, UNK_ID)[0]
                    person = [history] if way == "history" and history is not None else []
                    distributions[way] = model.personal.mixed(distribution, context, person)
            yield place, distributions


def profile_of_text(model: Model, text: Text) -> Profile:
    """A profile that has learnt a text."""
    profile, words = Profile(), model.vocabulary.words
    profile.learn_tokens([text.unknown.get(place, words[token]) for place, token in enumerate(text.ids[1:].tolist())])
    return profile
