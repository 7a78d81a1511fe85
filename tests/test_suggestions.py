"""Suggestions that look right: what is not offered unprompted, and how words are cased."""
import json
import subprocess
import sys

import httpx
import pytest
import torch

from nextword.lm import load
from nextword.lm.blocklist import read_blocklist
from nextword.lm.bundle import open_bundle, write_bundle
from nextword.lm.command import main
from nextword.lm.context import Distribution
from nextword.lm.continuous_cache import CacheSettings
from nextword.lm.ranking import Ranking
from nextword.lm.vocabulary import Vocabulary
from nextword.training.suppressed_words import suppressed_words
from tests.service_fixtures import serving
from tests.word_cases import COMPLETED

PLACES = {"store", "market", "park", "station", "beach", "London"}
TEXT = "I went to the"


def words(model, text=TEXT, k=30, **options):
    return [word.word for word in model.next_words(text, k, **options)]


@pytest.fixture
def with_names(tiny_bundle, tmp_path):
    """The tiny bundle as if hardly a document had London."""
    bundle = open_bundle(tiny_bundle)
    described = {key: value for key, value in bundle.metadata.items() if key not in ("format", "files")}
    return load(write_bundle(tmp_path / "named", bundle.content["model.pt"], bundle.content["tokenizer.json"].decode(),
                             {**described, "names_of_few_documents": ["London"]}))


def test_blocked_words_come_when_three_letters_are_typed(tiny_bundle):
    model = load(tiny_bundle, blocklist=["Station"])
    assert "station" not in words(model) and PLACES - {"station"} <= set(words(model))
    for partial in ("s", "st"):
        assert "store" in words(model, partial=partial) and "station" not in words(model, partial=partial)
    for partial in ("sta", "stati", "station"):
        assert words(model, partial=partial) == ["station"]
    assert "Station" in words(model, partial="Sta")
    assert "station" not in words(model, "The station! We ran to the station! They ran to the")
    assert "station" in words(load(tiny_bundle, blocklist=()))


def test_blocked_words_that_only_the_history_has_are_not_offered_either(tiny_bundle):
    model = load(tiny_bundle, blocklist=["zorblax"])
    model.cache = CacheSettings(theta=12.0, weight=0.5)
    history = "I went to the Zorblax. They ran to the Zorblax."
    assert "Zorblax" not in words(model, history=history)
    assert words(model, history=history, partial="zo") == ["zoo"]
    assert words(model, history=history, partial="zor") == ["Zorblax"]


def test_names_of_few_documents_come_when_typed_or_in_the_text(with_names, tiny_model):
    assert "London" in words(tiny_model)
    assert "London" not in words(with_names) and PLACES - {"London"} <= set(words(with_names))
    assert words(with_names, partial="l") == ["London"]
    assert "London" in words(with_names, "We ran to the London zoo. I went to the")
    assert "London" in words(with_names, history="We ran to the London zoo.")


def test_places_are_those_among_the_suggestions(with_names):
    with_names._ranking = Ranking(with_names.vocabulary, ["station"], ["London"])
    for text in (TEXT, "We ran to the London zoo. I went to the"):
        distribution = with_names.predict(with_names.extend([with_names.start], [text]))[0]
        for word in ("station", "store", "London"):
            expected = []
            for count in range(len(word)):
                found = [w.word for w in with_names.rank(distribution, 3, partial=word[:count])]
                expected.append(found.index(word) if word in found else 3)
            assert list(with_names.places(distribution, word, 3)) == expected


def test_phrases_go_on_without_blocked_words(tiny_bundle):
    from nextword.lm.phrases import lengthened

    for blocklist, expected in (((), "Thank you very much"), (["much"], "Thank you very")):
        model = load(tiny_bundle, blocklist=blocklist)
        [context] = model.extend([model.start], ["We went to the store.\n"])
        best = [word for word in model.rank(model.predict([context])[0], 30) if word.word == "Thank"]
        assert [phrase.word for phrase in lengthened(model, best, context, max_words=4)] == [expected]


def test_capitals_where_nearly_all_that_may_come_has_one():
    vocabulary = Vocabulary.build(["The He went I'm iPod mc"] * 2)

    def found(chances, **options):
        log_probs = torch.tensor([chances.get(word, 0.0) for word in vocabulary.words]).log()
        return [word.word for word in Ranking(vocabulary).best(Distribution(log_probs, {}), 9, **options)]

    start = {"The": 0.5, "He": 0.44, "went": 0.04, "iPod": 0.02}
    assert found(start) == ["The", "He", "Went", "iPod"]
    assert found(start, partial="w") == ["Went"]
    assert found({"The": 0.5, "went": 0.3, "He": 0.2}) == ["The", "went", "He"]


VOCABULARY = Vocabulary.build(["Straße straßen find"] * 2)


def best(chances, unknown=(), blocked=(), k=9, **options):
    """What is suggested of words with these chances."""
    log_probs = torch.tensor([chances.get(word, 0.0) for word in VOCABULARY.words]).log()
    return Ranking(VOCABULARY, blocked).best(Distribution(log_probs, dict(unknown)), k, **options)


def test_a_beginning_fits_however_its_characters_are_encoded():
    composed, decomposed = "Zorébulon", "Zore\u0301bulon"
    unknown = {decomposed: 0.2, composed: 0.1, "Zoré\u00adbulon": 0.1}
    for beginning in ("Zoré", "Zore\u0301", "zore\u0301", "Zo\u200bré"):
        word, = best({"find": 0.6}, unknown, partial=beginning)
        assert (word.word, round(word.probability, 6)) == (composed, 0.4)
    assert not best({"find": 0.6}, unknown, partial="zo", exclude=[decomposed])


@pytest.mark.parametrize("options", [{}, {"partial": "s"}, {"partial": "S"}, {"partial": "St", "exclude": ["find"]},
                                     {"exclude": ["straße"]}], ids=str)
def test_shares_of_all_words_that_could_be_suggested_sum_to_one(options):
    chances = {"Straße": 0.3, "straßen": 0.2, "find": 0.4}
    unknown = {"Stork": 0.05, "straße": 0.04, "zoo": 0.01}
    every = best(chances, unknown, **options)
    assert sum(word.share for word in every) == pytest.approx(1, abs=1e-5)
    assert best(chances, unknown, k=1, **options)[0].share == pytest.approx(every[0].share)
    ratios = [word.share / word.probability for word in every]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_blocked_words_do_not_crowd_others_out():
    unknown = {"zzaff": 0.2, "zzebb": 0.2, "zzicc": 0.1}
    assert [word.word for word in best({"find": 0.5}, unknown, ["zzaff", "zzebb"], k=1, partial="zz")] == ["zzicc"]


@pytest.mark.parametrize("typed, fitting", [
    ("STRASS", ["STRASSE", "STRASSEN"]), ("STRASSE", ["STRASSE", "STRASSEN"]), ("STRAS", ["STRASSE", "STRASSEN"]),
    ("Strass", ["Strasse", "Strassen"]), ("straß", ["Straße", "straßen"]), ("ﬁ", ["find"]),
])  # fmt: skip
def test_a_beginning_of_which_case_changes_the_length_is_completed_whole(typed, fitting):
    assert [word.word for word in best({"Straße": 0.5, "straßen": 0.3, "find": 0.2}, partial=typed)] == fitting


def test_the_blocklist_is_a_file_of_words(tmp_path, tiny_bundle, capsys):
    own = read_blocklist()
    assert "nigger" in own and not any(word.startswith("#") or " " in word for word in own) and len(own) < 200
    assert read_blocklist("none") == ()
    (tmp_path / "mine.txt").write_text("# mine\nStation  # a place\n\nPark\n")
    assert read_blocklist(tmp_path / "mine.txt") == ("Station", "Park")
    command = ["predict", TEXT, "-k", "30", "--json", "--bundle", str(tiny_bundle)]
    for source, missing in (("none", set()), (str(tmp_path / "mine.txt"), {"station", "park"})):
        assert main([*command, "--unprompted-blocklist", source]) == 0
        assert PLACES - {word["word"] for word in json.loads(capsys.readouterr().out)["words"]} == missing
    assert main([*command, "--unprompted-blocklist", str(tmp_path / "no.txt")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "accepted: own, none" in error


def test_a_service_has_the_list_that_it_is_given(tmp_path, tiny_bundle):
    (tmp_path / "mine.txt").write_text("station\n")
    with serving(tmp_path, tiny_bundle, "--unprompted-blocklist", str(tmp_path / "mine.txt")) as server:
        def found(**question):
            answer = httpx.post(f"{server.url}/v1/next-words", json={"text": TEXT, "k": 10, **question}).json()
            return {word["word"] for word in answer["words"]} & PLACES

        assert found() == PLACES - {"station"} and found(partial="sta") == {"station"}
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "nextword.serve",
            "--bundle",
            str(tiny_bundle),
            "--unprompted-blocklist",
            str(tmp_path / "no.txt"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2 and run.stderr.count("\n") == 1 and "accepted: own, none" in run.stderr


def test_names_of_few_documents_are_found():
    common = [f"Mary met Ann Smith {number} times." for number in range(1200)]
    novel = ["Zelda saw Mary. Zelda smiled. A Rose is a rose. " * 50, "Zelda left."]
    vocabulary = Vocabulary.build([*common, *novel])
    found = suppressed_words([[*common, *novel, *novel]], vocabulary)
    assert found == {"names_of_few_documents": ["Zelda", "A", "Rose"], "stock_names": [], "half_words": []}
    assert suppressed_words([novel], vocabulary)["names_of_few_documents"] == []


def test_stock_names_are_those_of_one_source():
    examples = [f"Tom and Ann saw {number} cats in Rome." for number in range(1200)]
    reviews = [f"Ann liked the {number} films of Tom Cruise, shot in Rome." * (number < 3) for number in range(60)]
    reviews += [f"Ann and Bob liked {number} films shot in Rome. " * 4 for number in range(1000)]
    vocabulary = Vocabulary.build([*examples, *reviews, "tom"])
    assert suppressed_words([examples, reviews], vocabulary)["stock_names"] == ["Bob", "Tom"]
    assert suppressed_words([examples, reviews[:60]], vocabulary)["stock_names"] == [], (
        "a source of few documents is about them"
    )
    assert suppressed_words([[*examples, *reviews]], vocabulary)["stock_names"] == []


def test_half_words_are_found_and_never_suggested():
    vocabulary = Vocabulary.build(
        texts := ["What a f*ck`ed day! Oh f***, Ed. Ten cars*trucks. More trucks, cars, trucks, cars."] * 2
    )
    assert set(suppressed_words([texts], vocabulary)["half_words"]) == {"f", "ck", "ed"}
    ranking = Ranking(vocabulary, half_words=["ck", "ed"])
    log_probs = torch.tensor(
        [{"ck": 0.5, "ed": 0.2, "Ed": 0.2, "day": 0.1}.get(word, 0.0) for word in vocabulary.words]
    ).log()
    for partial, expected in (("", ["Ed", "day"]), ("c", []), ("e", ["Ed"]), ("d", ["day"])):
        found = ranking.best(Distribution(log_probs, {}), 2, partial=partial, punctuation=True)
        assert [word.word for word in found] == expected


def test_stock_names_are_less_likely_until_the_text_has_them():
    vocabulary = Vocabulary.build(["Tom Ann tom Tomb"] * 2)
    ranking = Ranking(vocabulary, stock=["Tom"])
    log_probs = torch.tensor([{"Tom": 0.6, "Ann": 0.3, "Tomb": 0.1}.get(word, 0.0) for word in vocabulary.words]).log()

    def found(seen=None, **options):
        best = ranking.best(Distribution(log_probs, {}, seen), 3, **options)
        return {word.word: word.probability for word in best}

    assert found() == pytest.approx({"Ann": 0.3, "Tom": 0.15, "Tomb": 0.1}, rel=1e-5)
    assert found(partial="t") == pytest.approx({"Tom": 0.6, "Tomb": 0.1}, rel=1e-5)
    assert found(torch.tensor([vocabulary.words.index("tom")])) == pytest.approx(
        {"Tom": 0.6, "Ann": 0.3, "Tomb": 0.1}, rel=1e-5
    )
    assert list(ranking.places(Distribution(log_probs, {}), "Tom", 3)) == [1, 0, 0]


def test_a_capital_that_one_document_gives_a_word_is_not_suggested():
    vocabulary = Vocabulary.build(["Cousin cousin Smith"] * 2)
    log_probs = torch.tensor(
        [{"Cousin": 0.5, "Smith": 0.3, "cousin": 0.2}.get(word, 0.0) for word in vocabulary.words]
    ).log()
    best = Ranking(vocabulary, names=["Cousin"]).best(Distribution(log_probs, {}), 3)
    assert [(word.word, round(word.probability, 5)) for word in best] == [("Smith", 0.3), ("cousin", 0.2)]


def test_capitals_throughout_are_kept(tiny_model):
    assert words(tiny_model, partial="LO") == ["LONDON"] and words(tiny_model, partial="L") == ["London"]
    assert "STORE" in words(tiny_model, partial="ST") and "Store" in words(tiny_model, partial="St")


def test_the_bundled_model_suggests_as_one_writes():
    model = load()
    for text in ("", "I went home.", 'She said, "', "Hello!\n", "How are you?"):
        for word in [*words(model, text, 8), *words(model, text, 5, partial="w"), *words(model, text, 5, partial="s")]:
            assert not word[0].islower(), (text, word)
    assert words(model, "", 3, partial="i")[0] == "I" and "London" in words(model, "He lives in", 5, partial="l")
    assert words(model, "You are such a", 1, partial="bitc") == ["bitch"]


@pytest.mark.parametrize("typed, word", COMPLETED, ids=ascii)
def test_a_beginning_finds_the_word_in_every_script(typed, word):
    vocabulary = Vocabulary.build([f"{word} xyz"])
    log_probs = torch.tensor([{word: 0.5}.get(token, 0.1) for token in vocabulary.words]).log()
    known = Ranking(vocabulary).best(Distribution(log_probs, {}), 3, partial=typed)
    assert [suggestion.word for suggestion in known] == [word]
    unknown = best({}, {word: 0.5}, partial=typed)
    assert [suggestion.word for suggestion in unknown] == [word]


def test_emoji_are_suggested_where_asked_for_alone():
    heart, family = "❤\ufe0f", "👩\u200d👧"
    vocabulary = Vocabulary.build([f"yes 👍🏽 {family} 1\ufe0f\u20e3 ❤ !"])
    assert len(vocabulary) == 8
    chances = {"👍🏽": 0.3, "yes": 0.2, family: 0.15, "!": 0.12, "1\ufe0f\u20e3": 0.1, heart: 0.05}
    log_probs = torch.tensor([chances.get(word, 0.0) for word in vocabulary.words]).log()

    def suggested(**options):
        distribution = Distribution(log_probs, {"🎉": 0.04, "❤": 0.02, "$": 0.01})
        return [word.word for word in Ranking(vocabulary).best(distribution, 9, **options)]

    assert suggested() == ["yes"]
    assert suggested(punctuation=True) == ["yes", "!", "$"]
    assert suggested(emoji=True) == ["👍🏽", "yes", family, "1\ufe0f\u20e3", heart, "🎉"]
    assert suggested(emoji=True, partial="❤") == [heart] and suggested(emoji=True, partial="y") == ["yes"]
    assert suggested(emoji=True, exclude=["❤", "👍🏽"]) == ["yes", family, "1\ufe0f\u20e3", "🎉"]
    assert set(suggested(emoji=True, punctuation=True)) == {*suggested(emoji=True), *suggested(punctuation=True)}
