"""The wheel: what is in it, and that it serves from any folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.service_fixtures import PATIENCE, ROOT, wait_until

FOLDERS = ("lm", "serve", "training")
NOT_INSTALLED = ("serve/deploy/", "serve/page.png")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources with the setuptools that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip(Path(sys.executable), "wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "source"))
    return next(folder.glob("nextword-*.whl"))


def pip(python: Path, command: str, *arguments: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    subprocess.run([str(python), "-m", "pip", command, *quiet, *arguments], check=True, capture_output=True)


def test_everything_is_in_the_wheel(wheel: Path) -> None:
    """A package that is missing in pyproject.toml shows here."""
    files = {str(path.relative_to(ROOT)) for name in FOLDERS for path in (ROOT / name).rglob("*") if path.is_file()}
    files = {file for file in files if "__pycache__" not in file and not file.startswith(NOT_INSTALLED)}
    with zipfile.ZipFile(wheel) as archive:
        installed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert installed == {f"nextword/{file}" for file in files if not file.endswith(".md") or "bundles" in file}


def test_an_installed_service_runs_in_any_folder(wheel: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    [packages] = (tmp_path / "venv").glob("lib/python*/site-packages")
    # The dependencies. An editable installation of the project is not among them: *.pth files there are not read.
    (packages / "environment.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    pip(tmp_path / "venv/bin/python", "install", "--ignore-installed", "--no-compile", str(wheel))
    place = [str(tmp_path / "venv/bin/python"), "-c", "import nextword.lm; print(nextword.lm.__file__)"]
    assert subprocess.run(place, capture_output=True, text=True).stdout.startswith(str(packages))
    for name in (*FOLDERS, "tests"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "__init__.py").write_text(f"raise ImportError('{name} is of the working folder')")
    command = [str(tmp_path / "venv/bin/nextword"), "serve", "--bundle", str(tiny_bundle), "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (tmp_path / "log").open("w") as log:
        service = subprocess.Popen(command, cwd=tmp_path / "work", env=environment, stdout=log, stderr=log,
                                   start_new_session=True)  # fmt: skip
    try:
        url = wait_until(lambda: announced(service, tmp_path / "log"), "the line that says where it serves")
        wait_until(lambda: httpx.get(f"{url}/health", timeout=PATIENCE).status_code == 200, "health")
        answer = httpx.post(f"{url}/v1/next-words", json={"text": "Thank you very", "k": 1}, timeout=PATIENCE)
        assert answer.json()["words"][0]["word"] == "much"
        service.terminate()
        assert service.wait(PATIENCE) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(service.pid, signal.SIGKILL)
            service.wait()


def announced(service: subprocess.Popen[bytes], log: Path) -> str | None:
    assert service.poll() is None, f"ended with {service.returncode}: {log.read_text()}"
    line = re.search(r"^Serving .* on (\S+)$", log.read_text(), re.MULTILINE)
    return line and line[1]
