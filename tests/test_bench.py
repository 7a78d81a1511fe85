"""The benchmark of serving: wrk's results, the costs of servers, the table, and the n-grams' arithmetic."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.serving import loading, ngrams, parts, report, text
from tests.benchmarks.serving.load import Case, Load, LoadError, parse
from tests.benchmarks.serving.measure import Measurement, Texts, measure
from tests.benchmarks.serving.peers import NOTHING, PEERS, SERVICE, Peer
from tests.harness import ROOT
from tests.harness.any_server import running
from tests.harness.program import ProgramError
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark needs Linux's /proc")
needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
MACHINE = {"processor": "a processor", "cores": "2", "date": "2026-11-24"}


def peer(name: str) -> Peer:
    return next(each for each in PEERS if each.name == name)


def test_the_result_is_found_in_the_output_of_wrk() -> None:
    output = """Running 1s test @ http://127.0.0.1:1
  Requests/sec:    199.33
RESULT {"requests": 200, "seconds": 2.0, "p50": 4.5, "p99": 9.75, "refused": 20, "broken": 1}
"""
    load = parse(output)
    assert load == Load(200, 2.0, 4.5, 9.75, 20, 1)
    assert load.rate == 90


@pytest.mark.parametrize(("output", "errors"), [("", "unable to connect to x"), ("unable to connect to x\n", "")])
def test_wrk_that_failed_is_quoted(output: str, errors: str) -> None:
    with pytest.raises(LoadError, match="unable to connect to x"):
        parse(output, errors)


def test_texts_need_no_escapes_and_openings_differ() -> None:
    words = text.words()
    assert len(words) > 10_000
    pieces = text.openings(words, 50, 64)
    assert len(set(pieces)) == 64
    assert {len(piece.split()) for piece in pieces} == {50}
    assert not set(" ".join(words)) & set('"\\\n')


@needs_wrk
def test_service_and_do_nothing_peer_are_measured(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> None:
    folder = tmp_path_factory.mktemp("bench")
    texts = Texts(folder, [5])
    measured, memory, idle = [], {}, {}
    for number, each in enumerate([peer(SERVICE), peer(NOTHING)]):
        with running(each.name, each.command(tiny_bundle, None, folder), folder / each.name) as server:
            server.wait_until_ready()
            for case in [Case("typing", 5, 1), Case("letters", 5, 2)]:
                if each.takes(case):
                    measured.append(measure(server, case, texts, 1, number))
            memory[each.name], idle[each.name] = server.memory(), 0.0
    assert [(one.server, one.kind) for one in measured] == [
        (SERVICE, "typing"), (SERVICE, "letters"), (NOTHING, "typing")]
    for one in measured:
        assert one.failed == 0 and one.requests > 10, one
        assert 0 < one.p50 <= one.p99 and one.cpu > 0
    assert min(memory.values()) > 20e6
    table = report.markdown("x", MACHINE, [peer(SERVICE), peer(NOTHING)], measured, memory, idle, [])
    assert table.count("| this service | 5 |") == 2 and "`x` on a processor, cores 2, 2026-11-24;" in table
    assert "| p50 at 1, to LitServe's doing nothing |" in table


@needs_wrk
def test_wrk_asks_after_each_word_or_letter_of_a_session(tmp_path: Path) -> None:
    server = """
import http.server, sys
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        print("asked", body.decode(), file=sys.stderr, flush=True)
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[-1])), Echo).serve_forever()
"""
    texts = Texts(tmp_path, [5])
    with running("echo", [sys.executable, "-c", server], tmp_path / "echo") as echo:
        echo.wait_until_ready()
        measure(echo, Case("typing", 5, 1), texts, 1, number=3)
        words = echo.output().splitlines()  # with the server's own words when wrk hangs up
        measure(echo, Case("letters", 5, 1), texts, 1, number=3)
        letters = echo.output().splitlines()[len(words) :]
    asked, by_letter = ([json.loads(line.removeprefix("asked ")) for line in log if line.startswith("asked ")]
                        for log in (words, letters))
    for before, after in zip(by_letter[2:], by_letter[3:200]):
        partial = after.get("partial", "")
        if partial:
            assert after["text"] == before["text"] and partial[:-1] == before.get("partial", "")
        elif after["text"] != texts.openings[5][0]:  # the next word, or another session
            text, _, word = after["text"].rpartition(" ")
            assert text == before["text"] and word.startswith(before.get("partial", ""))
    asked = [question["text"] for question in asked]
    opening = texts.openings[5][0]
    sessions = asked[asked.index(opening) + 1 :]  # the opening itself is read before the measurement
    sessions = sessions[sessions.index(opening) :]  # wrk throws the very first request away
    assert [len(each.split()) for each in sessions[:22]] == [*range(5, 16)] * 2
    assert all(each.startswith(opening) for each in sessions)
    for before, after in zip(sessions[:10], sessions[1:11]):
        assert after.rpartition(" ")[0] == before
    assert sessions[10] != sessions[21]


def test_the_cost_of_a_start_is_measured(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, small in {"STARTS": 1, "PEOPLE": 3, "TYPED": 3, "QUIET": 0}.items():
        monkeypatch.setattr(loading, name, small)
    assert loading.main(["--bundle", str(tiny_bundle), "--questions", "2"]) == 0
    first, *table = capsys.readouterr().out.splitlines()
    passed, used = map(float, re.findall(r"([\d.]+) s", first))
    ready, later, typing, most, quiet = (float(row.split("|")[2]) for row in table[3:])
    assert 0 < used <= passed * 1.1 < 60 and 50 < ready <= later <= typing <= most < 1000 and 50 < quiet <= most
    assert loading.main(["--bundle", "no-such-folder"]) == 2


def test_server_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with running("broken", [sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path) as server:
        with pytest.raises(ProgramError, match="broken ended with status 1; its last words: no such thing"):
            server.wait_until_ready()


def test_servers_end_when_the_one_that_started_them_is_killed(tmp_path: Path) -> None:
    program = f"""
import os, pathlib, signal, sys
from tests.harness.any_server import running
sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
with running("sleeper", sleeping, pathlib.Path({str(tmp_path)!r})) as server:
    print(server.process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    pid = int(done.stdout)
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "its end")


def typing(server: str, words: int, p50: float, round: int = 1, requests: int = 1000) -> Measurement:
    return Measurement(server, "typing", words, 1, round, p50, 10.0, 100.0, 1.0, 0.0, requests)


def test_ratios_are_medians_of_those_within_a_round() -> None:
    measured = [
        *(typing(SERVICE, 5, p50, round) for round, p50 in enumerate([3.0, 2.0, 8.0])),
        *(typing(NOTHING, 5, p50, round) for round, p50 in enumerate([1.0, 1.0, 2.0])),
        typing(SERVICE, 500, 6.0),
    ]
    ratios = report.ratios(measured)
    assert ratios["p50 at 1, to LitServe's doing nothing"] == {5: 3.0}
    assert ratios["p50 at 1, to that behind 5 words"] == {500: 3.0}
    assert not any("Transformer" in name for name in ratios)


def test_percentiles_of_a_few_lucky_answers_are_not_shown() -> None:
    few = Measurement(SERVICE, "typing", 5, 64, 1, p50=10.0, p99=20.0, rate=8.0, cpu=1.0, failed=0.0, requests=16)
    table = report.markdown("x", MACHINE, [peer(SERVICE)], [few], {SERVICE: 1}, {SERVICE: 0.0}, [])
    assert "| this service | 5 | ~8,000 | 8.00 |" in table


def test_ngram_probabilities_sum_to_one(tmp_path: Path) -> None:
    words = "a b a c a b d a b a".split()
    arpa = tmp_path / "model.arpa"
    ngrams.write_arpa(arpa, words)
    pytest.importorskip("kenlm", reason="kenlm is not installed")
    best = ngrams.NextWords(arpa, words)
    for history in ([], ["a"], ["b", "a"], ["d", "d"], ["a", "b", "d", "a"]):
        probabilities = map(math.exp, best.log_probs(history, [*"abcd", "<unk>"]))
        assert math.fsum(probabilities) == pytest.approx(1, abs=1e-4)
    every = dict(best("a b a", 4))
    assert list(every.values()) == sorted(every.values(), reverse=True) and set(every) == set("abcd")
    assert best("a b a", 2) == list(every.items())[:2]


def test_parts_of_an_answer_are_timed(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["parts", "--bundle", str(tiny_bundle), "--together", "1", "3"])
    monkeypatch.setattr(parts, "ROUNDS", 12)
    parts.main()
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| ms a question | 1, memory touched | 1 at once | 3 at once |"
    cells = [[cell.strip() for cell in row.split("|")[1:5]] for row in rows]
    figures = {name: [float(value) for value in values if value] for name, *values in cells}
    steps, whole = list(figures.values())[:-4], figures["all"]
    assert list(figures)[-4:] == ["all", "a letter more", "5 words, never read", "500 words, never read"]
    assert all(value > 0 for row in figures.values() for value in row)
    assert list(map(len, figures.values()))[-3:] == [2, 2, 1]
    assert [sum(column) for column in zip(*steps)] == pytest.approx(whole, abs=0.05)
