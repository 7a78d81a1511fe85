"""A trained model on disk: a folder with three files. This module needs nothing but Python's standard library.

    model.pt        the TorchScript program (see lm.torchscript)
    tokenizer.json  the vocabulary (see lm.vocabulary)
    bundle.json     what it is: format, name, architecture, training, metrics, versions, size and sha256 of the others, and
                    its own sha256 (see `seal`; empty where it was edited by hand)

The check sums tell damage, not intent: who changes a file can change its sum. What a program may do is lm.archive's matter.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

FORMAT = 2
MODEL, TOKENIZER, DESCRIPTION = "model.pt", "tokenizer.json", "bundle.json"
ENGLISH = Path(__file__).parent / "bundles" / "english"


class BundleError(ValueError):
    """A bundle that cannot be used; the message says which one and why."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were there and whole. It has their content, so what is used is what was checked, whatever
    becomes of the folder.
    """

    path: Path
    metadata: dict
    content: dict[str, bytes] = field(repr=False)

    @property
    def name(self) -> str:
        return self.metadata["name"]

    @property
    def model_file(self) -> Path:
        return self.path / MODEL

    @property
    def tokenizer_file(self) -> Path:
        return self.path / TOKENIZER


def open_bundle(path: str | os.PathLike | None = None) -> Bundle:
    """Check a bundle's files against its description. None: the English bundle that comes with the project.

    Raises BundleError where the folder is missing or no bundle, of a newer format, lacks a file or has a damaged one.
    """
    folder = Path(path) if path is not None else ENGLISH
    if not folder.is_dir():
        raise BundleError(f"no bundle at {folder}: there is no such folder")
    if not (folder / DESCRIPTION).is_file():
        raise BundleError(f"{folder} is not a bundle: it has no {DESCRIPTION}")
    try:
        metadata = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        version, name, files = metadata["format"], metadata["name"], metadata["files"]
        sums = {file: files[file]["sha256"] for file in (MODEL, TOKENIZER)}
        if type(version) is not int or not all(type(text) is str for text in (name, *sums.values())):
            raise TypeError("format is not a number, or name or a sha256 is not text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder} is damaged: {DESCRIPTION} cannot be used ({type(error).__name__}: {error})") from None
    if version > FORMAT:
        raise BundleError(f"{folder} has bundle format {version}; this version of Nextword reads up to {FORMAT}: update it")
    if version != 1 and metadata.get("sha256") not in ("", seal(metadata)):
        raise BundleError(f'{folder} is damaged: {DESCRIPTION} does not have its own sha256; who edits it sets that to ""')
    return Bundle(folder, metadata, {file: _read(folder, file, sha256) for file, sha256 in sums.items()})


def seal(metadata: dict) -> str:
    """The sha256 of a description: of its JSON with sorted keys, without blanks, in ASCII, and without this sum."""
    bare = {key: value for key, value in metadata.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_bundle(path: str | os.PathLike, model: bytes, tokenizer: str, metadata: dict) -> Bundle:
    """Write a bundle, whole or not at all: a bundle that was there before is replaced in the end.

    metadata: everything of `bundle.json` but `format`, `files` and `sha256`, which are added here; it needs a `name`.
    """
    folder = Path(path)
    if folder.exists() and not (folder / DESCRIPTION).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError(f"{folder} is there already and is not a bundle: it is not overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    content = {MODEL: model, TOKENIZER: tokenizer.encode()}
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in content.items()}
    description = {"format": FORMAT, **metadata, "files": files}
    content[DESCRIPTION] = json.dumps({**description, "sha256": seal(description)}, indent=1).encode() + b"\n"
    for left in folder.parent.glob(f".{escape(folder.name)}.*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        part.chmod(0o755)
        for name, data in content.items():
            with (part / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            old = part.with_name(f"{part.name}.old")
            folder.rename(old)
            part.rename(folder)
            shutil.rmtree(old)
        else:
            part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return open_bundle(folder)


def _read(folder: Path, file: str, sha256: str) -> bytes:
    try:
        content = (folder / file).read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{folder} is not whole: {file} is missing") from None
    except OSError as error:
        raise BundleError(f"{folder} cannot be read: {file}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{folder} is damaged: {file} does not have the sha256 that {DESCRIPTION} gives")
    return content
