"""Next words over HTTP beyond a single text: history, phrases, several texts, and the rest of the answer."""
from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from nextword.serve.schemas import TEXTS_LIMIT, UNKNOWN_LIMIT
from tests.service_fixtures import PATIENCE, serving, wait_until
from tests.word_cases import COMPLETED

PATH = "/v1/next-words"


def answer(http: httpx.Client, **question) -> dict:
    response = http.post(PATH, json=question)
    assert response.status_code == 200, response.text
    return response.json()


def words(http: httpx.Client, **question) -> list[str]:
    return [word["word"] for word in answer(http, **question)["words"]]


@pytest.fixture(scope="module")
def remembering(tiny_bundle, tmp_path_factory):
    """Speaks to a service whose model has a continuous cache, which is of no use for the invented text."""
    folder = tmp_path_factory.mktemp("remembering")
    bundle = folder / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    description = json.loads((bundle / "bundle.json").read_text())
    description.update(cache={"theta": 12.0, "weight": 0.3, "size": 2000}, sha256="")
    (bundle / "bundle.json").write_text(json.dumps(description))
    with serving(folder, bundle) as server, httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        yield client


def test_history_makes_its_words_likelier(remembering):
    def probability(**question) -> float:
        found = answer(remembering, text="I went to the", k=20, **question)["words"]
        return next(word["probability"] for word in found if word["word"] == "beach")

    assert probability(history="I went to the beach. You ran to the beach.\n" * 3) > 1.1 * probability()


def test_history_brings_words_that_the_vocabulary_lacks(remembering):
    assert "Zorbulon" in words(remembering, text="I went to the", k=20, history="I went to the Zorbulon today.\n" * 5)
    fields = {"text": "I went to the", "partial": "zor", "max_words": 2}
    assert words(remembering, **fields, history="I went to the Zorbulon.") == ["Zorbulon"]
    assert words(remembering, **fields, typos=False) == []
    fields = {"history": "I went to the Zorbulon.\n" * 5, "k": 20}
    texts = ["I went to the", "You ran to the"]
    alone = [answer(remembering, text=text, **fields) for text in texts]
    assert answer(remembering, text=texts, **fields)["results"] == alone


@pytest.mark.parametrize("typed, word", COMPLETED, ids=ascii)
def test_a_word_is_completed_however_it_is_typed(remembering, typed, word):
    assert words(remembering, text="He is", partial=typed, history=f"He is {word}. He is {word}.") == [word]


def test_emoji_come_where_they_are_asked_for(remembering):
    question = {"text": "I went to the", "history": "I went to the 👍🏽. We went to the ❤.", "k": 30}
    for options, expected in (({}, set()), ({"punctuation": True}, set()), ({"emoji": True}, {"👍🏽", "❤\ufe0f"})):
        assert {"👍🏽", "❤\ufe0f"} & set(words(remembering, **question, **options)) == expected


def test_history_of_blanks_is_none(remembering):
    assert answer(remembering, text="You ran to the") == answer(remembering, text="You ran to the", history=" \n")


def test_phrases(http):
    assert "London zoo" in words(http, text="I went to the", k=10, max_words=2)
    assert "London" in words(http, text="I went to the", k=10)
    assert "Thank you very much" in words(http, text="", max_words=10)


def test_several_texts_get_an_answer_each_in_their_order(http):
    texts = ["I went to the", "", "Thank you very", "I went to the Zorbulon"]
    results = answer(http, text=texts, k=3, max_words=2)
    assert results.keys() == {"results"}
    assert results["results"] == [answer(http, text=text, k=3, max_words=2) for text in texts]
    assert len(answer(http, text=["I"] * TEXTS_LIMIT)["results"]) == TEXTS_LIMIT
    assert len(answer(http, text=["I"])["results"]) == 1


def test_unknown_words_are_named_once_and_in_order(http):
    text = "The Zorbulon, I went to the store with Zorbulon and Quux\n42 zorbulon"
    assert answer(http, text=text)["unknown"] == ["The", "Zorbulon", "with", "and", "Quux", "42", "zorbulon"]
    many = [f"q{number}" for number in range(UNKNOWN_LIMIT + 50)]
    assert answer(http, text=" ".join(many))["unknown"] == many[:UNKNOWN_LIMIT]
    assert answer(http, text="I went", history="Zorbulon")["unknown"] == []


def test_the_used_context_is_counted(http):
    assert answer(http, text="")["context_used"] == 0
    assert answer(http, text="I went, to")["context_used"] == 4
    assert answer(http, text="I went\nto  ")["context_used"] == 4
    assert 700 <= answer(http, text="I went to the park. " * 5000)["context_used"] <= 2400


def test_what_was_asked_before_changes_no_answer(http, tiny_model):
    """The service knows the beginnings of these texts by then, and must answer as if it did not."""
    text = "I went to the Zorbulon - you ran -- to the\nLondon zoo today. Thank"
    for end in range(len(text)):
        found = answer(http, text=text[:end], k=3)
        fresh = tiny_model.next_words(text[:end], 3)
        assert [word["word"] for word in found["words"]] == [word.word for word in fresh]
        assert [word["logprob"] for word in found["words"]] == pytest.approx([word.logprob for word in fresh], abs=1e-4)


def test_others_are_answered_while_a_long_list_is(http):
    texts = [f"{number} {'I went to the park today. ' * 300}" for number in range(TEXTS_LIMIT // 2)]
    with ThreadPoolExecutor(1) as pool:
        several = pool.submit(answer, http, text=texts)
        wait_until(lambda: http.get("/ready").json()["waiting"], "the list")
        assert answer(http, text="I went to the")["words"]
        assert not several.done()
        assert len(several.result()["results"]) == len(texts)


def test_examples_of_the_documentation_are_true(http):
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    for path, request, response in (
        (PATH, "NextWordsRequest", "NextWordsResponse"),
        ("/v1/score", "ScoreRequest", "ScoreResponse"),
        ("/v1/next-letters", "NextLettersRequest", "NextLettersResponse"),
    ):
        for example in schemas[request]["examples"]:
            found = http.post(path, json=example)
            assert found.status_code == 200
            for shown in schemas[response]["examples"]:
                assert json.dumps(sorted(shown)) == json.dumps(sorted(found.json()))


def test_corrections_over_http(http):
    best = answer(http, text="I went to the", partial="stroe")["words"][0]
    assert (best["word"], best["kind"]) == ("store", "correction") and 0.5 < best["confidence"] <= 1
    assert words(http, text="I went to the", partial="stroe", typos=False) == []
    for partial, kind in (("", "next"), ("st", "completion"), ("xq", "typed")):
        best = answer(http, text=["I went to the"], partial=partial)["results"][0]["words"][0]
        assert (best["kind"], best["confidence"]) == (kind, None)
    assert words(http, text="Thank you very", partial="mich", max_words=3)[0].startswith("much")


def test_the_layout_of_a_request_or_of_the_settings_counts(http, tiny_bundle, tmp_path):
    question = {"text": "I went to the", "partial": "lark"}

    def confidence(client: httpx.Client, **fields) -> float:
        found = answer(client, **question, **fields)["words"]
        return next(word["confidence"] for word in found if word["word"] == "park")

    near, far = {"l": [0, 0], "p": [1, 0], "m": [9, 9]}, {"l": [0, 0], "p": [9, 9], "m": [1, 0]}
    assert confidence(http, layout=near) > confidence(http, layout=far)
    one_key = {"l": [0, 0], "p": [0, 0], "m": [1, 0], "ß": [1, 0]}
    assert confidence(http, layout=one_key) > confidence(http, layout=far)
    assert confidence(http, layout="qwerty") == confidence(http)
    with serving(tmp_path, tiny_bundle, "--layout", json.dumps(near)) as server:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            assert confidence(client) == confidence(http, layout=near)
            assert confidence(client, layout="azerty") == confidence(http, layout="azerty")
    for layout, where in (("colemak", "layout"), ({"l": [0, 0]}, "layout"), ({"l": [0], "p": [1, 0]}, "layout.l"),
                          (5, "layout"), ({"lp": [0, 0], "p": [1, 0]}, "layout.lp"),
                          ({"l": [0, 1e300], "p": [0, 0]}, "layout.l.1"),
                          ({"l": [0, 10**400], "p": [0, 0]}, "layout.l.1")):
        refused = http.post(PATH, json={**question, "layout": layout})
        assert refused.status_code == 422 and refused.json()["error"]["where"] == where, (layout, refused.text)


def test_next_letters_sum_to_one(http):
    for partial in ("", "s", "st", "store", "xyz"):
        response = http.post("/v1/next-letters", json={"text": "I went to the", "partial": partial})
        assert response.status_code == 200
        found = response.json()
        assert found["end"] + sum(letter["probability"] for letter in found["letters"]) == pytest.approx(1)
    assert [letter["letter"] for letter in found["letters"]]
    letters = http.post("/v1/next-letters", json={"text": "I went to the", "partial": "st"}).json()["letters"]
    literal = answer(http, text="I went to the", partial="st", typos=False)["words"]
    shares = {word["word"]: word["share"] for word in literal}
    assert {letter["letter"]: letter["probability"] for letter in letters} == pytest.approx(
        {"o": shares["store"], "a": shares["station"]})
    assert http.post("/v1/next-letters", json={"text": "I", "k": 3}).status_code == 422
