"""`make` on a fresh machine: what it says, what it installs, what it keeps.

A script stands in for Python, so that nothing is installed; it notes how it is called.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/sh
echo "$@" >>calls
case "$*" in
*python_version*) echo {version} ;;
*ensurepip*) {venv} ;;
"-m venv "*) mkdir .venv/bin && cp "$0" .venv/bin/python && touch .venv/pyvenv.cfg ;;
"-m pip "*) {pip} ;;
esac
"""

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


class Checkout:
    """A folder with the project's make files and a stand-in for Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            (folder / name).symlink_to(ROOT / name)
        self.python()

    def python(self, version: str = "3.12.1", venv: str = "true", pip: str = "true") -> None:
        for script in (self.folder / "python3", self.folder / ".venv/bin/python"):
            if script.parent.exists():
                script.write_text(PYTHON.format(version=version, venv=venv, pip=pip))
                script.chmod(0o755)

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "calls").write_text("")
        environment = {"PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C", **variables}
        return subprocess.run(
            ["make", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60
        )

    def calls(self, start: str) -> list[str]:
        return [call for call in (self.folder / "calls").read_text().splitlines() if call.startswith(start)]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder = tmp_path / "a folder"
    folder.mkdir()
    return Checkout(folder)


def test_alone_it_lists_the_targets(checkout: Checkout) -> None:
    done = checkout.make()
    assert done.returncode == 0
    assert all(f"make {target} " in done.stdout for target in ("serve", "test", "train"))
    assert not (checkout.folder / ".venv").exists()


@pytest.mark.parametrize("target", ["serve", "test", "train"])
@pytest.mark.parametrize(
    ("python", "words"),
    [
        ({"version": "2.7.18"}, ["Python 2.7.18", "3.10 to 3.13", "PYTHON="]),
        ({"version": "3.9.18"}, ["Python 3.9.18", "3.10 to 3.13", "PYTHON="]),
        ({"version": "3.14.0rc1"}, ["Python 3.14.0rc1", "3.10 to 3.13", "PYTHON="]),
        ({"venv": "exit 1"}, ["venv", "apt install"]),
    ],
)
def test_unusable_python_is_named_in_one_line(
    checkout: Checkout, target: str, python: dict[str, str], words: list[str]
) -> None:
    checkout.python(**python)
    done = checkout.make(target)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not (checkout.folder / ".venv").exists()


def test_missing_python_is_named_in_one_line(checkout: Checkout) -> None:
    done = checkout.make("serve", "PYTHON=python3.99")
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "python3.99 is not found, and Python 3.10 to 3.13 is needed" in done.stderr


def test_second_run_installs_nothing_and_hands_values_on_whole(checkout: Checkout) -> None:
    assert checkout.make("serve").returncode == 0
    assert checkout.calls("-m pip")[-1].endswith("-c constraints.txt --no-build-isolation -e .[serve]")
    done = checkout.make("serve", "PORT=0", "BUNDLE=it's a $x", "ARGS=--extra 1")
    assert (done.stdout, done.stderr) == ("", "")
    assert not checkout.calls("-m pip")
    assert checkout.calls("-m nextword") == ["-m nextword.lm serve --port 0 --bundle it's a $x --extra 1"]


def test_what_is_not_asked_for_is_left_to_the_other_settings(checkout: Checkout) -> None:
    assert checkout.make("serve", HOST="a-machine's-name").returncode == 0
    assert checkout.calls("-m nextword") == ["-m nextword.lm serve"]
    assert checkout.make("serve", "HOST=::1").returncode == 0
    assert checkout.calls("-m nextword") == ["-m nextword.lm serve --host ::1"]


def test_the_tests_setup_serves_and_trains_too(checkout: Checkout) -> None:
    for target in ("test", "serve", "train"):
        assert checkout.make(target).returncode == 0
        assert bool(checkout.calls("-m pip")) == (target == "test")


def test_all_tests_run_side_by_side_and_some_as_asked(checkout: Checkout) -> None:
    assert checkout.make("test").returncode == 0
    assert checkout.calls("-m pytest") == ["-m pytest -n 2 --dist worksteal"]
    assert checkout.make("test", "ARGS=-k 'a client'").returncode == 0
    assert checkout.calls("-m pytest") == ["-m pytest -k a client"]


def test_torch_alone_comes_from_the_index_that_is_named(checkout: Checkout) -> None:
    checkout.make("serve", "TORCH_INDEX=https://torch.example/cpu")
    torch, *others = checkout.calls("-m pip")
    assert "--no-deps --index-url https://torch.example/cpu torch" in torch
    assert others and not any("torch" in call for call in others)


def test_without_network_it_says_so_and_keeps_what_is_there(checkout: Checkout) -> None:
    checkout.python(pip="echo 'WARNING: Retrying after connection broken by x'; exit 1")
    done = checkout.make("train")
    assert done.returncode != 0
    assert "index cannot be reached" in done.stderr.splitlines()[0]
    checkout.python()
    assert checkout.make("train").returncode == 0
    assert not checkout.calls("-m venv") and checkout.calls("-m nextword.lm train")


@pytest.mark.parametrize("damage", ["cut off", "python removed"])
def test_half_an_installation_is_made_again(checkout: Checkout, damage: str) -> None:
    if damage == "cut off":
        checkout.python(pip="echo Installing collected packages; kill -9 $PPID")
        assert checkout.make("serve").returncode != 0
        checkout.python()
    else:
        assert checkout.make("serve").returncode == 0
        (checkout.folder / ".venv/bin/python").unlink()
    assert checkout.make("serve").returncode == 0
    assert checkout.calls("-m venv") and checkout.calls("-m nextword.lm serve")


def test_bundle_trains_on_all_corpora_and_publishes(checkout: Checkout) -> None:
    refused = checkout.make("bundle")
    assert refused.returncode == 2 and "CORPORA=" in refused.stderr and not checkout.calls("-m nextword")
    assert checkout.make("bundle", "CORPORA=my corpora").returncode == 0
    training, publishing = checkout.calls("-m nextword")
    assert training.startswith(
        "-m nextword.lm train --recipe english --out runs/english --corpus my corpora/chat-english*1.3,"
    )
    assert training.endswith(",my corpora/tatoeba-english*4") and training.count("my corpora/") == 7
    assert publishing == "-m nextword.lm publish runs/english/bundle lm/bundles/english"


def test_bundle_trains_the_recipe_that_is_named(checkout: Checkout) -> None:
    refused = checkout.make("bundle", "CORPORA=texts", "RECIPE=french")
    assert refused.returncode == 2 and "RECIPE=english" in refused.stderr and not checkout.calls("-m nextword")
    (checkout.folder / "runs" / "english-0.1").mkdir(parents=True)  # else it is taken from the history
    assert checkout.make("bundle", "CORPORA=texts", "RECIPE=english-cpu").returncode == 0
    training, publishing = checkout.calls("-m nextword")
    assert training.startswith("-m nextword.lm train --recipe english-cpu --out runs/english-cpu --corpus texts/chat-")
    assert publishing == "-m nextword.lm publish runs/english-cpu/bundle lm/bundles/english"
