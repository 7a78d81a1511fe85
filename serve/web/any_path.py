"""Path parameters that take the rest of a path, slashes and line breaks included."""
from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor


class _Any(Convertor[str]):
    """Starlette's own converter `path` accepts no line breaks."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _Any())


def rest(name: str) -> str:
    """Return the parameter of this name, for the end of a route's path."""
    return f"{{{name}:any}}"
