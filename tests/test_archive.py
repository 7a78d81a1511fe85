"""A bundle made by a stranger is read as data: it runs nothing, and it reads nothing but itself."""
from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import shutil
import struct
import sys
import warnings
import zipfile
import zlib
from itertools import product
from pathlib import Path

import pytest
import torch

from nextword.lm import BundleError, load, torchscript, vocabulary
from nextword.lm.architecture import LARGEST
from nextword.lm.archive import read_archive
from nextword.lm.bundle import DESCRIPTION, ENGLISH, MODEL, MOST_BYTES, TOKENIZER, open_bundle, seal, write_bundle
from nextword.lm.network import Architecture, Network
from nextword.lm.profile import profile_of
from nextword.lm.ranking import Ranking
from nextword.lm.vocabulary import Vocabulary

SHAPE = {"embedding_size": 16, "hidden_size": 24, "projection_size": 16}
TOKENS = torch.tensor([[3, 4, 5]])


def exported(quantized: bool = True, **shape) -> bytes:
    torch.manual_seed(0)
    network = Network(Architecture(50, **{**SHAPE, **shape}))
    return torchscript.save(torchscript.script(network, torch.randint(50, (4, 32)) if quantized else None))


@pytest.fixture(scope="module")
def model() -> bytes:
    return exported()


def members(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        return {name: source.read(name) for name in source.namelist()}


def zipped(content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as target:
        for name, data in content.items():
            target.writestr(name, data)
    return made.getvalue()


def answers(archive: bytes) -> list[torch.Tensor]:
    program = torchscript.load(archive)
    outputs, state = program.read_all(TOKENS, torch.tensor([3]), program.initial_state(1))
    return [outputs, state, program.log_probs(program.output(state))]


@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize("shape", [
    {}, {"layers": 2}, {"projection_size": 0}, {"cell": "gru", "projection_size": 0, "layers": 2},
    {"cell": "rnn", "projection_size": 0, "hidden_size": 16},
])
def test_an_export_loads_as_the_program_that_it_was(quantized, shape):
    archive = exported(quantized, **shape)
    with warnings.catch_warnings():  # of deprecation
        warnings.simplefilter("ignore")
        program = torch.jit.load(io.BytesIO(archive))
    outputs, state = program.read_all(TOKENS, torch.tensor([3]), program.initial_state(1))
    expected = [outputs, state, program.log_probs(program.output(state))]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(answers(archive), expected))
    network = Network(Architecture(50, **{**SHAPE, **shape}))
    network.load_state_dict(torchscript.weights(torchscript.load(archive)))
    assert len(torchscript.save(torchscript.load(archive))) == len(archive)


def test_an_export_under_the_former_name_of_the_package_loads(model):
    content = members(model)
    old, new = b"__torch__.nextword.lm.torchscript", b"__torch__.lm.torchscript"
    content["archive/data.pkl"] = content["archive/data.pkl"].replace(old, new)
    assert all(map(torch.equal, answers(zipped(content)), answers(model)))


@pytest.mark.parametrize("line", [
    'torch.save(weight, "VICTIM")',
    "torch.add(scales, 1, out=bias)",  # writes into a tensor that is already there
    "self.bias = torch.mul(bias, 2)",
    "other = unchecked_cast(__torch__.nextword.lm.torchscript._Inference, self)",
    "while True: pass",
    "this is no program (",
])
def test_the_program_of_a_bundle_is_never_run(model, line, tmp_path):
    content = members(model)
    before = "    return None\n"  # the ends of __setstate__, which torch runs when it loads the program
    line = line.replace("VICTIM", str(tmp_path / "written"))
    codes = [name for name in content if name.endswith(".py") and before in content[name].decode()]
    assert codes
    for code in codes:
        content[code] = content[code].decode().replace(before, f"    {line}\n{before}").encode()
    assert all(map(torch.equal, answers(zipped(content)), answers(model)))
    assert not list(tmp_path.iterdir())


VECTOR = b"K\x60tQ", b"K\x00(K\x60t("  # the count and the shape of a tensor of 96 numbers: 4 gates of 24 cells
LARGE = b"J" + struct.pack("<i", 100_000)
TERABYTES = b"\x8a\x06" + (10**12).to_bytes(6, "little")


@pytest.mark.parametrize(("reason", "changes"), [
    ("384 bytes, too few", {VECTOR[0]: LARGE + b"tQ", VECTOR[1]: b"K\x00(" + LARGE + b"t("}),
    ("bytes, too few", {VECTOR[0]: TERABYTES + b"tQ", VECTOR[1]: b"K\x00(" + TERABYTES + b"t("}),
    ("compressed or too large", {VECTOR[0]: b"K\x10tQ", VECTOR[1]: b"K\x00(K\x10t("}),
    ("all of its numbers", {VECTOR[1]: b"K\x00(" + LARGE + b"t("}),
    ("all of its numbers", {VECTOR[1]: b"K\x04(K\x60t("}),  # from the fifth on
    ("all of its numbers", {b"K\x60K\x10t(K\x10K\x01t": b"K\x60K\x10t(K\x20K\x01t"}),  # rows that are apart
    ("all of its numbers", {b"K\x60K\x10t(K\x10K\x01t": b"K\x60" + LARGE + b"t(K\x10K\x01t"}),
    ("neither a vector nor a matrix", {VECTOR[1]: b"K\x00(J\xa0\xff\xff\xfft("}),  # -96
    ("neither a vector nor a matrix", {VECTOR[1]: b"K\x00(\x88t("}),
    ("neither int8 nor float32", {b"FloatStorage": b"DoubleStorage"}),
    ("where the network has", {b"K\x10K\x18t(K\x18K\x01t": b"K\x18K\x10t(K\x10K\x01t"}),  # transposed
    ("used twice", {b"X\x01\x00\x00\x002": b"X\x01\x00\x00\x001"}),
    ("no member data/99", {b"X\x01\x00\x00\x002": b"X\x02\x00\x00\x0099"}),
    ("does not say where", {b"X\x01\x00\x00\x002": b"X\x0b\x00\x00\x00../data.pkl"}),
    ("other than for tensors", {b"torch._utils\n_rebuild_tensor_v2": b"os\nsystem"}),
    ("not a module", {b"\x80\x02c__torch__": b"\x80\x02cos"}),
    ("opcode STACK_GLOBAL", {b"\x80\x02": b"\x80\x02\x93"}),
    ("opcode INST", {b"\x80\x02": b"\x80\x02(ios\nsystem\n"}),
    ("opcode BYTEARRAY8", {b"\x80\x02": b"\x80\x02\x96" + bytes(8)}),
    ("KeyError", {b"\x80\x02": b"\x80\x02j\xff\xff\xff\xff"}),
    ("not a _QuantizedWords", {b"_QuantizedWords": b"_QuantizedLinear"}),
    ("KeyError", {b"_LSTMLayer": b"_Inference"}),
    ("projection_size is for the lstm", {b"_LSTMLayer": b"_GRULayer"}),
    ("not positive numbers", {rb"G........\x89t": b"G" + struct.pack(">d", -1.0) + b"\x89t"}),
    ("not positive numbers", {rb"G........\x89t": b"G" + struct.pack(">d", float("nan")) + b"\x89t"}),
    ("not positive numbers", {rb"G........\x89t": b"N\x89t"}),
    ("too many values", {rb"G........\x89t": b"NN\x89t"}),
])
def test_what_the_pickle_says_is_checked(model, reason, changes):
    content = members(model)
    for old, new in changes.items():
        old = old if old.startswith(b"G..") else re.escape(old)
        assert re.search(old, content["archive/data.pkl"], re.DOTALL)
        content["archive/data.pkl"] = new.join(re.split(old, content["archive/data.pkl"], flags=re.DOTALL))
    with pytest.raises(ValueError, match=reason):
        torchscript.load(zipped(content))


@pytest.mark.parametrize("pickled", [
    b"", b"no pickle", b"\x80\x02.", b"\x80\x02N.", b"\x80\x02" + b"t" * 9, b"\x80\x02X\xff\xff\xff\x7fabc",
    b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".",
    b"\x80\x02}" + b"q\x00(h\x00h\x00u" * 50_000 + b".",
    b"\x80\x02N" + b"q\x00(h\x00h\x00t" * 50_000 + b".",  # a tree of two to the power of 50,000 leaves
    pickle.dumps(os.system, 2), b"\x80\x02" + b"N" * 600_000,
])
def test_odd_pickles_are_refused(model, pickled):
    with pytest.raises(ValueError, match="model.pt"):
        torchscript.load(zipped({**members(model), "archive/data.pkl": pickled}))


def test_many_names_for_one_module_do_not_make_many_modules():
    content = members(exported(False, layers=1))
    pickled = content["archive/data.pkl"]
    words = pickled.index(b"X\x05\0\0\0words")
    layers = pickled.rindex(b"ub", 0, pickled.rindex(b"ub", 0, words))  # where the list of layers ends
    place = pickled[layers - 1 : layers]  # the first layer was put there, and is now the second, third, … too
    assert pickled[layers - 2 : layers - 1] == b"q"
    names = b"".join(b"X" + struct.pack("<I", len(name)) + name + b"h" + place
                     for name in (str(number).encode() for number in range(1, 20)))
    content["archive/data.pkl"] = pickled[:layers] + names + pickled[layers:]
    with pytest.raises(ValueError, match="uses a module or a tensor twice"):
        torchscript.load(zipped(content))


def nested(count: int) -> bytes:
    """A zip file with `count` members of which each lies within the one before, and tensors of all of them."""
    tensors = io.BytesIO()
    records: list[tuple[zipfile.ZipInfo, bytes]] = []
    content = bytes(1000)
    for number in reversed(range(count)):
        member = zipfile.ZipInfo(f"archive/data/{number}")
        member.file_size = member.compress_size = len(content)
        member.CRC = zlib.crc32(content)
        size = b"J" + struct.pack("<i", len(content))
        key = str(number).encode()
        tensors.write(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nCharStorage\nX")
        tensors.write(struct.pack("<I", len(key)) + key + b"X\3\0\0\0cpu" + size + b"tQK\0(" + size + b"t(K\1t\x89NtR")
        content = member.FileHeader() + content
        records.append((member, content))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        made.write(content)
        target.start_dir = len(content)
        for member, record in records:
            member.header_offset = len(content) - len(record)
            target.filelist.append(member)
        target.writestr("archive/byteorder", sys.byteorder)
        target.writestr("archive/data.pkl", b"\x80\x02" + tensors.getvalue() + b".")
    return made.getvalue()


def test_members_give_no_more_bytes_than_the_archive_has():
    with pytest.raises(ValueError, match="holds no module"):
        read_archive(nested(1))
    with pytest.raises(ValueError, match="too large"):
        read_archive(nested(900))


def test_members_come_once_and_as_they_are(model):
    with pytest.raises(ValueError, match="is compressed"):  # a small file could become a large tensor
        read_archive(zipped(members(model), zipfile.ZIP_DEFLATED))
    twice = io.BytesIO(model)
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(ValueError, match="same name"):
        read_archive(twice.getvalue())
    with pytest.raises(ValueError, match="more than 1,000 members"):
        read_archive(zipped({f"archive/{number}": b"" for number in range(1_001)}))
    other = {"little": "big", "big": "little"}[sys.byteorder]
    with pytest.raises(ValueError, match=f"numbers are '{other}'-endian"):
        read_archive(zipped({**members(model), "archive/byteorder": other.encode()}))


@pytest.mark.parametrize("data", ["infinity", "NaN"])
def test_weights_are_numbers(model, data):
    content = members(exported(quantized=False))
    content["archive/data/1"] = struct.pack("<f", float(data)) + content["archive/data/1"][4:]
    with pytest.raises(ValueError, match="infinity or NaN"):
        torchscript.load(zipped(content))


@pytest.mark.parametrize("shape", [{"layers": 65}, {"embedding_size": 16_385}, {"projection_size": 0, "cell": "gru",
                                                                              "embedding_size": 16_385}])
def test_sizes_have_bounds(shape):
    """A small file of two wide layers would take gigabytes at a long text: each of its tokens is as wide."""
    sizes = {"hidden_size": 2, "projection_size": 1, "embedding_size": 1, **shape}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LARGEST, "layers", 100)
        patch.setitem(LARGEST, "embedding_size", 100_000)
        archive = exported(False, **sizes)
    with pytest.raises(ValueError, match="must be from 1 to"):
        torchscript.load(archive)


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_archive_is_refused_or_another_model(model, seed):
    draw = random.Random(seed)
    content, refused = members(model), 0
    for _ in range(100):
        if draw.random() < 0.5:  # anywhere, and most of what is not numbers lies in the last bytes
            changed = bytearray(model)
            for _ in range(draw.randrange(1, 4)):
                changed[draw.choice([0, len(model) - 4000]) + draw.randrange(4000)] = draw.randrange(256)
        else:  # in the pickle, with a check sum that fits
            pickled = bytearray(content["archive/data.pkl"])
            for _ in range(draw.randrange(1, 4)):
                pickled[draw.randrange(len(pickled))] = draw.randrange(256)
            changed = zipped({**content, "archive/data.pkl": bytes(pickled)})
        try:
            assert answers(bytes(changed))[2].shape == (1, 50)
        except ValueError as error:
            assert "model.pt" in str(error)
            refused += 1
    assert 20 < refused < 100


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.999])
def test_half_an_archive_is_refused(model, keep):
    with pytest.raises(ValueError, match="not a TorchScript archive"):
        read_archive(model[: int(keep * len(model))])


@pytest.fixture
def bundle(tiny_bundle, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def describe(bundle: Path, **change) -> None:
    """Change the description of a bundle, and its sha256 with it."""
    description = {**json.loads((bundle / DESCRIPTION).read_bytes()), **change}
    (bundle / DESCRIPTION).write_text(json.dumps({**description, "sha256": seal(description)}))


def test_a_flipped_bit_is_refused_by_its_check_sum(bundle):
    for file in (MODEL, TOKENIZER):
        whole = (bundle / file).read_bytes()
        content = bytearray(whole)
        content[len(content) // 2] ^= 1
        (bundle / file).write_bytes(content)
        with pytest.raises(BundleError, match=f"damaged: {file} does not have the sha256"):
            load(bundle)
        (bundle / file).write_bytes(whole)
    whole = (bundle / DESCRIPTION).read_bytes()
    (bundle / DESCRIPTION).write_bytes(whole.replace(b'\n "sha256"', b'\n "sha257"'))
    with pytest.raises(BundleError, match="bundle.json does not have its own sha256"):
        load(bundle)


@pytest.mark.parametrize("file", [MODEL, TOKENIZER, DESCRIPTION])
def test_files_of_a_bundle_are_regular_ones_of_bounded_size(bundle, file, tmp_path):
    moved = (bundle / file).rename(tmp_path / "elsewhere")
    (bundle / file).symlink_to(moved)
    assert open_bundle(bundle).name == "tiny"
    os.truncate(moved, MOST_BYTES[file] + 1)  # without taking room on disk
    with pytest.raises(BundleError, match=f"{file}.* bytes; at most"):
        open_bundle(bundle)
    (bundle / file).unlink()
    os.mkfifo(bundle / file)  # opened to be read, it waits for a writer
    with pytest.raises(BundleError, match=f"{file}: it is not a regular file|it has no {DESCRIPTION}"):
        open_bundle(bundle)
    (bundle / file).unlink()
    (bundle / file).symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=f"{file}: it is not a regular file|it has no {DESCRIPTION}"):
        open_bundle(bundle)


@pytest.mark.parametrize("change", [
    {"name": ""}, {"name": "a\nb"}, {"name": "a b"}, {"name": "a" * 65}, {"name": "\x1b[2J"}, {"name": "../a"},
])
def test_a_bundle_has_a_plain_name(bundle, change):
    describe(bundle, **change)
    with pytest.raises(BundleError, match="name") as raised:
        open_bundle(bundle)
    assert "\n" not in str(raised.value) and "\x1b" not in str(raised.value)
    with pytest.raises(BundleError, match="name"):
        write_bundle(bundle, b"other", "{}", change)
    assert (bundle / MODEL).read_bytes() != b"other"


@pytest.mark.parametrize(("reason", "change"), [
    ("another architecture", {"architecture": {"vocabulary_size": 50, "hidden_size": 10_000}}),
    ("hidden_size is 9,999,999", {"architecture": {"vocabulary_size": 50, "hidden_size": 9_999_999}}),
    ("architecture: .{,250}$", {"architecture": {"vocabulary_size": 50, "cell": "lstm" * 9_999}}),
    ("cache.theta", {"cache": {"theta": 1e308}}),  # exp(theta * 1) is infinity
    ("cache.theta", {"cache": {"theta": float("nan")}}),
    ("cache.size", {"cache": {"size": 10**30}}),
])
def test_a_description_fits_the_weights(bundle, reason, change):
    describe(bundle, **change)
    with pytest.raises(BundleError, match=reason):
        load(bundle)


def test_a_network_without_probabilities_is_refused(bundle):
    content = members((bundle / MODEL).read_bytes())
    for name, data in content.items():
        if name.startswith("archive/data/"):
            content[name] = struct.pack("<f", 3e38) * (len(data) // 4)
    written = write_bundle(bundle, zipped(content), (bundle / TOKENIZER).read_text(), {"name": "tiny"})
    with pytest.raises(BundleError, match="no probabilities"):
        load(written)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "9" * 5_000, '"', "[]", "null", "\x00", "\ud800"])
def test_odd_descriptions_are_refused(bundle, text):
    (bundle / DESCRIPTION).write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(BundleError, match=f"damaged: {DESCRIPTION}"):
        open_bundle(bundle)


@pytest.mark.parametrize(("reason", "change"), [
    ("rules that no version", {"normalizer": {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 9999}}),
    ("rules that no version", {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}),
    ("rules that no version", {"pre_tokenizer": {
        "type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": False}}),
    ("no tokenizer", {"normalizer": 3}),
    ("no tokenizer", {"model": {"type": "WordLevel", "vocab": ["<unk>", "<eos>"]}}),
    ("ids of tokenizer.json", {"model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<eos>": 1, "a": 2**31}}}),
    ("ids of tokenizer.json", {"model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<eos>": 1, "a": 1}}}),
    ("ids of tokenizer.json", {"model": {"type": "WordLevel", "vocab": {"<unk>": False, "<eos>": True}}}),
    ("ids of tokenizer.json", {"model": {"type": "WordLevel", "vocab": {}}}),
    ("control character", {"model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<eos>": 1, "a\x1b[2J": 2}}}),
    ("control character", {"model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<eos>": 1, "a\ud800": 2}}}),
    ("is empty", {"model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<eos>": 1, "": 2}}}),
    ("at most 500", {"model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<eos>": 1, "e\u0301\u0316" * 9999: 2}}}),
])
def test_rules_of_a_tokenizer_are_the_projects_own(bundle, reason, change):
    tokenizer = {**json.loads((bundle / TOKENIZER).read_bytes()), **change}
    written = write_bundle(bundle, (bundle / MODEL).read_bytes(), json.dumps(tokenizer), {"name": "tiny"})
    with pytest.raises(BundleError, match=reason):
        load(written)


@pytest.mark.parametrize("former", [False, True])
def test_what_a_tokenizer_does_not_need_is_not_used(former, monkeypatch):
    content = json.loads((ENGLISH / TOKENIZER).read_bytes())
    steps = content["normalizer"]["normalizers"]
    if former:
        del steps[-1]
        monkeypatch.setattr(vocabulary, "FORMER_RULES", {vocabulary._rules(content)})
    padding = {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
               "pad_type_id": 0, "pad_token": "x"}  # a billion tokens for each text
    # Rules of other kinds, which have the expected steps beside their own fields.
    repeat = {"type": "Prepend", "prepend": "Thank" * 99, "normalizers": steps}
    panic = {"type": "Precompiled", "precompiled_charsmap": "AAAA", "normalizers": steps}
    for change in ({"padding": padding}, {"normalizer": repeat}, {"normalizer": panic}):
        words = Vocabulary.from_json(json.dumps({**content, **change}))
        assert [words.words[i] for i in words.encode("Thank you")] == ["Thank", "you"]


def test_a_word_has_few_spellings():
    """All spellings are in one table: 30,000 of one word beside 30,000 other words would take 7 GB."""
    spellings = ["".join(letters) for letters in product(*zip("nextwrd", "NEXTWRD"))]
    with pytest.raises(ValueError, match="128 spellings; at most 64"):
        Ranking(Vocabulary.of_words([*spellings, "other"]))


def test_a_very_long_word_is_not_kept(bundle):
    """To compare words takes time that grows with the square of their length."""
    model = load(bundle)
    text = "the " + "e\u0301\u0316" * 100 + " " + "e\u0301\u0316" * 200
    (context,) = model.extend([model.start], [text])
    assert context.length == 3 and [len(word) for word in context.unknown.values()] == [300]
    profile = profile_of(text)
    assert profile is not None and max(map(len, profile.spellings)) < 500


def test_writing_a_bundle_removes_its_own_leftovers_alone(tmp_path):
    kept = [tmp_path / name for name in (".new.backup", ".new.part-1", ".new.part-abcdefgh.old", ".newer.part-1")]
    for folder in kept:
        folder.mkdir()
        (folder / "letter.txt").write_text("dear all")
    kept.append(tmp_path / ".new.copy")
    kept[-1].mkdir()
    (kept[-1] / MODEL).write_bytes(b"whole")
    for name in (".new.part-left_1", ".new.part-left_2.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MODEL).write_bytes(b"half")
    write_bundle(tmp_path / "new", b"", "{}", {"name": "new"})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["new", *(folder.name for folder in kept)])
