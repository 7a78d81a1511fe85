"""The command `nextword`: what it says without a model, and how quickly it can say so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nextword.lm.command import COMMANDS, main

HEAVY = ("torch", "datasets", "litserve", "matplotlib")


def run_without(packages: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `nextword` in a Python that cannot import these packages."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
        "from nextword.lm.command import main; sys.exit(main())"
    )
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_need_the_standard_library_alone(arguments: list[str]) -> None:
    done = run_without((*HEAVY, "pydantic", "httpx", "numpy"), *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nextword 0." in done.stdout if arguments == ["--version"] else all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", ["predict", "serve", "train", "compare", "publish"])
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    program = (
        f"import sys; from nextword.lm.command import main; status = main([{command!r}, '--help'])\n"
        f"sys.exit(status or [name for name in {HEAVY} if name in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: nextword {command} ")


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [("serve", ("litserve",), "serve"), ("serve", ("limits",), "serve"), ("predict", ("torch",), "serve"),
     ("train", ("datasets",), "train"), ("evaluate", ("tqdm",), "train")],
)  # fmt: skip
def test_a_missing_extra_is_named_in_one_line(command: str, missing: tuple[str, ...], extra: str) -> None:
    done = run_without(missing, command)
    assert done.returncode == 2
    assert done.stderr == (f"nextword {command}: the package {missing[0]} is not installed; "
                           f"install it with pip install 'nextword[{extra}]'\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nextword: a command is missing: predict, serve, train, "),
        (["version"], "nextword: there is no command version; did you mean --version?"),
        (["pedict"], "nextword: there is no command pedict; did you mean predict?"),
        (["--verson"], "nextword: there is no option --verson; did you mean --version?"),
        (["predict", "--bundel=x", "--", "--k"], "nextword predict: there is no option --bundel; did you mean"),
        (["predict", "-k", "0"], "nextword predict: -k is 0; it must be at least 1"),
        (["serve", "--prot", "1"], "nextword serve: there is no option --prot; did you mean --port?"),
        (["train", "--epoch", "3"], "nextword train: there is no option --epoch; did you mean --epochs?"),
        (["evaluate"], "nextword evaluate: the following arguments are required: --corpus"),
        (["publish", "no-such-bundle", "x"], "nextword publish: no bundle at no-such-bundle"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


def test_predict_reads_standard_input_or_the_words_of_the_command(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "nextword.lm", "predict", "-k", "1", "--bundle", str(tiny_bundle)]
    done = subprocess.run(command, input=b"Thank you very\n", capture_output=True)
    assert (done.returncode, done.stdout.split()[:1], done.stderr) == (0, [b"much"], b"")
    done = subprocess.run([*command, "Thank", "you", "very"], capture_output=True)
    assert (done.returncode, done.stdout.split()[:1], done.stderr) == (0, [b"much"], b"")
    refused = subprocess.run(command, input=b"caf\xe9", capture_output=True)
    assert refused.returncode == 2 and refused.stderr.startswith(b"nextword predict: standard input is not UTF-8")


def test_the_folder_of_a_run_is_answered_with_that_of_its_bundle(tiny_bundle: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--bundle", str(tiny_bundle.parent), "Thank you"]) == 2
    assert capsys.readouterr().err.endswith(f"it has no bundle.json; did you mean {tiny_bundle}?\n")
