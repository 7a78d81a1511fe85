import json

import pytest
from tokenizers import Tokenizer

from nextword.lm.vocabulary import EOS_ID, UNK_ID, Vocabulary

TEXT = ["It's a well-known fact: I went to the market to-day.", "The 3rd time, in 1984, it cost $3.14!", "the the the"]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.build(TEXT)


@pytest.mark.parametrize("text, tokens", [
    ("It's a well-known fact.", ["It's", "a", "well-known", "fact", "."]),
    ("“Don’t,” she said.", ['"', "Don't", ",", '"', "she", "said", "."]),
    ("'tis the boys' -own-", ["'", "tis", "the", "boys", "'", "-", "own", "-"]),
    ("3.14 in 1984, 3rd", ["3", ".", "14", "in", "1984", ",", "3rd"]),
    ("a—b ... €5", ["a", "—", "b", ".", ".", ".", "€", "5"]),
    ("나는 학교에 갔다.", ["나는", "학교에", "갔다", "."]),
    ("हिन्दी में", ["हिन्दी", "में"]),
    ("cafe\u0301", ["caf\u00e9"]),
    ("so--I said - well – no-one", ["so", "—", "I", "said", "—", "well", "—", "no-one"]),
    ("co\u00adop\ufeff -----", ["coop", "-", "-", "-", "-", "-"]),
    (" \t ", []),
])
def test_words_and_marks(vocabulary, text, tokens):
    assert vocabulary.tokens(text) == tokens


def test_ids_go_by_frequency_and_are_the_same_each_time(vocabulary):
    assert vocabulary.words[:3] == ["<unk>", "<eos>", "the"]
    assert vocabulary.to_json() == Vocabulary.build(TEXT).to_json()
    limited = Vocabulary.build(TEXT, size=10)
    assert len(limited) == 10 and limited.words == vocabulary.words[:10]
    assert Vocabulary.build(TEXT, minimum_count=4).words == ["<unk>", "<eos>", "the"]


def test_unknown_words_and_line_breaks(vocabulary):
    assert vocabulary.encode("the zebra") == [vocabulary.words.index("the"), UNK_ID]
    assert vocabulary.encode("\n\nthe\n\nthe\n") == vocabulary.encode("the\nthe\n")
    assert vocabulary.encode("the\n")[-1] == EOS_ID
    assert vocabulary.encode("") == vocabulary.encode(" \n ") == []
    assert vocabulary.encode("the\n") + vocabulary.encode("fact") == vocabulary.encode("the\nfact")
    assert vocabulary.encode("\ufeff\nthe\n\u200b\nfact") == vocabulary.encode("the\nfact")


def test_special_tokens_cannot_be_typed(vocabulary):
    assert EOS_ID not in vocabulary.encode("a <eos> b")
    assert vocabulary.tokens("<unk>") == ["<", "unk", ">"]


def test_pretokenized_text_is_split_at_spaces_alone():
    vocabulary = Vocabulary.build(["it 's <unk> of N", "don't, <unk>"], pretokenized=True)
    assert vocabulary.tokens("it 's of N don't,") == ["it", "'s", "of", "N", "don't,"]
    assert vocabulary.encode("<unk> of\n")[0] == UNK_ID and vocabulary.encode("of\n")[-1] == EOS_ID
    assert vocabulary.encode_with_unknown("<unk> of zebra") == ([UNK_ID, vocabulary.words.index("of"), UNK_ID], {2: "zebra"})


def test_what_is_a_word(vocabulary):
    words = {word for word, yes in zip(vocabulary.words, vocabulary.is_word()) if yes}
    assert {"It's", "well-known", "3rd", "to-day"} <= words
    assert not words & {"<unk>", "<eos>", "1984", ".", "$", "14"}


def test_the_file_alone_reads_text_alike(vocabulary, tmp_path):
    """Any language with a `tokenizers` binding sees what training saw."""
    path = tmp_path / "tokenizer.json"
    path.write_text(vocabulary.to_json(), encoding="utf-8")
    text = "The “market” cost $3.14, don’t know 나는 the"
    assert Tokenizer.from_file(str(path)).encode(text).ids == vocabulary.encode(text)
    assert Vocabulary.from_file(path).words == vocabulary.words


def test_a_foreign_tokenizer_is_refused(vocabulary):
    other = json.loads(vocabulary.to_json())
    other["model"]["vocab"] = {"<unk>": 1, "<eos>": 0, "a": 2}
    with pytest.raises(ValueError, match="<unk> the id 1"):
        Vocabulary(Tokenizer.from_str(json.dumps(other)))


@pytest.mark.parametrize("texts, options, message", [
    (["a"], {"size": 2}, "at least 3"), ([], {}, "no word"), (["a b"], {"minimum_count": 2}, "no word occurs 2 times"),
])
def test_a_vocabulary_without_words_is_refused(texts, options, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.build(texts, **options)
