"""From the name of a corpus to its text.

A corpus is named by
    a short name                                       imdb
    a hub id, where needed with its configuration      Salesforce/wikitext:wikitext-2-raw-v1
    a directory in the hub's layout                    corpora/imdb
    a directory with train.txt, valid.txt, test.txt    (validation.txt, dev.txt; also ptb.train.txt, train.txt.gz, …)
    a directory of text files                          books/
    a text file in UTF-8                               book.txt (.gz, .bz2, .xz, .zip; .zst with the package zstandard)
    a table with a column `text`                       chats.jsonl, chats.csv.gz, chats.parquet
    a pipe with one of these                           /dev/stdin
    python-docs                                        the documentation inside this Python
Several of these can be joined by commas; then their splits are joined in that order. An epoch reads the training text
of `name*3` three times, so that a small corpus counts beside large ones. It reads half of the training text of
`name*0.5` (see `nextword.training.corpora.shares`); validation and test text stay whole. An existing file or directory
has precedence over a short name, and over the meaning of a comma or `*` in its name. A directory with a short name
(imdb/) is cleaned like that corpus.

`stream:` before a hub id, a short name or a directory in the hub's layout (stream:allenai/c4:en) is for corpora that
are too large for this machine: the text is not saved, only its token ids (see `nextword.training.corpora.streaming`).
Other corpora start sooner without it.

Missing validation and test text is cut from the training text (see `nextword.training.corpora.held_out`).
"""
from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets

from nextword.training.corpora import hub, local_files, pythondocs, shares, streaming, tables
from nextword.training.corpora.corpus import SPLITS, Corpus, CorpusError, HubUnreachable
from nextword.training.corpora.preparation import prepare
from nextword.training.corpora.registry import CORPORA, Definition, find_definition, with_hub_id

_STREAM = "stream:"
_ACCEPTED = (
    f"{', '.join(name for name, entry in CORPORA.items() if entry.hub)}, python-docs, a hub id (owner/name:config), "
    "a directory, a text file, a table"
)
_STREAMED = f"accepted after {_STREAM} is a hub id or a directory in the hub's layout"


def load_corpus(spec: str, *, pretokenized: bool = False) -> Corpus:
    """Load the corpus that `spec` names (see the top of this module).

    pretokenized: do not change the text; a row, or a line of a text file, is one sentence.
    The text is cleaned once; later it comes from the cache of `datasets`. Raises CorpusError.
    """
    names = _names(spec)
    if not names:
        raise CorpusError(f"no corpus is named; accepted: {_ACCEPTED}")
    with _quiet_datasets():
        return _joined([_multiplied(name, pretokenized) for name in names])


def load_rows(spec: str) -> dict[str, datasets.Dataset]:
    """Load the unchanged splits that `spec` names, with all columns, for instance with labels.

    Raises CorpusError.
    """
    with _quiet_datasets():
        return _whole(spec, by_line=False)[2]


def default_corpus() -> Corpus:
    """Load wikitext-2; if the hub does not answer, python-docs, with a line on stderr."""
    try:
        return load_corpus("wikitext-2")
    except HubUnreachable as error:
        print(f"{error}. Taking python-docs instead of wikitext-2.", file=sys.stderr)
        return load_corpus("python-docs")


def _names(spec: str) -> list[str]:
    """The names between commas. A name of an existing file or directory may have commas; the longest one counts."""
    pieces, names = spec.split(","), []
    while pieces:
        length = next((n for n in range(len(pieces), 1, -1) if _exists(",".join(pieces[:n]))), 1)
        names.append(",".join(pieces[:length]).strip())
        del pieces[:length]
    return [name for name in names if name]


def _exists(name: str) -> bool:
    """True if a file or directory has this name. The name may have `stream:`, a configuration and a factor."""
    path = name.strip().removeprefix(_STREAM)
    short = re.sub(r"(?::[^:,*]*)?(?:\*[^,*]*)?$", "", path, count=1)
    return any(os.path.exists(os.path.expanduser(path)) for path in (path, short))


def _joined(parts: list[Corpus]) -> Corpus:
    if len(parts) == 1:
        return parts[0]
    common = [split for split in SPLITS if all(split in part.splits for part in parts)]
    if not common:
        have = "; ".join(f"{part.name} has {', '.join(part.splits)}" for part in parts)
        raise CorpusError(f"these corpora have no split in common: {have}")
    splits = {split: streaming.concatenated([part.splits[split] for part in parts]) for split in common}
    return Corpus(",".join(part.name for part in parts), tuple(s for part in parts for s in part.sources), splits,
                  tuple(parts))


def _multiplied(spec: str, pretokenized: bool) -> Corpus:
    """The corpus of `name*3`, with its training text three times; or of a name without a factor."""
    name, star, factor = spec.rpartition("*")
    if not star or os.path.exists(os.path.expanduser(spec)):
        return _load(spec, pretokenized)
    is_number = re.fullmatch(r"\d+(?:\.\d*)?|\.\d+", factor.strip(), re.ASCII)
    if not is_number or not 0 < (times := float(factor)) <= 1000:
        raise CorpusError(f"in {spec!r}, {factor!r} after the * is no number from 0 to 1000: the training text of "
                          "name*3 is read three times an epoch, half the training text of name*0.5 once")
    corpus = _load(name.strip(), pretokenized)
    train = shares.multiplied(corpus.split("train"), times)
    if isinstance(train, datasets.Dataset) and not len(train):
        raise CorpusError(f"corpus {corpus.name!r} is too short to read a share of {times:g}")
    sources = tuple(replace(source, times=times) for source in corpus.sources)
    return replace(corpus, name=f"{corpus.name}*{times:g}", sources=sources, splits={**corpus.splits, "train": train})


def _load(spec: str, pretokenized: bool) -> Corpus:
    if spec.startswith(_STREAM):
        name, definition, raw = _streamed(spec.removeprefix(_STREAM))
        return prepare(name, definition, raw, pretokenized, prefix=_STREAM)
    name, definition, raw = _whole(spec, pretokenized)
    return prepare(name, definition, raw, pretokenized)


def _whole(spec: str, by_line: bool) -> tuple[str, Definition, dict[str, Any]]:
    """The name of a corpus, its definition, and its unchanged text by split."""
    place = os.path.expanduser(spec)
    if os.path.exists(place) and not os.path.isdir(place):
        path = Path(place)
        return path.name, Definition(), {"train": local_files.read_file(path, by_line)}
    if folder := _folder(spec):
        path, config = folder
        return path.name, find_definition(path.name), local_files.read_folder(path, config, by_line)
    if spec.lower() == "python-docs":
        return "python-docs", CORPORA["python-docs"], {"train": pythondocs.read()}
    return spec, *_from_hub(spec, tables.prepared)


def _streamed(spec: str) -> tuple[str, Definition, dict[str, Any]]:
    """Like `_whole`, but each split is a `streaming.Streamed`."""
    if folder := _folder(spec):
        path, config = folder
        try:
            builder = tables.folder(path, config)
        except tables.LOADING_ERRORS as error:
            raise CorpusError(f"{path} cannot be streamed: {' '.join(str(error).split())}; {_STREAMED}") from None
        if tables.type_of(builder) not in tables.TYPES:
            raise CorpusError(f"{path} cannot be streamed: it has {tables.type_of(builder)} files; {_STREAMED}. "
                              f"Without {_STREAM} text is read in bounded memory too")
        return path.name, find_definition(path.name), streaming.splits(builder)
    if spec.lower() == "python-docs" or os.path.exists(os.path.expanduser(spec)):
        raise CorpusError(f"{spec} cannot be streamed; {_STREAMED}. Without {_STREAM} it is read in bounded memory too")
    return spec, *_from_hub(spec, streaming.splits)


def _folder(spec: str) -> tuple[Path, str | None] | None:
    """The directory that `spec` names, and its configuration after a colon. None if there is no such directory."""
    path = os.path.expanduser(spec)
    path, _, config = (path, "", "") if os.path.isdir(path) else path.rpartition(":")
    return (Path(path).resolve(), config or None) if os.path.isdir(path) else None


def _from_hub(spec: str, use: Callable[[datasets.DatasetBuilder], dict[str, Any]]) -> tuple[Definition, dict[str, Any]]:
    """The definition of a corpus on the hub, and `use(builder)` for its builder."""
    if definition := CORPORA.get(spec.lower()):
        if definition.hub is None:
            raise CorpusError(f"{spec} is on no hub; name the directory where you have it")
        return definition, hub.load(definition.hub, definition.config, use)
    name, _, config = spec.partition(":")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) or os.path.isdir(os.path.dirname(name)):
        raise CorpusError(_unknown(spec))
    definition, own_config = with_hub_id(name, config or None)
    return definition, hub.load(name, own_config, use)


def _unknown(spec: str) -> str:
    beside = Path(os.path.expanduser(spec)).parent
    if re.match(r"\w+://", spec):
        return f"{spec!r} is an address; download the text, and name its file"
    if "/" in spec:
        problem, names = f"there is no file or directory {spec!r}", [path.name for path in beside.glob("*")]
        close = [str(beside / name) for name in difflib.get_close_matches(Path(spec).name, names, 1)]
    else:
        problem, names = f"there is no corpus {spec!r}", [*CORPORA, *(path.name for path in beside.glob("*.txt*"))]
        close = difflib.get_close_matches(spec.lower(), names, 1)
    return f"{problem}; " + (f"did you mean {close[0]!r}? " if close else "") + f"accepted: {_ACCEPTED}"


@contextlib.contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Silence the log of `datasets`, and show its progress bars only on terminals."""
    verbosity = datasets.logging.get_verbosity()
    hide_bars = not sys.stderr.isatty() and not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if hide_bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if hide_bars:
            datasets.enable_progress_bars()
