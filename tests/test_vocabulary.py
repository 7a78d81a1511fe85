import json
import random
import time

import pytest
from tokenizers import Tokenizer

from nextword.lm.forgetting import concerns, digest, is_one_word, without_forgotten, without_word
from nextword.lm.profile import profile_of, spelled_tokens
from nextword.lm.vocabulary import EOS, EOS_ID, UNK_ID, Vocabulary
from nextword.lm.words import has_letter, is_emoji, is_letter, split_typed, straight, visible, words_in
from tests.word_cases import TOKENS, TYPED

TEXT = ["It's a well-known fact: I went to the market to-day.", "The 3rd time, in 1984, it cost $3.14!", "the the the"]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.build(TEXT)


@pytest.mark.parametrize("text, tokens", TOKENS, ids=ascii)
def test_words_and_marks(vocabulary, text, tokens):
    assert vocabulary.tokens(text) == tokens
    alone = [vocabulary.tokens(token) for token in tokens]
    assert alone == [[token] for token in tokens], "canonical text stays as it is"


@pytest.mark.parametrize("text, tokens", TOKENS, ids=ascii)
def test_places_are_those_of_the_text_as_it_is_given(vocabulary, text, tokens):
    ends = vocabulary.ends(text)
    pieces = [text[start:end].strip() for start, end in zip([0, *ends], ends)]
    assert [vocabulary.tokens(piece) for piece, token in zip(pieces, tokens) if token != "—"] == [
        [token] for token in tokens if token != "—"]
    _, unknown = vocabulary.encode_with_unknown(text)
    for place, spelling in unknown.items():
        assert tokens[place] == "—" or vocabulary.tokens(spelling) == [tokens[place]]


def test_python_and_the_tokenizer_agree(vocabulary):
    """The definition is written once but for the letters, which each of them knows by itself."""
    for _, tokens in TOKENS:
        for token in tokens:
            assert straight(token) == token
            assert split_typed(token) == (("", token) if is_letter(token[0]) and not is_emoji(token) else (token, ""))
    for text, partial in TYPED:
        assert split_typed(text + partial) == (text, partial)
        assert vocabulary.tokens(partial)[:1] == vocabulary.tokens(text + partial)[len(vocabulary.tokens(text)) :][:1]
    assert [has_letter(word) for word in ("ℹ\ufe0f", "ℹ", "3rd", "1984", "👍")] == [False, True, True, False, False]


@pytest.mark.parametrize("part", ["a'", "'", "\u200d", "👩\u200d", "ש״", "a\ufe0f"], ids=ascii)
def test_long_runs_take_linear_time(vocabulary, part):
    text, started = part * 50_000, time.process_time()
    vocabulary.tokens(text)
    split_typed(text)
    split_typed(text + "!")
    straight(text)
    assert time.process_time() - started < 5  # 50,000 squared steps take longer


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
    of = vocabulary.words.index("of")
    assert vocabulary.encode_with_unknown("<unk> of zebra") == ([UNK_ID, of, UNK_ID], {2: "zebra"})


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


def test_tokens_of_a_profile_are_those_of_the_tokenizer():
    draw, vocabulary = random.Random(0), Vocabulary.of_words(())
    others = "\n–—’“éß\u0301\u200d\u00ad\u2060\ufe0f\u20e3\xa0🙂🏽👨צה״׳한本ไ…·½"
    characters = [*"abcAB01_'-- ." * 8, *map(chr, range(128)), *others]
    for _ in range(10_000):
        text = "".join(draw.choices(characters, k=draw.randrange(1, 14)))
        expected = []
        for line, ended in vocabulary.lines(text):
            _, spellings = vocabulary.encode_with_unknown(line)
            expected += [visible(spellings[place]) if has_letter(token) else token
                         for place, token in enumerate(vocabulary.tokens(line))]
            expected += [EOS] * ended
        assert spelled_tokens(text) == expected


def left_of(word, text):
    """The tokens of a text that a word concerns, by either definition of a word, and such words in its tokens."""
    tokens = [token for token in spelled_tokens(text) if token != EOS]
    words = [match[0] for part in [text, *tokens] for match in words_in(part)]
    return [token for token in [*tokens, *words] if concerns(token, word)]


@pytest.mark.parametrize("text", [
    "<\u0338abc", ",\u0301abc\u0301,abc", "\u20e3abc", "\ua7cbabc abc", "\u1c89\u200d·abc=abc",
    "abc\U0002ebf0",
    "abc\ufeff\u0301 ábc abc", "b\U0002ebf0a\xad\u0344", "\u0316\u200f\u05b0\u0897a", "\u02bcabc", "abc\u0cf3",
], ids=ascii)
def test_a_forgotten_word_is_no_token_of_the_text_by_either_definition(text):
    for word in [*{token for token in spelled_tokens(text) if is_one_word(token)}, "abc"]:
        text_left, _ = without_word(text, word)
        assert left_of(word, text_left) == []
        assert left_of(word, without_forgotten(text, {digest(word)})) == []


def test_a_forgotten_word_is_no_token_of_a_text_of_odd_characters():
    draw = random.Random(0)
    odd = [*"abcB9_'’ʼ-\u2010·\"“״א<=,.\ufffc\n\xa0\u2028©1#👍🏽👩❤\u0958Ωẞﬁ한ㅈ가ก中々Ⅱⓐ‿\u0301\u0316\u0338\u20dd"
           "\u0903\u200c\u200d\xad\u200b\ufeff\ufe0e\ufe0f\u20e3\u05b0",
           *"\u1c89\ua7cb\u0897\u0cf3\U00010d40\U0002ebf0"]
    for _ in range(3_000):
        text = "".join(draw.choice(odd) if draw.random() < 0.6 else draw.choice("abc ") for _ in range(12))
        for word in {token for token in spelled_tokens(text) if is_one_word(token)}:
            assert left_of(word, without_word(text, word)[0]) == [], (ascii(text), ascii(word))


def test_one_word_is_letters_or_digits_alone():
    for word in ("abc", "don’t", "well-known", "e\u0301", "1984", "צה״ל", "ab\u1c89"):
        assert is_one_word(word), ascii(word)
    for other in ("", " ", "two words", ".a", "-", "\u200d", "\u0301", "'", "\u02bc", "👍", "a\n", "a\0", "\x1b[2J"):
        assert not is_one_word(other), ascii(other)


@pytest.mark.parametrize("text", [
    "a" * 40_000 + " é", "e" + "\u0315\u0300" * 20_000, "é-" * 20_000, "-" * 40_000 + " é", "\u200d" * 40_000 + "é",
    "ℹ" * 40_000 + "\ufe0f", "zebra\u1c89\u0301" * 8_000, "zebra,\u0301" * 6_000,
    " " * 40_000 + "é", '\u05d0"' * 20_000, "\u00ad" * 40_000 + "a",
])
def test_texts_take_time_in_proportion_to_their_length(text):
    start = time.process_time()
    profile_of(text)
    assert "zebra" not in without_forgotten(text + " zebra", {digest("zebra")})
    assert time.process_time() - start < 1
