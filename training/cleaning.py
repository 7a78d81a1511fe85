"""Clean-up of running text, one function for each kind of source.

Every function takes the text of one document and gives it back with its
paragraphs separated by one newline each, without empty ones. Which corpus gets
which of them is written in `training.corpora`; `CLEANERS` has them by name.
Quotation marks stay as they are: the tokenizer treats curly and straight ones
alike, in training and in service.
"""
from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from typing import Callable, Iterable

# Bytes 0x80-0x9f of Windows-1252 that were read as Latin-1, back to what they were.
_WINDOWS = {byte: bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0)}
_SPACES = dict.fromkeys([*range(0x09, 0x0E), 0x1C, 0x1D, 0x1E, 0x1F, 0x2028, 0x2029], " ")
_INVISIBLE = dict.fromkeys(
    [*range(0x00, 0x09), *range(0x0E, 0x1C), 0x7F, 0xAD,  # controls, soft hyphen
     *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065),  # zero width, direction
     0xFEFF, 0xFFFD], "")
_UNWANTED = {**_WINDOWS, **_SPACES, **_INVISIBLE}

_DASH = re.compile(r"\s*(?:(?<!-)-{2,3}(?!-)|—)\s*|(?<=\s)[-–](?=\s)")
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_BREAK = re.compile(r"<\s*/?\s*(?:br|p)\s*/?\s*>", re.IGNORECASE)
_NUMBER = r"(?:[IVXLC]+|\d+|(?i:one|two|three|four|five|six|seven|eight|nine|ten|first|second|third|last))"
_HEADING = re.compile(
    rf"(?i:chapter|book|part|volume|letter)\s+(?i:the\s+)?{_NUMBER}\b.{{0,60}}|[IVXLC]+(?:[.:]\s.{{0,60}})?|\d+[.:]?")
_CONTINUED = re.compile(r"[a-z]|[\"'”’] ")  # a paragraph that begins so goes on from the one before


def tidy(paragraph: str) -> str:
    """What all text gets: Unicode NFC, no control or invisible characters, a dash
    (`--`, or a hyphen between spaces) as ` — `, white space as single spaces."""
    paragraph = unicodedata.normalize("NFC", paragraph.translate(_UNWANTED))
    return " ".join(_DASH.sub(" — ", paragraph).split())


def _paragraphs(pieces: Iterable[str]) -> str:
    return "\n".join(filter(None, map(tidy, pieces)))


def lines(text: str) -> str:
    """One sentence or paragraph a line."""
    return _paragraphs(text.split("\n"))


def reviews(text: str) -> str:
    """Text from web forms: `<br />` ends a paragraph, other tags go, entities are resolved."""
    text = html.unescape(_TAG.sub(" ", _BREAK.sub("\n", text)))
    return _paragraphs(text.split("\n"))


def plain(text: str) -> str:
    """Any text: hard-wrapped lines are joined again, whichever way its paragraphs show."""
    if "\n" not in text:
        return tidy(text)
    return _paragraphs(unwrap(text))


def books(text: str) -> str:
    """Transcribed books: as `plain`, without `_` (for italics) and without chapter headings,
    which are no sentences and would teach that a text begins with CHAPTER. Where italics were
    set on lines of their own, the paragraph is put together again."""
    whole: list[str] = []
    for paragraph in plain(text.replace("_", "")).split("\n"):
        if is_heading(paragraph):
            continue
        if whole and _CONTINUED.match(paragraph) and whole[-1][-1] not in ".!?":
            whole[-1] += " " + paragraph
        else:
            whole.append(paragraph)
    return "\n".join(whole)


def is_heading(paragraph: str) -> bool:
    """True for "CHAPTER IV", "XII. The Letter", "3", and short paragraphs all in capitals."""
    if len(paragraph) > 80:
        return False
    letters = [c for c in paragraph if c.isalpha()]
    capitals = bool(letters) and all(c.isupper() for c in letters) and paragraph[-1] not in "!?,\"'”’"
    return capitals or bool(_HEADING.fullmatch(paragraph))


def unwrap(text: str) -> list[str]:
    """The paragraphs of a text, whose lines may be hard-wrapped.

    Lines that mostly exceed 110 characters are paragraphs. Shorter ones are
    wrapped: blank lines then separate the paragraphs or, where there are next
    to none, indentation begins them or, where there is none of that either, a
    sentence ends them that ends its line although the next line's first word
    would still have fitted in.
    """
    rows = [row.rstrip() for row in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    lengths = sorted(len(row) for row in rows if row)
    if not lengths or lengths[len(lengths) * 9 // 10] > 110:
        return rows
    paragraphs: list[list[str]] = []
    for row, start in zip(rows, _starts(rows, lengths)):
        if start or not paragraphs:
            paragraphs.append([])
        paragraphs[-1].append(row)
    known = Counter(re.findall(r"\w+(?:-\w+)*", text))
    return [_join(paragraph, known) for paragraph in paragraphs]


def _starts(rows: list[str], lengths: list[int]) -> list[bool]:
    """Which wrapped lines begin a paragraph; `lengths` are sorted."""
    after_blank = [not before for before in ["", *rows[:-1]]]
    if (len(rows) - len(lengths)) * 40 >= len(lengths):
        return after_blank
    deep = [row[:1] in (" ", "\t") for row in rows]
    indented = [here and not before for before, here in zip([False, *deep], deep)]
    if sum(indented) * 40 >= len(lengths):
        return [a or b for a, b in zip(after_blank, indented)]
    width = lengths[len(lengths) * 9 // 10]
    ended = [False, *(_ends_paragraph(a, b, width) for a, b in zip(rows, rows[1:]))]
    return [a or b for a, b in zip(after_blank, ended)]


def _ends_paragraph(row: str, following: str, width: int) -> bool:
    if not row or not following or row[-1] not in ".!?:\"'”’-—" or following[0].islower():
        return False
    fits = len(row) + 1 + len(following.split(maxsplit=1)[0]) <= width
    return fits or (row[-1] in "\"”" and following[0] in "\"“")


def _join(rows: list[str], known: Counter[str]) -> str:
    """One paragraph from its lines; a word split at a line's end is put together
    with or without its hyphen, as it is found more often in the rest of the text."""
    joined = ""
    for row in map(str.strip, rows):
        before = re.search(r"(\w+)-$", joined)
        after = re.match(r"\w+", row)
        if before and after:
            whole = before[1] + after[0]
            compound = f"{before[1]}-{after[0]}"
            joined = joined[:-1] + ("-" if known[compound] >= known[whole] else "") + row
        else:
            joined = f"{joined} {row}" if joined else row
    return joined


CLEANERS: dict[str, Callable[[str], str]] = {f.__name__: f for f in (lines, reviews, books, plain)}
