"""The benchmark's parts: what wrk says, what servers cost, what becomes of them, and the n-grams' arithmetic."""
from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.serving import loading, ngrams, parts, report, text, wanted
from tests.benchmarks.serving.load import Case, Load, LoadError, parse
from tests.benchmarks.serving.measure import Measurement, Texts, measure
from tests.benchmarks.serving.peers import NOTHING, PEERS, SERVICE, Peer
from tests.benchmarks.serving.processes import ServerError, started
from tests.servers import ROOT, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark needs Linux's /proc")
needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")


def peer(name: str) -> Peer:
    return next(each for each in PEERS if each.name == name)


def test_result_is_found_in_what_wrk_says():
    said = """Running 1s test @ http://127.0.0.1:1
  Requests/sec:    199.33
RESULT {"requests": 200, "seconds": 2.0, "p50": 4.5, "p99": 9.75, "refused": 20, "broken": 1}
"""
    load = parse(said)
    assert load == Load(200, 2.0, 4.5, 9.75, 20, 1)
    assert load.rate == 90


@pytest.mark.parametrize(("output", "errors"), [("", "unable to connect to x"), ("unable to connect to x\n", "")])
def test_wrk_that_failed_is_quoted(output, errors):
    with pytest.raises(LoadError, match="unable to connect to x"):
        parse(output, errors)


def test_texts_need_no_escapes_and_openings_differ():
    words = text.words()
    assert len(words) > 10_000
    pieces = text.openings(words, 50, 64)
    assert len(set(pieces)) == 64
    assert {len(piece.split()) for piece in pieces} == {50}
    assert not set(" ".join(words)) & set('"\\\n')


@needs_wrk
def test_service_and_do_nothing_peer_are_measured(tmp_path, tiny_bundle, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    texts = Texts(tmp_path, [5])
    measured, memory, idle = [], {}, {}
    for number, each in enumerate([peer(SERVICE), peer(NOTHING)]):
        with started(each.name, each.command(tiny_bundle, None, tmp_path), tmp_path) as server:
            server.wait_until_ready()
            for case in [Case("typing", 5, 1), Case("typing", 5, 4), Case("unrelated", 5, 1)]:
                if each.takes(case):
                    measured.append(measure(server, case, texts, 1, number))
            memory[each.name], idle[each.name] = server.memory(), 0.0
            leader = server._process.pid
        wait_until(lambda: not _alive(leader), "the end of the group")
    assert len(measured) == 5
    for one in measured:
        assert one.failed == 0 and one.requests > 10, one
        assert 0 < one.p50 <= one.p99 and one.cpu > 0
    assert min(memory.values()) > 20e6
    shown = report.markdown("x", _machine(), [peer(SERVICE), peer(NOTHING)], measured, memory, idle, [])
    assert shown.count("| this service | 5 |") == 2
    assert {verdict.met for verdict in wanted.verdicts(measured, idle)} >= {True, None}


@needs_wrk
def test_wrk_asks_after_each_word_of_a_session(tmp_path):
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
    with started("echo", [sys.executable, "-c", server], tmp_path) as echo:
        echo.wait_until_ready()
        measure(echo, Case("typing", 5, 1), texts, 1, number=3)
    log = (tmp_path / "echo.log").read_text().splitlines()  # with the server's own words when wrk hangs up
    asked = [json.loads(line.removeprefix("asked "))["text"] for line in log if line.startswith("asked ")]
    opening = texts.openings[5][0]
    sessions = asked[asked.index(opening) + 1 :]  # the opening itself is read before the measurement
    sessions = sessions[sessions.index(opening) :]  # wrk throws the very first request away
    assert [len(each.split()) for each in sessions[:22]] == [*range(5, 16)] * 2
    assert all(each.startswith(opening) for each in sessions)
    for before, after in zip(sessions[:10], sessions[1:11]):
        assert after.rpartition(" ")[0] == before
    assert sessions[10] != sessions[21]


def test_what_a_start_costs_is_measured(tiny_bundle, monkeypatch, capsys):
    for name, small in {"STARTS": 1, "PEOPLE": 3, "TYPED": 3, "QUIET": 0}.items():
        monkeypatch.setattr(loading, name, small)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert loading.main(["--bundle", str(tiny_bundle), "--questions", "2"]) == 0
    found = map(float, re.findall(r"([\d.]+) (?:s of|s,|MB)(?= |$)", capsys.readouterr().out))
    passed, used, ready, later, typing, most, quiet = found
    assert 0 < used <= passed * 1.1 < 60 and 50 < ready <= later <= typing <= most < 1000 and 50 < quiet <= most
    assert loading.main(["--bundle", "no-such-folder"]) == 2


def test_server_that_ends_is_reported_with_its_last_words(tmp_path):
    with started("broken", [sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path) as server:
        with pytest.raises(ServerError, match="broken ended; its last words: no such thing"):
            server.wait_until_ready()


def test_servers_end_when_the_benchmark_is_killed(tmp_path):
    program = f"""
import os, pathlib, signal, sys
from tests.benchmarks.serving.processes import started
with started("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], pathlib.Path({str(tmp_path)!r})) as server:
    print(server._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    wait_until(lambda: not _alive(int(done.stdout)), "the end of the group")


def test_verdict_needs_every_load_to_reach_the_figure():
    def one(server: str, words: int, p50: float) -> Measurement:
        return Measurement(server, "typing", words, 1, 1, p50, 10.0, 100.0, 1.0, 0.0, 1000)

    measured = [one(SERVICE, 5, 1.5), one(NOTHING, 5, 1.0), one(SERVICE, 500, 2.5), one(NOTHING, 500, 1.0)]
    first, *_ = wanted.verdicts(measured, {})
    assert first.measured == "1.50 (5 words), 2.50 (500 words)" and first.met is False
    first, *_ = wanted.verdicts(measured[:2], {})
    assert first.met is True


def test_percentiles_of_a_few_lucky_answers_are_not_believed():
    few = Measurement(SERVICE, "typing", 5, 64, 1, p50=10.0, p99=20.0, rate=8.0, cpu=1.0, failed=0.0, requests=16)
    verdict = next(each for each in wanted.verdicts([few], {}) if each.wanted.startswith("p99"))
    assert verdict.measured == "8000.00 (5 words)" and verdict.met is False
    shown = report.markdown("x", _machine(), [peer(SERVICE)], [few], {SERVICE: 1}, {SERVICE: 0.0}, [])
    assert "| this service | 5 | ~8,000 | 8.00 |" in shown


def test_ngram_probabilities_sum_to_one(tmp_path):
    words = "a b a c a b d a b a".split()
    arpa = tmp_path / "model.arpa"
    ngrams.write_arpa(arpa, words)
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed")
    model = kenlm.Model(str(arpa))
    state, after = kenlm.State(), kenlm.State()
    for history in ([], ["a"], ["b", "a"], ["d", "d"], ["a", "b", "d", "a"]):
        model.NullContextWrite(state)
        for word in history:
            model.BaseScore(state, word, after)
            state, after = after, state
        assert math.fsum(10 ** model.BaseScore(state, word, after) for word in [*"abcd", "<unk>"]) == pytest.approx(1, abs=1e-4)
    best = ngrams.NextWords(arpa, words)
    every = {word: logprob for word, logprob in best("a b a", 4)}
    assert list(every) == sorted(every, key=every.get, reverse=True) and set(every) == set("abcd")
    assert best("a b a", 2) == list(every.items())[:2]


def _alive(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


def _machine() -> dict[str, str]:
    return dict.fromkeys(["cpu", "cores", "python", "torch", "litserve", "fastapi", "wrk", "date"], "x")


def test_parts_of_an_answer_are_timed(tiny_bundle, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["parts", "--bundle", str(tiny_bundle), "--together", "1", "3"])
    monkeypatch.setattr(parts, "ROUNDS", 12)
    parts.main()
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| ms a question | 1 at once | 3 at once |"
    figures = {row.split("|")[1].strip(): [float(value) for value in row.split("|")[2:4]] for row in rows}
    *steps, whole = figures.values()
    assert list(figures)[-1] == "all" and all(0 < one for one in whole)
    assert [sum(column) for column in zip(*steps)] == pytest.approx(whole, abs=0.05)
