"""Files and folders of this machine as splits: text files, tables, folders of such files, and pipes."""
from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import datasets

from nextword.training.corpora import filetypes, tables, textfiles
from nextword.training.corpora.corpus import CorpusError

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test",
}  # fmt: skip
_TEXT_ENDINGS = (".txt", ".raw", ".tokens", *filetypes.PACKED)
_ABOUT = re.compile(r"(?:readme|licen[cs]e|copying|notice|citation|authors|changelog|requirements)\b", re.IGNORECASE)
_ACCEPTED = ("a directory in the hub's layout (parquet, json or csv files with a column 'text'), or one with "
             "train.txt, valid.txt, test.txt")


def read_file(path: Path, by_line: bool) -> datasets.Dataset:
    """The rows of a text file or of a table."""
    path = regular(path)
    kind = _type_of(path)
    if kind == "text":
        return _read_texts([path], by_line)
    with _one_line_errors(path):
        return tables.read(tables.file(path, kind))["train"]


def _read_texts(paths: list[Path], by_line: bool) -> datasets.Dataset:
    with _one_line_errors(paths[0] if len(paths) == 1 else paths[0].parent):
        return textfiles.read(paths, by_line)


def _type_of(path: Path) -> str:
    with _one_line_errors(path):
        return filetypes.type_of(path)


@contextlib.contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Convert errors of reading to a CorpusError of one line."""
    try:
        yield
    except CorpusError:
        raise
    except (*tables.LOADING_ERRORS, *filetypes.UNPACKING_ERRORS) as error:
        cause = error.__cause__ or error
        if isinstance(cause, CorpusError):
            raise cause from None
        problem = " ".join(str(cause).split())
        if isinstance(cause, UnicodeDecodeError):
            problem = f"it is not in UTF-8 ({problem}); if it is Windows-1252, say: iconv -f WINDOWS-1252 -t UTF-8"
        if problem.startswith("Error tokenizing data"):  # pandas, of a csv file
            problem += "; text that has the mark between the columns must stand in double quotes"
        raise CorpusError(f"{path} cannot be read: {problem}") from None


def read_folder(path: Path, config: str | None, by_line: bool) -> dict[str, datasets.Dataset]:
    """The splits of a folder with files named after splits, with the hub's layout, or with text files (all "train")."""
    if not config and (files := _split_files(path)):
        return {split: read_file(file, by_line) for split, file in files.items()}
    try:
        builder = tables.folder(path, config)
        _refuse_mixed(path)
        if tables.type_of(builder) == "text":
            return {split: _read_texts(files, by_line) for split, files in _text_files(path, builder).items()}
        if tables.type_of(builder) in tables.TYPES:
            return tables.read(builder)
        contents = _listing(path)
    except CorpusError:
        raise
    except FileNotFoundError:
        contents = _listing(path)
    except tables.LOADING_ERRORS as error:
        contents = " ".join(str(error.__cause__ or error).split())
    raise CorpusError(f"{path} is no corpus: {contents}; accepted: {_ACCEPTED}")


def _listing(folder: Path) -> str:
    return "it has " + (", ".join(sorted(entry.name for entry in folder.iterdir())[:10]) or "no files")


def regular(path: Path) -> Path:
    """The path of a regular file. For a pipe, it is a file with the pipe's content: the same file for the same content.
    """
    state = path.stat()
    if stat.S_ISREG(state.st_mode) and state.st_nlink:
        return path
    if stat.S_ISCHR(state.st_mode) or stat.S_ISBLK(state.st_mode):
        raise CorpusError(f"{path} is a {'terminal' if path.is_char_device() and _is_terminal(path) else 'device'}; "
                          "accepted is a file, a pipe or a directory")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CorpusError(f"{path} is a pipe, which only one process can read; write its text to a file first")
    return _copy_of_pipe(path, state.st_dev, state.st_ino)


@lru_cache
def _copy_of_pipe(path: Path, _device: int, _number: int) -> Path:
    """Write the content of a pipe to a file. The result is cached, because a pipe gives its content only once."""
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "piped"
    folder.mkdir(0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as source, tempfile.NamedTemporaryFile(dir=folder, delete=False) as target:
            while chunk := source.read(2**20):
                digest.update(chunk)
                target.write(chunk)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error}") from None
    copy = folder / f"{digest.hexdigest()[:24]}{filetypes.ending(path.name)}"
    if copy.exists():  # keep it, because its time is part of the text's fingerprint
        os.unlink(target.name)
    else:
        shutil.move(target.name, copy)
    return copy


def _is_terminal(path: Path) -> bool:
    with path.open("rb") as file:
        return file.isatty()


def _split_files(folder: Path) -> dict[str, Path]:
    """The files of a folder that are named after a split (train.txt, ptb.valid.txt, wiki.test.raw.gz, …).

    {} if all of them are tables: then `datasets` reads the folder.
    """
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        split = next((SPLIT_NAMES[part] for part in file.name.lower().split(".") if part in SPLIT_NAMES), None)
        accepted = filetypes.ending(file.name) in (*_TEXT_ENDINGS, *filetypes.TABLES)
        if split is None or not accepted or not file.is_file():
            continue
        if split in files:
            if _is_table(file) and _is_table(files[split]):
                return {}
            raise CorpusError(f"both {files[split]} and {file.name} are {split} text; one is accepted")
        files[split] = file
    return {} if all(map(_is_table, files.values())) else files


def _is_table(file: Path) -> bool:
    return filetypes.ending(file.name) in filetypes.TABLES


def _text_files(folder: Path, builder: datasets.DatasetBuilder) -> dict[str, list[Path]]:
    """The text files of each split."""
    files = {str(split): [Path(file) for file in files] for split, files in (builder.config.data_files or {}).items()}
    if not tables.is_configured(folder):
        files = _all_text_files(folder, files)
    for file in (file for group in files.values() for file in group):
        if _type_of(file) != "text":
            raise CorpusError(f"{file} holds a table; accepted is a folder of text files or a folder of tables")
    return files


def _all_text_files(folder: Path, files: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """The text files of each split, without omissions.

    `datasets` reads a name such as the-test.txt as that of a split, and then omits all files without a split. If it
    finds no training text, all text files are training text. If it would omit files, they are an error.
    """
    every = _text_below(folder)
    if "train" not in files:
        return {"train": every or [file for group in files.values() for file in group]}
    if missed := {file.resolve() for file in every} - {file.resolve() for group in files.values() for file in group}:
        raise CorpusError(f"{folder} has files for {', '.join(files)}, and {min(missed).name}, which is for none of "
                          "them; accepted is a folder in which all names say the split, or none")
    return files


def _text_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if filetypes.ending(file.name) == ".txt" and file.is_file()
                  and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
                  and not _ABOUT.match(file.name))


def _refuse_mixed(folder: Path) -> None:
    """Refuse text files beside tables: `datasets` reads the most frequent type of file and silently omits others."""
    if tables.is_configured(folder):
        return
    text = _text_below(folder)
    table = [file for file in folder.rglob("*") if _is_table(file) and filetypes.ending(file.name) != ".json"]
    if text and table:
        raise CorpusError(f"{folder} holds the text file {text[0].name} and the table {table[0].name}; accepted is a "
                          "folder of text files or a folder of tables")
