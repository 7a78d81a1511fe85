"""What the README shows is true: its examples run, against the bundled model and a real server, and give what it shows."""
from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nextword.lm.bundle import ENGLISH
from tests.servers import serving

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SERVED = "127.0.0.1:8000", "localhost:8000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def requests() -> list[tuple[str, str]]:
    """Each curl command and what it shows; the functions that a block begins with are part of each of its commands."""
    found = [(next(line for line in README.splitlines() if line.startswith("curl ")), blocks("json")[0])]
    for block in blocks("sh"):
        definitions = "".join(re.findall(r"^\w+\(\) .*\n", block, re.MULTILINE))
        for command, shown in re.findall(r"^((?:curl|ask) .*)\n((?:# .*\n)+)", block, re.MULTILINE):
            found.append((definitions + command, re.sub("^# ", "", shown, flags=re.MULTILINE)))
    return found


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("english"), ENGLISH) as server:
        yield server


def here(example: str, server) -> str:
    """An example that asks this server, and waits for it on a busy machine."""
    for address in SERVED:
        example = example.replace(address, server.url.removeprefix("http://"))
    return example.replace("timeout=2.0", "timeout=30.0")


def similar(real, shown) -> bool:
    """Whether JSON is as shown, where keys and the ends of lists may be left out, and numbers are rounded."""
    if isinstance(shown, dict):
        return shown.keys() <= real.keys() and all(similar(real[key], value) for key, value in shown.items())
    if isinstance(shown, list):
        return len(shown) <= len(real) and all(map(similar, real, shown))
    if isinstance(shown, float):
        return real == pytest.approx(shown, rel=0.05)
    return real == shown


def matches(line: str, shown: str) -> bool:
    """Whether a line is as shown, where … stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), line) is not None


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_print_what_is_shown(english, code, capsys):
    exec(compile(here(code, english), "README.md", "exec"), {})  # noqa: S102 - the README is ours
    printed = iter(capsys.readouterr().out.splitlines())
    shown = re.findall(r"^# (.*)$", code, re.MULTILINE)
    assert shown
    for line in shown:
        assert any(real.strip().startswith(line) for real in printed), line


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_requests_get_the_answers_shown(english):
    examples = requests()
    routes = "".join(command for command, _ in examples)
    assert all(route in routes for route in ("next-words", "score", "completions", "models", "ready", "metrics"))
    for command, shown in examples:  # in their order, as the last tells how many there were
        answer = subprocess.run(["bash", "-c", here(command, english)], capture_output=True, check=True, text=True).stdout
        if shown.startswith("{"):
            assert similar(json.loads(answer), json.loads(shown)), f"{command}\n{answer}"
        else:
            lines = iter(answer.splitlines())
            for line in shown.splitlines():
                assert any(matches(real, line) for real in lines), f"{line}\nnot in\n{answer}"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:lm|training|serve|tests)/[\w./]+)`", README))))
def test_the_files_named_exist(path):
    assert (Path(__file__).parent.parent / path).exists()
