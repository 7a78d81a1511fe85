"""Suggestions of several words, such as "New York".

The likeliest word after a suggestion is added to it as long as its probability is at least SURE. The probability of a
phrase is the product of its words' probabilities.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence

from nextword.lm.context import Context
from nextword.lm.model import Model
from nextword.lm.profile import Profile
from nextword.lm.suggestion import TYPED, Word
from nextword.lm.words import has_letter

SURE = 0.5


def lengthened(model: Model, words: Sequence[Word], context: Context, history: Profile | None = None, *,
               max_words: int, exclude: Collection[str] = (), profile: Profile | None = None) -> list[Word]:
    """Lengthen suggestions to phrases of at most `max_words` words; best first.

    words: the result of `Model.rank` for `context`. Punctuation marks, numbers, emoji and words that are offered only
        because they are typed stay as they are.
    history, exclude, profile: as in `Model.predict` and `Model.rank`.
    """
    phrases = list(words)
    growing = {place: context for place, word in enumerate(phrases)
               if has_letter(word.word) and word.kind != TYPED}
    last = {place: phrases[place] for place in growing}
    for _ in range(max_words - 1):
        if not growing:
            break
        contexts = model.extend(list(growing.values()), [f" {last[place].word}" for place in growing])
        distributions = model.predict(contexts, [history] * len(contexts), [profile] * len(contexts))
        best = [model.rank(distribution, 1, exclude=exclude) for distribution in distributions]
        sure = {place: (context, words[0]) for place, context, words in zip(growing, contexts, best)
                if words and words[0].probability >= SURE}
        growing = {place: context for place, (context, _) in sure.items()}
        last = {place: word for place, (_, word) in sure.items()}
        for place, word in last.items():
            phrases[place] = _joined(phrases[place], word)
    return sorted(phrases, key=lambda phrase: -phrase.share)


def _joined(phrase: Word, word: Word) -> Word:
    return Word(f"{phrase.word} {word.word}", phrase.probability * word.probability, phrase.logprob + word.logprob,
                phrase.share * word.probability, phrase.kind, phrase.confidence)
