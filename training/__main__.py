"""The commands `nextword train` and `nextword compare`: from a corpus and a recipe to a bundle.

    nextword train                                            # wikitext-2; python-docs if the hub cannot be reached
    nextword train --corpus my-texts/ --out runs/mine         # your own text
    nextword train --corpus notes.txt --epochs 10 --hidden-size 256

`python -m nextword.training` is `nextword`; torchrun needs a module.
"""
from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextword.lm.command import Parser, Run, main
from nextword.training.recipe import Recipe, accepted_values, load_recipe, recipe_names

if TYPE_CHECKING:
    from nextword.training.distributed import Processes


def train(parser: Parser) -> Run:
    parser.formatter_class, parser.description = argparse.RawDescriptionHelpFormatter, __doc__
    parser.usage = "%(prog)s [option ...]"
    parser.add_argument("--corpus", help="a name, a hub id, a folder or a file; several joined by commas")
    parser.add_argument("--recipe", help=(
        f"a TOML file or one of: {', '.join(recipe_names())} (default: the defaults below)"))
    parser.add_argument("--out", type=Path, help="the run's folder (default: runs/ and the corpus's name)")
    parser.add_argument("--processes", type=int, default=1, help=(
        "processes on this machine that share the work (default: 1)"))
    group = parser.add_argument_group("settings, which override the recipe's")
    for name, setting in Recipe.model_fields.items():
        if name != "corpus":
            switch: dict[str, Any] = {"nargs": "?", "const": "true"} if setting.annotation is bool else {}
            default = "none" if setting.default == "" else str(setting.default).lower()
            group.add_argument(f"--{name.replace('_', '-')}", dest=f"set_{name}", metavar="VALUE", **switch, help=(
                f"{setting.description} ({accepted_values(setting)}; default: {default})"))
    return lambda arguments: _guarded(parser.prog, lambda: _train(arguments, parser.given))


def _train(arguments: argparse.Namespace, given: list[str]) -> int:
    overrides = {name.removeprefix("set_"): value for name, value in vars(arguments).items()
                 if name.startswith("set_") and value is not None}
    if arguments.corpus:
        overrides["corpus"] = arguments.corpus
    recipe = load_recipe(arguments.recipe, overrides)
    # torch is imported after the settings were checked, so that an error is reported at once.
    from nextword.training.distributed import Processes, joined, launch

    if arguments.processes != 1 and "RANK" not in os.environ:
        Processes(size=arguments.processes, local_size=arguments.processes).check(recipe.batch_size)
        return launch(arguments.processes, ["train", *given])
    with joined() as processes:
        return _train_in(processes, recipe, arguments.out)


def _train_in(processes: Processes, recipe: Recipe, out: Path | None) -> int:
    from nextword.training.corpora import default_corpus, load_corpus
    from nextword.training.corpora.unsegmented import unsegmented_warning
    from nextword.training.export import export_run
    from nextword.training.loop import fit
    from nextword.training.plots import plot_run
    from nextword.training.summary import summary
    from nextword.training.warm_start import Start

    with processes.in_turn():
        corpus = load_corpus(recipe.corpus, pretokenized=recipe.pretokenized) if recipe.corpus else default_corpus()
    out = out or Path("runs") / (re.sub(r"[^\w.+-]+", "-", corpus.name).strip("-.") or "run")
    print(f"Training on {corpus.name} in {out}", file=sys.stderr)
    warning = None if processes.rank or recipe.pretokenized else unsegmented_warning(corpus.documents("train"))
    if warning:
        print(warning, file=sys.stderr)
    result = fit(recipe, corpus, out, processes)
    if processes.rank:
        return 0
    plot_run(out)
    start = Start(recipe.start_from) if recipe.start_from else None
    bundle = export_run(out, recipe, corpus, result, start)
    figures = summary(bundle, recipe, corpus, start, unsegmented=warning is not None)
    print(f"Ended after {result['steps']} steps: {result['reason']}. {figures}", file=sys.stderr)
    print(f"{bundle.path}  (make serve BUNDLE={shlex.quote(str(bundle.path))})")
    return 0


def compare(parser: Parser) -> Run:
    parser.add_argument("--corpus", default="python-docs", help="as for train (default: python-docs)")
    parser.add_argument("--pretokenized", action="store_true", help="the text is already split at spaces")
    parser.add_argument("--out", type=Path, help=(
        "the comparison's folder (default: runs/compare- and the corpus's name)"))
    parser.add_argument("--quick", action="store_true", help="tiny models and a short training: shows that it works")
    return lambda arguments: _guarded(parser.prog, lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> int:
    from nextword.training.comparison import QUICK, Plan
    from nextword.training.comparison import compare as compare_cells
    from nextword.training.corpora import load_corpus

    corpus = load_corpus(arguments.corpus, pretokenized=arguments.pretokenized)
    out = arguments.out or Path("runs") / ("compare-" + re.sub(r"[^\w.+-]+", "-", corpus.name).strip("-."))
    report = compare_cells(corpus, out, QUICK if arguments.quick else Plan(), arguments.pretokenized)
    print(report.read_text(encoding="utf-8"))
    return 0


def _guarded(prog: str, action: Callable[[], int]) -> int:
    """Run the action, and return its exit status. An error becomes one line and a status."""
    try:
        return action()
    except ValueError as error:
        return _refuse(prog, error)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from nextword.training.loop import Interrupted

        if isinstance(error, Interrupted):
            _say(str(error))
            return 128 + error.number
        if isinstance(error, OSError) and error.strerror:
            place = f"{error.filename}: " if error.filename else ""
            return _refuse(prog, f"{place}{error.strerror}. Once this is repaired, the same command goes on from here")
        raise


def _refuse(prog: str, error: object) -> int:
    _say(f"{prog}: {error}")
    return 2


def _say(line: str) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # only one of several processes on a machine prints it
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
