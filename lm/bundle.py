"""A trained model on disk: a folder with three files. This module does not import torch.

    model.pt        the TorchScript program (see lm.torchscript)
    tokenizer.json  the vocabulary (see lm.vocabulary)
    bundle.json     the description (see `Description`)

The checksums show damage, not intent: whoever changes a file can change its checksum. A bundle may come from a
stranger. So only regular files of a bounded size are read, and lm.archive reads the model as data.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nextword.lm.architecture import Architecture
from nextword.lm.regular_file import read_regular_file

FORMAT = 2
MODEL, TOKENIZER, DESCRIPTION = "model.pt", "tokenizer.json", "bundle.json"
MADE = ("format", "files", "sha256")  # keys of the description that `write_bundle` adds
MOST_BYTES = {MODEL: 1_000_000_000, TOKENIZER: 100_000_000, DESCRIPTION: 10_000_000}
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
    """Fields of `lm.continuous_cache.CacheSettings`; a missing field has its default."""

    theta: float | None = Field(None, ge=0, le=1_000)
    weight: float | None = Field(None, ge=0, le=1)
    size: int | None = Field(None, ge=0, le=100_000)

    def present(self) -> dict[str, Any]:
        return self.model_dump(include={"theta", "weight", "size"}, exclude_none=True)


class Description(Part):
    """The content of `bundle.json`.

    format      version of this layout; `files` and `sha256` are new in 2
    name        letters, digits, '.', '_' and '-', because logs and answers show it
    weights     "int8" or "float32"
    metrics     figures on the validation text: "validation" without the continuous cache, "cache" with it
    cache       settings of the continuous cache
    names_of_few_documents, stock_names, half_words
                words that are suppressed (see lm.ranking)
    export      differences between the network and the exported program
    versions    versions of the packages that made the bundle
    files       size and sha256 of the other files
    sha256      checksum of the description itself (see `seal`); empty in a description that was edited by hand
    """

    format: int = FORMAT
    name: str = Field(pattern=r"^[\w.-]{1,64}$")
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
        """The description with these keys. Raises ValueError; its message, one line, names the wrong key."""
        try:
            return cls.model_validate_json(json.dumps(metadata), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = "".join(filter(str.isprintable, ".".join(map(str, first["loc"]))))[:100]
            raise ValueError(f"{place or 'all of it'}: {first['msg'][:200]}") from None


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were complete and undamaged. It has their content, so later changes to the folder do not
    matter.

    metadata     the keys and values of `bundle.json`
    description  the same, typed
    content      name of a file → bytes, for the other files
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


def open_bundle(path: str | os.PathLike[str] | None = None) -> Bundle:
    """Check a bundle's files against its description. None: the English bundle that comes with the project.

    Raises BundleError if the folder is missing, is not a bundle, has a newer format, or a file is missing or damaged.
    """
    folder = Path(path) if path is not None else ENGLISH
    if not folder.is_dir():
        raise BundleError(f"no bundle at {folder}: there is no such folder")
    if not (folder / DESCRIPTION).is_file():
        hint = f"; did you mean {folder / 'bundle'}?" if (folder / "bundle" / DESCRIPTION).is_file() else ""
        raise BundleError(f"{folder} is not a bundle: it has no {DESCRIPTION}{hint}")
    description_file = _read_file(folder, DESCRIPTION)
    try:
        metadata = json.loads(description_file)
        if isinstance(metadata, dict) and isinstance(metadata.get("format"), int) and metadata["format"] > FORMAT:
            raise BundleError(f"{folder} has bundle format {metadata['format']}; this version of Nextword reads up to "
                              f"{FORMAT}: update it")
        description = Description.of(metadata)
        if missing := {"format", "files"} - description.model_fields_set or {MODEL, TOKENIZER} - set(description.files):
            raise ValueError(f"{' and '.join(sorted(missing))} missing")
        complete = description.format == 1 or metadata.get("sha256") in ("", seal(metadata))
    except BundleError:
        raise
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder} is damaged: {DESCRIPTION} cannot be used ({error})") from None
    if not complete:
        raise BundleError(f'{folder} is damaged: {DESCRIPTION} does not have its own sha256 (after an edit, set '
                          'that to "")')
    content = {file: _read_checked(folder, file, description.files[file].sha256) for file in (MODEL, TOKENIZER)}
    return Bundle(folder, metadata, content)


def seal(metadata: Mapping[str, Any]) -> str:
    """The sha256 of a description: of its JSON in ASCII, without the key `sha256`, with sorted keys and no blanks."""
    bare = {key: value for key, value in metadata.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_bundle(path: str | os.PathLike[str], model: bytes, tokenizer: str, metadata: Mapping[str, Any]) -> Bundle:
    """Write a bundle completely or not at all. The last step replaces a bundle that has the same path.

    metadata: the keys of a `Description`; only `name` is needed. This function sets the keys in `MADE` itself.
    Raises BundleError if a key has a wrong type, or if the folder exists and is not a bundle.
    """
    folder = Path(path)
    if folder.exists() and not (folder / DESCRIPTION).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError(f"{folder} exists and is not a bundle: it is not overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    content = {MODEL: model, TOKENIZER: tokenizer.encode()}
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in content.items()}
    others = {key: value for key, value in metadata.items() if key not in MADE}
    description = {"format": FORMAT, **others, "files": files}
    try:
        Description.of(description)
    except ValueError as error:
        raise BundleError(f"{folder} cannot be written: {DESCRIPTION}: {error}") from None
    content[DESCRIPTION] = json.dumps({**description, "sha256": seal(description)}, indent=1).encode() + b"\n"
    _remove_leftovers(folder)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
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


def as_name(text: str) -> str:
    """A valid name for a bundle, made from a text such as a folder's name: '-' replaces other characters."""
    return re.sub(r"[^\w.-]+", "-", text)[:64] or "model"


def _read_checked(folder: Path, file: str, sha256: str) -> bytes:
    content = _read_file(folder, file)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{folder} is damaged: {file} does not have the sha256 that {DESCRIPTION} gives")
    return content


def _read_file(folder: Path, file: str) -> bytes:
    try:
        return read_regular_file(folder / file, MOST_BYTES[file])
    except FileNotFoundError:
        raise BundleError(f"{folder} is incomplete: {file} is missing") from None
    except OSError as error:
        raise BundleError(f"{folder} cannot be read: {file}: {error.strerror}") from None


def _remove_leftovers(folder: Path) -> None:
    """Remove the unfinished folders of `write_bundle` calls whose process was killed, and nothing else."""
    leftover = re.compile(rf"\.{re.escape(folder.name)}\.part-\w+(\.old)?")
    for path in folder.parent.iterdir():
        is_folder = leftover.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        if is_folder and {file.name for file in path.iterdir()} <= {MODEL, TOKENIZER, DESCRIPTION}:
            shutil.rmtree(path, ignore_errors=True)
