"""Clean-up of running text, one function for each kind of source.

Every function takes the text of one document, and returns it with its paragraphs separated by one newline each, without
empty ones. `CLEANERS` has the functions by name; `training.corpora.registry` names the function for each corpus.
Quotation marks are not changed: the tokenizer makes curly ones straight, in training and in the service.
"""
from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

# Increase this number when this module, or a module that reads text for it, gives another result for the same text.
VERSION = 6

_WINDOWS = {byte: bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0)}  # read as Latin-1
_SPACES = dict.fromkeys([*range(0x09, 0x0E), *range(0x1C, 0x20), 0x2028, 0x2029], " ")
_CONTROLS = [*range(0x09), *range(0x0E, 0x1C), 0x7F]
# Soft hyphen, zero-width space, direction marks, byte order mark, replacement character. U+200C and U+200D stay: they
# join letters in Persian and parts of emoji, and the tokenizer removes them elsewhere.
_INVISIBLE = [0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF, 0xFFFD]
_UNWANTED = {**_WINDOWS, **_SPACES, **dict.fromkeys(_CONTROLS + _INVISIBLE, "")}
_DASH = re.compile(r"(?<!-)-{2,3}(?!-)|—|(?<=\s)[-–](?=\s|$)")

_BREAK = re.compile(r"<\s*(?:/\s*)?(?:br|p)\s*(?:/\s*)?>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>")


def tidy(paragraph: str) -> str:
    """The clean-up of all text: Unicode NFC, no control or invisible characters, ` — ` for a dash (`--`, or a hyphen
    between spaces), single spaces for white space.
    """
    paragraph = unicodedata.normalize("NFC", paragraph.translate(_UNWANTED))
    return " ".join(_DASH.sub(" — ", paragraph).split())


def _tidy_all(paragraphs: Iterable[str]) -> str:
    return "\n".join(filter(None, map(tidy, paragraphs)))


def lines(text: str) -> str:
    """Text with one sentence or paragraph in each line."""
    return _tidy_all(text.split("\n"))


def reviews(text: str) -> str:
    """Text from web forms: `<br />` ends a paragraph, other tags are removed, entities (`&amp;`) become characters."""
    return lines(html.unescape(_TAG.sub(" ", _BREAK.sub("\n", text))))


def plain(text: str) -> str:
    """Any text: hard-wrapped lines are joined (see `unwrap`)."""
    if "\n" not in text:
        return tidy(text)
    return _tidy_all(_join_split_words("\n\n".join(unwrap(text)), _SPLIT_AT_LINE_END).split("\n\n"))


# ---- WikiText's form of Wikipedia text: one line in each row, headings between "=", spaces around punctuation.

_WIKI_JOINED = re.compile(r" @([-,.])@ ")
_WIKI_APOSTROPHE = re.compile(r"(?<=\w) (?=(?:n't|'(?:s|t|d|m|re|ve|ll))\b)")


def wiki(text: str) -> str:
    """WikiText: `1 @,@ 200`, `dog 's` and `did n't` become one word. Headings are removed, as they are no sentences."""
    kept = (line for line in map(str.strip, text.split("\n")) if not _is_wiki_heading(line))
    return _tidy_all(_WIKI_APOSTROPHE.sub("", _WIKI_JOINED.sub(r"\1", line)) for line in kept)


def _is_wiki_heading(line: str) -> bool:
    """True for "= Title =" and "= = Part = ="."""
    return len(line) > 3 and line.startswith("= ") and line.endswith(" =")


# ---- Conversations, mail, notes.

_TURN = re.compile(r"(?<=[.!?]) ?<v [^<>\n]{1,60}>|\[A\]")  # a speaker's name in subtitles; "answer"
_REMARK = re.compile(  # also [...], [1] and times
    r"\[\](?:\((?:[^\s\[()]{0,200}\))?)?"  # the remains of a link or picture
    r"|\[(?:[^\w\[\]\n]{0,40}|\\?\d[\d:.,\\ -]*|(?i:unintelligible|inaudible|laughter|laughs|crosstalk))\]"
    r"|\b[Dd]lg-[0-9a-f-]{36}\b"  # the number of a dialogue
)
_MARK_OF_LINE = re.compile(r"(?m)^[ \t]*(?:[-*•>:][ \t]+)+")
_EMPHASIS = re.compile(r"(?<![\w*_])(\*{1,2}|_)(?=\w)([^*_\n]{1,60})(?<=[\w.,!?])\1(?![\w*_])")


def informal(text: str) -> str:
    """Conversations, mail and notes, with one utterance or paragraph in each line.

    `<v …>` (the name of a speaker) begins a line. Tags, `[...]`, numbers of notes, marks of quotations and lists, and
    the `*` and `_` of emphasis are removed; `did n't` becomes one word.
    """
    text = _TAG.sub(" ", _REMARK.sub(" ", _TURN.sub("\n", text)))
    return lines(_WIKI_APOSTROPHE.sub("", _EMPHASIS.sub(r"\2", _MARK_OF_LINE.sub("", text))))


# ---- Docstrings.

_RULE = re.compile(r"\s*[^\w\s]{3,}\s*")
_MARKUP = re.compile(r"(?::\w+)?:\w+:(?=`)|[`|]|\*(?=\w[\w ]*\*)|(?<=\w)\*|(?m:^[^\S\n]*[-*•]\s)")
_ITEM = re.compile(r"\n(?=[^\S\n]*(?:[-*•]|\d+\.)\s)")
_WORD = re.compile(r"[\"'(]*[^\W\d_]+(?:['’-][^\W\d_]+)*[\"')]*(?:[.,:;!?]+[\"')]*)?")


def docstrings(text: str) -> str:
    """Python's docstrings: only the prose, with joined lines and without markup.

    Examples, tables, grammars and rules are removed. Prose is a paragraph or an item of a list in which at least three
    in four of the pieces between spaces are words.
    """
    rows = (row for row in text.split("\n") if not _RULE.fullmatch(row))
    items = (item for block in re.split(r"\n\s*\n", "\n".join(rows)) for item in _ITEM.split(block))
    return _tidy_all(filter(_is_prose, (_MARKUP.sub("", item) for item in items)))


def _is_prose(block: str) -> bool:
    pieces = block.split()
    words = sum(bool(_WORD.fullmatch(piece)) for piece in pieces)
    return words >= 3 and words * 4 >= len(pieces) * 3 and not re.match(r"\s*(?:>>>|\$ |#)", block)


# ---- Books.

_NUMBER = r"(?:[IVXLC]+|\d+|(?i:one|two|three|four|five|six|seven|eight|nine|ten|first|second|third|last))"
_HEADING = re.compile(
    rf"(?i:chapter|book|part|volume|letter)\s+(?i:the\s+)?{_NUMBER}\b.{{0,60}}"
    r"|[IVXLC]+(?:[.:]\s.{0,60})?|\d+[.:]?|(?i:contents|the end|finis)\.?"
)
_CONTINUES = re.compile(r"[;:,!?)]|[a-z]|[\"'”’] ")
# A word that some transcriptions repeat when it is split at a page's end: the lines "trem-", "trembling", "bling".
_SAID_TWICE = re.compile(r"\b(\w+)[-?]\n(?:\1(\w+)\n\2|(\w+)\n\1\3)\b")
_APOSTROPHE = re.compile(r"(?<=\w) (?=(?:s|ll|ve)\b)|(?<=n) (?=t\b)|(?<=I) (?=m\b)|(?<=[wy]e|ou|ey) (?=re\b)")
_SPLIT_AT_LINE_END = re.compile(r"(?<=\w)-\n[ \t]*(?=\w)")
_SPLIT_ANYWHERE = re.compile(r"(?<=\w)-\s+(?!(?:and|or|to)\b(?!-))(?=\w)")


def books(text: str) -> str:
    """Transcribed books.

    Hard-wrapped lines are joined (see `unwrap`). So are words that were split at the end of a line, and paragraphs
    whose italics are on separate lines. `_` (for italics) and chapter headings are removed: headings are no sentences,
    and a model would learn that a text begins with CHAPTER. Lost characters are restored if they are certain: a hyphen
    for the question mark in `to?day`, the letters of `rťgime`, the apostrophes of a text that often has `don t`.
    """
    text = re.sub(r"(?<=\w)\?(?=\w)", "-", _recoded(text).replace("_", ""))
    if len(_APOSTROPHE.findall(text)) * 4000 > len(text):
        text = _APOSTROPHE.sub("'", text)
    return _tidy_all(_join_split_words("\n\n".join(_whole_paragraphs(unwrap(text))), _SPLIT_ANYWHERE).split("\n\n"))


def _whole_paragraphs(pieces: list[str]) -> list[str]:
    """Remove headings, and join a paragraph that begins in the middle of a sentence to the one before it."""
    pieces = [piece.strip() for piece in pieces if piece.strip()]
    paragraphs: list[str] = []
    for piece, following in zip(pieces, [*pieces[1:], ""]):
        if paragraphs and _CONTINUES.match(piece) and not paragraphs[-1].endswith("."):
            paragraphs[-1] += "\n" + piece
        elif not is_heading(piece) or following[:1].islower():
            paragraphs.append(piece)
    return [_SAID_TWICE.sub(r"\1\2\3", paragraph) for paragraph in paragraphs]


def is_heading(paragraph: str) -> bool:
    """True for "CHAPTER IV", "XII. The Letter", "3", and short paragraphs all in capitals."""
    if len(paragraph) > 80:
        return False
    letters = [c for c in paragraph if c.isalpha()]
    capitals = bool(letters) and all(c.isupper() for c in letters) and paragraph[-1] not in "!?,\"'”’"
    return capitals or bool(_HEADING.fullmatch(paragraph))


def _recoded(text: str) -> str:
    """Correct Windows-1252 that was read as Mac Central European (`rťgime`), if the results are Latin-1 letters."""
    foreign = {c for c in text if c > "\x7f"}
    try:
        corrected = {c: c.encode("mac_latin2").decode("cp1252") for c in foreign}
    except UnicodeError:
        return text
    misread = any(c > "ÿ" for c in foreign) and all(c.isalpha() for c in foreign)
    if misread and all((c.isalpha() and c <= "ÿ") or c in "‘’“”" for c in corrected.values()):
        return text.translate({ord(c): letter for c, letter in corrected.items()})
    return text


# ---- Hard-wrapped lines.

_WIDTHS = range(30, 111)  # characters; shorter or longer lines are not hard-wrapped
_SENTENCE_END = ".!?:;…。！？\"'”’"


def unwrap(text: str) -> list[str]:
    """The paragraphs of a text. Within a paragraph, a newline marks the end of a hard-wrapped line.

    Lines are hard-wrapped if they have about the same length, 30 to 110 characters, and often end within a sentence.
    Then blank lines separate paragraphs. If there are almost none, an indented line begins a paragraph. If there is
    almost no indentation either, a paragraph ends with a sentence whose line has room for the next line's first word.
    If lines are not hard-wrapped, each line is a paragraph.
    """
    rows = [row.rstrip() for row in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    width = _wrapped_at(rows)
    if not width:
        return rows
    paragraphs: list[list[str]] = []
    for row, begins in zip(rows, _beginnings(rows, width)):
        if begins or not paragraphs:
            paragraphs.append([])
        paragraphs[-1].append(row)
    return ["\n".join(filter(None, paragraph)) for paragraph in paragraphs]


def _wrapped_at(rows: list[str]) -> int:
    """The width that nine in ten lines do not exceed; 0 if the lines are not hard-wrapped."""
    full = [row for row in rows if row.strip()]
    if len(full) < 2:
        return 0
    lengths = sorted(map(len, full))
    width, median = lengths[len(full) * 9 // 10], lengths[len(full) // 2]
    open_ended = sum(row[-1] not in _SENTENCE_END for row in full) / len(full)
    return width if width in _WIDTHS and median >= 0.7 * width and open_ended > 0.4 else 0


def _beginnings(rows: list[str], width: int) -> list[bool]:
    """For each hard-wrapped line, True if it begins a paragraph."""
    pairs = list(zip(["", *rows], rows))
    blank = [not before.strip() for before, _ in pairs]
    if sum(blank) * 40 >= len(rows):
        return blank
    indented = [not before[:1].isspace() and row[:1].isspace() for before, row in pairs]
    if sum(indented) * 40 >= len(rows):
        return [a or b for a, b in zip(blank, indented)]
    return [a or _sentence_ended(*pair, width) for a, pair in zip(blank, pairs)]


def _sentence_ended(before: str, row: str, width: int) -> bool:
    if not row.strip() or before[-1] not in _SENTENCE_END + "-—" or row[0].islower():
        return False
    fits = len(before) + 1 + len(row.split(maxsplit=1)[0]) <= width
    return fits or (before[-1] in "\"”" and row[0] in "\"“")


def _join_split_words(text: str, split: re.Pattern[str]) -> str:
    """Join words that are split at a hyphen where `split` matches; compounds keep the hyphen.

    A word gets the form that is more frequent in the rest of the text. If neither form is more frequent, it gets the
    form that most of the other split words get.
    """
    if not split.search(text):
        return text
    occurrences = Counter(re.findall(r"\w+(?:-\w+)*", text.lower()))

    def without_hyphen(match: re.Match[str]) -> int:
        before = _LAST_WORD.search(text, max(0, match.start() - 40), match.start())
        after = _FIRST_WORD.match(text, match.end())
        assert before and after  # `split` matches only between two words
        first, second = before[0].lower(), after[0].lower()
        return occurrences[first + second] - occurrences[f"{first}-{second}"]

    usual = sum((without_hyphen(match) > 0) - (without_hyphen(match) < 0) for match in split.finditer(text))
    return split.sub(lambda match: "" if (without_hyphen(match) or usual) > 0 else "-", text)


_LAST_WORD, _FIRST_WORD = re.compile(r"\w+$"), re.compile(r"\w+")

CLEANERS: dict[str, Callable[[str], str]] = {
    clean_up.__name__: clean_up for clean_up in (lines, reviews, wiki, informal, docstrings, books, plain)}
