"""What the README shows is true: its examples run, against the bundled model and a real server."""
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lm.bundle import ENGLISH
from tests.servers import serving

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SERVED = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("english"), ENGLISH) as server:
        yield server


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run(english, code):
    code = code.replace(SERVED, english.url).replace("timeout=2.0", "timeout=30.0")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - the README is ours


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_the_first_curl_gets_the_answer_shown(english):
    command = next(line for line in README.splitlines() if line.startswith("curl "))
    command = command.replace("localhost:8000", english.url.removeprefix("http://"))
    answer = json.loads(subprocess.run(command, shell=True, capture_output=True, check=True, text=True).stdout)
    shown = json.loads(blocks("json")[0])
    assert answer["model"] == shown["model"]
    for ours, theirs in zip(answer["words"], shown["words"]):
        assert ours["word"] == theirs["word"] and ours["probability"] == pytest.approx(theirs["probability"], rel=0.05)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:lm|training|serve|tests)/[\w./]+)`", README))))
def test_the_files_named_exist(path):
    assert (Path(__file__).parent.parent / path).exists()
