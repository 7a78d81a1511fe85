"""Tokens written as natural text."""
from __future__ import annotations

import doctest

import pytest

from nextword.lm import spacing
from nextword.lm.spacing import Spacing


def written(tokens: str) -> str:
    spacing = Spacing()
    return "".join(spacing.add(token) for token in tokens.split())


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("Well , I went . Then ?", "Well, I went. Then?"),
        ('" Go ! " she said ; " now . "', '"Go!" she said; "now."'),
        ("He said : ' No , ' and left", "He said: 'No,' and left"),
        ('" I — " " What ? "', '"I—" "What?"'),
        ("the boys ' club don't", "the boys' club don't"),
        ("( a ) [ b ] { c }", "(a) [b] {c}"),
        ("$ 3 . 14 , 1 , 000 , 10 : 30 , 7 %", "$3.14, 1,000, 10:30, 7%"),
        ("In 1984 . 12 % of 3 , 5 and 1984 : 2001", "In 1984.12% of 3, 5 and 1984: 2001"),
        ("the U . S . Army . A dog . I went", "the U.S. Army. A dog. I went"),
        ("and / or well - known . . . yes", "and/or well- known... yes"),
        ('He said : " Never <eos> " So', 'He said: "Never\n"So'),
        ("<eos> <eos> He", "\n\nHe"),
        ("Great 👍🏽 ! 😂 😂 See you at 3 . 1️⃣ and 🇬🇧 ❤️ .", "Great 👍🏽! 😂 😂 See you at 3. 1️⃣ and 🇬🇧 ❤️."),
        ("¿ Qué ? « Oui » 여기 는 .", "¿Qué? «Oui» 여기 는."),
    ],
)
def test_spaces_stand_where_people_put_them(tokens, text):
    assert written(tokens) == text


def test_it_goes_on_from_a_text():
    assert Spacing(['"', "I", "see"]).add('"') == '"'
    assert Spacing(["I", "see"]).add('"') == ' "'
    assert Spacing(["the"]).add("store") == " store"
    assert Spacing(["the"], spaced=True).add("store") == "store"
    assert Spacing().add("The") == "The"


def test_a_look_ahead_changes_nothing():
    spacing = Spacing(["He", "said"])
    assert [spacing.spelled(token) for token in ('"', ",", "so", "<eos>")] == [' "', ",", " so", "\n"]
    assert spacing.add('"') == ' "'
    assert spacing.add("Go") == "Go"


def test_what_is_written_is_read_as_the_same_tokens(tiny_model):
    tokens = ("I went to the store . <eos> \" Thank you , \" they said : ' no ' — ( 3 . 14 % ) well - so ; U . S . A "
              "boys ' $ 5 <eos> [ too ] and / or").split()
    text = written(" ".join(tokens))
    read = []
    for line in text.split("\n"):
        read += [*tiny_model.vocabulary.tokens(line), "<eos>"]
    assert read[:-1] == tokens


def test_the_example_is_true():
    assert doctest.testmod(spacing) == (0, 2)
