"""What a `model.pt` made by a stranger may do: nothing but compute."""
from __future__ import annotations

import io
import shutil
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from nextword.lm import BundleError, load
from nextword.lm.archive import vetted
from nextword.lm.bundle import MODEL, write_bundle

CODE = "archive/code/__torch__/lm/torchscript.py"
SETSTATE = ", bias, )\n"  # the end of a line of __setstate__, which runs as the program is loaded


@pytest.fixture(scope="module")
def model(tiny_bundle) -> bytes:
    return (tiny_bundle / MODEL).read_bytes()


def changed(model: bytes, changes: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with some members replaced, added, or (None) left out."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(model)) as source, zipfile.ZipFile(made, "w") as target:
        content = {name.replace(name.partition("/")[0], "archive", 1): source.read(name) for name in source.namelist()}
        for name, data in {**content, **changes}.items():
            if data is not None:
                target.writestr(name, data, compression)
    return made.getvalue()


def with_code(model: bytes, old: str, new: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(changed(model, {}))) as archive:
        code = archive.read(CODE).decode()
    assert old in code
    return changed(model, {CODE: code.replace(old, new).encode()})


def test_what_the_export_makes_is_accepted_and_needs_no_more(model):
    kept = zipfile.ZipFile(io.BytesIO(vetted(model))).namelist()
    assert not [name for name in kept if "debug" in name] and any(name.endswith(CODE.partition("/")[2]) for name in kept)
    assert vetted(changed(model, {})) and vetted(vetted(model))


def test_a_program_that_writes_a_file_is_not_loaded(model, tiny_bundle, tmp_path):
    victim = tmp_path / "written"
    bad = with_code(model, SETSTATE, f'{SETSTATE}    torch.save(weight, "{victim}")\n')
    with warnings.catch_warnings():  # of its deprecation
        warnings.simplefilter("ignore")
        torch.jit.load(io.BytesIO(bad))
    assert victim.exists()  # which is what torch itself thinks of it
    victim.unlink()
    tokenizer = (tiny_bundle / "tokenizer.json").read_text(encoding="utf-8")
    write_bundle(tmp_path / "bad", bad, tokenizer, {"name": "bad"})
    with pytest.raises(BundleError, match=r"cannot be loaded: .*a call of torch\.save"):
        load(tmp_path / "bad")
    assert not victim.exists()


@pytest.mark.parametrize("line", [
    'torch.from_file("/etc/hostname", False, 8)',
    '(weight).save("written")',
    "f = torch.save",
    "f = ops.aten.save",
    "bool = torch.save",
    'range = annotate(Tensor, weight)',
    "print(weight)",
    "ops.quantized.other(weight)",
    "f = __torch__.torch.classes.dnnl.Thing",
    "f = CONSTANTS.c0",
    "import os",
    "f = lambda: 1",
    "f = [t for t in range(3)]",
    "getattr(weight, \"save\")(weight)",
    "while True: return None",
    "return None # comment",
    "return None \\",
    "return '''text'''",
    "f = ﬁle",
    "(",
    "f = " + "(" * 5000,
])
def test_programs_do_arithmetic_alone(model, line):
    with pytest.raises(ValueError, match="which no program of this project has|is no program"):
        vetted(with_code(model, SETSTATE, f"{SETSTATE}    {line}\n"))


@pytest.mark.parametrize(("name", "data"), [
    ("archive/extra/run.py", b""),
    ("archive/code/run.py", b""),
    ("archive/code/__torch__/../run.py", b""),
    ("archive/data/../../x", b""),
    ("archive/constants/0", b"x"),
    ("elsewhere/data/0", b"x"),
    ("archive/constants.pkl", b"\x80\x02cos\nsystem\n."),
    ("archive/constants.pkl", b"\x80\x02c__torch__.torch.classes.quantized\nLinearPackedParamsBase\n."),
    ("archive/constants.pkl", b"\x80\x02(S'id'\nios\nsystem\n."),
    ("archive/constants.pkl", b"\x80\x04\x8c\x02os\x8c\x06system\x93."),
    ("archive/constants.pkl", b"no pickle"),
    ("archive/version", b"3" * 5_000_000),
])
def test_members_are_those_of_an_export(model, name, data):
    with pytest.raises(ValueError, match="model.pt"):
        vetted(changed(model, {name: data}))


def test_members_come_once_and_tensors_are_not_packed(model):
    with pytest.raises(ValueError, match="has so"):
        vetted(changed(model, {}, zipfile.ZIP_DEFLATED))  # a small file could unpack to a large tensor
    twice = io.BytesIO(model)
    name = zipfile.ZipFile(twice).namelist()[0]
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(name, b"")
    with pytest.raises(ValueError, match="each once"):
        vetted(twice.getvalue())


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.999])
def test_half_an_archive_is_refused(model, keep):
    with pytest.raises(ValueError, match="not a TorchScript archive"):
        vetted(model[: int(keep * len(model))])


def test_a_flipped_bit_is_refused_by_its_check_sum(tiny_bundle, tmp_path):
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    for file in ("model.pt", "tokenizer.json"):
        content = bytearray((bundle / file).read_bytes())
        content[len(content) // 2] ^= 1
        (bundle / file).write_bytes(content)
        with pytest.raises(BundleError, match=f"damaged: {file} does not have the sha256"):
            load(bundle)
        shutil.copy(tiny_bundle / file, bundle)
