"""Plain text files as documents, in bounded memory whatever their size."""
from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import datasets

from nextword.training.corpora.cleaning import VERSION
from nextword.training.corpora.corpus import CorpusError

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test",
}  # fmt: skip
_PACKED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
ENDINGS = (".txt", ".raw", ".tokens", *_PACKED, ".zip", ".zst")
_TABLES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow")
_MARKS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32",
          codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}  # fmt: skip
_CHUNK = 2**20  # bytes
DOCUMENT = 2**16  # characters: about as long are the documents that a file is cut into


def split_files(folder: Path) -> dict[str, Path]:
    """The text files of a folder that are named after a split: train.txt, ptb.valid.txt, wiki.test.raw.gz, …"""
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        split = next((SPLIT_NAMES[part] for part in file.name.lower().split(".") if part in SPLIT_NAMES), None)
        if split is None or file.suffix.lower() not in ENDINGS or not file.is_file():
            continue
        if split in files:
            raise CorpusError(f"both {files[split]} and {file.name} are {split} text; one is accepted")
        files[split] = file
    return files


def read(path: Path, by_line: bool) -> datasets.Dataset:
    """The file's text as documents of some 64,000 characters, cut between paragraphs; `by_line`: a row a line."""
    if path.suffix.lower() in _TABLES:
        raise CorpusError(f"{path} is no text file; accepted is a directory that has it, with a column 'text'")
    about = path.stat()
    key = {"path": str(path.resolve()), "by_line": by_line, "size": about.st_size, "changed": about.st_mtime_ns}
    try:
        return datasets.Dataset.from_generator(
            _rows,
            features=datasets.Features({"text": datasets.Value("string")}),
            gen_kwargs=key | {"version": VERSION},
            writer_batch_size=256,
        )
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, CorpusError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)):
            raise CorpusError(f"{path} cannot be read: {error.__cause__}") from None
        raise


def _rows(path: str, by_line: bool, **_key: object) -> Iterator[dict[str, str]]:
    pieces = _lines(Path(path)) if by_line else _documents(Path(path))
    number = -1
    for number, piece in enumerate(pieces):
        yield {"text": piece}
    if number < 0:
        raise CorpusError(f"{path} is empty")


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
    """Where best to cut between the two places: after a blank line, else a line, else a word."""
    ends = (text.rfind(border, low, high) + len(border) for border in ("\n\n", "\n", " ") if border in text[low:high])
    return next(ends, high)


def _decoded(path: Path) -> Iterator[str]:
    """The file's text in pieces, line ends as "\\n"."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = 0
    with _opened(path) as file:
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
        # error.object begins with the bytes that were left over from the chunk before.
        at = offset + len(chunk) - len(error.object) + error.start
        raise CorpusError(
            f"{path} is not in UTF-8 (byte {at:,} is 0x{error.object[error.start]:02x}); "
            "if it is Windows-1252, say: iconv -f WINDOWS-1252 -t UTF-8"
        ) from None


def _refuse_wide_characters(path: Path, head: bytes) -> None:
    found = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if found is None and head[:4096].count(0) * 10 > len(head[:4096]):
        found = "UTF-16 or no text at all"
    if found:
        raise CorpusError(f"{path} is in {found}, not in UTF-8; convert it: iconv -f {found.split()[0]} -t UTF-8")


def _opened(path: Path) -> BinaryIO:
    ending = path.suffix.lower()
    if ending in _PACKED:
        return _PACKED[ending](path, "rb")
    if ending == ".zip":
        archive = zipfile.ZipFile(path)
        members = [name for name in archive.namelist() if not name.endswith("/")]
        if len(members) != 1:
            raise CorpusError(f"{path} holds {len(members)} files; one text file is accepted")
        return archive.open(members[0])
    if ending == ".zst":
        try:
            import zstandard
        except ImportError:
            raise CorpusError(f"{path} needs the package zstandard; or unpack it first: zstd -d") from None
        return zstandard.open(path, "rb")
    return path.open("rb")
