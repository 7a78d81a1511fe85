"""The memory that a training needs and the time to prepare its text, for texts of several sizes.

The texts are one corpus repeated. "Own memory" is anonymous (RssAnon); pages of memory-mapped files, which come and go
as the system has room for them, are counted apart (RssFile). Everything on disk goes into a temporary folder.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import tempfile
import threading
import time
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

from nextword.training.recipe import Recipe

STEPS = 5


def measure(corpus: str, megabytes: list[int], recipe: Recipe) -> list[dict]:
    """Return for each size {"megabytes", "tokens", "seconds" by phase, "anonymous" and "file": peaks in bytes}."""
    return [_measured(corpus, size, recipe) for size in megabytes]


def markdown(rows: list[dict]) -> str:
    """Return the figures as a table."""
    lines = [
        "| text, MB | tokens | own memory, MB | pages of files, MB | seconds: cleaned | counted | encoded | again |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        seconds = " | ".join(f"{row['seconds'][phase]:,.0f}" for phase in ("clean", "count", "encode", "again"))
        lines.append(
            f"| {row['megabytes']:,} | {row['tokens']:,} | {row['anonymous'] / 1e6:,.0f} | "
            f"{row['file'] / 1e6:,.0f} | {seconds} |"
        )
    return "\n".join(lines)


def _measured(corpus: str, megabytes: int, recipe: Recipe) -> dict:
    with tempfile.TemporaryDirectory(prefix="nextword-memory-") as folder:
        text = Path(folder) / "text.txt"
        _write(corpus, text, megabytes * 10**6)
        kept = {name: os.environ.get(name) for name in ("NEXTWORD_CACHE", "HF_DATASETS_CACHE")}
        os.environ.update(dict.fromkeys(kept, folder))  # the process that is started inherits them
        try:
            ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
            process = multiprocessing.get_context("spawn").Process(target=_train, args=(theirs, text, recipe))
            process.start()
            theirs.close()
            figures = ours.recv()
            process.join()
        finally:
            for name, value in kept.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    return {"megabytes": megabytes, **figures}


def _write(corpus: str, path: Path, size: int) -> None:
    """Write the text of a corpus again and again, until the file has so many bytes."""
    from nextword.training.corpora import load_corpus

    source = load_corpus(corpus)
    with path.open("wb") as file:
        while file.tell() < size:
            for document in source.documents("train"):
                file.write(f"{document}\n\n".encode()[: size - file.tell()].decode(errors="ignore").encode())
                if file.tell() >= size - 4:
                    return


def _train(pipe: Connection, text: Path, recipe: Recipe) -> None:
    """Prepare the text, do a few steps, and send the figures through the pipe."""
    from nextword.training.corpora import load_corpus
    from nextword.training.tokens import build_vocabulary, encode_split
    from nextword.training.trainer import Trainer, TrainingData

    peaks, stop = {"RssAnon": 0, "RssFile": 0}, threading.Event()
    watching = threading.Thread(target=_watch, args=(peaks, stop))
    watching.start()
    seconds: dict[str, float] = {}
    began = time.perf_counter()

    def lap(phase: str) -> None:
        nonlocal began
        seconds[phase], began = time.perf_counter() - began, time.perf_counter()

    corpus = load_corpus(str(text))
    lap("clean")
    vocabulary = build_vocabulary(corpus, recipe.vocabulary_size, 1, False)
    lap("count")
    tokens = [encode_split(corpus, split, vocabulary) for split in ("train", "validation")]
    lap("encode")
    corpus = load_corpus(str(text))
    data = TrainingData.load(recipe, corpus, build_vocabulary(corpus, recipe.vocabulary_size, 1, False))
    trainer = Trainer(recipe, data)
    lap("again")
    for inputs, targets in islice(data.windows.epoch(0), STEPS):
        trainer.train_step(inputs, targets)
    stop.set()
    watching.join()
    pipe.send(
        {"tokens": sum(map(len, tokens)), "seconds": seconds, "anonymous": peaks["RssAnon"], "file": peaks["RssFile"]}
    )


def _watch(peaks: dict[str, int], stop: threading.Event) -> None:
    """Update the peaks of this process's memory until stopped."""
    while not stop.wait(0.02):
        status = Path("/proc/self/status").read_text()
        for name in peaks:
            if size := re.search(rf"{name}:\s*(\d+) kB", status):
                peaks[name] = max(peaks[name], 1024 * int(size[1]))
