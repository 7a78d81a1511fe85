"""A corpus on every machine: the docstrings of Python's standard library, and Python's language reference."""
from __future__ import annotations

import ast
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import datasets

from nextword.training.corpora.cleaning import VERSION
from nextword.training.corpora.corpus import CorpusError

_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "_bundled"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def read() -> datasets.Dataset:
    """One document for each module of the standard library, and one for each topic of `help()`."""
    library = sysconfig.get_path("stdlib")
    if not any(Path(library).glob("*.py")):
        raise CorpusError(f"python-docs: {library} has no Python sources; name another corpus")
    return datasets.Dataset.from_generator(
        _rows,
        features=datasets.Features({"text": datasets.Value("string")}),
        gen_kwargs={"library": library, "python": platform.python_version(), "version": VERSION},
    )


def _rows(library: str, **_key: object) -> Iterator[dict[str, str]]:
    for file in sorted(Path(library).rglob("*.py")):
        if not _NOT_LIBRARY.intersection(file.relative_to(library).parts[:-1]):
            yield {"text": _docstrings(file)}
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some systems have it in a separate package
        return
    for name in sorted(topics):
        yield {"text": topics[name]}


def _docstrings(file: Path) -> str:
    """The docstrings of a module in their order, separated by blank lines. The module is parsed, not run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # deliberately broken samples
        return ""
    return "\n\n".join(filter(None, (ast.get_docstring(node) for node in _documented(tree))))


def _documented(node: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    if isinstance(node, _DOCUMENTED):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.stmt, ast.ExceptHandler)):
            yield from _documented(child)
