"""Slips of the finger: the channel, the candidates, and their ranking among the words that begin as typed."""
from __future__ import annotations

import random

import numpy
import pytest
import torch

from nextword.lm import load
from nextword.lm.candidates import Candidates, weight_of
from nextword.lm.context import Distribution
from nextword.lm.keyboards import LAYOUTS, keyboard
from nextword.lm.model import Model
from nextword.lm.profile import Profile
from nextword.lm.ranking import Ranking
from nextword.lm.suggestion import Word
from nextword.lm.vocabulary import Vocabulary
from nextword.lm.words import key

QWERTY = keyboard()


@pytest.fixture(scope="module")
def english() -> Model:
    return load()


@pytest.fixture(scope="module")
def distribution(english: Model) -> Distribution:
    return english.predict(english.extend([english.start], ["I went to the"]))[0]


def suggestions(model: Model, text: str, partial: str, **options) -> list[tuple[str, str]]:
    return [(word.word, word.kind) for word in model.next_words(text, 3, partial=partial, **options)]


@pytest.mark.parametrize("text, typed, word", [
    ("That is a", "quikc", "quick"), ("I would like", "nother", "another"), ("I went to the", "stroe", "store"),
    ("This is", "teh", "the"), ("", "Teh", "The"), ("", "TEH", "THE"), ("I think", "youre", "you're"),
    ("I don't know where", "theyre", "they're"), ("I", "dont", "don't"), ("I think", "ive", "I've"),
    ("I went to", "Lonfon", "London"), ("We meet on", "wendesday", "Wednesday"), ("I will", "recieve", "receive"),
])  # fmt: skip
def test_slips_are_corrected(english: Model, text: str, typed: str, word: str) -> None:
    best = english.next_words(text, 3, partial=typed)[0]
    assert (best.word, best.kind) == (word, "correction")
    assert best.confidence is not None and 0.5 < best.confidence <= 1
    assert all(not found.confidence for found in english.next_words(text, 9, partial=typed, typos=False))


def test_a_word_that_nothing_knows_is_offered_as_typed(english: Model) -> None:
    assert suggestions(english, "Have you met", "Zbigniew")[0] == ("Zbigniew", "typed")
    assert suggestions(english, "Have you met", "Zbigniew", history="We met Zbigniew.")[0] == ("Zbigniew", "completion")
    assert suggestions(english, "Have you met", "Zbigneiw", history="We met Zbigniew.")[0] == ("Zbigniew", "correction")
    assert suggestions(english, "Have you met", "Zbigniew", exclude=["zbigniew"]) == []
    assert suggestions(english, "Have you met", "Zbigniew", typos=False) == []


def test_words_of_a_person_are_found_by_a_slip_too(english: Model) -> None:
    me = Profile()
    me.learn("I called Kowalczyk. Kowalczyk came. Kowalczyk left. " + " ".join(f"Xylo{n}gram" for n in range(300)))
    assert suggestions(english, "We met", "Kowlaczyk", profile=me)[0] == ("Kowalczyk", "correction")
    assert suggestions(english, "We met", "kowal", profile=me)[0] == ("Kowalczyk", "completion")
    me.forget("Kowalczyk")
    for typed in ("Kowlaczyk", "Kowalczyk", "kowal"):
        assert "Kowalczyk" not in [word for word, _ in suggestions(english, "We met", typed, profile=me)]


def test_the_layout_says_which_letters_are_near() -> None:
    vocabulary = Vocabulary.build(["house mouse louse"] * 2)
    log_probs = torch.full((len(vocabulary),), 0.2).log()

    def first(layout) -> str:
        found = Ranking(vocabulary).best(Distribution(log_probs, {}), 1, partial="youse", keyboard=keyboard(layout))
        return found[0].word

    assert first("qwerty") == "house"
    assert first({"y": (0, 0), "m": (0, 1), "h": (5, 5), "l": [3, 3]}) == "mouse"
    one_key = {"y": (0, 0), "m": (0, 0), "h": (0, 1), "ß": (0, 1)}
    assert first(one_key) == "mouse"
    for wrong in ("colemak", {"ab": (0, 0)}, {"a": (float("nan"), 0)}):
        with pytest.raises(ValueError):
            keyboard(wrong)
    for layout in LAYOUTS:
        neighbours = keyboard(layout).neighbours
        assert {*"abcdefghijklmnopqrstuvwxyz"} <= neighbours.keys()
        assert all(sum(weights.values()) == pytest.approx(1) for weights in neighbours.values())


def test_scripts_without_a_layout_are_corrected_too() -> None:
    vocabulary = Vocabulary.build(["здравствуйте здание 지정 ώρα"] * 2)
    ranking = Ranking(vocabulary)
    log_probs = torch.full((len(vocabulary),), 0.1).log()
    for typed, word in (("здравстуйте", "здравствуйте"), ("здрваст", "здравствуйте"), ("지적", "지정"), ("ωρα", "ώρα")):
        found = ranking.best(Distribution(log_probs, {}), 1, partial=typed, keyboard=QWERTY)
        assert [(suggestion.word, suggestion.kind) for suggestion in found] == [(word, "correction")]


def test_blocked_and_excluded_words_do_not_come_back_through_a_slip(english: Model) -> None:
    for typed in ("nigegr", "niggwr", "niggr"):
        found = suggestions(english, "You are such a", typed)
        assert all("nigg" not in word for word, kind in found if kind != "typed")
    assert suggestions(english, "I went to the", "stroe", exclude=["Store"])[0][0] != "store"


def test_a_known_word_keeps_its_place_before_corrections(english: Model, distribution: Distribution) -> None:
    vocabulary = sorted({word for word in english.vocabulary.words[2:] if word.isalpha() and word.isascii()})
    misspelt = []
    for word in random.Random(0).sample(vocabulary, 600):
        found = english.rank(distribution, 5, partial=word, keyboard=QWERTY)
        kinds = [suggestion.kind for suggestion in found]
        place = next((place for place, suggestion in enumerate(found) if key(suggestion.word) == key(word)), 5)
        if "correction" in kinds[:place]:
            misspelt.append(word)
    assert len(misspelt) <= 3, misspelt  # the vocabulary has a few misspellings, such as teh
    for text, typed in (("I got a letter", "form"), ("He looks", "wel"), ("I know", "were"), ("Is that", "its")):
        assert "correction" not in [kind for _, kind in suggestions(english, text, typed)][:1]


def test_without_a_possible_slip_the_ranking_is_the_literal_one(english: Model, distribution: Distribution) -> None:
    keys = {key(word) for word in english.vocabulary.words}
    for word in random.Random(1).sample(sorted(keys), 400):
        for partial in {"", word[:1], word[:3], word[:-1]} - keys | {word[:1]}:
            literal = english.rank(distribution, 5, partial=partial)
            found = english.rank(distribution, 5, partial=partial, keyboard=QWERTY)
            assert [w.word for w in found if w.kind not in ("correction", "typed")] == [
                w.word for w in literal[: sum(w.kind not in ("correction", "typed") for w in found)]]
            if len(partial) < 2:
                assert found == literal


def test_shares_sum_to_one_and_are_sorted(english: Model, distribution: Distribution) -> None:
    for partial in ("quikc", "stor", "Teh", "were", "zbigniew", "we"):
        found = english.rank(distribution, 1000, partial=partial, keyboard=QWERTY)
        shares = [word.share for word in found]
        assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=0.1)
        assert all(word.confidence is None or word.confidence <= word.share + 1e-9 for word in found)


def test_candidates_are_those_of_every_word_alone(english: Model) -> None:
    """The tree of beginnings finds what a comparison with each word finds."""
    keys = sorted({key(word) for word in english.vocabulary.words[2:3000]})
    candidates, rng = Candidates(keys), random.Random(2)
    for _ in range(60):
        typed = rng.choice(keys)[: rng.randint(2, 9)]
        place = rng.randrange(len(typed))
        before, after = typed[:place], typed[place:]
        typed = rng.choice((typed, before + rng.choice("aeiost'") + after[rng.randint(0, 1):], before + after[1:],
                            before + after[1::-1] + after[2:]))
        numbers, weights = candidates.find(typed, QWERTY, 5.0)
        found = numpy.zeros(len(keys))
        found[numbers] = weights
        assert len(set(numbers.tolist())) == len(numbers)
        assert found == pytest.approx([weight_of(typed, word, QWERTY, 5.0) for word in keys], rel=1e-5), typed


def test_next_letters_are_sums_over_words(english: Model, distribution: Distribution) -> None:
    for partial in ("", "s", "St", "store", "qu", "quikc", "zbig", "don", "naï", "'", "1"):
        letters = english.rank_letters(distribution, partial)
        assert sum(letters.values()) == pytest.approx(1) and list(letters.values()) == sorted(letters.values())[::-1]
    words = english.rank(distribution, 10_000, partial="stor")
    assert english.rank_letters(distribution, "stor")["e"] == pytest.approx(
        sum(word.share for word in words if key(word.word)[4:5] == "e"))
    ended = [word.share for word in english.rank(distribution, 10_000, partial="store") if key(word.word) == "store"]
    assert english.rank_letters(distribution, "store")[""] == pytest.approx(ended[0])
    history = english.next_letters("I met", partial="Zorbu", history="Zorbulon is here.")
    assert history == {"l": pytest.approx(1)}


def test_no_typed_letters_are_a_fault(english: Model, distribution: Distribution) -> None:
    rng = random.Random(3)
    alphabets = ["abcdest'- ", "ÀÉñß\u0301\u0300ﬁİı", "지ㅈ짖ㅏ", "می\u200cخ", "צה\"״׳", "हिन्दी", "中文。",
                 "👍🏽❤\ufe0f\u200d", "\u200b\ufeff\x00\ud800", "0123.,", "ДЖЙё"]
    for _ in range(1500):
        letters = rng.choice(alphabets) + rng.choice(alphabets)
        typed = "".join(rng.choice(letters) for _ in range(rng.randint(1, rng.choice((3, 8, 100)))))
        found = english.rank(distribution, 5, partial=typed, keyboard=QWERTY, emoji=rng.random() < 0.5,
                             punctuation=rng.random() < 0.5)
        assert all(isinstance(word, Word) and word.word and 0 <= word.share <= 1 and word.probability >= 0
                   for word in found), ascii(typed)
        assert sum(english.rank_letters(distribution, typed).values()) == pytest.approx(1), ascii(typed)
