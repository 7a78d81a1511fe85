"""Suggestions of several words: "New York", where "New" is hardly ever all that comes.

Each of the best next words is followed by the likeliest word after it, as long as this has at least the probability
SURE. A phrase's probability is the product of its words' probabilities.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence

from nextword.lm.context import Context
from nextword.lm.model import Model
from nextword.lm.ranking import Word
from nextword.lm.words import has_letter

SURE = 0.5


def lengthened(model: Model, words: Sequence[Word], context: Context, history: Context | None = None, *,
               max_words: int, exclude: Collection[str] = ()) -> list[Word]:
    """The words that may follow a context, made phrases of up to `max_words` words where that is sure; best first.

    words: of one kind, as `Model.rank` gives them; punctuation marks, numbers and emoji among them stay as they are.
    history, exclude: as in `Model.predict` and `Model.rank`.
    """
    phrases = list(words)
    growing = {place: context for place, word in enumerate(phrases) if has_letter(word.word)}
    last = {place: phrases[place] for place in growing}
    for _ in range(max_words - 1):
        if not growing:
            break
        read = model.extend(list(growing.values()), [f" {last[place].word}" for place in growing])
        distributions = model.predict(read, [history] * len(read))
        best = [model.rank(distribution, 1, exclude=exclude) for distribution in distributions]
        follow = {place: (known, found[0]) for place, known, found in zip(growing, read, best)
                  if found and found[0].probability >= SURE}
        growing = {place: known for place, (known, _) in follow.items()}
        last = {place: word for place, (_, word) in follow.items()}
        for place, word in last.items():
            phrases[place] = _joined(phrases[place], word)
    return sorted(phrases, key=lambda phrase: -phrase.probability)


def _joined(phrase: Word, word: Word) -> Word:
    return Word(f"{phrase.word} {word.word}", phrase.probability * word.probability, phrase.logprob + word.logprob,
                phrase.share * word.probability)
