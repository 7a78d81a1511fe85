"""What a trained model is and can do.

    >>> from nextword.lm import load
    >>> model = load()
    >>> [word.word for word in model.next_words("Thank you very", k=1)]
    ['much']

`load` and `Model` bring torch in when they are first used; the rest needs Python alone.
"""
from nextword.lm.bundle import BundleError, open_bundle

__all__ = ["BundleError", "Model", "Word", "load", "open_bundle"]


def __getattr__(name: str):
    if name in ("Model", "load"):
        from nextword.lm import model

        return getattr(model, name)
    if name == "Word":
        from nextword.lm.ranking import Word

        return Word
    raise AttributeError(f"module 'nextword.lm' has no attribute {name!r}")
