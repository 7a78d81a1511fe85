"""The examples of the README, run with the bundled model and a real service, give the answers that it shows."""
from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nextword.lm.bundle import ENGLISH
from tests.harness.service import Service
from tests.servers import serving

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SERVED = "127.0.0.1:8000", "localhost:8000"


def blocks(language: str) -> list[str]:
    """Return the README's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def requests() -> list[tuple[str, str]]:
    """Return each curl command and its answer; functions at the start of a block belong to each of its commands."""
    examples = [(next(line for line in README.splitlines() if line.startswith("curl ")), blocks("json")[0])]
    for block in blocks("sh"):
        definitions = "".join(re.findall(r"^\w+\(\) .*\n", block, re.MULTILINE))
        for command, shown in re.findall(r"^((?:curl|ask) .*)\n((?:# .*\n)+)", block, re.MULTILINE):
            examples.append((definitions + command, re.sub("^# ", "", shown, flags=re.MULTILINE)))
    return examples


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of the bundled model."""
    with serving(tmp_path_factory.mktemp("english"), ENGLISH) as server:
        yield server


def here(example: str, server: Service) -> str:
    """Return an example that asks this service, and waits for it on a busy machine."""
    for address in SERVED:
        example = example.replace(address, server.url.removeprefix("http://"))
    return example.replace("timeout=2.0", "timeout=30.0")


def similar(real: Any, shown: Any) -> bool:
    """Tell whether JSON is as shown; keys and the ends of lists may be left out, and numbers are rounded."""
    if isinstance(shown, dict):
        return shown.keys() <= real.keys() and all(similar(real[key], value) for key, value in shown.items())
    if isinstance(shown, list):
        return len(shown) <= len(real) and all(map(similar, real, shown))
    if isinstance(shown, float):
        return real == pytest.approx(shown, rel=0.05)
    return real == shown


def matches(line: str, shown: str) -> bool:
    """Tell whether a line is as shown, where … stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), line) is not None


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_print_what_is_shown(english: Service, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(here(code, english), "README.md", "exec"), {})
    printed = iter(capsys.readouterr().out.splitlines())
    shown = re.findall(r"^# (.*)$", code, re.MULTILINE)
    assert shown
    for line in shown:
        assert any(real.strip().startswith(line) for real in printed), line


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_requests_get_the_answers_shown(english: Service) -> None:
    examples = requests()
    routes = "".join(command for command, _ in examples)
    assert all(route in routes for route in ("next-words", "score", "completions", "models", "ready", "metrics"))
    for command, shown in examples:  # in their order, as the last tells how many there were
        run = ["bash", "-c", here(command, english)]
        answer = subprocess.run(run, capture_output=True, check=True, text=True).stdout
        if shown.startswith("{"):
            assert similar(json.loads(answer), json.loads(shown)), f"{command}\n{answer}"
        else:
            lines = iter(answer.splitlines())
            for line in shown.splitlines():
                assert any(matches(real, line) for real in lines), f"{line}\nnot in\n{answer}"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:lm|training|serve|tests)/[\w./]+)`", README))))
def test_the_files_named_exist(path: str) -> None:
    assert (Path(__file__).parent.parent / path).exists()
