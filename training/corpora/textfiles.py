"""Plain text files as documents. Files of any size are read in bounded memory."""
from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path

import datasets

from nextword.training.corpora import filetypes
from nextword.training.corpora.cleaning import VERSION
from nextword.training.corpora.corpus import CorpusError

_MARKS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32",
          codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}  # fmt: skip
_CHUNK = 2**20  # bytes
DOCUMENT = 2**16  # characters, the approximate length of the documents that a file is cut into


def read(paths: list[Path], by_line: bool) -> datasets.Dataset:
    """The text of the files, cut between paragraphs into documents of about 64,000 characters.

    by_line: each row is a line instead.
    Raises `datasets.exceptions.DatasetGenerationError`; its cause names the fault of a file.
    """
    states = [path.stat() for path in paths]
    versions = [(state.st_size, state.st_mtime_ns) for state in states]
    return datasets.Dataset.from_generator(
        _rows,
        features=datasets.Features({"text": datasets.Value("string")}),
        # Tuples, because `datasets` would divide lists into shards.
        gen_kwargs={"paths": tuple(str(path.resolve()) for path in paths), "versions": tuple(versions),
                    "by_line": by_line, "version": VERSION},
        writer_batch_size=256,
    )


def _rows(paths: tuple[str, ...], by_line: bool, **_key: object) -> Iterator[dict[str, str]]:
    empty = True
    for path in map(Path, paths):
        for piece in _lines(path) if by_line else _documents(path):
            empty = False
            yield {"text": piece}
    if empty:
        raise CorpusError(f"{paths[0]} is empty" if len(paths) == 1 else f"all {len(paths)} text files are empty")


def _lines(path: Path) -> Iterator[str]:
    rest = ""
    for text in _decoded(path):
        *lines, rest = (rest + text).split("\n")
        yield from lines
    if rest:
        yield rest


def _documents(path: Path) -> Iterator[str]:
    rest = ""
    for text in _decoded(path):
        rest += text
        start = 0
        while len(rest) - start >= 2 * DOCUMENT:
            end = _border(rest, start + DOCUMENT // 2, start + DOCUMENT)
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def _border(text: str, low: int, high: int) -> int:
    """The best place for a cut between two places: after a blank line, else after a line, else after a word."""
    ends = (text.rfind(border, low, high) + len(border) for border in ("\n\n", "\n", " ") if border in text[low:high])
    return next(ends, high)


def _decoded(path: Path) -> Iterator[str]:
    """The file's text in pieces, with "\\n" at the end of lines."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = 0
    with filetypes.unpacked(path) as (file, _):
        while chunk := file.read(_CHUNK):
            if offset == 0:
                _refuse_wide_characters(path, chunk)
            yield newlines.decode(_decode(decoder, chunk, path, offset))
            offset += len(chunk)
    yield newlines.decode(_decode(decoder, b"", path, offset), final=True)


def _decode(decoder: codecs.IncrementalDecoder, chunk: bytes, path: Path, offset: int) -> str:
    try:
        return decoder.decode(chunk, final=not chunk)
    except UnicodeDecodeError as error:
        # error.object begins with the undecoded bytes of the previous chunk.
        at = offset + len(chunk) - len(error.object) + error.start
        raise CorpusError(
            f"{path} is not in UTF-8 (byte {at:,} is 0x{error.object[error.start]:02x}); "
            "if it is Windows-1252, say: iconv -f WINDOWS-1252 -t UTF-8"
        ) from None


def _refuse_wide_characters(path: Path, head: bytes) -> None:
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if encoding is None and head[:4096].count(0) * 10 > len(head[:4096]):
        encoding = "UTF-16 or no text at all"
    if encoding:
        raise CorpusError(f"{path} is in {encoding}, not in UTF-8; convert it: iconv -f {encoding.split()[0]} -t UTF-8")
