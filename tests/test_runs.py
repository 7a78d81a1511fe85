"""`nextword runs`: a table of runs, also of folders that are none."""
import json
import shutil
from pathlib import Path

import pytest

from nextword.lm.command import main


def test_runs_are_one_table(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    better, cut_off, damaged, foreign = (tmp_path / name for name in ("better", "cut-off", "damaged", "foreign"))
    for folder in (better, cut_off, damaged):
        folder.mkdir()
        for name in ("recipe.json", "metrics.jsonl"):
            shutil.copy(tiny_run / name, folder)
    recipe = json.loads((better / "recipe.json").read_text())
    (better / "recipe.json").write_text(json.dumps({**recipe, "dropout": 0.35, "text": "0" * 64}))
    rows = [json.loads(line) for line in (better / "metrics.jsonl").read_text().splitlines()]
    rows[0]["validation"] |= {"perplexity": 1.5, "top1": 0.75}
    rows[-1]["seconds"] = 90
    (better / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (cut_off / "metrics.jsonl").write_text('{"step": 1')
    (damaged / "metrics.jsonl").write_text("[]\n")
    foreign.mkdir()
    file = tmp_path / "notes.txt"
    file.write_text("text")

    assert main(["runs", *map(str, (tiny_run, better, cut_off, damaged, foreign, file, tmp_path / "none"))]) == 0
    header, first, second, *others = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["run", "perplexity", "top-1"]
    assert first.split()[:3] == [str(better), "1.50", "75.0%"]
    assert " 1.5  " in first and "dropout 0.35, text 000000" in first and "seed" not in first
    assert second.startswith(str(tiny_run)) and "dropout 0.0, text" in second
    assert "only where `text` is the same" in "\n".join(others)
    assert others[-5:-2] == [f"{cut_off}: no evaluation yet", others[-4], f"{foreign}: no run: it has no recipe.json"]
    assert others[-4].startswith(f"{damaged}: damaged, or of another program: ")
    assert others[-2].startswith(str(file)) and others[-1] == f"{tmp_path / 'none'}: no run: it has no recipe.json"


def test_a_folder_of_runs_stands_for_its_runs(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        shutil.copytree(tiny_run, tmp_path / "runs" / name)
    (tmp_path / "runs" / "notes").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == main(["runs", "runs"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", "runs/a", "runs/b"] * 2


def test_no_run_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 2
    assert capsys.readouterr().out == f"{tmp_path}: no run: it has no recipe.json\n"
