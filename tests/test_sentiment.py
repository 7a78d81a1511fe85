"""The judgement of reviews: what is learned, and that no label leaks."""
import json
import random

import pytest
import torch

from nextword.lm.bundle import open_bundle
from nextword.lm.command import Parser
from nextword.training import sentiment
from nextword.training.corpora import CorpusError
from nextword.training.corpora.labelled import load_labelled
from nextword.training.sentiment import pool

GOOD, BAD = ["wonderful", "moving", "brilliant"], ["dull", "awful", "silly"]
PLAIN = ["film", "plot", "actor", "scene", "music", "ending", "script", "camera", "story", "hero"]


def run(*options: str) -> int:
    parser = Parser("nextword sentiment")
    return sentiment.command(parser)(parser.parse(options)) or 0


def review(draw: random.Random, label: int) -> str:
    words = draw.choices(PLAIN, k=draw.randint(4, 12))
    words.insert(draw.randrange(len(words)), draw.choice((BAD, GOOD)[label]))
    return f"The {' '.join(words)}.<br /><br />{draw.randrange(10**9)}"


def write(folder, **splits):
    folder.mkdir(exist_ok=True)
    files = "".join(f"  - split: {split}\n    path: {split}.jsonl\n" for split in splits)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(folder)


def rows(count: int, seed: int, labelled: bool = True) -> list[dict]:
    draw = random.Random(seed)
    labels = [draw.randrange(2) for _ in range(count)]
    return [{"text": review(draw, label), "label": label if labelled else draw.randrange(2)} for label in labels]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> str:
    return write(tmp_path_factory.mktemp("labelled"), train=rows(320, 0), test=rows(100, 1))


def test_one_command_trains_measures_draws_and_answers(labelled, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("--data", labelled, "--out", str(out), "--epochs", "10") == 0
    figures = json.loads((out / "metrics.json").read_text())
    assert len(figures["epochs"]) == 10 and figures["test"]["accuracy"] > 0.95
    output = capsys.readouterr().out
    assert output.count("epoch ") >= 10 and "test accuracy" in output and output.count("(labelled ") == 6
    for name in ("loss.png", "accuracy.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    for word, label in ((GOOD[0], "1"), (BAD[0], "0")):
        assert run("--text", f"The story, a {word} film.", "--out", str(out)) == 0
        assert capsys.readouterr().out.startswith(f"{label} ")


def test_labels_drawn_at_random_are_guessed_by_chance(tmp_path):
    data = write(tmp_path / "data", train=rows(320, 2, labelled=False), test=rows(200, 3, labelled=False))
    assert run("--data", data, "--out", str(tmp_path / "run"), "--epochs", "6") == 0
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0.38 < figures["test"]["accuracy"] < 0.62  # 3.4 standard errors


def test_a_text_is_in_one_split_alone(tmp_path):
    unlabelled = [{"text": f"Seen before {number}", "label": -1} for number in range(20)]
    test = rows(100, 5)
    known = [{"text": row["text"], "label": 1} for row in unlabelled]
    folder = write(tmp_path, train=rows(200, 4) + test[:30], unsupervised=unlabelled, test=test + known)
    splits, names = load_labelled(folder)
    assert names == ["0", "1"] and {split: len(texts) for split, (texts, _) in splits.items()} == {
        "train": 207, "validation": 23, "test": 70}
    texts = [text for split in splits.values() for text in split.texts]
    assert len(set(texts)) == len(texts) and "<br" not in "".join(texts)
    again, _ = load_labelled(folder)
    assert again == splits


def test_pooled_outputs_are_those_of_the_language_model(tiny_model, tiny_bundle, monkeypatch):
    monkeypatch.setattr(sentiment, "CHUNK", 3)
    texts = ["We went to the market, too.\nThank you very much!", "I ran"]
    for text, pooled in zip(texts, pool(open_bundle(tiny_bundle), texts)):
        contexts = tiny_model.before_each(tiny_model.vocabulary.encode(text), {})
        last = tiny_model.extend([tiny_model.start], [text])[0]
        outputs = torch.stack([*(context.output for context in contexts), last.output])
        outputs = tiny_model.program.projection(outputs)
        for part, expected in zip(pooled.chunk(3), (outputs.mean(0), outputs.amax(0), outputs[-1])):
            assert torch.nn.functional.cosine_similarity(part, expected, dim=0) > 0.99  # bfloat16 and 8 bits differ


def test_a_language_model_reads_the_texts(labelled, tiny_bundle, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("--data", labelled, "--encoder", str(tiny_bundle), "--out", str(out), "--epochs", "2") == 0
    assert "test accuracy" in capsys.readouterr().out
    assert run("--text", "Thank you very much!", "--encoder", str(tiny_bundle), "--out", str(out)) == 0
    assert "%" in capsys.readouterr().out


@pytest.mark.parametrize("train, message", [
    ([{"text": "good", "label": 1}] * 9, "1 different labels"),
    ([{"text": "good", "label": 1}, {"text": "bad", "label": None}], "1 of 2 rows of train have no label.*row 2"),
    ([{"text": "good", "label": 1}, {"text": " ", "label": 0}], "1 of 2 rows of train have no text.*row 2"),
    ([{"text": word, "label": number} for number, word in enumerate(PLAIN)], "10 different labels"),
    ([{"text": 5, "label": 1}, {"text": 6, "label": 0}], "holds numbers or lists"),
    ([{"review": "good", "label": 1}], "columns review, label; 'text' and 'label'"),
])
def test_a_data_set_that_will_not_do_is_refused_in_one_line(tmp_path, train, message):
    with pytest.raises(CorpusError, match=message) as refusal:
        load_labelled(write(tmp_path, train=train))
    assert "\n" not in str(refusal.value)


def test_a_question_before_training_says_so(tmp_path):
    with pytest.raises(ValueError, match="no trained model"):
        run("--text", "good", "--out", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="no word"):
        run("--text", " … ", "--out", str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
