"""The model of a person: what a profile and a history change in the suggestions."""
from __future__ import annotations

import json
import random
import string
import weakref
from collections import ChainMap

import pytest

from nextword.lm import load
from nextword.lm.model import Model
from nextword.lm.profile import GAP, Profile, profile_of
from nextword.lm.words import key

NAMES = "Zbigniew Kowalczyk came. We saw Zbigniew Kowalczyk in town. Zbigniew Kowalczyk sleeps.\n"
TEXTS = (
    "I went to the Zorblax. You ran to the Zorblax.", "We met Quux at the Zorblax!\nThey ran to the store.", "Quux 🦊",
)


def words(model: Model, text: str = "I went to the", k: int = 20, **options) -> list[str]:
    return [word.word for word in model.next_words(text, k, **options)]


def learnt(*texts: str) -> Profile:
    profile = Profile()
    for text in texts:
        profile.learn(text)
    return profile


@pytest.mark.parametrize("person", [{"history": NAMES * 3}, {"profile": profile_of(NAMES * 3)}], ids=" ".join)
def test_a_surname_follows_its_first_name_though_the_vocabulary_lacks_both(person):
    model = load()
    assert "Kowalczyk" not in words(model, "Yesterday I called Zbigniew", 5)
    for text in ("Yesterday I called Zbigniew", "Yesterday i called ZBIGNIEW"):
        assert words(model, text, 5, **person)[0] == "Kowalczyk"
    assert "Kowalczyk" not in words(model, "Yesterday I called Anna", 3, **person)


def test_words_of_the_vocabulary_become_likelier_after_the_persons_words(tiny_model):
    def probability(text: str, profile: Profile | None = None) -> float:
        return next(w.probability for w in tiny_model.next_words(text, 40, profile=profile) if w.word == "zoo")

    profile = learnt("I went to the zoo. You went to the zoo.\n" * 3)
    elsewhere = probability("They", profile) / probability("They")
    assert probability("I went to the", profile) / probability("I went to the") > elsewhere > 1


def test_frequent_words_become_less_likely_if_the_person_does_not_use_them():
    model = load()
    [context] = model.extend([model.start], ["I looked at"])

    def odds(profile: Profile | None) -> float:
        probabilities = model.predict([context], None, [profile])[0].probabilities
        frequent, rare = (float(probabilities[model.vocabulary.words.index(word)]) for word in ("because", "piano"))
        return frequent / rare

    assert odds(learnt("I went to the store. You went to the store.\n" * 300)) < 0.9 * odds(None)


def test_a_model_keeps_no_profile_that_is_gone(tiny_model):
    profile = learnt("We met Zorblax there.")
    assert words(tiny_model, "We met", profile=profile)
    gone = weakref.ref(profile)
    del profile
    assert gone() is None


def test_distributions_have_the_sum_one(tiny_model):
    draw = random.Random(0)
    spellings = ["I", "went", "to", "the", "store", "Zorblax", "quux", "Quux", "Mr", ".", "🦊", "\n"]
    texts = [" ".join(draw.choices(spellings, k=draw.randrange(1, 60))) for _ in range(30)]
    for text in texts:
        [context] = tiny_model.extend([tiny_model.start], [text])
        history, profile = learnt(draw.choice(texts)), learnt(*draw.sample(texts, draw.randrange(4)))
        profile.teach("Xylo")
        for person in ([None, profile], [history, None], [history, profile]):
            distribution = tiny_model.predict([context], *([one] for one in person))[0]
            own = map(distribution.personal.beginning, string.ascii_lowercase)
            unknown = dict(ChainMap(distribution.unknown, *own))
            total = float(distribution.probabilities.sum()) + sum(unknown.values())
            assert total == pytest.approx(1, abs=1e-4)
            assert min(*distribution.unknown.values(), float(distribution.probabilities.min())) >= 0


def test_a_word_that_was_written_once_is_not_suggested_before_two_letters(tiny_model):
    profile = Profile()
    seen = []
    for _ in range(4):
        seen.append([typed for typed in ("", "z", "zo")
                     if "Zorblax" in words(tiny_model, partial=typed, profile=profile)])
        profile.learn("I went to the Zorblax.")
    assert seen == [[], ["zo"], ["z", "zo"], ["", "z", "zo"]]
    once = "I went to the Zorblax."
    assert "Zorblax" not in words(tiny_model, history=once)
    assert "Zorblax" in words(tiny_model, history=once, partial="zo")
    assert "Zorblax" in words(tiny_model, f"{once} I went to the", history=once)  # the text itself has it


def test_what_is_taken_back_leaves_no_trace(tiny_model):
    profile = learnt(*TEXTS)
    before = tiny_model.next_words("I went to the", 20, profile=profile)
    profile.learn(TEXTS[0])
    profile.learn("They met Mr. Frobozz at the Zorblax. " * 3)
    assert "Frobozz" in words(tiny_model, "They met Mr.", profile=profile)
    profile.unlearn("They met Mr. Frobozz at the Zorblax. " * 3)
    profile.unlearn(TEXTS[0])
    assert tiny_model.next_words("I went to the", 20, profile=profile) == before
    assert "Frobozz" not in [word.word for word in profile.words()]
    for text in TEXTS:
        profile.unlearn(text)
    assert len(profile) == 0
    with pytest.raises(ValueError, match="was not learnt, or it was taken back"):
        profile.unlearn(TEXTS[0])


def test_the_order_of_the_texts_does_not_matter(tiny_model):
    profiles = [learnt(*order) for order in (TEXTS, TEXTS[::-1], (TEXTS[1], TEXTS[2], TEXTS[0]))]
    for profile, order in zip(profiles, ("Quux", "Zorblax"), strict=False):
        profile.teach(order)
        profile.block("store")
        profile.teach("Zorblax" if order == "Quux" else "Quux")
    assert profiles[0].words() == profiles[1].words()
    assert json.dumps(profiles[0].decisions()) == json.dumps(profiles[1].decisions())
    for text in ("I went to the", "We met Quux"):
        first, second = (tiny_model.next_words(text, 20, profile=profile) for profile in profiles[:2])
        assert [word.word for word in first] == [word.word for word in second]
        assert [word.probability for word in first] == pytest.approx([word.probability for word in second])
    copy = learnt(*TEXTS)
    copy.decide(json.loads(json.dumps(profiles[0].decisions())))
    assert tiny_model.next_words("I went to the", 20, profile=copy) == tiny_model.next_words(
        "I went to the", 20, profile=profiles[0])


def test_a_forgotten_word_comes_back_only_when_it_is_taught_or_learnt(tiny_model):
    text = "I went to the Zorblax. They saw Zorblax's zoo. " * 4
    for word in ("Zorblax", "store"):  # outside the vocabulary and in it
        profile = learnt(text)
        assert word in words(tiny_model, profile=profile)
        profile.forget(word.upper())
        for typed in ("", word[:2], word[:4]):
            assert word not in words(tiny_model, f"{text} I went to the", partial=typed, profile=profile)
        kept = json.dumps([profile.decisions(), profile.spellings, list(profile.key_numbers)])
        assert word.lower() not in kept.lower()
        other = learnt(text.replace("Zorblax's", GAP).replace("Zorblax", GAP) if word == "Zorblax" else text)
        assert profile.words() == other.words()
        profile.unlearn(text)  # although a word of it is forgotten
        assert len(profile) == 0
        again = Profile()
        again.decide(profile.decisions())
        profile.teach(word)
        again.learn(f"I went to the {word}. " * 3)
        assert word in words(tiny_model, profile=profile) and word in words(tiny_model, profile=again)


def test_persons_allow_and_block_words(tiny_bundle):
    model, profile = load(tiny_bundle, blocklist=["store", "Zorblax"]), learnt("I went to the Zorblax. " * 4)
    assert not {"store", "Zorblax"} & set(words(model, profile=profile))
    profile.teach("store")
    profile.teach("Zorblax")
    assert {"store", "Zorblax"} <= set(words(model, profile=profile))
    assert "store" in words(model, partial="s", profile=profile) and "store" not in words(model, partial="s")
    profile.block("Store")
    profile.block("market")
    assert not {"store", "market"} & set(words(model, profile=profile))
    assert "market" not in words(model, partial="mark", profile=profile)
    assert "market" in words(model, partial="mark")


def test_own_words_keep_their_spelling(tiny_model):
    profile = learnt("We met O’Zorblax, DeQuux and iFoo.\n" * 3)
    for typed, word in (("o'z", "O’Zorblax"), ("o’z", "O’Zorblax"), ("deq", "DeQuux"), ("ifo", "iFoo")):
        assert words(tiny_model, "We met", partial=typed, profile=profile) == [word]
    assert [word.word for word in profile.words({"we", "met", "and"})] == ["DeQuux", "iFoo", "O’Zorblax"]
    profile.learn("DEQUUX " * 5)
    assert (profile.words()[0].word, profile.words()[0].count) == ("DEQUUX", 8)
    assert key(words(tiny_model, "We met", partial="deq", profile=profile)[0]) == "dequux"


def test_only_single_words_can_be_taught(tiny_model):
    for odd in ("", " ", "two words", GAP):
        with pytest.raises(ValueError, match="is not one word"):
            Profile().teach(odd)


def test_who_has_written_nothing_gets_the_answers_of_everybody(tiny_model):
    nobody = tiny_model.next_words("I went to the", 20, punctuation=True)
    assert tiny_model.next_words("I went to the", 20, punctuation=True, profile=Profile(), history=" \n") == nobody
