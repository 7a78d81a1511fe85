"""From a bundle to next words, through Python and the command line."""
import json
import math
import shutil
import subprocess
import sys

import pytest
import torch

from nextword.lm import BundleError, load
from nextword.lm.bundle import open_bundle, write_bundle
from nextword.lm.command import main
from nextword.lm.context import Distribution
from nextword.lm.continuous_cache import CacheSettings
from nextword.lm.ranking import Ranking
from nextword.lm.vocabulary import Vocabulary

PLACES = {"store", "market", "park", "station", "beach", "London"}


def test_next_words_are_sensible_sorted_probabilities(tiny_model):
    words = tiny_model.next_words("I went to the", k=6)
    assert {word.word for word in words} == PLACES
    assert [w.probability for w in words] == sorted((w.probability for w in words), reverse=True)
    assert 0.9 < sum(word.probability for word in words) <= 1.0 + 1e-6
    assert all(word.logprob == pytest.approx(math.log(word.probability)) for word in words)
    assert tiny_model.next_words("Thank you very", k=1)[0].word == "much"


def test_contexts_that_say_the_same(tiny_model):
    expected = tiny_model.next_words("We ran to the")
    assert tiny_model.next_words("We ran  to the \n") != expected  # a line break ends the paragraph
    for same in ("We ran to the ", " We  ran\tto the", "\n\nWe ran to the"):
        assert tiny_model.next_words(same) == expected


def test_the_empty_text_begins_a_sentence(tiny_model):
    beginnings = {"I", "We", "They", "You", "Thank"}
    assert {word.word for word in tiny_model.next_words("", k=5)} == beginnings
    assert {word.word for word in tiny_model.next_words("Thank you very much!\n", k=5)} == beginnings


def test_words_only_unless_punctuation_is_asked_for(tiny_model):
    everything = len(tiny_model.vocabulary)
    plain = [word.word for word in tiny_model.next_words("Thank you very much", k=everything)]
    marks = [word.word for word in tiny_model.next_words("Thank you very much", k=everything, punctuation=True)]
    assert "!" not in plain and marks[0] == "!"
    assert not {"<unk>", "<eos>"} & set(marks)
    assert len(plain) == len(set(map(str.casefold, plain)))


def test_typed_letters_restrict_the_words(tiny_model):
    def words(partial, **options):
        return [word.word for word in tiny_model.next_words("I went to the", partial=partial, **options)]

    assert set(words("st")) == {"store", "station"}
    assert words("lo") == ["London"]
    assert words("xyz", typos=False) == []
    assert words("S")[0] in ("Store", "Station")  # capitals are kept
    assert words("st", exclude=["STORE"]) == ["station"]
    assert set(words("", k=5, exclude=PLACES - {"park"})) & PLACES == {"park"}


def test_typed_prefixes_are_exact_over_the_whole_vocabulary(tiny_model):
    distribution = tiny_model.predict(tiny_model.extend([tiny_model.start], ["They walked to"]))[0]
    total = distribution.log_probs.exp()
    for partial in "abcdefghijklmnopqrstuvwxyz":
        expected = {}
        for word, p, fine in zip(tiny_model.vocabulary.words, total.tolist(), tiny_model.vocabulary.is_word()):
            if fine and word.casefold().startswith(partial):
                expected[word.casefold()] = expected.get(word.casefold(), 0) + p
        found = tiny_model.rank(distribution, 100, partial=partial)
        assert {w.word.casefold(): w.probability for w in found} == pytest.approx(expected)


def test_spellings_in_another_case_are_one_suggestion():
    vocabulary = Vocabulary.build(["the The the Lord lord lo don't ."] * 2)
    ranking = Ranking(vocabulary)
    chances = dict.fromkeys(vocabulary.words, 0.0) | {"the": 0.2, "The": 0.1, "Lord": 0.25, "lo": 0.05, "don't": 0.28,
                                                      ".": 0.12}
    log_probs = torch.tensor([chances[word] for word in vocabulary.words]).log()
    given = Distribution(log_probs, {})
    assert [w.word for w in ranking.best(given, 4)] == ["the", "don't", "Lord", "lo"]
    assert ranking.best(given, 1)[0].probability == pytest.approx(0.3)
    assert [w.word for w in ranking.best(given, 4, partial="DON’")] == ["DON'T"]
    assert [w.word for w in ranking.best(given, 4, partial="L")] == ["Lord", "Lo"]
    assert list(ranking.places(given, "The", 9)) == [0, 0, 0]


def test_reading_on_is_reading_it_all(tiny_model):
    parts = ["I went to the Zorblax today. They", " ran to the Zorblax ", "and\nto"]
    context = tiny_model.start
    for part in parts:
        [context] = tiny_model.extend([context], [part])
    whole, other, short = tiny_model.extend([tiny_model.start] * 3, ["".join(parts), "", "Thank you very"])
    assert context.unknown == whole.unknown and "Zorblax" in whole.unknown.values()
    assert context.cached.tokens.tolist() == whole.cached.tokens.tolist() and context.length == whole.length
    assert other.length == 0 and other.state is tiny_model.start.state
    for a, b in zip(tiny_model.predict([context, short]), tiny_model.predict([whole, short])):
        torch.testing.assert_close(a.log_probs, b.log_probs)
        assert a.unknown == pytest.approx(b.unknown)
        assert float(a.log_probs.exp().sum()) + sum(a.unknown.values()) == pytest.approx(1, abs=1e-4)


def test_words_of_the_history_are_suggested_again(tiny_bundle):
    tiny_model = load(tiny_bundle)
    tiny_model.cache = CacheSettings(theta=12.0, weight=0.1)  # tuning finds no use for it on so simple a text
    history = "We met O’Zorblax. I went to the O’Zorblax. They ran to the O’Zorblax."
    assert tiny_model.next_words("I went to the", partial="o") == []
    found = {word.word: word.probability for word in tiny_model.next_words("I went to the", k=10, history=history)}
    assert found["O’Zorblax"] > 0.005  # in its own spelling
    assert [w.word for w in tiny_model.next_words("I went to the", partial="o'z", history=history)] == ["O’Zorblax"]
    assert [w.word for w in tiny_model.next_words("O’Zorblax ran to the", partial="O")] == ["O’Zorblax"]
    without = {word.word: word.probability for word in tiny_model.next_words("I went to the", k=10)}
    more = {word.word: word.probability for word in tiny_model.next_words(
        "I went to the", k=10, history="I went to the beach. We ran to the beach.")}
    assert more["beach"] > without["beach"] and more.get("park", 0) <= without["park"]


def test_scores_add_up_to_the_chain_of_predictions(tiny_model):
    scores = tiny_model.score("I went to the zebra.\nThank")
    assert [s.word for s in scores] == ["I", "went", "to", "the", "zebra", ".", "<eos>", "Thank"]
    assert [s.known for s in scores] == [True] * 4 + [False] + [True] * 3
    ids, state = [1, *tiny_model.vocabulary.encode("I went to the zebra.\nThank")], tiny_model.program.initial_state(1)
    for before, after, scored in zip(ids, ids[1:], scores):
        state = tiny_model.program.read(torch.tensor([[before]]), torch.tensor([1]), state)
        log_probs = tiny_model.program.log_probs(tiny_model.program.output(state))
        assert scored.logprob == pytest.approx(float(log_probs[0, after]), abs=1e-4)
    assert tiny_model.score("") == []


def test_k_below_one_is_refused(tiny_model):
    with pytest.raises(ValueError, match="k is 0"):
        tiny_model.next_words("I", k=0)


def test_long_and_odd_texts_are_answered(tiny_model):
    for text in ("word " * 3000, "\u0000\ud7ff\U0010ffff", "🙂" * 50, "나는 학교에", "a\u0301" * 100, "\n" * 50):
        assert len(tiny_model.next_words(text, k=3)) == 3


def damage(folder, what):
    if what == "no folder":
        shutil.rmtree(folder)
    elif what == "no description":
        (folder / "bundle.json").unlink()
    elif what == "not json":
        (folder / "bundle.json").write_text("{")
    elif what == "missing model":
        (folder / "model.pt").unlink()
    elif what == "flipped bit":
        data = bytearray((folder / "model.pt").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "model.pt").write_bytes(data)
    elif what == "cut off":
        (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes()[:-10])
    else:
        description = json.loads((folder / "bundle.json").read_text())
        changes = {
            "newer": {"format": 99},
            "no files": {"files": {}},
            "odd name": {"name": 3},
            "odd list": {"half_words": [3]},
        }
        description.update(changes[what])
        (folder / "bundle.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    "what, message",
    [
        ("no folder", "no such folder"),
        ("no description", "not a bundle.*no bundle.json"),
        ("not json", "damaged: bundle.json"),
        ("missing model", "model.pt is missing"),
        ("flipped bit", "damaged: model.pt"),
        ("cut off", "damaged: tokenizer.json"),
        ("newer", "format 99.*update"),
        ("no files", "damaged: bundle.json.*model.pt and tokenizer.json missing"),
        ("odd name", "damaged: bundle.json.*name: "),
        ("odd list", "damaged: bundle.json.*half_words.0: "),
    ],
)
def test_what_is_wrong_with_a_bundle_is_said(tiny_bundle, tmp_path, what, message, capsys):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    damage(folder, what)
    with pytest.raises(BundleError, match=message):
        load(folder)
    assert main(["predict", "I", "--bundle", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(folder) in error


def test_parts_of_two_bundles_do_not_load(tiny_bundle, tmp_path):
    bundle = open_bundle(tiny_bundle)
    other = Vocabulary.build(["quite another vocabulary"])
    write_bundle(tmp_path / "mixed", bundle.content["model.pt"], other.to_json(), {"name": "mixed"})
    with pytest.raises(BundleError, match="the network has .* tokens and the tokenizer 5"):
        load(tmp_path / "mixed")
    write_bundle(tmp_path / "text", b"not TorchScript", other.to_json(), {"name": "text"})
    with pytest.raises(BundleError, match="cannot be loaded"):
        load(tmp_path / "text")


def test_a_bundle_is_written_whole_or_not_at_all(tiny_bundle, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear all")
    with pytest.raises(BundleError, match="not overwritten"):
        write_bundle(tmp_path / "mine", b"", "{}", {"name": "x"})
    with pytest.raises(TypeError):
        write_bundle(tmp_path / "new", b"", "{}", {"name": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    for content in (b"one", b"two"):
        write_bundle(tmp_path / "new", content, "{}", {"name": "x"})
    assert (tmp_path / "new" / "model.pt").read_bytes() == b"two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "new"]


def test_predict_on_the_command_line(tiny_bundle, tiny_model, capsys):
    command = ["predict", "I went to the", "-k", "3", "--bundle", str(tiny_bundle)]
    plain = subprocess.run(
        [sys.executable, "-W", "default", "-m", "nextword.lm", *command], capture_output=True, text=True
    )
    assert plain.returncode == 0 and plain.stderr == ""
    expected = tiny_model.next_words("I went to the", k=3)
    assert [line.split()[0] for line in plain.stdout.splitlines()] == [word.word for word in expected]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["model"] == "tiny" and answer["words"][0]["logprob"] == pytest.approx(expected[0].logprob)


def test_the_bundled_model_is_sensible():
    model = load()
    assert {"house", "door", "room", "same", "theatre", "station", "bed", "window", "movies", "theater", "library",
            "hospital", "store", "cinema"} & {word.word for word in model.next_words("I went to the", k=5)}
    assert model.next_words("Thank you very", k=1)[0].word == "much"
    assert model.next_words("I live in New", k=1)[0].word == "York"
