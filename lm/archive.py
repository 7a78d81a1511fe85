"""Read a TorchScript archive as data: the tree of its modules, with their numbers and tensors.

The archive also holds a program. This module never reads it, so the program cannot do anything. The archive may come
from a stranger: every stated size is checked against the bytes that are there, and the content is never larger than the
archive itself. This module needs only Python's standard library.

An archive is a zip file (format: torch/csrc/jit/docs/serialization.md in PyTorch). Its member `data.pkl` is a pickle of
the modules. In it, a tensor is a reference to the member `data/N`, which holds the tensor's numbers. Python's own
unpickler can call functions. The unpickler here knows only the opcodes of an export, and makes only values.
"""
from __future__ import annotations

import io
import math
import pickletools
import sys
import zipfile
from dataclasses import dataclass
from typing import Any, NamedTuple

MOST_MEMBERS = 1_000  # an export of 64 layers has about 600; `zipfile` may take 15 ms for each
LARGEST_PICKLE = 500_000  # bytes: about 1,000 recurrent layers

_TYPES = {"CharStorage": ("int8", 1), "FloatStorage": ("float32", 4)}  # a storage → type of its numbers, their bytes
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class Numbers(NamedTuple):
    """A tensor: its type ("int8" or "float32"), its shape, and its numbers row by row. The size of `data` fits both."""

    type: str
    shape: tuple[int, ...]
    data: bytearray


@dataclass
class Module:
    """A module: the name of its class, and its state: a dict of attributes, or the result of its `__getstate__`."""

    kind: str
    state: Any = None


class _Global(NamedTuple):
    module: str
    name: str


class _Storage(NamedTuple):
    kind: str
    member: str
    size: int  # in numbers


def read_archive(archive: bytes) -> Module:
    """The outermost module of an archive. Raises ValueError if Nextword does not export such an archive."""
    try:
        if archive.count(b"PK\x01\x02") > MOST_MEMBERS:  # the mark of a member in the zip file's directory
            raise ValueError(f"it has more than {MOST_MEMBERS:,} members")
        return _Archive(archive).root()
    except Exception as error:  # `zipfile` raises several kinds over a damaged file
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(f"model.pt is not a TorchScript archive as Nextword exports it ({reason})") from None


class _Archive:
    def __init__(self, archive: bytes):
        self._zip = zipfile.ZipFile(io.BytesIO(archive))
        members = self._zip.infolist()
        self._unread = {member.filename: member for member in members}
        _check(len(self._unread) == len(members), "two members have the same name")
        self._folder = next(iter(self._unread), "").partition("/")[0]
        self._bytes_left = len(archive)

    def root(self) -> Module:
        order = self._member("byteorder", 10).decode()
        _check(order == sys.byteorder, f"its numbers are {order!r}-endian, this machine's {sys.byteorder!r}")
        root = self._unpickled(self._member("data.pkl", LARGEST_PICKLE))
        _check(isinstance(root, Module), "data.pkl holds no module")
        return root

    def _member(self, name: str, most: int) -> bytes:
        """The bytes of a member. Each can be read once, and all together have no more bytes than the archive."""
        member = self._unread.pop(f"{self._folder}/{name}", None)
        if member is None:
            raise ValueError(f"there is no member {name}, or it is used twice")
        self._bytes_left -= member.file_size
        fits = member.compress_type == zipfile.ZIP_STORED and member.file_size <= most and self._bytes_left >= 0
        _check(fits, f"the member {name} is compressed or too large")
        return self._zip.read(member)

    def _unpickled(self, pickle: bytes) -> Any:
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}
        argument: Any
        for opcode, argument, _ in pickletools.genops(pickle):
            match opcode.name:
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                    stack.append(argument)
                case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                    stack.append(_CONSTANTS[opcode.name])
                case "EMPTY_DICT":
                    stack.append({})
                case "GLOBAL":
                    stack.append(_Global(*argument.split(" ", 1)))
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    _check(isinstance(memo[argument], (str, _Global)), "data.pkl uses a module or a tensor twice")
                    stack.append(memo[argument])
                case "MARK":
                    marks.append(len(stack))
                case "TUPLE":
                    stack.append(tuple(_pop_from(stack, marks.pop())))
                case "SETITEMS":
                    items = _pop_from(stack, marks.pop())
                    fits = type(stack[-1]) is dict and all(type(key) is str for key in items[::2])
                    _check(fits, "a dict has keys that are not text")
                    stack[-1].update(zip(items[::2], items[1::2]))
                case "BINPERSID":
                    stack.append(_storage(*stack.pop()))
                case "NEWOBJ":
                    kind, arguments = _pop_from(stack, -2)
                    fits = isinstance(kind, _Global) and kind.module.startswith("__torch__.") and arguments == ()
                    _check(fits, "data.pkl makes an object that is not a module")
                    stack.append(Module(kind.name))
                case "BUILD":
                    state = stack.pop()
                    _check(isinstance(stack[-1], Module), "data.pkl gives a state to an object that is not a module")
                    stack[-1].state = state
                case "REDUCE":
                    function, arguments = _pop_from(stack, -2)
                    is_dict = function == ("collections", "OrderedDict") and arguments == ()  # a tensor's hooks
                    stack.append({} if is_dict else self._numbers(function, *arguments[:4]))
                case "STOP":
                    return stack.pop()
                case name:
                    _check(name == "PROTO", f"data.pkl has the opcode {name}")

    def _numbers(self, function: Any, storage: Any, offset: Any, shape: Any, strides: Any) -> Numbers:
        _check(function == ("torch._utils", "_rebuild_tensor_v2"), "data.pkl calls a function other than for tensors")
        fits = isinstance(storage, _Storage) and _is_shape(shape) and _is_shape(strides)
        _check(fits, "a tensor has no numbers, or is neither a vector nor a matrix")
        fits = offset == 0 and strides == (*shape[1:], 1) and storage.size == math.prod(shape)
        _check(fits, "a tensor does not have all of its numbers row by row")
        kind, width = _TYPES[storage.kind]
        data = self._member(storage.member, storage.size * width)
        _check(len(data) == storage.size * width, f"{storage.member} has {len(data):,} bytes, too few for its tensor")
        return Numbers(kind, shape, bytearray(data))


def _storage(mark: Any, kind: Any, key: Any, device: Any, count: Any) -> _Storage:
    fits = mark == "storage" and isinstance(kind, _Global) and kind.module == "torch" and kind.name in _TYPES
    _check(fits, "a tensor's numbers are neither int8 nor float32")
    _check(type(key) is str and key.isdecimal() and type(count) is int, "a tensor does not say where its numbers are")
    return _Storage(kind.name, f"data/{key}", count)


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) in (1, 2) and all(type(size) is int and size > 0 for size in value)


def _pop_from(stack: list[Any], start: int) -> list[Any]:
    """Remove the values of a stack from a place on, and return them."""
    values = stack[start:]
    del stack[start:]
    return values


def _check(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(message)
