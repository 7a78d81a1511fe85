"""`nextword runs`: the runs in several folders as one table, the best first."""
from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from nextword.lm.command import Parser, Run
from nextword.training.run_folder import RunError, RunFolder

COLUMNS = ("run", "perplexity", "top-1", "top-3", "epochs", "minutes", "settings that differ")
_NOT_COMPARED = ("evaluate_every", "checkpoint_every", "threads", "epochs")  # epochs have a column


class Entry(NamedTuple):
    """A run: its settings with the checksum of its text, and the evaluations with the best and the last figures."""

    name: str
    settings: dict[str, Any]
    best: dict[str, Any]
    last: dict[str, Any]

    def cells(self, differing: list[str]) -> list[str]:
        validation = self.best["validation"]
        settings = {name: self.settings.get(name) for name in differing}
        if "text" in settings:
            settings["text"] = str(settings["text"])[:6]  # enough of a checksum to tell texts apart
        differences = ", ".join(f"{name} {value}" for name, value in settings.items())
        epochs = f"{self.last['epoch']:.2f} of {self.settings['epochs']:g}"
        return [self.name, f"{validation['perplexity']:.2f}", f"{validation['top1']:.1%}", f"{validation['top3']:.1%}",
                epochs, f"{self.last['seconds'] / 60:.1f}", differences]


def read_run(folder: Path) -> Entry:
    """The run in a folder. Raises RunError if there is none, if a file is damaged or if nothing was evaluated yet."""
    try:
        run = RunFolder(folder)
        settings, rows = run.settings(), run.evaluations()
        if not settings:
            raise RunError("no run: it has no recipe.json")
        if not rows:
            raise RunError("no evaluation yet")
        entry = Entry(str(folder), settings, min(rows, key=lambda row: row["validation"]["perplexity"]), rows[-1])
        entry.cells([])
    except RunError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"damaged, or of another program: {type(error).__name__}: {error}") from None
    return entry


def runs_in(folder: Path) -> list[Path]:
    """The folder itself, if it has a run or nothing; otherwise the folders in it that have runs."""
    inner = sorted(recipe.parent for recipe in folder.glob("*/recipe.json"))
    return [folder] if (folder / "recipe.json").exists() or not inner else inner


def table(entries: list[Entry]) -> str:
    """The runs by their validation perplexity, with the settings in which they differ."""
    names = [name for name in dict.fromkeys(name for entry in entries for name in entry.settings)
             if name not in _NOT_COMPARED]
    differing = [name for name in names if len({repr(entry.settings.get(name)) for entry in entries}) > 1]
    entries = sorted(entries, key=lambda entry: entry.best["validation"]["perplexity"])
    rows = [list(COLUMNS), *(entry.cells(differing) for entry in entries)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) if number in (0, len(COLUMNS) - 1) else cell.rjust(width)
                       for number, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows]
    if "text" in differing:
        lines += ["", "Perplexities can be compared only where `text` is the same: it is a checksum of the vocabulary, "
                  "the training text and the validation text."]
    return "\n".join(lines)


def command(parser: Parser) -> Run:
    parser.description = ("The best validation figures of several runs, their times, and the settings in which they "
                          "differ, as one table.")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", default=[Path("runs")],
                        help="a run's folder, or a folder of runs (default: runs)")

    def run(arguments: Any) -> int:
        entries, others = [], []
        for folder in chain.from_iterable(map(runs_in, arguments.folders)):
            try:
                entries.append(read_run(folder))
            except RunError as error:
                others.append(f"{folder}: {error}")
        if entries:
            print(table(entries))
        if others:
            print(*([""] if entries else []), *others, sep="\n")
        return 0 if entries else 2

    return run
