"""A trained model: its files, its network, and its suggestions.

    >>> from nextword.lm import load
    >>> model = load()
    >>> [word.word for word in model.next_words("Thank you very", k=1)]
    ['much']

Each name is imported when it is first used: `load`, `Model` and `Word` need torch, the others do not.
"""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nextword.lm.bundle import BundleError, open_bundle
    from nextword.lm.model import Model, load
    from nextword.lm.ranking import Word

__all__ = ["BundleError", "Model", "Word", "load", "open_bundle"]

_MODULES = {"BundleError": "bundle", "Model": "model", "Word": "ranking", "load": "model", "open_bundle": "bundle"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'nextword.lm' has no attribute {name!r}")
    return getattr(import_module(f"nextword.lm.{_MODULES[name]}"), name)
