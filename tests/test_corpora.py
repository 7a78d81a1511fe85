"""Corpora: clean-up on small invented texts, every way to name a corpus, the rule for missing splits, the errors."""
import bz2
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import random
import re
import socket
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import unicodedata
import zipfile
from pathlib import Path

import datasets
import pytest

import nextword.training.corpora.hub
from nextword.lm.command import main
from nextword.training.corpora import CorpusError, HubUnreachable, cleaning, default_corpus, load_corpus
from nextword.training.corpora.unsegmented import unsegmented_warning
from tests.conftest import TINY

WORDS = "the old clerk walked slowly along a quiet street and thought of his brother who lived by the sea".split()


def sentences(number, seed=0):
    draw = random.Random(seed)
    for i in range(number):
        yield f"{' '.join(draw.choices(WORDS, k=draw.randint(4, 12))).capitalize()} {i}."


def paragraphs(number, seed=0):
    few = iter(sentences(number * 4, seed))
    return [" ".join(next(few) for _ in range(4)) for _ in range(number)]


def texts(corpus, split):
    return list(corpus.documents(split))


def everything(corpus):
    return sorted(line for split in corpus.splits for text in texts(corpus, split) for line in text.split("\n"))


# ---- Clean-up.


@pytest.mark.parametrize("text, clean", [
    ("  two\t spaces\u00a0here \r", "two spaces here"),
    ("cafe\u0301", "caf\u00e9"),
    ("\ufeffa\u200bb\u00adc\x07d\x0ce", "abcd e"),
    ("it\x92s \x93so\x94 \x96 yes\x85 no", "it’s “so” — yes… no"),
    ("no--never -- or - well, to-day -", "no — never — or — well, to-day —"),
    ("“curly” stays ----- too", "“curly” stays ----- too"),
    ("나는 학교에 갔다.", "나는 학교에 갔다."),
])
def test_what_all_text_gets(text, clean):
    assert cleaning.tidy(text) == clean
    for clean_up in (cleaning.lines, cleaning.reviews, cleaning.wiki, cleaning.books, cleaning.plain):
        assert clean_up(text) == clean


def test_reviews():
    text = 'Great!<br /><br />Tom &amp; Jerry: <i>fun</i>, 3 < 4 &lt;3<BR>The end.<br/>'
    assert cleaning.reviews(text).split("\n") == ["Great!", "Tom & Jerry: fun , 3 < 4 <3", "The end."]


def test_wikitext():
    text = " = The Title = \n \n The dog 's tail , 1 @,@ 200 cm @-@ long , did n't wag . \n = = Part = = \n"
    assert cleaning.wiki(text) == "The dog's tail , 1,200 cm-long , didn't wag ."


def test_informal_text():
    text = ("<v Al Bo>Hi there. <v B>Yes, that <v B>is *so* good [1] [...].\n"
            "> > - I did n't [unintelligible] see _it_ <3\n"
            "2*3*4 in snake_case_x [KPA]. [A]Sure []( yes\n")
    assert cleaning.informal(text).split("\n") == [
        "Hi there.", "Yes, that is so good .", "I didn't see it <3", "2*3*4 in snake_case_x [KPA].", "Sure yes"]


def test_joiners_stay():
    assert cleaning.lines("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f468\u200d\U0001f469 a\u200eb") == (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f468\u200d\U0001f469 ab")


def test_docstrings():
    text = """Return the *name* of ``thing``, see :func:`other`.

    Example
    -------
    >>> thing.name(1)
    'x'

        x = thing(a=1, b[2])

    - the first item is
      prose
    - so is the second one
    """
    assert cleaning.docstrings(text).split("\n") == [
        "Return the name of thing, see other.", "the first item is prose", "so is the second one"]


@pytest.mark.parametrize("clean_up", [cleaning.plain, cleaning.books])
@pytest.mark.parametrize("width", [60, 72, 98])
def test_hard_wrapped_paragraphs_with_blank_lines(clean_up, width):
    wanted = paragraphs(40)
    text = "\n\n".join(textwrap.fill(paragraph, width) for paragraph in wanted)
    assert clean_up(text).split("\n") == wanted
    assert clean_up(text.replace("\n", "\r\n")).split("\n") == wanted


def test_hard_wrapped_paragraphs_that_are_indented():
    wanted = paragraphs(40)
    text = "\n".join(textwrap.fill(paragraph, 70, initial_indent="  ") for paragraph in wanted)
    assert cleaning.plain(text).split("\n") == wanted


def test_hard_wrapped_paragraphs_that_nothing_sets_apart():
    """Found by their short last lines; those whose last line happens to be full cannot be."""
    wanted = paragraphs(200)
    found = cleaning.plain("\n".join(textwrap.fill(paragraph, 70) for paragraph in wanted)).split("\n")
    assert " ".join(found) == " ".join(wanted)
    ends = {paragraph.rsplit(" ", 1)[1] for paragraph in wanted}
    assert all(paragraph.rsplit(" ", 1)[1] in ends for paragraph in found)
    assert len(found) > 0.85 * len(wanted)


@pytest.mark.parametrize("clean_up", [cleaning.plain, cleaning.books])
@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_one_paragraph_a_line(clean_up, between):
    korean = ["나는 어제 학교에 갔다.", "비가 온다.", "친구를 만났다."] * 20
    for wanted in (paragraphs(50), list(sentences(200)), korean):
        assert clean_up(between.join(wanted)).split("\n") == wanted


def test_words_split_at_line_ends():
    rest = "A tremendous noise was heard on the door-step. The door-step shook, and everybody in the house was afraid."
    split = "He felt a tremen-\ndous fear of the noise that was heard upon the door-\nstep, six-\nand-twenty of them."
    wrapped = f"{split}\n\n{textwrap.fill(rest, 55)}"
    assert cleaning.books(wrapped).split("\n") == [
        "He felt a tremendous fear of the noise that was heard upon the door-step, six-and-twenty of them.", rest]


def test_books():
    text = "\n\n".join([
        "THE LITTLE HOUSE", "By Nobody", "Contents", "CHAPTER I. THE ARRIVAL", "XII", "Chapter 2",
        "IT", "was _very_ late, said the", "maître", ", and they were all trem-\ntrembling\n\n\nbling with cold.",
        "'NO!'", "I.", '"Then," said he -',
    ])
    assert cleaning.books(text).split("\n") == [
        "By Nobody",
        "IT was very late, said the maître , and they were all trembling with cold.",
        "'NO!'",
        '"Then," said he —',
    ]


def test_lost_characters_of_books():
    assert cleaning.books("The rťgime of the Fršulein was very old.") == "The régime of the Fräulein was very old."
    assert cleaning.books("La niñez del régimen. Čeština je těžká.") == "La niñez del régimen. Čeština je těžká."
    text = "Will you? To?day I don t, he s said; we ll see."
    assert cleaning.books(text) == "Will you? To-day I don't, he's said; we'll see."


@pytest.mark.parametrize("unit", [
    "= ", "< ", "<br ", "*a ", "'", "a''.", "[](", "[1 ", "_a ", "- ", ":a", "\n- ", "a-\n", " ", "(", "x\n", "&"])
def test_long_lines_take_time_in_proportion(unit):
    def seconds(length):
        start = time.process_time()
        for clean_up in cleaning.CLEANERS.values():
            long = unit * (length // len(unit))
            clean_up(f"a {long}x\n= {long}\n\nx a{long}=")
        return time.process_time() - start

    assert seconds(32_000) < 3 * seconds(16_000) + 0.1  # in proportion to the square it would be 4, of seconds


def test_another_clean_up_has_another_version():
    """The version is part of the fingerprints: text cleaned in an old way must not come out of a cache.

    Where this fails, raise cleaning.VERSION and put the new digest here.
    """
    rough = "\n".join(textwrap.fill(p, 70) for p in paragraphs(30)).replace(" old ", " _old_ ").replace("and", "and--")
    rough += "\n\nCHAPTER IV\n\n = Title = \n\nHe said <br />so &amp; did n't 1 @,@ 200.\n\n>>> f(x)\n\nto-\nday"
    digest = hashlib.sha256("\0".join(clean_up(rough) for clean_up in cleaning.CLEANERS.values()).encode()).hexdigest()
    assert (cleaning.VERSION, digest[:16]) == (6, "19d9cdbeaccace5e")


# ---- Text files and directories.


def test_a_text_file_is_cut_into_blocks(tmp_path):
    wanted = list(sentences(2000))
    (tmp_path / "book.txt").write_text("\n".join(wanted), encoding="utf-8")
    corpus = load_corpus(str(tmp_path / "book.txt"))
    assert list(corpus.splits) == ["train", "validation", "test"]
    assert everything(corpus) == sorted(wanted)
    for split in ("validation", "test"):
        assert 0.04 < len("\n".join(texts(corpus, split))) / len("\n".join(wanted)) < 0.06
        numbers = [int(number) for number in re.findall(r"\d+", " ".join(texts(corpus, split)))]
        assert numbers == sorted(numbers) and numbers[0] < 200 and numbers[-1] > 1800  # from all over the text


@pytest.mark.parametrize("pretokenized", [False, True])
def test_a_small_text_is_cut_too(tmp_path, pretokenized):
    (tmp_path / "small.txt").write_text("\n".join(sentences(25)), encoding="utf-8")
    corpus = load_corpus(str(tmp_path / "small.txt"), pretokenized=pretokenized)
    assert [len("\n".join(texts(corpus, split)).split("\n")) for split in corpus.splits] == [23, 1, 1]


def test_a_large_file_becomes_documents_of_bounded_size(tmp_path):
    whole = " ".join(sentences(20_000))  # one line of a megabyte
    (tmp_path / "line.txt").write_text(whole, encoding="utf-8")
    corpus = load_corpus(str(tmp_path / "line.txt"))
    assert max(len(text) for split in corpus.splits for text in texts(corpus, split)) < 2**17
    assert sorted(word for line in everything(corpus) for word in line.split()) == sorted(whole.split())


def as_csv(rows):
    return "\n".join(["n,text", *(f'{i},"{row}"' for i, row in enumerate(rows))]).encode()


def as_json_lines(rows):
    return "\n".join(json.dumps({"n": i, "text": row}) for i, row in enumerate(rows)).encode()


def as_parquet(rows):
    datasets.Dataset.from_dict({"n": range(len(rows)), "text": rows}).to_parquet(file := io.BytesIO())
    return file.getvalue()


TABLES = {
    "x.csv": as_csv, "x.jsonl": as_json_lines, "x.parquet": as_parquet,
    "x.csv.gz": lambda rows: gzip.compress(as_csv(rows)), "x.jsonl.gz": lambda rows: gzip.compress(as_json_lines(rows)),
    "x.jsonl.xz": lambda rows: lzma.compress(as_json_lines(rows)),
    "x.txt": as_json_lines, "x": as_parquet,  # told by their content
}
CELLS = ["NA", "null", "None", "", "7", *sentences(40)]  # words that pandas takes for missing values are text


@pytest.mark.parametrize("name, packed", TABLES.items())
def test_a_table_alone(tmp_path, name, packed):
    (tmp_path / name).write_bytes(packed(CELLS))
    assert everything(load_corpus(str(tmp_path / name))) == sorted(filter(None, CELLS))


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "train.jsonl.gz", "x.parquet"])
def test_tables_in_a_folder(tmp_path, name):
    packed = TABLES[name.replace("train", "x")]
    (tmp_path / name).write_bytes(packed(CELLS))
    assert everything(load_corpus(str(tmp_path))) == sorted(filter(None, CELLS))
    (tmp_path / name).write_bytes(packed(CELLS[:30]))  # what was unpacked before is not read again
    assert everything(load_corpus(str(tmp_path))) == sorted(filter(None, CELLS[:30]))


def test_a_table_among_text_files_named_after_splits(tmp_path):
    (tmp_path / "train.txt").write_text("Of a text.")
    (tmp_path / "valid.jsonl.gz").write_bytes(gzip.compress(as_json_lines(["Of a table."])))
    (tmp_path / "test.txt.bz2").write_bytes(bz2.compress(b"Of a text too."))
    corpus = load_corpus(str(tmp_path))
    assert [texts(corpus, split) for split in corpus.splits] == [["Of a text."], ["Of a table."], ["Of a text too."]]


def test_a_folder_of_books_is_read_like_each_of_them(tmp_path):
    books = {name: paragraphs(60, seed) for seed, name in enumerate(["emma.txt", "the-test.txt", "more/ida.txt.gz"])}
    for name, wanted in books.items():
        text = "\n\n".join(textwrap.fill(paragraph, 70) for paragraph in wanted).encode()
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    assert everything(load_corpus(str(tmp_path))) == sorted(line for wanted in books.values() for line in wanted)


def test_names_with_commas_and_stars(tmp_path):
    for name, text in {"a, b.txt": "One", "c*2": "Two", "d": "Three"}.items():
        (tmp_path / name).write_text("\n".join(f"{text} {i}." for i in range(100)))
    corpus = load_corpus(f"{tmp_path}/a, b.txt,{tmp_path}/d*2,{tmp_path}/c*2,{tmp_path}/a, b.txt*3")
    assert [part.name for part in corpus.parts] == ["a, b.txt", "d*2", "c*2", "a, b.txt*3"]
    assert [part.sources[0].times for part in corpus.parts] == [1, 2, 1, 3]


def test_pipes(tmp_path):
    """The text of a pipe is read once, and the same text from another pipe has the same fingerprint."""
    found = []
    for name in ("pipe-1", "pipe-2"):
        os.mkfifo(tmp_path / name)
        writer = threading.Thread(target=(tmp_path / name).write_text, args=("\n".join(sentences(40)),))
        writer.start()
        corpora = [load_corpus(str(tmp_path / name)) for _ in range(2)]
        writer.join()
        assert all(everything(corpus) == sorted(sentences(40)) for corpus in corpora)
        found += [corpus.fingerprint("train") for corpus in corpora]
    assert len(set(found)) == 1
    copies = Path(datasets.config.HF_DATASETS_CACHE) / "piped"
    assert copies.stat().st_mode & 0o077 == 0, "the text is not for other users"


def test_a_pipe_is_not_for_several_processes(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("WORLD_SIZE", "2")  # torchrun sets it
    with pytest.raises(CorpusError, match="pipe is a pipe, which only one process can read; write its text to a file"):
        load_corpus(str(tmp_path / "pipe"))


PACKED = {
    "a.txt": bytes, "a.txt.gz": gzip.compress, "a.txt.bz2": bz2.compress, "a.txt.xz": lzma.compress, "no-ending": bytes,
    "gzip.txt": gzip.compress, "plain.gz": bytes,  # the content decides
    "twice.txt.gz": lambda content: gzip.compress(gzip.compress(content)),
}


@pytest.mark.parametrize("name, packed", PACKED.items())
@pytest.mark.parametrize("lead", ["", "\ufeff"])
def test_compressed_files_and_byte_order_mark(tmp_path, name, packed, lead):
    (tmp_path / name).write_bytes(packed((lead + "\r\n".join(sentences(40))).encode()))
    assert everything(load_corpus(str(tmp_path / name))) == sorted(sentences(40))


def test_a_zip_file(tmp_path):
    """Also one that a Mac made."""
    members = {"a/": "", "a/a.txt": "\n".join(sentences(40)), "__MACOSX/a/._a.txt": "\0", "a/.DS_Store": "\0"}
    (tmp_path / "a.zip").write_bytes(zip_of(members))
    assert everything(load_corpus(str(tmp_path / "a.zip"))) == sorted(sentences(40))


def test_korean(tmp_path):
    wanted = [f"나는 어제 {i} 번째 친구를 학교에서 만났다." for i in range(100)]
    (tmp_path / "ko.txt").write_text(unicodedata.normalize("NFD", "\n".join(wanted)), encoding="utf-8")
    assert everything(load_corpus(str(tmp_path / "ko.txt"))) == sorted(wanted)


@pytest.mark.parametrize("names", [
    ("train.txt", "valid.txt", "test.txt"),
    ("ptb.train.txt", "ptb.dev.txt", "ptb.test.txt"),
    ("train.raw", "validation.txt.gz", "test.txt"),
])
def test_a_directory_with_a_file_for_each_split(tmp_path, names):
    for name in names:
        text = f"This is {name.split('.')[-2]}.\n".encode() * 3
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    corpus = load_corpus(str(tmp_path))
    assert [len(texts(corpus, split)[0].split("\n")) for split in ("train", "validation", "test")] == [3, 3, 3]


def test_pretokenized_text_is_left_as_it_is(tmp_path):
    rows = [" the  <unk> -- N \x93 of ", "", " = mr <unk> ", "a cafe\u0301"]
    (tmp_path / "test.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    corpus = load_corpus(str(tmp_path), pretokenized=True)
    assert texts(corpus, "test") == rows
    assert corpus.sources[0].clean_up is None


# ---- The hub's layout.


def write_hub_layout(folder, **splits):
    """A parquet file a split, each value being rows of text."""
    for split, rows in splits.items():
        data = datasets.Dataset.from_dict({"text": rows, "label": [0] * len(rows)})
        data.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))
    configs = [{"split": split, "path": f"data/{split}-*"} for split in splits]
    card = json.dumps({"configs": [{"config_name": "default", "data_files": configs}]})
    (folder / "README.md").write_text(f"---\n{card}\n---\n", encoding="utf-8")
    return str(folder)


def test_a_directory_named_like_a_known_corpus_is_cleaned_like_it(tmp_path):
    (folder := tmp_path / "imdb").mkdir()
    reviews = [f"Film {i} was<br />good." for i in range(400)]
    test = [*reviews[300:], reviews[7], reviews[250]]
    write_hub_layout(folder, train=reviews[:200], unsupervised=reviews[200:300] + [""], test=test)
    corpus = load_corpus(str(folder))
    assert texts(corpus, "test") == [f"Film {i} was\ngood." for i in range(300, 400)]  # two are not new
    assert len(texts(corpus, "validation")) == 10  # of 200, the labelled ones
    assert texts(corpus, "train")[-100:] == [f"Film {i} was\ngood." for i in range(200, 300)]
    assert not set(texts(corpus, "train")) & {*texts(corpus, "validation"), *texts(corpus, "test")}
    (source,) = corpus.sources
    assert (source.name, source.clean_up, source.left_out) == ("imdb", "reviews", {"validation": 0, "test": 2})
    assert source.documents == {"train": 290, "validation": 10, "test": 100}


def test_licences_by_source(tmp_path):
    (tmp_path / "talk-english").mkdir()
    origins_of = {"train": ["qmsum", "conduit", "qmsum", "new"], "validation": ["crd3"], "test": ["crd3"]}
    for split, origins in origins_of.items():
        rows = {"text": [f"<v A>{split} {i}." for i in range(len(origins))], "source": origins}
        datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "talk-english" / f"{split}.parquet"))
    corpus = load_corpus(f"{tmp_path}/talk-english*2")
    assert texts(corpus, "train") == [f"train {i}." for i in range(4)] * 2
    (source,) = corpus.sources
    assert (source.licence, source.clean_up, source.times) == (
        "CC BY-SA 4.0, MIT (AMI and ICSI: CC BY 4.0), MIT", "informal", 2)
    assert [(origin.name, origin.licence, origin.documents) for origin in source.origins] == [
        ("conduit", "MIT", 1), ("new", None, 1), ("qmsum", "MIT (AMI and ICSI: CC BY 4.0)", 2)]


def test_a_corpus_of_a_test_split_alone(tmp_path):
    corpus = load_corpus(write_hub_layout(tmp_path, test=["One.", None, "Two."]))
    assert texts(corpus, "test") == ["One.", "Two."]
    with pytest.raises(CorpusError, match="has no split 'train'; it has: test"):
        corpus.fingerprint("train")


def test_corpora_are_joined_in_order(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        write_hub_layout(tmp_path / name, **{split: [f"{name} {split}"] for split in ("train", "validation", "test")})
    corpus = load_corpus(f"{tmp_path}/b, {tmp_path}/a")
    assert [texts(corpus, split) for split in corpus.splits] == [[f"{n} {s}" for n in "ba"] for s in corpus.splits]
    assert [source.name for source in corpus.sources] == ["b", "a"]
    (only := tmp_path / "only").mkdir()
    write_hub_layout(only, test=["only test"])
    assert list(load_corpus(f"{tmp_path}/a,{only}").splits) == ["test"]


@pytest.mark.parametrize("documents", [3, 1500])
@pytest.mark.parametrize("stream", ["", "stream:"])
def test_a_share_of_a_corpus_comes_from_all_over_it(tmp_path, documents, stream):
    """Pieces of few long documents are taken, and some of many short ones."""
    rows = ["\n".join(sentences(60_000 // documents, seed)) for seed in range(documents)]
    write_hub_layout(tmp_path, train=rows, validation=["V."], test=["T."])
    whole, some = (load_corpus(f"{stream}{tmp_path}{times}") for times in ("", "*1.3"))
    read = texts(some, "train")
    assert (read[:documents], texts(some, "validation"), texts(some, "test")) == (rows, ["V."], ["T."])
    assert sum(map(len, read[documents:])) / sum(map(len, rows)) == pytest.approx(0.3, abs=0.05)
    if documents == 3:
        assert [len(part) / len(row) for part, row in zip(read[3:], rows)] == pytest.approx([0.3] * 3, abs=0.02)
        assert all(set(part.split("\n")) < set(row.split("\n")) for part, row in zip(read[3:], rows))
    assert some.fingerprint("train") == load_corpus(f"{stream}{tmp_path}*1.3").fingerprint("train")
    assert some.fingerprint("train") != whole.fingerprint("train")


@pytest.mark.parametrize("times", ["0", "-1", "nan", "1e3", "x", ""])
def test_shares_that_make_no_sense(times):
    with pytest.raises(CorpusError, match=rf"in 'imdb\*{times}', .* is no number from 0 to 1000: .*name\*0.5"):
        load_corpus(f"imdb*{times}")


def test_fingerprints_follow_the_text(tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(sentences(100)), encoding="utf-8")
    first = load_corpus(str(path))
    monkeypatch.setitem(cleaning.CLEANERS, "plain", None)  # the second time nothing is cleaned
    again = load_corpus(str(path))
    assert [again.fingerprint(s) for s in again.splits] == [first.fingerprint(s) for s in first.splits]
    assert len({first.fingerprint(s) for s in first.splits}) == 3
    monkeypatch.undo()
    path.write_text("\n".join(sentences(100, seed=1)), encoding="utf-8")
    assert load_corpus(str(path)).fingerprint("train") != first.fingerprint("train")
    before = load_corpus(str(path)).fingerprint("train")
    monkeypatch.setattr(cleaning, "VERSION", cleaning.VERSION + 1)
    assert load_corpus(str(path)).fingerprint("train") != before
    assert capsys.readouterr() == ("", "")


def test_folders_of_the_same_name_and_changed_ones_are_told_apart(tmp_path):
    found = []
    for folder, text in (("x/same", "One."), ("y/same", "Two."), ("x/same", "Three.")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        corpus = load_corpus(write_hub_layout(tmp_path / folder, train=[text], validation=["V."], test=["T."]))
        assert texts(corpus, "train") == [text]
        found.append(corpus.fingerprint("train"))
    assert len(set(found)) == 3


# ---- Streaming.


def write_shards(folder, rows):
    """Two data files of training text."""
    for number, part in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
        datasets.Dataset.from_dict({"text": part}).to_parquet(str(folder / f"train-{number:05}-of-00002.parquet"))
    return str(folder)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2")  # where there is one core
@pytest.mark.parametrize("cores", [1, 2])
def test_a_streamed_corpus_is_read_as_it_comes(tmp_path, monkeypatch, cores):
    monkeypatch.setattr("nextword.training.corpora.streaming.cores", lambda: cores)
    rows = [f"{text} It&amp;s" for text in sentences(3000)]
    corpus = load_corpus("stream:" + write_shards(tmp_path, rows + rows[:100]))
    splits = {split: texts(corpus, split) for split in corpus.splits}
    assert sorted(text for some in splits.values() for text in some) == sorted(rows + rows[:100])
    assert all(15 <= len(splits[split]) <= 50 for split in ("validation", "test"))
    assert not set(splits["train"]) & {*splits["validation"], *splits["test"]}  # also of what occurs twice
    again = load_corpus(f"stream:{tmp_path}")
    assert len({again.fingerprint(split) for split in splits}) == 3
    assert [again.fingerprint(split) for split in splits] == [corpus.fingerprint(split) for split in splits]
    write_shards(tmp_path, list(sentences(3000, seed=1)))
    assert load_corpus(f"stream:{tmp_path}").fingerprint("train") != corpus.fingerprint("train")


def test_a_streamed_corpus_keeps_its_splits_and_joins_others(tmp_path):
    for name in ("imdb", "other"):
        (tmp_path / name).mkdir()
        rows = {split: [f"{name}<br />{split}"] for split in ("train", "validation", "test")}
        write_hub_layout(tmp_path / name, **rows)
    corpus = load_corpus(f"stream:{tmp_path}/imdb*2,{tmp_path}/other")
    assert texts(corpus, "train") == ["imdb\ntrain", "imdb\ntrain", "other<br />train"]
    assert texts(corpus, "test") == ["imdb\ntest", "other<br />test"]


def test_tokens_of_a_streamed_corpus_are_made_once(tmp_path, monkeypatch):
    from nextword.training.corpora.streaming import Streamed
    from nextword.training.tokens import build_vocabulary, encode_split

    monkeypatch.setenv("NEXTWORD_CACHE", str(tmp_path / "cache"))
    spec = "stream:" + write_shards(tmp_path / "shards", list(sentences(2000)))

    def prepared():
        corpus = load_corpus(spec)
        return encode_split(corpus, "train", build_vocabulary(corpus, 100, 1, False))

    first = prepared()
    monkeypatch.setattr(Streamed, "iter", None)  # the second time nothing is read
    assert prepared().tolist() == first.tolist() and len(first) > 15_000
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0, "the text is not for other users"


# ---- Python's own documentation.


def test_python_docs():
    corpus = load_corpus("python-docs")
    whole = "\n".join(everything(corpus))
    assert len(whole.split()) > 200_000
    assert "\n>>>" not in whole and "``" not in whole
    assert "Return the largest item" in whole or "statement is used to iterate over the elements" in whole
    assert all(0.02 < len("".join(texts(corpus, split))) / len(whole) < 0.1 for split in ("validation", "test"))


# ---- What cannot be had.


@pytest.mark.parametrize(
    "spec, message",
    [
        ("", "no corpus is named; accepted: wikitext-2"),
        ("wikitxt-2", "no corpus 'wikitxt-2'; did you mean 'wikitext-2'. accepted: wikitext-2"),
        ("python-docs,imbd", "no corpus 'imbd'; did you mean 'imdb'"),
        ("{}/trane.txt", "no file or directory '.*/trane.txt'; did you mean '.*/train.txt'"),
        ("{}/none/none.txt", "no file or directory"),
        ("english-novels", "english-novels is on no hub; name the directory"),
        ("{}", "corpus .*: the text is too short to cut validation and test text from: it needs 20 paragraphs or"),
        ("{}:german", "no corpus: BuilderConfig 'german' not found"),
        ("{}/latin.txt", r"latin.txt is not in UTF-8 \(byte 2,000,003 is 0xe9\).*iconv -f WINDOWS-1252 -t UTF-8"),
        ("{}/cut.txt", r"cut.txt is not in UTF-8 \(byte 3 is 0xc3\)"),
        ("{}/utf16.txt", "utf16.txt is in UTF-16, not in UTF-8; convert it: iconv -f UTF-16"),
        ("{}/bare.txt", "bare.txt is in UTF-16 or no text"),
        ("{}/empty.txt", "empty.txt is empty"),
        ("{}/blank.txt", r"corpus 'blank.txt' has no text in train \(1 rows, all empty\)"),
        ("{}/damaged.gz", "damaged.gz cannot be read: Compressed file ended"),
        ("{}/two.zip", "two.zip holds 2 files; one text file or table is accepted. Unpack it, and name the folder"),
        ("{}/rows.csv", r"rows.csv' has the columns title \(string\), body \(string\); .*Rename the column"),
        ("{}/commas.csv", "commas.csv cannot be read: .* must stand in double quotes"),
        ("https://example.org/a.txt", "'https://example.org/a.txt' is an address; download the text"),
        ("{}/rows.json", "rows.json cannot be read: "),
        ("{}/tar.txt", "tar.txt is a tar archive; accepted is plain text .*Unpack it first"),
        ("{}/tar.tgz", "tar.tgz is a tar archive"),
        ("{}/secret.zip", "secret.zip is encrypted; unpack it first"),
        ("{}/method.zip", "method.zip cannot be unpacked by Python .*; unpack it first"),
        ("{}/letter.docx", "letter.docx is an office document or e-book; .* Save its text as .txt first"),
        ("{}/paper.txt", "paper.txt is a PDF document; accepted is plain text in UTF-8, or a table"),
        ("{}/page", "page is an HTML page"),
        ("{}/notes.db", "notes.db is an SQLite database"),
        ("{}/pages", "pages is no corpus: it has a.html"),
        ("{}/mixed", "table.txt holds a table; accepted is a folder of text files or a folder of tables"),
        ("{}/halves", "halves has files for train, and other.txt, which is for none of them"),
        ("{}/address", "README.md names https://127.0.0.1:9/x.jsonl; only files in the folder are read"),
        ("{}/outside", r"outside names .*/rows.csv, which is outside the folder"),
        ("{}/above", "above names .*/train.txt, which is outside the folder"),
        ("{}/yaml", "yaml is no corpus: while parsing"),
        (
            "{}/both",
            "both holds the text file b.txt and the table a.csv; accepted is a folder of text files "
            "or a folder of tables",
        ),
        ("{}/semicolons.csv", "the single column 'text;n'; accepted are csv files with commas between columns"),
        ("{}/blank.jsonl", "no text in train"),
        ("n" * 5000, "there is no corpus 'nnn"),
        ("/dev/null", "/dev/null is a device; accepted is a file, a pipe or a directory"),
        ("{}/nothing", "nothing is no corpus: it has readme.md; accepted: .* train.txt, valid.txt, test.txt"),
        ("{}/void", "void is no corpus: it has no files"),
        ("{}/columns", r"has the columns title \(string\), body \(string\), n \(int64\); accepted: 'text' \(string\)"),
        ("{}/broken", "broken is no corpus: .*[Pp]arquet"),
        ("{}/extra", "corpus 'extra' has the splits more; accepted: train, validation, test"),
        ("stream:{}/train.txt", "train.txt cannot be streamed; accepted after stream: is a hub id or a directory"),
        ("stream:{}/void", "void cannot be streamed: "),
        ("stream:imbd", "no corpus 'imbd'; did you mean 'imdb'"),
        ("{}/twice", "train.raw and train.txt are train text"),
    ],
)
def test_errors(tmp_path, spec, message):
    configs = {name: {"configs": [{"config_name": "default", "data_files": file}]} for name, file in {
        "address": "https://127.0.0.1:9/x.jsonl", "outside": "../rows.csv",
        "above": str(tmp_path / "train.txt")}.items()}
    archive = tar_of("a.txt")
    for name, content in {
        "train.txt": b"One line.", "empty.txt": b"", "blank.txt": b" \n\n", "cut.txt": b"caf\xc3",
        "damaged.gz": gzip.compress(b"hello")[:-9], "latin.txt": b"ab " * 666_666 + b"  caf\xe9",
        "utf16.txt": "Hello".encode("utf-16"), "bare.txt": b"H\0e\0l\0l\0o\0", "rows.csv": b"title,body\nhello,you\n",
        "rows.json": b"no json", "nothing/readme.md": b"hello", "void/": b"", "tar.txt": archive,
        "tar.tgz": gzip.compress(archive), "secret.zip": zip_of({"a.txt": "a"}, flags=1),
        "method.zip": zip_of({"a.txt": "a"}, method=98),
        "letter.docx": zip_of({"[Content_Types].xml": "", "a.xml": ""}),
        "paper.txt": b"%PDF-1.7 ...", "page": b" <!DOCTYPE html><p>", "notes.db": b"SQLite format 3\0",
        "pages/a.html": b"<html>", "mixed/a.txt": b"A.", "mixed/table.txt": b'{"text": "a"}\n',
        "halves/train-1.txt": b"A.", "halves/other.txt": b"B.", "yaml/README.md": b"---\nconfigs: [\n---\n",
        "commas.csv": b"text\nOne.\nOne, too.\n",
        "columns/train.jsonl": b'{"title": "a", "body": "b", "n": 1}\n', "broken/train.parquet": b"no parquet",
        "extra/": b"", "twice/train.txt": b"a", "twice/train.raw": b"a",
        "two.zip": zip_of({"a.txt": "a", "b.txt": "b"}), "both/a.csv": b"text\nA\n", "both/b.txt": b"B.",
        "both/LICENSE.txt": b"MIT", "semicolons.csv": b"text;n\nA;1\n", "blank.jsonl": b"\n",
        **{f"{name}/README.md": f"---\n{json.dumps(card)}\n---\n".encode() for name, card in configs.items()},
    }.items():
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(content)
    write_hub_layout(tmp_path / "extra", more=["Hello."])
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus(spec.format(tmp_path))
    assert "\n" not in str(caught.value)


def zip_of(members, flags=0, method=None):
    """The bytes of a zip file; its headers may claim flags and a method."""
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    content = bytearray(file.getvalue())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.find(mark) + offset
        content[at] |= flags
        content[at + 2] = content[at + 2] if method is None else method
    return bytes(content)


def tar_of(name):
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


# ---- The hub, as far as one can be had without a network: a server on loopback that answers like it.

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves one data set in two configurations, from `server.folder`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        files = {p.relative_to(self.server.folder).as_posix(): p for p in self.server.folder.rglob("*") if p.is_file()}
        api = "/api/datasets/Salesforce/wikitext"
        if path == "/":
            self.answer(200, b"hub")
        elif path.startswith("/datasets/Salesforce/wikitext/resolve/"):
            file = files.get(path.split("/", 6)[6])
            content = file.read_bytes() if file else b""
            code = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'} if file else {"X-Error-Code": "EntryNotFound"}
            self.answer(200 if file else 404, content, {"X-Repo-Commit": COMMIT, **code})
        elif path.startswith(f"{api}/tree/{COMMIT}"):
            folder = path.removeprefix(f"{api}/tree/{COMMIT}").strip("/")
            entries = [{"type": "file", "path": name, "size": file.stat().st_size, "oid": "0"}
                       for name, file in files.items() if name.rpartition("/")[0] == folder]
            entries += [] if folder else [{"type": "directory", "path": "data", "size": 0, "oid": "0"}]
            self.answer(200, json.dumps(entries).encode())
        elif path.startswith(api):
            self.answer(200, json.dumps({"id": "Salesforce/wikitext", "sha": COMMIT, "siblings": []}).encode())
        else:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def answer(self, status, content, headers=()):
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def load_elsewhere(address, home, specs):
    """In a new process, whose hub has that address: for each corpus its clean-up, fingerprint and test text, or the
    kind of the error and its message."""
    script = """
import json, sys
from nextword.training.corpora import CorpusError, load_corpus
def load(spec):
    try:
        corpus = load_corpus(spec)
        return corpus.sources[0].clean_up, corpus.fingerprint("train"), list(corpus.documents("test"))
    except CorpusError as error:
        return type(error).__name__, str(error)
print(json.dumps([load(spec) for spec in sys.argv[1:]]))
"""
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", script, *specs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def hub(tmp_path):
    """The address of a hub that has Salesforce/wikitext."""
    rows = [f" = Part {i} = \n\n The dog 's tail is {i} @.@ 5 cm long . \n" for i in range(50)]
    (folder := tmp_path / "wikitext").mkdir()
    files = [{"split": split, "path": f"data/{split}-*"} for split in ("train", "validation", "test")]
    configs = [{"config_name": name, "data_files": files} for name in ("wikitext-2-raw-v1", "wikitext-103-raw-v1")]
    write_hub_layout(folder, train=rows, validation=rows[:5], test=rows[:4])
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n", encoding="utf-8")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.folder = folder
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def silence():
    """The address of a server that takes connections and never says anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_corpus_from_the_hub_and_then_from_the_cache(hub, tmp_path):
    short, by_id, no_config, wrong_config, nobody = load_elsewhere(hub, tmp_path / "home", [
        "wikitext-2", "Salesforce/wikitext:wikitext-2-raw-v1", "Salesforce/wikitext", "Salesforce/wikitext:nope",
        "some/one"])
    assert short[::2] == ["wiki", [f"The dog's tail is {i}.5 cm long ." for i in range(4)]]
    assert by_id == short
    assert "Config name is missing" in no_config[1] and "wikitext-103-raw-v1" in no_config[1]
    assert "BuilderConfig 'nope' not found" in wrong_config[1]
    assert nobody == ["CorpusError", "the hub has no dataset 'some/one', or not for everybody"]
    cached, missing = load_elsewhere("http://127.0.0.1:9", tmp_path / "home", ["wikitext-2", "wikitext-103"])
    assert cached == short  # nobody listens at port 9
    assert missing[0] == "HubUnreachable"


def test_a_silent_hub_is_given_up_soon(silence, monkeypatch, capsys):
    assert nextword.training.corpora.hub.PATIENCE <= 9
    monkeypatch.setattr(nextword.training.corpora.hub, "PATIENCE", 0.5)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", silence)
    start = time.monotonic()
    with pytest.raises(HubUnreachable, match=f"the hub .{silence}. does not answer, and .*wikitext.* not in the cache"):
        load_corpus("wikitext-2")
    assert time.monotonic() - start < 3
    assert default_corpus().name == "python-docs"
    said = capsys.readouterr().err
    assert re.fullmatch(r"the hub .*does not answer.* Taking python-docs instead of wikitext-2\.\n", said)


CHINESE = "我昨天去商店买了很多东西因为今天晚上有朋友来我家吃饭。"


@pytest.mark.parametrize(
    "text, warned",
    [
        (CHINESE, True),
        ("เมื่อวานฉันไปที่ร้านค้ากับเพื่อนของฉัน ", True),
        ("昨日は友達と一緒に新しいお店へ買い物に行きました。", True),
        (" ".join(CHINESE), False),
        ("我 昨天 去 商店 买了 很多 东西 。", False),
        ("나는 어제 친구와 가게에 갔다. ", False),
        ("We went to the 商店 yesterday. ", False),
        ("ฉัน ไป ที่ ร้านค้า กับ เพื่อน ", False),
        ("मैं कल दुकान गया। ", False),
        ("1984 ! ", False),
    ],
)
def test_text_without_spaces_is_told(text, warned):
    warning = unsegmented_warning([text] * 50)
    assert bool(warning) == warned
    if warning:
        assert "\n" not in warning and "told by spaces" in warning and "unknown" in warning


def test_training_says_that_text_has_no_spaces(tmp_path, capsys):
    (tmp_path / "chinese.txt").write_text("\n".join([CHINESE] * 200))
    main(["train", "--corpus", str(tmp_path / "chinese.txt"), "--out", str(tmp_path / "run"), *TINY, "--epochs", "1"])
    lines = capsys.readouterr().err.splitlines()
    assert sum("told by spaces" in line for line in lines) == 1
    assert "left out. Put spaces between the words of the text first." in lines[-1] and "perplexity 1" not in lines[-1]
