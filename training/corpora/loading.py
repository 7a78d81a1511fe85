"""Corpora by name: which there are, how each is cleaned, and where it is loaded from.

A corpus is named by
    a short name                                       imdb
    a hub id, where needed with its configuration      Salesforce/wikitext:wikitext-2-raw-v1
    a directory in the hub's layout                    corpora/imdb
    a directory with train.txt, valid.txt, test.txt    (validation.txt, dev.txt; also ptb.train.txt, train.txt.gz, …)
    a text file in UTF-8                               book.txt (.gz, .bz2, .xz, .zip; .zst with the package zstandard)
    python-docs                                        the documentation inside this Python
or several of these joined by commas, whose splits are then joined in that order. A name followed by *3 has its training
text read three times an epoch, so that a small corpus is not lost among large ones; of name*0.5 half the training text is read,
chosen as `nextword.training.corpora.shares` says. What exists as a file or directory is
taken before a short name. A directory that has a short name for its own (imdb/) is cleaned like that corpus.

With `stream:` before it (stream:allenai/c4:en), a hub id, short name or directory in the hub's layout is never held as a
whole, neither in memory nor on disk: its text is read as it comes and only its token ids are kept (see
`nextword.training.corpora.streaming`). It is for corpora too large to hold; others start sooner without it.

Missing validation and test text is cut from the training text as `nextword.training.corpora.held_out` says.
"""
from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import datasets

from nextword.training.corpora import held_out as blocks
from nextword.training.corpora import cleaning
from nextword.training.corpora import hub
from nextword.training.corpora import pythondocs
from nextword.training.corpora import shares
from nextword.training.corpora import streaming
from nextword.training.corpora import textfiles
from nextword.training.corpora.corpus import SPLITS, Corpus, CorpusError, HubUnreachable, Source

__all__ = ["CORPORA", "Corpus", "CorpusError", "HubUnreachable", "Source", "default_corpus", "load_corpus"]


@dataclass(frozen=True)
class Definition:
    """What is known about a corpus."""

    hub: str | None = None  # hub id
    config: str | None = None
    clean_up: str = "plain"  # a function of nextword.training.corpora.cleaning
    licence: str | None = None
    train: tuple[str, ...] = ("train",)  # splits to train on; missing ones are cut from the first
    drop_repeated: bool = False  # leave out of validation and test what an earlier split has too


CORPORA = {
    "wikitext-2": Definition("Salesforce/wikitext", "wikitext-2-raw-v1", "wiki", "CC BY-SA 3.0"),
    "wikitext-103": Definition("Salesforce/wikitext", "wikitext-103-raw-v1", "wiki", "CC BY-SA 3.0"),
    "simple-wikipedia": Definition("wikimedia/wikipedia", "20231101.simple", "plain", "CC BY-SA 3.0"),
    # Some 200 of the test reviews were also published as training reviews.
    "imdb": Definition("stanfordnlp/imdb", "plain_text", "reviews", None, ("train", "unsupervised"), True),
    "ag-news": Definition("fancyzhx/ag_news", None, "reviews"),
    "tinystories": Definition("roneneldan/TinyStories", None, "lines", "CDLA-Sharing-1.0"),
    "english-novels": Definition(None, None, "books", "public domain"),
    "tatoeba-english": Definition(None, None, "lines", "CC BY 2.0 FR"),
    "chat-english": Definition(None, None, "informal", "MIT, BSD-3-Clause, CDLA-Sharing-1.0, Apache-2.0, CC BY 4.0, CC BY-SA 4.0"),
    "talk-english": Definition(None, None, "informal", "CC BY-SA 4.0, MIT, CC BY 4.0"),
    "tech-talk-english": Definition(None, None, "informal", "CC BY-SA 4.0, MIT"),
    "notes-english": Definition(None, None, "informal", "CC BY 2.0, Apache-2.0, CC BY-SA 3.0, CC0, CC BY-SA 4.0, CC BY 4.0"),
    "python-docs": Definition(None, None, "docstrings", "PSF-2.0"),
}
_ACCEPTED = (
    f"{', '.join(name for name, known in CORPORA.items() if known.hub)}, python-docs, a hub id (owner/name:config), "
    "a directory, a text file"
)


def load_corpus(spec: str, *, pretokenized: bool = False) -> Corpus:
    """The corpus that `spec` names (see above).

    With `pretokenized` the text is left exactly as it is, a row (of a text file, a line) being one sentence.
    The text is cleaned once and then comes from the cache of `datasets`. Raises CorpusError.
    """
    names = [name.strip() for name in spec.split(",") if name.strip()]
    if not names:
        raise CorpusError(f"no corpus is named; accepted: {_ACCEPTED}")
    with _quiet_datasets():
        return _joined([_repeated(name, pretokenized) for name in names])


def default_corpus() -> Corpus:
    """wikitext-2 or, with a line on stderr, python-docs where the hub does not answer."""
    try:
        return load_corpus("wikitext-2")
    except HubUnreachable as error:
        print(f"{error}. Taking python-docs instead of wikitext-2.", file=sys.stderr)
        return load_corpus("python-docs")


def _joined(parts: list[Corpus]) -> Corpus:
    if len(parts) == 1:
        return parts[0]
    common = [split for split in SPLITS if all(split in part.splits for part in parts)]
    if not common:
        have = "; ".join(f"{part.name} has {', '.join(part.splits)}" for part in parts)
        raise CorpusError(f"these corpora have no split in common: {have}")
    splits = {split: _concatenated([part.splits[split] for part in parts]) for split in common}
    return Corpus(",".join(part.name for part in parts), tuple(s for part in parts for s in part.sources), splits,
                  tuple(parts))


def _repeated(spec: str, pretokenized: bool) -> Corpus:
    name, star, times = spec.rpartition("*")
    if not star or os.path.exists(os.path.expanduser(spec)):
        return _load(spec, pretokenized)
    if not re.fullmatch(r"\d+(?:\.\d*)?|\.\d+", times.strip(), re.ASCII) or not 0 < (factor := float(times)) <= 1000:
        raise CorpusError(f"in {spec!r}, {times!r} after the * is no number from 0 to 1000: the training text of name*3 is "
                          "read three times an epoch, half the training text of name*0.5 once")
    corpus = _load(name.strip(), pretokenized)
    return replace(corpus, name=f"{corpus.name}*{factor:g}", splits=corpus.splits | {"train": _times(corpus, factor)})


def _times(corpus: Corpus, factor: float) -> datasets.Dataset | streaming.Streamed:
    """The training text, read `factor` times: the whole text as often as that goes, and a share of it."""
    whole, share = divmod(factor, 1)
    train = corpus.split("train")
    texts = [train] * int(whole)
    if share:
        texts.append(train.chosen(share) if isinstance(train, streaming.Streamed) else shares.choose(train, share))
        if not whole and not isinstance(train, streaming.Streamed) and not len(texts[0]):
            raise CorpusError(f"corpus {corpus.name!r} is too short to read a share of {factor:g}")
    return _concatenated(texts)


def _concatenated(texts: list) -> datasets.Dataset | streaming.Streamed:
    if any(isinstance(text, streaming.Streamed) for text in texts):
        return streaming.joined(texts)
    return datasets.concatenate_datasets(texts)


def _load(spec: str, pretokenized: bool) -> Corpus:
    if spec.startswith(_STREAM):
        return _streamed(spec.removeprefix(_STREAM), pretokenized)
    path = os.path.expanduser(spec)
    if os.path.isfile(path):
        file = Path(path)
        return _prepared(file.name, Definition(), {"train": textfiles.read(file, pretokenized)}, pretokenized)
    folder, _, config = (path, "", "") if os.path.isdir(path) else path.partition(":")
    if os.path.isdir(folder):
        name = Path(folder).resolve().name
        known = CORPORA.get(name.lower(), Definition())
        return _prepared(name, known, _read_directory(Path(folder), config or None, pretokenized), pretokenized)
    if spec.lower() == "python-docs":
        return _prepared("python-docs", CORPORA["python-docs"], {"train": pythondocs.read()}, pretokenized)
    return _prepared(spec, *_from_hub(spec), pretokenized)


_STREAM = "stream:"


def _streamed(spec: str, pretokenized: bool) -> Corpus:
    path = os.path.expanduser(spec)
    folder, _, config = (path, "", "") if os.path.isdir(path) else path.partition(":")
    if os.path.isdir(folder):
        name = Path(folder).resolve().name
        known = CORPORA.get(name.lower(), Definition())
        try:
            builder = datasets.load_dataset_builder(folder, config or None)
        except hub.LOADING_ERRORS as error:
            raise CorpusError(f"{folder} cannot be streamed: {' '.join(str(error).split())}; accepted after {_STREAM} is "
                              "a hub id or a directory in the hub's layout") from None
    elif os.path.exists(path) or spec.lower() == "python-docs":
        raise CorpusError(f"{spec} cannot be streamed; accepted after {_STREAM} is a hub id or a directory in the hub's "
                          f"layout. Without {_STREAM} it is read in bounded memory too")
    else:
        name, (known, builder) = spec, _from_hub(spec, datasets.load_dataset_builder)
    clean_up = None if pretokenized else known.clean_up
    texts: dict[str, streaming.Streamed] = {}
    for found, data in builder.as_streaming_dataset().items():
        split = found if found in known.train else textfiles.SPLIT_NAMES.get(found.lower())
        if split:
            cleaned = _text_column(name, data).map(
                _clean, batched=True, batch_size=256, fn_kwargs={"clean_up": clean_up, "version": cleaning.VERSION})
            texts[split] = streaming.Streamed([cleaned], _files(builder), found, clean_up, cleaning.VERSION)
    train = [texts[split] for split in known.train if split in texts]
    if not train:
        raise CorpusError(f"corpus {name!r} has no training text to stream: it has {', '.join(texts) or 'no known splits'}")
    measured = {split: texts[split] for split in SPLITS[1:] if split in texts}
    whole = train[0] if len(train) == 1 else streaming.joined(train)
    splits = {**streaming.hold_out(whole, [split for split in SPLITS[1:] if split not in measured]), **measured}
    return Corpus(_STREAM + name, (Source(name, known.licence, clean_up, {}),), {s: splits[s] for s in SPLITS})


def _files(builder: datasets.DatasetBuilder) -> list:
    """The data files of each split, with the revision (on the hub) or the time (in a folder) of each. Where a README
    lists the files of a folder, neither `datasets`' cache nor its fingerprints tell them from others of the same name."""
    return [[str(split), [*map(str, files)], [*map(list, files.origin_metadata)]] for split, files in
            (builder.config.data_files or {}).items()]


def _read_directory(folder: Path, config: str | None, by_line: bool) -> dict[str, datasets.Dataset]:
    files = textfiles.split_files(folder)
    if files and not config:
        return {split: textfiles.read(file, by_line) for split, file in files.items()}
    try:
        files = _files(datasets.load_dataset_builder(str(folder), config))
        key = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]
        splits = datasets.load_dataset(str(folder), config, cache_dir=f"{datasets.config.HF_DATASETS_CACHE}/{key}")
        for split, data in splits.items():
            data._fingerprint = f"{key}{data._fingerprint}"
        return splits
    except hub.LOADING_ERRORS as error:
        if isinstance(error, FileNotFoundError):
            found = "it has " + (", ".join(sorted(entry.name for entry in folder.iterdir())[:10]) or "no files")
        else:
            found = " ".join(str(error.__cause__ or error).split())
    raise CorpusError(
        f"{folder} is no corpus: {found}; accepted: a directory in the hub's layout (parquet, json or csv files with a "
        "column 'text'), or one with train.txt, valid.txt, test.txt"
    )


def _from_hub(spec: str, loader: Callable = datasets.load_dataset) -> tuple:
    """What is known about the corpus, and its splits or what else the loader gives."""
    name, _, config = spec.partition(":")
    known = CORPORA.get(spec.lower())
    if known is None:
        if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) or Path(name).parent.is_dir():
            raise CorpusError(_unknown(spec))
        same = [known for known in CORPORA.values() if known.hub and known.hub.lower() == name.lower()]
        known = next((k for k in same if k.config == config), same[0] if same else Definition())
        return known, hub.load(name, config or (known.config if len(same) == 1 else None), loader)
    if known.hub is None:
        raise CorpusError(f"{spec} is on no hub; name the directory where you have it")
    return known, hub.load(known.hub, known.config, loader)


def _unknown(spec: str) -> str:
    beside = Path(spec).expanduser().parent
    if "/" in spec:
        found, names = f"there is no file or directory {spec!r}", [p.name for p in beside.glob("*")]
        close = [str(beside / name) for name in difflib.get_close_matches(Path(spec).name, names, 1)]
    else:
        found, names = f"there is no corpus {spec!r}", [*CORPORA, *(p.name for p in beside.glob("*.txt*"))]
        close = difflib.get_close_matches(spec.lower(), names, 1)
    return f"{found}; " + (f"did you mean {close[0]!r}? " if close else "") + f"accepted: {_ACCEPTED}"


def _prepared(name: str, known: Definition, raw: dict[str, datasets.Dataset], pretokenized: bool) -> Corpus:
    """Clean text by split, with the missing splits cut out of training text."""
    clean_up = None if pretokenized else known.clean_up
    texts: dict[str, datasets.Dataset] = {}
    for found, data in raw.items():
        split = found if found in known.train else textfiles.SPLIT_NAMES.get(found.lower())
        if split:
            texts[split] = _text(name, found, data, clean_up)
    if not texts:
        raise CorpusError(f"corpus {name!r} has the splits {', '.join(raw)}; accepted: train, validation, test")
    left_out = {}
    if known.train[0] in texts:
        texts = _with_all_splits(name, texts, known.train)
        left_out = _drop_repeated(texts) if known.drop_repeated and not pretokenized else {}
    splits = {split: texts[split] for split in SPLITS if split in texts}
    counts = {split: len(data) for split, data in splits.items()}
    return Corpus(name, (Source(name, known.licence, clean_up, counts, left_out),), splits)


def _with_all_splits(
    name: str, texts: dict[str, datasets.Dataset], train: tuple[str, ...]
) -> dict[str, datasets.Dataset]:
    main, *others = (texts[split] for split in train if split in texts)
    measured = {split: texts[split] for split in SPLITS[1:] if split in texts}
    missing = [split for split in SPLITS[1:] if split not in measured]
    try:
        cut = blocks.cut(main, missing) if missing else {"train": main}
    except CorpusError as error:
        raise CorpusError(f"corpus {name!r}: {error}") from None
    return {**cut, **measured, "train": datasets.concatenate_datasets([cut["train"], *others])}


def _text(name: str, split: str, data: datasets.Dataset, clean_up: str | None) -> datasets.Dataset:
    """One column, `text`, cleaned."""
    data = _text_column(name, data)
    cleaned = data.map(
        _clean,
        batched=True,
        batch_size=256,
        writer_batch_size=256,
        fn_kwargs={"clean_up": clean_up, "version": cleaning.VERSION},  # both become part of the fingerprint
        desc=f"Cleaning {name}",
    )
    if not len(cleaned):
        raise CorpusError(f"corpus {name!r} has no text in {split} ({len(data)} rows, all empty)")
    return cleaned


def _text_column(name: str, data):
    """The data set with its column of text alone, named `text`."""
    features = data.features or data._resolve_features().features
    strings = [column for column, kind in features.items() if kind in _STRINGS]
    column = "text" if "text" in strings else strings[0] if len(strings) == 1 else None
    if column is None:
        found = ", ".join(f"{column} ({getattr(kind, 'dtype', 'list')})" for column, kind in features.items())
        raise CorpusError(f"corpus {name!r} has the columns {found}; accepted: 'text' (string), or one string column")
    data = data.select_columns(column)
    return data if column == "text" else data.rename_column(column, "text")


_STRINGS = (datasets.Value("string"), datasets.Value("large_string"))


def _clean(batch: dict[str, list[str | None]], clean_up: str | None, version: int) -> dict[str, list[str]]:
    if clean_up is None:
        return {"text": [(text or "").removesuffix("\n") for text in batch["text"]]}
    return {"text": [text for text in map(cleaning.CLEANERS[clean_up], filter(None, batch["text"])) if text]}


def _drop_repeated(texts: dict[str, datasets.Dataset]) -> dict[str, int]:
    """Leaves documents out, in place, that an earlier split has too: of validation those in train, of test those in
    train or validation. Gives their number by split."""
    earlier = set(_hashes(texts["train"]))
    left_out = {}
    for split in SPLITS[1:]:
        digests = list(_hashes(texts[split]))
        keep = [number for number, digest in enumerate(digests) if digest not in earlier]
        left_out[split] = len(digests) - len(keep)
        texts[split] = texts[split].select(keep)
        earlier.update(digests)
    return left_out


def _hashes(data: datasets.Dataset) -> Iterator[bytes]:
    for batch in data.iter(1000):
        for text in batch["text"]:
            yield hashlib.blake2b(text.encode(), digest_size=12).digest()


@contextlib.contextmanager
def _quiet_datasets() -> Iterator[None]:
    """No log lines, and progress bars only on terminals."""
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
