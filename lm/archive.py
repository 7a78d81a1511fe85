"""What may be in `model.pt`, looked at before torch reads it. This module needs nothing but Python's standard library.

`torch.jit.load` compiles the program that an archive holds, and runs parts of it (`__setstate__`) before it returns. A
program can call any of torch's operators, and some of them read and write files. So the archive must consist of what this
project's own exports do: the members by name, pickles of plain values and tensors, and programs that do nothing but
arithmetic, with the operators listed here. That keeps a stranger's program from files, processes and the network; it does
not keep it from computing for ever, from taking much memory, or from using a fault of torch's own operators.
"""
from __future__ import annotations

import ast
import io
import pickletools
import re
import zipfile

LARGEST = 4_000_000  # bytes of a member other than a tensor's data, unpacked

_DATA = re.compile(r"[\w-]+/data/\d+")
_PICKLE = re.compile(r"[\w-]+/(?:data|constants)\.pkl")
_CODE = re.compile(r"[\w-]+/code/__torch__/[\w/]+\.py")
_PLAIN = re.compile(r"[\w-]+/(?:version|byteorder)")
_LEFT_OUT = re.compile(r"[\w-]+/(?:code/__torch__/[\w/]+\.py\.debug_pkl|\.data/serialization_id)")

_OPCODES = set(
    "PROTO STOP MARK GLOBAL NEWOBJ REDUCE BUILD BINPERSID BINPUT LONG_BINPUT BINGET LONG_BINGET NONE NEWTRUE NEWFALSE BININT "
    "BININT1 BININT2 LONG1 BINFLOAT BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "SETITEM SETITEMS".split()
)
_GLOBALS = re.compile(
    r"__torch__\.(?!torch\.classes)[\w.]+ \w+|torch\._utils _rebuild_tensor_v2|torch [A-Z][a-z]+Storage"
    r"|collections OrderedDict"
)

# Of the exports, and others of their kind: they compute new tensors and numbers from given ones, and nothing else.
_OPERATORS = {
    *("torch." + name for name in """
    __is__ __isnot__ __not__ _make_per_channel_quantized_tensor abs add addmm amax any append bitwise_not bmm cat chunk clamp
    contiguous cumsum div eq exp expand flatten floor floordiv full gather ge gelu gt index index_select layer_norm le len
    linear log log_softmax logsumexp lt masked_fill matmul max maximum mean min minimum mm mul narrow ne neg new_zeros ones
    permute pow relu reshape round rsqrt select sigmoid size slice softmax split sqrt squeeze stack sub sum t tanh to topk
    transpose unsqueeze view where zeros zeros_like""".split()),
    "ops.onednn.qlinear_pointwise",
    "ops.onednn.qlinear_prepack",
    "ops.quantized.linear_prepack",
    "ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32",
}
_METHODS = {"forward", "initial_state", "log_probs", "output", "product", "read", "read_all", "rows"}
_BUILTINS = {"annotate", "bool", "getattr", "range", "unchecked_cast"}
_ROOTS = {"torch", "ops", "CONSTANTS"}
_ALIAS = re.compile(r"_\d+")  # torch writes a long function name once, as in `_0 = __torch__.a.b`; _ROOTS have no alias
_OWN = "__torch__"
_NATIVE = f"{_OWN}.torch.classes"  # of C++
_CLASSES = {_NATIVE, f"{_NATIVE}.quantized", f"{_NATIVE}.quantized.LinearPackedParamsBase"}
_SYNTAX = (
    ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.AnnAssign, ast.Assign, ast.Return, ast.Expr, ast.If,
    ast.For, ast.Call, ast.keyword, ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.List, ast.Tuple, ast.UnaryOp,
    ast.USub, ast.Load, ast.Store,
)  # fmt: skip
_CHARACTERS = re.compile(r"[^ -~\n]|[\\#'`$?]|\"\"\"")  # that two readers of the same text may take differently


def vetted(archive: bytes) -> bytes:
    """The archive made anew of those of its members that are needed, each of which was looked at.

    So torch and this module cannot see different things in it. Raises ValueError, which says what is not accepted.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as source:
            members = source.infolist()
            _check_members(members)
            content = {member.filename: source.read(member) for member in members if not _LEFT_OUT.fullmatch(member.filename)}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"model.pt is not a TorchScript archive ({error})") from None
    for name, data in content.items():
        if _PICKLE.fullmatch(name):
            _check_pickle(name, data)
        elif _CODE.fullmatch(name):
            _check_program(name, data)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for name, data in content.items():
            target.writestr(name, data)
    return made.getvalue()


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    if len({name.partition("/")[0] for name in names}) != 1 or len(set(names)) != len(names):
        raise ValueError("model.pt is not a TorchScript archive: its members are not of one folder, each once")
    for member in members:
        if _DATA.fullmatch(member.filename):
            fits = member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size
        else:
            known = any(kind.fullmatch(member.filename) for kind in (_PICKLE, _CODE, _PLAIN, _LEFT_OUT))
            fits = known and member.file_size <= LARGEST
        if not fits:
            raise ValueError(f"model.pt has the member {member.filename!r}, which no export of this project has so")


def _check_pickle(name: str, data: bytes) -> None:
    try:
        content = list(pickletools.genops(data))
    except (ValueError, IndexError) as error:
        raise ValueError(f"model.pt: {name} is no pickle ({error})") from None
    for opcode, argument, _ in content:
        if opcode.name not in _OPCODES:
            raise ValueError(f"model.pt: {name} has the pickle opcode {opcode.name}, which is not accepted")
        if opcode.name == "GLOBAL" and not _GLOBALS.fullmatch(argument):
            raise ValueError(f"model.pt: {name} refers to {argument!r}, which is not accepted")


def _check_program(name: str, data: bytes) -> None:
    try:
        text = data.decode("ascii")
        if found := _CHARACTERS.search(text):
            raise ValueError(f"it has {found[0]!r}")
        nodes = list(ast.walk(ast.parse(text)))
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"model.pt: {name} is no program as this project writes them ({error})") from None
    allowed = set()  # the names within calls that are accepted
    for node in nodes:
        if refused := _refusal(node):
            raise ValueError(f"model.pt: {name} has {refused}, which no program of this project has")
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _OPERATORS:
            allowed.update(map(id, ast.walk(node.func)))
    for node in nodes:
        if isinstance(node, ast.Name) and node.id in _ROOTS and id(node) not in allowed:
            raise ValueError(f"model.pt: {name} has {node.id!r} apart from a call, which no program of this project has")


def _refusal(node: ast.AST) -> str | None:
    if not isinstance(node, _SYNTAX):
        return type(node).__name__
    if isinstance(node, ast.Call) and not _may_be_called(node.func):
        return f"a call of {ast.unparse(node.func)[:80]}"
    if isinstance(node, ast.ClassDef) and [ast.unparse(base) for base in node.bases] != ["Module"]:
        return f"a class {node.name} that is no Module"
    if isinstance(node, ast.Attribute):
        path = ast.unparse(node)
        return f"the class {path}" if path.startswith(_NATIVE) and path not in _CLASSES else None
    given = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else getattr(node, "arg", None)
    if given in _BUILTINS | _ROOTS | {_OWN} or getattr(node, "name", None) in _BUILTINS | _ROOTS | {_OWN}:
        return "another meaning for a name of TorchScript"
    return None


def _may_be_called(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in _BUILTINS or bool(_ALIAS.fullmatch(function.id))
    path = ast.unparse(function)
    if path.startswith(("torch.", "ops.")):
        return path in _OPERATORS
    return isinstance(function, ast.Attribute) and (path.startswith(f"{_OWN}.") or function.attr in _METHODS)
