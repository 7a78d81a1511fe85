"""The documents' examples, run with the bundled model and a real service, give the answers shown.

The files, links and commands in the documents exist.
"""
from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nextword.lm.bundle import ENGLISH
from nextword.lm.command import COMMANDS
from tests.harness.service import Service
from tests.service_fixtures import serving

ROOT = Path(__file__).parent.parent
FOLDERS = ("lm", "serve", "training", "tests")
DOCUMENTS = [*ROOT.glob("*.md"), *sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.md"))]
README = ROOT / "README.md"
WITH_EXAMPLES = (README, ROOT / "serve/README.md", ROOT / "training/README.md")
LONGEST = 150  # lines of the README
SERVED = "127.0.0.1:8000", "localhost:8000"
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def name(document: Path) -> str:
    """Return a document's path in the repository."""
    return str(document.relative_to(ROOT))


def blocks(language: str, documents: Iterable[Path] = WITH_EXAMPLES) -> list[str]:
    """Return the blocks of code in a language."""
    block = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [code for document in documents for code in block.findall(document.read_text(encoding="utf-8"))]


def requests() -> list[tuple[str, str]]:
    """Return each curl command and its answer; functions at the start of a block belong to each of its commands."""
    lines = README.read_text(encoding="utf-8").splitlines()
    examples = [(next(line for line in lines if line.startswith("curl ")), blocks("json", [README])[0])]
    for block in blocks("sh"):
        definitions = "".join(re.findall(r"^\w+\(\) .*\n", block, re.MULTILINE))
        for command, shown in re.findall(r"^((?:curl|ask) .*)\n((?:# .*\n)+)", block, re.MULTILINE):
            examples.append((definitions + command, re.sub("^# ", "", shown, flags=re.MULTILINE)))
    return examples


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of the bundled model, which keeps profiles."""
    folder = tmp_path_factory.mktemp("english")
    with serving(folder, ENGLISH, "--profiles", str(folder / "profiles.sqlite")) as server:
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


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_no_placeholder_is_left(document: Path) -> None:
    assert not re.findall(r"@@\w*@@", document.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_the_files_named_exist(document: Path) -> None:
    """A path in backticks is checked where it begins with a folder of the code, or with one beside the document."""
    text = document.read_text(encoding="utf-8")
    missing = []
    for path, first in re.findall(r"`((\w+)/[\w./-]*)`", text):
        root = ROOT if first in FOLDERS else document.parent
        if first != "runs" and (root / first).is_dir() and not (root / path).exists():
            missing.append(path)
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    """A link is relative to the document's folder; what follows # is a heading."""
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        path, _, heading = link.partition("#")
        target = document.parent / path if path else document
        if not re.match(r"\w+:", link) and not (target.exists() and heading in {"", *headings(target)}):
            missing.append(link)
    assert not missing


def headings(document: Path) -> list[str]:
    """Return a document's headings as links name them."""
    text = document.read_text(encoding="utf-8") if document.suffix == ".md" else ""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_commands_are_those_of_the_package(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.findall(r"python -m (?:nextword|lm|serve|training)\b.*", text)
    assert set(re.findall(r"(?:^|`)nextword ([a-z]\w*)", text, re.MULTILINE)) <= COMMANDS.keys()
    assert set(re.findall(r"(?:^|`)make ([a-z][\w-]*)", text, re.MULTILINE)) <= TARGETS
