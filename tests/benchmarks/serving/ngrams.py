"""A 5-gram model of a text in the ARPA format, and the k most probable next words by it."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from pathlib import Path

from nextword.training.evaluation.ngram import NGram

ORDER = 5
_DISCOUNT = 0.75
_TOKEN = re.compile(r"\w+(?:['-]\w+)*|[^\w\s]")


def tokens(text: str) -> list[str]:
    """Split a text into words and marks."""
    return _TOKEN.findall(text)


def write_arpa(path: Path, text: list[str]) -> None:
    """Write an interpolated model with absolute discounting (Ney, Essen & Kneser 1994) in the ARPA format.

        p(w | h) = max(c(hw) - d, 0) / c(h) + b(h) p(w | h without its first word),  b(h) = d t(h) / c(h)

    c counts, t(h) is the number of different words after h, d = 0.75; below the unigrams all words are alike.
    """
    counts = [Counter(zip(*(text[start:] for start in range(order)))) for order in range(1, ORDER + 1)]
    after: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    for counted in counts:
        for gram, count in counted.items():
            entry = after[gram[:-1]]
            entry[0] += count
            entry[1] += 1

    def backoff(history: tuple[str, ...]) -> float:
        total, kinds = after.get(history, (1, 0))
        return _DISCOUNT * kinds / total if kinds else 1.0

    probability: dict[tuple[str, ...], float] = {(): 1 / (len(counts[0]) + 1)}
    lines = ["\\data\\"] + [f"ngram {n + 1}={len(counted) + 3 * (not n)}" for n, counted in enumerate(counts)]
    for n, counted in enumerate(counts):
        lines += ["", f"\\{n + 1}-grams:"]
        if not n:
            rest = math.log10(backoff(()) * probability[()])
            lines += [f"{rest:.6f}\t<unk>", "-99\t<s>", f"{rest:.6f}\t</s>"]
        for gram, count in counted.items():
            history = gram[:-1]
            share = (count - _DISCOUNT) / after[history][0]
            probability[gram] = share + backoff(history) * probability[gram[1:]]
            weight = f"\t{math.log10(backoff(gram)):.6f}" if n + 1 < ORDER else ""
            lines.append(f"{math.log10(probability[gram]):.6f}\t{' '.join(gram)}{weight}")
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")


class NextWords:
    """The k most probable words after a text, from the scores of candidates.

    Candidates are the words that the training text has after the last word, and the k most frequent others. That is
    exact: in a model that backs off, words not seen after the last word keep the order of their frequencies.
    """

    def __init__(self, arpa: Path, text: list[str]) -> None:
        self._model = NGram(arpa).model
        self._after: dict[str, set[str]] = defaultdict(set)
        for word, following in zip(text, text[1:]):
            if following[0].isalpha():
                self._after[word].add(following)
        self._frequent = [word for word, _ in Counter(text).most_common() if word[0].isalpha()]

    def __call__(self, text: str, k: int) -> list[tuple[str, float]]:
        """Return words and natural logarithms of their probabilities, best first."""
        history = tokens(text[-1000:])[1 - ORDER :]
        seen = self._after.get(history[-1], set()) if history else set()
        others = [word for word in self._frequent[: len(seen) + k] if word not in seen][:k]
        candidates = [*seen, *others]
        scored = sorted(zip(self.log_probs(history, candidates), candidates), reverse=True)
        return [(word, logprob) for logprob, word in scored[:k]]

    def log_probs(self, history: list[str], words: list[str]) -> list[float]:
        """Return the natural log-probability of each word as the next word after a history."""
        import kenlm

        state, following = kenlm.State(), kenlm.State()
        self._model.NullContextWrite(state)
        for word in history:
            self._model.BaseScore(state, word, following)
            state, following = following, state
        return [self._model.BaseScore(state, word, following) * math.log(10) for word in words]
