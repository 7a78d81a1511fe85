"""Scores over HTTP."""
from __future__ import annotations

import math

import pytest

from nextword.serve.schemas import SCORE_LIMIT

PATH = "/v1/score"


def test_score_is_the_models_own_and_adds_up(http, tiny_model):
    text = "I went to the store. Thank you very much!"
    score = http.post(PATH, json={"text": text}).json()
    expected = tiny_model.score(text)
    assert [(word["word"], word["known"]) for word in score["words"]] == [(word.word, True) for word in expected]
    assert [word["logprob"] for word in score["words"]] == pytest.approx([word.logprob for word in expected], abs=1e-5)
    assert score["model"] == tiny_model.name
    assert score["logprob"] == pytest.approx(sum(word.logprob for word in expected), abs=1e-4)
    assert score["perplexity"] == pytest.approx(math.exp(-score["logprob"] / len(expected)))


def test_the_likelier_candidate_has_the_better_score(http):
    candidates = ["I went to the store.", "I store to the went.", "I to went the store."]
    scores = [http.post(PATH, json={"text": text}).json() for text in candidates]
    assert max(scores, key=lambda score: score["logprob"]) is scores[0]
    assert min(scores, key=lambda score: score["perplexity"]) is scores[0]


def test_unknown_words_and_line_breaks_are_shown(http):
    score = http.post(PATH, json={"text": "I Zorbulon\nI"}).json()
    assert [(word["word"], word["known"]) for word in score["words"]] == [
        ("I", True), ("Zorbulon", False), ("<eos>", True), ("I", True)]


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_no_words_have_no_perplexity(http, tiny_model, text):
    expected = {"model": tiny_model.name, "words": [], "logprob": 0.0, "perplexity": None}
    assert http.post(PATH, json={"text": text}).json() == expected


def test_the_longest_text_is_scored_and_a_longer_one_refused(http):
    assert len(http.post(PATH, json={"text": "." * SCORE_LIMIT}).json()["words"]) == SCORE_LIMIT
    refused = http.post(PATH, json={"text": "." * (SCORE_LIMIT + 1)})
    assert (refused.status_code, refused.json()["error"]["where"]) == (422, "text")
