"""`nextword predict` without a text, at a pseudo-terminal."""
import itertools
import os
import select
import subprocess
import sys

import pytest

from nextword.lm.terminal import LEARNS, converse
from tests.service_fixtures import PATIENCE
from tests.word_cases import TYPED

pty = pytest.importorskip("pty")


@pytest.fixture
def terminal(tiny_bundle):
    """Types a line (or what ends the input) and returns what comes until the next prompt (or the end)."""
    user, side = pty.openpty()
    command = [sys.executable, "-m", "nextword.lm", "predict", "-k", "2", "--bundle", str(tiny_bundle)]
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, start_new_session=True)
    os.close(side)

    def type(keys: str = "") -> tuple[list[str], int | None]:
        os.write(user, keys.encode())
        shown = ""
        try:
            while not shown.endswith("> "):
                assert select.select([user], [], [], PATIENCE)[0], f"nothing more comes after {shown!r}"
                shown += os.read(user, 4096).decode()
        except OSError:  # Linux's way to say that the other side is closed
            return shown.splitlines(), process.wait(timeout=PATIENCE)
        return [line for line in shown.splitlines() if line.startswith("  ")], None

    yield type
    os.close(user)
    process.kill()
    process.wait()


def test_lines_are_answered_until_the_end(terminal, tiny_model):
    def row(sign: str, text: str, partial: str = "") -> str:
        words = tiny_model.next_words(text, 2, partial=partial)
        return f"  {sign} " + "   ".join(f"{word.word} {word.probability:.1%}" for word in words)

    terminal()
    rows, _ = terminal("I went to the st\n")
    assert rows == [row("…", "I went to the ", "st"), row("→", "I went to the st")]
    assert "store" in rows[0] and "station" in rows[0]
    assert terminal("I went to the \n")[0] == [row("→", "I went to the ")]
    assert terminal("xyzzy\n")[0] == ["  … no such word", row("→", "xyzzy")]
    assert terminal("\n")[0] == [row("→", "")]
    assert terminal("\x04")[1] == 0


def test_the_unfinished_word_of_a_line_is_found_in_every_script(monkeypatch, capsys):
    lines = iter([text + partial for text, partial in TYPED])
    monkeypatch.setattr("builtins.input", lambda _: next(lines, None) or _end())
    asked = []
    converse(lambda *question: asked.append(question) or ())
    expected = [[(text, partial)] * bool(partial) + [(text + partial, "")] for text, partial in TYPED]
    assert asked == list(itertools.chain(*expected))


def test_lines_that_do_not_end_within_a_word_are_learned(monkeypatch, capsys):
    lines = iter(["We met Zofia.", "We met Zof", " ", "I went to "])
    monkeypatch.setattr("builtins.input", lambda _: next(lines, None) or _end())
    learned = []
    converse(lambda *_: (), learned.append)
    assert learned == ["We met Zofia.", "I went to "] and LEARNS in capsys.readouterr().out


def _end() -> str:
    raise EOFError
