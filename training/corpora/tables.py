"""Text in columns: folders in the hub's layout and single table files, read by the library `datasets`."""
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import yaml  # type: ignore[import-untyped]
from huggingface_hub import metadata_load

from nextword.training.corpora.corpus import CorpusError
from nextword.training.corpora.filetypes import ending

# `datasets` raises these if it cannot load something.
LOADING_ERRORS = (OSError, ValueError, RuntimeError, ImportError, yaml.YAMLError, datasets.exceptions.DatasetsError)
TYPES = ("parquet", "json", "csv", "arrow")
# Without these options, pandas reads the words NA, null and None as missing values, and text of digits as numbers.
CSV_OPTIONS = {"na_filter": False, "converters": {"text": str}}
_README = "README.md"
_SETTINGS = ".huggingface.yaml"  # `datasets` reads this file too


def folder(path: Path, config: str | None) -> datasets.DatasetBuilder:
    """The builder of a folder's corpus. Its type is one of TYPES or "text". Raises CorpusError and LOADING_ERRORS."""
    _check_addresses(path)
    builder = datasets.load_dataset_builder(str(path), config)
    files = [str(file) for files in (builder.config.data_files or {}).values() for file in files]
    tops = (os.path.join(os.path.abspath(path), ""), os.path.join(path.resolve(), ""))
    outside = [file for file in files if not os.path.normpath(file).startswith(tops)]
    if outside:
        raise CorpusError(f"{path} names {outside[0]}, which is outside the folder; only files in the folder are read")
    return _finished(builder, str(path), config)


def file(path: Path, kind: str) -> datasets.DatasetBuilder:
    """The builder of a single table file of one of TYPES, as training text."""
    files: dict[str, Any] = {"data_files": {"train": [str(path.absolute())]}}
    if ending(path.name) == ".tsv":
        files["sep"] = "\t"
    return _finished(datasets.load_dataset_builder(kind, **files), kind, None, **files)


def prepared(builder: datasets.DatasetBuilder) -> dict[str, datasets.Dataset]:
    """The unchanged splits of the data files. Raises LOADING_ERRORS."""
    try:
        builder.download_and_prepare()
        return builder.as_dataset()
    except StopIteration:  # JSON files without content raise it
        raise ValueError("there are no rows") from None


def read(builder: datasets.DatasetBuilder) -> dict[str, datasets.Dataset]:
    """Like `prepared`, for files of this machine."""
    splits = prepared(builder)
    for data in splits.values():  # the builder gives files with the same name the same fingerprint
        data._fingerprint = f"{_key(builder)}{data._fingerprint}"
    return splits


def versions(builder: datasets.DatasetBuilder) -> list[list]:
    """The data files of each split, with the revision (on the hub) or the time (in a folder) of each."""
    return [[str(split), [*map(str, files)], [*map(list, files.origin_metadata)]] for split, files in
            (builder.config.data_files or {}).items()]


def type_of(builder: datasets.DatasetBuilder) -> str:
    """"parquet", "json", "csv", "arrow", "text", or another type of `datasets`."""
    return type(builder).__module__.rpartition(".")[2]


def is_configured(path: Path) -> bool:
    """True if the README of a folder assigns files to splits."""
    return bool(_settings(path).get("configs"))


def _finished(
    builder: datasets.DatasetBuilder, where: str, config: str | None, **files: Any
) -> datasets.DatasetBuilder:
    """The same builder, with our options and with a separate cache folder for each version of the files."""
    options = CSV_OPTIONS if type_of(builder) == "csv" else {}
    cache = f"{datasets.config.HF_DATASETS_CACHE}/{_key(builder)}"
    return datasets.load_dataset_builder(where, config, cache_dir=cache, **files, **options)


def _key(builder: datasets.DatasetBuilder) -> str:
    return hashlib.sha256(json.dumps([versions(builder), sorted(CSV_OPTIONS)]).encode()).hexdigest()[:16]


def _settings(path: Path) -> dict:
    """The settings for `datasets` in a folder's README."""
    settings = metadata_load(path / _README) if (path / _README).is_file() else None
    more = yaml.safe_load((path / _SETTINGS).read_text(encoding="utf-8")) if (path / _SETTINGS).is_file() else None
    return {**(settings or {}), **(more if isinstance(more, dict) else {})}


def _check_addresses(path: Path) -> None:
    """Refuse a README that names files by address: `datasets` would download them."""
    configs = _settings(path).get("configs")
    named = [config.get(key) for config in configs if isinstance(config, dict) for key in ("data_files", "data_dir")
             ] if isinstance(configs, list) else []
    for name in _strings(named):
        if "://" in name or "::" in name:
            raise CorpusError(f"{path / _README} names {name}; only files in the folder are read")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings([*value.values()])
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
