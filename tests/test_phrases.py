"""Suggestions of several words, on a grammar that is known."""
from __future__ import annotations

import math

import pytest

from nextword.lm.phrases import SURE, lengthened
from nextword.lm.profile import profile_of


def phrases(model, text: str, k: int = 5, *, max_words: int, history: str = "", **wanted):
    [context], past = model.extend([model.start], [text]), profile_of(history)
    words = model.rank(model.predict([context], [past])[0], k, **wanted)
    return lengthened(model, words, context, past, max_words=max_words, exclude=wanted.get("exclude", ()))


def test_a_word_is_followed_by_the_one_that_surely_comes(tiny_model):
    found = {phrase.word for phrase in phrases(tiny_model, "I went to the", 6, max_words=2)}
    assert "London zoo" in found and "London" not in found
    assert "store" in found  # after it comes punctuation


def test_phrases_have_up_to_so_many_words(tiny_model):
    for max_words, expected in ((1, "Thank"), (2, "Thank you"), (3, "Thank you very"), (4, "Thank you very much")):
        words = [phrase.word for phrase in phrases(tiny_model, "", 5, max_words=max_words)]
        assert expected in words
    words = [phrase.word for phrase in phrases(tiny_model, "", 5, max_words=10)]
    assert "Thank you very much" in words  # and nothing beyond the end of the sentence


def test_probabilities_are_products_and_in_order(tiny_model):
    found = phrases(tiny_model, "", 5, max_words=4)
    assert [phrase.probability for phrase in found] == sorted((phrase.probability for phrase in found), reverse=True)
    phrase = next(phrase for phrase in found if phrase.word.startswith("Thank"))
    alone, text = [], ""
    for word in phrase.word.split():
        alone.append(next(known for known in tiny_model.next_words(text, 20) if known.word == word))
        text += f" {word}"
    assert phrase.probability == pytest.approx(math.prod(word.probability for word in alone), rel=1e-3)
    assert phrase.logprob == pytest.approx(sum(word.logprob for word in alone), abs=1e-3)
    assert all(word.probability >= SURE for word in alone[1:])


def test_excluded_words_do_not_follow_either(tiny_model):
    found = {phrase.word for phrase in phrases(tiny_model, "I went to the", 6, max_words=3, exclude=["ZOO"])}
    assert "London" in found


def test_partial_words_are_completed_and_go_on(tiny_model):
    assert [phrase.word for phrase in phrases(tiny_model, "I went to the", 1, partial="Lon", max_words=2)] == [
        "London zoo"
    ]


def test_marks_stay_alone(tiny_model):
    found = [phrase.word for phrase in phrases(tiny_model, "I went to the store", 3, punctuation=True, max_words=4)]
    assert "." in found and "," in found
