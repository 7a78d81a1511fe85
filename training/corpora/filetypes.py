"""The type of a file, from its content and its whole name (`x.csv.gz` is a table), and its unpacked content."""
from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, cast

from nextword.training.corpora.corpus import CorpusError

# Damaged compressed files raise these.
UNPACKING_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)

PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
TABLES = {".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv",
          ".arrow": "arrow"}  # fmt: skip
_TABLE_MAGIC = {b"PAR1": "parquet", b"ARROW1\0\0": "arrow"}
_REFUSED_MAGIC = {
    b"%PDF-": "a PDF document", b"{\\rtf": "a rich text document",
    b"\xd0\xcf\x11\xe0": "an old Microsoft Office document",
    b"\x89PNG\r\n": "an image", b"\xff\xd8\xff": "an image", b"GIF87a": "an image", b"GIF89a": "an image",
    b"SQLite format 3\0": "an SQLite database", b"\x89HDF": "an HDF5 file", b"\x7fELF": "a program",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive", b"Rar!\x1a\x07": "a RAR archive", b"\x04\x22\x4d\x18": "an LZ4 file",
}  # fmt: skip
_MARKUP = {b"<!doctype html": "an HTML page", b"<html": "an HTML page", b"<?xml": "an XML document"}
_NOT_MEMBERS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # file managers put these into archives
_HEAD = 2**16  # bytes


def type_of(path: Path) -> str:
    """"text", or the type of a table: "parquet", "json", "csv", "arrow". Raises CorpusError if it is neither."""
    with unpacked(path) as (file, name):
        head = file.peek(_HEAD)
    if not head.strip():  # a table has a header
        return "text"
    if table := next((kind for magic, kind in _TABLE_MAGIC.items() if head.startswith(magic)), None):
        return table
    refused = next((kind for magic, kind in _REFUSED_MAGIC.items() if head.startswith(magic)), None)
    refused = refused or next((kind for mark, kind in _MARKUP.items() if head.lstrip().lower().startswith(mark)), None)
    if refused or _is_tar(head):
        advice = "Save its text as .txt first" if refused else "Unpack it first"
        raise CorpusError(f"{path} is {refused or 'a tar archive'}; accepted is plain text in UTF-8, or a table "
                          f"(parquet, json, csv) with a column 'text'. {advice}")
    table = TABLES.get(PurePath(name).suffix.lower())
    return table or ("json" if _has_json_lines(head) else "text")


def ending(name: str) -> str:
    """The ending that gives the type, in lower case: ".csv" for `x.csv.gz`, ".txt" for `x.txt`, ".gz" for `x.gz`."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    while len(suffixes) > 1 and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[tuple[io.BufferedReader, str]]:
    """The decompressed content of a file, and its name without the endings of compression.

    The content of a zip file is the only file in it. Raises CorpusError; reading raises `UNPACKING_ERRORS`.
    """
    with contextlib.ExitStack() as opened:
        file, name = cast(io.BufferedReader, opened.enter_context(path.open("rb", _HEAD))), path.name
        for _ in PACKED:
            inner = _decompressed(file, path)
            if inner is None:
                break
            content, member = inner
            name = member or (PurePath(name).stem if PurePath(name).suffix.lower() in PACKED else name)
            # A BufferedReader needs only the method `readinto`, and all of these files have it.
            raw = cast(io.RawIOBase, opened.enter_context(content))
            file = opened.enter_context(io.BufferedReader(raw, _HEAD))
        yield file, name


def _decompressed(file: io.BufferedReader, path: Path) -> tuple[BinaryIO, str | None] | None:
    """The content of a compressed file, and its name if the archive has one. None if the file is not compressed."""
    head = file.peek(16)
    if head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(file, "rb")), None
    if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":
        return cast(BinaryIO, bz2.open(file, "rb")), None
    if head.startswith(b"\xfd7zXZ\0"):
        return cast(BinaryIO, lzma.open(file, "rb")), None
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return _single_member(file, path)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            import zstandard
        except ImportError:
            raise CorpusError(f"{path} needs the package zstandard; or unpack it first: zstd -d") from None
        return zstandard.open(file, "rb"), None
    return None


def _single_member(file: io.BufferedReader, path: Path) -> tuple[BinaryIO, str]:
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise CorpusError(f"{path} is an office document or e-book; accepted is plain text. "
                          "Save its text as .txt first")
    members = [member for member in archive.infolist() if not member.is_dir() and not _is_left_over(member.filename)]
    if len(members) != 1:
        raise CorpusError(f"{path} holds {len(members)} files; one text file or table is accepted. "
                          "Unpack it, and name the folder")
    if members[0].flag_bits & 1:
        raise CorpusError(f"{path} is encrypted; unpack it first")
    try:
        return cast(BinaryIO, archive.open(members[0])), PurePath(members[0].filename).name
    except NotImplementedError as error:
        raise CorpusError(f"{path} cannot be unpacked by Python ({error}); unpack it first") from None


def _is_left_over(member: str) -> bool:
    name = PurePath(member).name
    return member.startswith("__MACOSX/") or name.startswith("._") or name in _NOT_MEMBERS


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")  # it checks the checksum
    except tarfile.HeaderError:
        return False
    return True


def _has_json_lines(head: bytes) -> bool:
    """True if the first line is a JSON object."""
    first, newline, _ = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not first.startswith(b"{") or (not newline and len(head) >= _HEAD):
        return False
    try:
        return bool(json.loads(first))
    except ValueError:
        return False
