"""A trained model on disk: a folder with three files. This module does not import torch.

    model.pt        the TorchScript program (see lm.torchscript)
    tokenizer.json  the vocabulary (see lm.vocabulary)
    bundle.json     the description (see `Description`)

The check sums show damage, not intent: whoever changes a file can change its sum. lm.archive limits the program.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nextword.lm.architecture import Architecture

FORMAT = 2
MODEL, TOKENIZER, DESCRIPTION = "model.pt", "tokenizer.json", "bundle.json"
MADE = ("format", "files", "sha256")  # keys of the description that `write_bundle` adds
ENGLISH = Path(__file__).parent / "bundles" / "english"


class BundleError(ValueError):
    """A bundle that cannot be used; the message says which one and why."""


class Part(BaseModel):
    """A part of `bundle.json`. Keys that are not listed are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


class File(Part):
    sha256: str
    bytes: int | None = None


class CorpusSource(Part):
    """A corpus that the model was trained on; documents are counted by split."""

    name: str
    licence: str | None = None
    clean_up: str | None = None
    documents: dict[str, int] = {}
    left_out: dict[str, int] = {}


class Training(Part):
    corpus: list[CorpusSource] = []
    recipe: dict[str, Any] = {}
    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    reason: str | None = None
    best_step: int | None = None
    device: str | None = None
    machine: str | None = None


class CacheNumbers(Part):
    """The fields of `lm.continuous_cache.CacheSettings`."""

    theta: float
    weight: float
    size: int


class Description(Part):
    """The content of `bundle.json`.

    format      version of this layout; `files` and `sha256` are new in 2
    weights     "int8" or "float32"
    metrics     figures by the text that they are of: "validation", and "cache" with the continuous cache
    cache       settings of the continuous cache
    names_of_few_documents, stock_names, half_words
                words that are suppressed (see lm.ranking)
    export      differences between the network and the exported program
    versions    of the packages that made the bundle
    files       size and sha256 of the other files
    sha256      of the description itself (see `seal`); empty in one that was edited by hand
    """

    format: int = FORMAT
    name: str
    description: str = ""
    architecture: Architecture | None = None
    weights: str | None = None
    training: Training | None = None
    metrics: dict[str, dict[str, float]] = {}
    cache: CacheNumbers | None = None
    names_of_few_documents: list[str] = []
    stock_names: list[str] = []
    half_words: list[str] = []
    export: dict[str, Any] | None = None
    versions: dict[str, str] = {}
    files: dict[str, File] = {}
    sha256: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Description:
        """The description with these keys. Raises ValueError, whose one line names the key that is wrong."""
        try:
            return cls.model_validate_json(json.dumps(metadata), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}") from None


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were complete and undamaged. Their content is held here, so that later changes to the folder
    do not matter.

    metadata     `bundle.json` as it was read
    description  the same, typed
    content      the other files, by name
    """

    path: Path
    metadata: dict[str, Any]
    content: dict[str, bytes] = field(repr=False)

    @cached_property
    def description(self) -> Description:
        return Description.of(self.metadata)

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def model_file(self) -> Path:
        return self.path / MODEL

    @property
    def tokenizer_file(self) -> Path:
        return self.path / TOKENIZER


def open_bundle(path: str | os.PathLike[str] | None = None) -> Bundle:
    """Check a bundle's files against its description. None: the English bundle that comes with the project.

    Raises BundleError if the folder is missing, is not a bundle, has a newer format, or a file is missing or damaged.
    """
    folder = Path(path) if path is not None else ENGLISH
    if not folder.is_dir():
        raise BundleError(f"no bundle at {folder}: there is no such folder")
    if not (folder / DESCRIPTION).is_file():
        raise BundleError(f"{folder} is not a bundle: it has no {DESCRIPTION}")
    try:
        metadata = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if isinstance(metadata, dict) and isinstance(metadata.get("format"), int) and metadata["format"] > FORMAT:
            raise BundleError(f"{folder} has bundle format {metadata['format']}; this version of Nextword reads up to "
                              f"{FORMAT}: update it")
        description = Description.of(metadata)
        if missing := {"format", "files"} - description.model_fields_set or {MODEL, TOKENIZER} - set(description.files):
            raise ValueError(f"{' and '.join(sorted(missing))} missing")
    except BundleError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{folder} is damaged: {DESCRIPTION} cannot be used ({error})") from None
    if description.format != 1 and description.sha256 not in ("", seal(metadata)):
        raise BundleError(f'{folder} is damaged: {DESCRIPTION} does not have its own sha256 (after an edit, set '
                          'that to "")')
    content = {file: _read(folder, file, description.files[file].sha256) for file in (MODEL, TOKENIZER)}
    return Bundle(folder, metadata, content)


def seal(metadata: Mapping[str, Any]) -> str:
    """The sha256 of a description, without this sum, as JSON in ASCII with sorted keys and no blanks."""
    bare = {key: value for key, value in metadata.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_bundle(path: str | os.PathLike[str], model: bytes, tokenizer: str, metadata: Mapping[str, Any]) -> Bundle:
    """Write a bundle completely or not at all; a bundle that is there already is replaced in the last step.

    metadata: the keys of a `Description`, of which only `name` is needed; those in `MADE` are made here.
    Raises BundleError if a key has a wrong type, or if the folder is there already and is not a bundle.
    """
    folder = Path(path)
    if folder.exists() and not (folder / DESCRIPTION).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError(f"{folder} exists and is not a bundle: it is not overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    content = {MODEL: model, TOKENIZER: tokenizer.encode()}
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in content.items()}
    given = {key: value for key, value in metadata.items() if key not in MADE}
    description = {"format": FORMAT, **given, "files": files}
    try:
        Description.of(description)
    except ValueError as error:
        raise BundleError(f"{folder} cannot be written: {DESCRIPTION}: {error}") from None
    content[DESCRIPTION] = json.dumps({**description, "sha256": seal(description)}, indent=1).encode() + b"\n"
    for remains in folder.parent.glob(f".{escape(folder.name)}.*"):  # of a process that was killed
        shutil.rmtree(remains, ignore_errors=True)
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
        raise BundleError(f"{folder} is incomplete: {file} is missing") from None
    except OSError as error:
        raise BundleError(f"{folder} cannot be read: {file}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{folder} is damaged: {file} does not have the sha256 that {DESCRIPTION} gives")
    return content
