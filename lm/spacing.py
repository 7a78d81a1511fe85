"""Write tokens as natural text, with spaces where they belong.

The rules, for the punctuation of English and its neighbours:

    words, emoji            a space between them
    . , ; : ! ? … % ) ] }   nothing before
    ( [ { $ £ € # @ ¿ ¡     nothing after
    " '                     open a quotation (nothing after) or close it (nothing before). Where no quotation is open,
                            an apostrophe after a word in -s is the sign of the genitive (nothing before)
    « „                     like ( ; » like )
    — / \\                   nothing on either side
    -                       nothing before
    3 . 14   1 , 000        nothing within a number, nor within initials: U . S .
    <eos>                   a line break; it also ends quotations
"""
from __future__ import annotations

from collections.abc import Iterable

from nextword.lm.vocabulary import EOS
from nextword.lm.words import is_emoji

CLOSING = frozenset(".,;:!?…%)]}»-")
OPENING = frozenset("([{$£€#@¿¡«„")
JOINING = frozenset("—–/\\")
QUOTES = frozenset("\"'")
BREAK = "\n"


class Spacing:
    """Writes tokens as text, one after the other. Later tokens never change the text before them.

    >>> spacing = Spacing()
    >>> "".join(spacing.add(token) for token in ['"', "Well", ",", '"', "he", "said", "."])
    '"Well," he said.'
    """

    def __init__(self, tokens: Iterable[str] = (), spaced: bool = False) -> None:
        """tokens: the tokens of the text so far. spaced: True if white space follows them."""
        self._open: set[str] = set()
        self._before = ["", ""]  # the last two tokens
        self._joined = [True, True]  # True where no space stands: before the next token; before the last one
        for token in tokens:
            self.add(token)
        self._joined[0] |= spaced

    def add(self, token: str) -> str:
        """The text of the next token, with the space before it."""
        text = self.spelled(token)
        after = self._joins_after(token)
        if token == EOS:
            self._open.clear()
        elif token in QUOTES and not self._is_genitive(token):
            self._open ^= {token}
        self._joined = [after, text == token]
        self._before = [self._before[1], token]
        return text

    def spelled(self, token: str) -> str:
        """The result of `add`, without adding the token."""
        if token == EOS:
            return BREAK
        return token if self._joined[0] or self._joins_before(token) else f" {token}"

    def _joins_before(self, token: str) -> bool:
        if token in QUOTES:
            return token in self._open or self._is_genitive(token)
        return token in CLOSING or token in JOINING or self._continues(token)

    def _joins_after(self, token: str) -> bool:
        if token in QUOTES:
            return token not in self._open and not self._is_genitive(token)
        return token == EOS or token in OPENING or token in JOINING

    def _is_genitive(self, token: str) -> bool:
        return token == "'" and not self._open and self._before[1][-1:] in ("s", "z") and not self._joined[0]

    def _continues(self, token: str) -> bool:
        """True if the token continues a number or initials after a mark."""
        first, mark = self._before
        if not self._joined[1] or mark not in (".", ",", ":") or is_emoji(token):
            return False
        if first[-1:].isdigit() and token[:1].isdigit():
            return mark == "." or len(token) == (3 if mark == "," else 2)
        initials = len(first) == len(token) == 1 and first.isupper() and token.isupper()
        return mark == "." and initials and token not in ("A", "I")
