"""From text to token ids and back: a word-level tokenizer, kept as the `tokenizer.json` of the `tokenizers` library.

Tokens
    A token is a word, an emoji, or any other visible character (`,`, `(`, `€`) with its combining marks. The module
    nextword.lm.words defines words and emoji. Text is first made canonical, as defined there, and a dash replaces `--`
    and a hyphen between spaces. So `don't`, `to-morrow`, `1984` and `3rd` are words, and `3.14` is three tokens. A
    number that is not frequent enough for the vocabulary is `<unk>`, like any other word. Case is kept.
    Pretokenized text (the benchmarks') is only split at spaces.
    The rules are part of `tokenizer.json`: a bundle keeps the rules of its training. A file with rules that no version
    of Nextword writes is refused: the `tokenizers` library would run them, and they could take all memory.
    A word has at most LONGEST_WORD characters, and no control characters: a terminal would obey them.
Ids
    0 is `<unk>`. 1 is `<eos>`, the end of a paragraph and so the beginning of the next. Then follow the words, the most
    frequent first: the sampled softmax in training relies on this order.
"""
from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from nextword.lm.words import (
    DASHES,
    EMOJI_PATTERN,
    JOINERS,
    LONGEST_WORD,
    NOT_IN_WORDS,
    STRAIGHTENED,
    has_letter,
    invisible_patterns,
    is_empty,
    key,
    word_pattern,
)

UNK, EOS = "<unk>", "<eos>"
UNK_ID, EOS_ID = 0, 1
# `_rules` of earlier versions, whose bundles can be loaded. When the rules change, add the digest of the old ones.
FORMER_RULES = {
    "149abc51f2aaddc69a825647fb4f98f0e5368cf3a0a4f6a117aa3a97db64f975",
    "df6c839892943323fed1696e4ae2be8578c2a6c5195757c12838f794aee4a22b",
}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# The characters of words, as the inside of a character class of Oniguruma
_LETTERS = rf"\p{{L}}\p{{Nd}}\p{{Nl}}\p{{Pc}}[\p{{M}}&&[^{NOT_IN_WORDS}]]{JOINERS}"

_PARTS = (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"))  # of `tokenizer.json`, and their steps


def _tokenizer(model: models.Model, pretokenized: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    if pretokenized:
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return tokenizer
    replacements = {**STRAIGHTENED, **invisible_patterns(_LETTERS), **DASHES}.items()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), *(normalizers.Replace(Regex(pattern), new) for pattern, new in replacements)]
    )
    token = rf"{word_pattern(_LETTERS)}|{EMOJI_PATTERN}|[^\s{_LETTERS}]\p{{M}}*"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), behavior="removed"),
            pre_tokenizers.Split(Regex(token), behavior="isolated"),
        ]
    )
    return tokenizer


def _steps(tokenizer: dict[str, Any], part: str, inner: str) -> list[dict[str, Any]]:
    """The steps of a part of a `tokenizer.json`: of each step, every field that changes a rule, or None."""
    outer = tokenizer[part] or {}
    return [{field: step.get(field) for field in ("type", "pattern", "content", "behavior", "invert")}
            for step in outer.get(inner, [outer])]


def _rules(tokenizer: dict[str, Any]) -> str:
    """A digest of the rules by which a `tokenizer.json` splits text."""
    parts = [[list(step.values()) for step in _steps(tokenizer, *names)] for names in _PARTS]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Vocabulary:
    """The tokens of a model, and their tokenizer."""

    def __init__(self, tokenizer: Tokenizer):
        for token, expected in ((UNK, UNK_ID), (EOS, EOS_ID)):
            if tokenizer.token_to_id(token) != expected:
                raise ValueError(f"the tokenizer gives {token} the id {tokenizer.token_to_id(token)}, not {expected}")
        self._tokenizer = tokenizer
        ids = tokenizer.get_vocab(with_added_tokens=False)
        self.words = sorted(ids, key=ids.__getitem__)

    @classmethod
    def build(
        cls, texts: Iterable[str], size: int = 32_000, minimum_count: int = 1, pretokenized: bool = False
    ) -> Vocabulary:
        """The `size` most frequent words of `texts` (`<unk>` and `<eos>` included) that occur `minimum_count` times.

        Words of equal count are sorted by their code points, so the same text always gives the same ids.
        """
        if size < 3:
            raise ValueError(f"vocabulary size is {size}; at least 3 are needed: {UNK}, {EOS} and a word")
        counter = _tokenizer(models.WordLevel(unk_token=UNK), pretokenized)
        trainer = trainers.WordLevelTrainer(
            vocab_size=size, min_frequency=minimum_count, special_tokens=[], show_progress=False
        )
        counter.train_from_iterator(texts, trainer)
        counted = counter.get_vocab(with_added_tokens=False)
        ordered = sorted(counted, key=counted.__getitem__)
        kept = [word for word in ordered if word not in (UNK, EOS) and not _fault(word)][: size - 2]
        if not kept:
            raise ValueError(f"no word occurs {minimum_count} times in the training text")
        return cls.of_words(kept, pretokenized)

    @classmethod
    def of_words(cls, ordered: Iterable[str], pretokenized: bool = False) -> Vocabulary:
        """The vocabulary of `<unk>`, `<eos>` and these words, in this order."""
        # `<unk>` and `<eos>` are not special tokens of the tokenizer: a user who types them types single characters.
        ids = {word: i for i, word in enumerate([UNK, EOS, *ordered])}
        return cls(_tokenizer(models.WordLevel(ids, unk_token=UNK), pretokenized))

    @classmethod
    def from_file(cls, path: str | Path) -> Vocabulary:
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """The vocabulary of a result of `to_json`, of this or an earlier version. Raises ValueError for other text."""
        try:
            content = json.loads(text)
            words, rules = content["model"]["vocab"], _rules(content)
            numbered = {*map(type, words.values())} == {int} and sorted(words.values()) == list(range(len(words)))
            fault = next(filter(None, map(_fault, words)), "")
        except (AttributeError, KeyError, TypeError, RecursionError, ValueError) as error:
            raise ValueError(f"tokenizer.json is no tokenizer ({type(error).__name__})") from None
        if not numbered:
            raise ValueError(f"the ids of tokenizer.json are not 0 to {len(words) - 1}, each once")
        if fault:
            raise ValueError(f"a word of tokenizer.json {fault}")
        for pretokenized in (False, True):
            own = _tokenizer(models.WordLevel({UNK: UNK_ID}, unk_token=UNK), pretokenized).to_str()
            if rules == _rules(json.loads(own)):
                return cls(_tokenizer(models.WordLevel(words, unk_token=UNK), pretokenized))
        if rules not in FORMER_RULES:
            raise ValueError("tokenizer.json has rules that no version of Nextword writes")
        # Only what was compared is used: other parts of the file, such as padding, could take all memory.
        parts: dict[str, Any] = {part: {"type": "Sequence", inner: _steps(content, part, inner)}
                                 for part, inner in _PARTS}
        model = {"type": "WordLevel", "vocab": words, "unk_token": UNK}
        unused = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
        parts |= {"version": "1.0", "added_tokens": [], **unused, "model": model}
        return cls(Tokenizer.from_str(json.dumps(parts)))

    def to_json(self) -> str:
        return self._tokenizer.to_str(pretty=False)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def pretokenized(self) -> bool:
        return self._tokenizer.normalizer is None

    def encode(self, text: str) -> list[int]:
        """The ids of a text. One or more line breaks end a paragraph and become one `<eos>`, also at the end of a text.

        At the beginning of a text they become nothing. So `encode(a) + encode(b)` is `encode(a + b)` if `a` ends with
        "\\n".
        """
        return self.encode_with_unknown(text)[0]

    def encode_with_unknown(self, text: str) -> tuple[list[int], dict[int, str]]:
        """The result of `encode`, and place → spelling for the words that the vocabulary lacks."""
        ids: list[int] = []
        unknown: dict[int, str] = {}
        for line, ended in self.lines(text):
            encoding = self._tokenizer.encode(line)
            spans = _whole(line, encoding.offsets) if UNK_ID in encoding.ids else []
            for place, (i, span) in enumerate(zip(encoding.ids, spans)):
                spelling = line[slice(*span)] if i == UNK_ID else UNK
                if spelling != UNK:  # which pretokenized text has
                    unknown[len(ids) + place] = spelling
            ids += encoding.ids + [EOS_ID] * ended
        return ids, unknown

    def ends(self, text: str) -> list[int]:
        """The end of each token of `encode` in the text, in characters; for several line breaks, that of the first."""
        ends: list[int] = []
        start = 0
        for line, ended in self.lines(text):
            start = text.index(line, start)
            ends += [start + end for _, end in self.spans(line)]
            start += len(line) + ended
            ends += [start] * ended
        return ends

    def spans(self, line: str) -> list[tuple[int, int]]:
        """The start and the end of each token of a text without line breaks."""
        return _whole(line, self._tokenizer.encode(line).offsets)

    def encode_many(self, texts: list[str]) -> list[list[int]]:
        """`encode` for many texts; the `tokenizers` library encodes them in parallel."""
        lines = [(owner, *line) for owner, text in enumerate(texts) for line in self.lines(text)]
        ids: list[list[int]] = [[] for _ in texts]
        encodings = self._tokenizer.encode_batch_fast([line for _, line, _ in lines])
        for (owner, _, ended), encoding in zip(lines, encodings):
            ids[owner] += encoding.ids + [EOS_ID] * ended
        return ids

    def lines(self, text: str) -> Iterator[tuple[str, bool]]:
        """The lines of a text that are not empty, each with True if a line break ends it."""
        *ended, last = text.split("\n")
        for line, end in [*((line, True) for line in ended), (last, False)]:
            if (line.strip() or end) if self.pretokenized else not is_empty(line):
                yield line, end

    def tokens(self, text: str) -> list[str]:
        """The spelled tokens of a text, in the vocabulary or not, without line breaks."""
        normal = self._tokenizer.normalizer.normalize_str(text) if self._tokenizer.normalizer else text
        return [token for token, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normal)]

    @functools.cached_property
    def keys(self) -> list[str]:
        """For each id, the form in which its word is compared (`words.key`)."""
        return list(map(key, self.words))

    def is_word(self) -> list[bool]:
        """For each id, True if it is a word: it has a letter, and is neither `<unk>` nor `<eos>`."""
        return [i > EOS_ID and has_letter(word) for i, word in enumerate(self.words)]


def _fault(word: str) -> str:
    """A message if a vocabulary must not have this word, or ""."""
    if len(word) > LONGEST_WORD:
        return f"has {len(word):,} characters; at most {LONGEST_WORD} are accepted"
    return "is empty" if not word else "has a control character" if _CONTROL.search(word) else ""


def _whole(line: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans of tokens in a line. A span includes the characters after it that the tokenizer composes or drops."""
    limits = [*(start for start, _ in offsets[1:]), len(line)]
    return [(start, end + len(re.split(r"[\s-]", line[end:limit], maxsplit=1)[0]))
            for (start, end), limit in zip(offsets, limits)]
