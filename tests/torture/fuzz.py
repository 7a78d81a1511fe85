"""Random and hostile input: no answer is a 5xx, nothing hangs, no process dies, the log has no fault."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from tests.harness.client import Answer, Client, connect, next_words
from tests.harness.service import Service
from tests.torture.promise import Promise
from tests.torture.quiet_service import serving

# A long deadline, as deadlines are not tested here.
OPTIONS = ("--deadline", "30")
Outcomes: TypeAlias = "Counter[int | str]"  # the number of answers by status, or by what was wrong
PROMISE = "No input is answered with 5xx, hangs, or kills a process"
SAMPLES: list[tuple[str, dict]] = [
    ("/v1/next-words", {"text": "I went to the", "k": 3, "partial": "st", "exclude": ["store"], "punctuation": True}),
    ("/v1/next-words", {"text": ["I went", "Thank you"], "history": "We met Zorbulon.", "max_words": 3}),
    ("/v1/next-words", {"text": "I went", "partial": "quikc", "typos": True, "layout": {"k": [0, 0], "c": [1, 0.5]}}),
    ("/v1/next-letters", {"text": "I went to the", "partial": "st", "history": "We met Zorbulon."}),
    ("/v1/score", {"text": "I went to the store.\nThank you!"}),
    ("/v1/completions", {"prompt": "I went to", "max_tokens": 2, "temperature": 0.5, "top_p": 0.9, "n": 2,
                         "stop": ["."],                         "logprobs": 2, "echo": True, "seed": 1}),
    ("/v1/completions", {"prompt": ["Thank you", ""], "max_tokens": 1, "stream": True}),
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 5, 2.5, -0.0, 1e-320, 1e308, 10**30, -(10**400), float("nan"), float("inf"),
    float("-inf"), "", " ", "\0", "\ud800", "\udfff\ud800", "x" * 101, "the", [], [[]], [None], [""], ["a"] * 40, {},
    {"text": "a"}, [0, 1, 2], "\u202e\u2066", "e\u0301" * 50, "\r\n\t\v\f\x1c\u2028\u2029", "<|endoftext|>",
    "<unk>", "<eos>",
]  # fmt: skip
FIELDS = ["text", "prompt", "k", "model", "best_of", "logit_bias", "suffix", "__proto__", "", "\0", "\ud800"]
# Schemathesis's own list lacks 413.
REFUSALS = "[checks]\nnegative_data_rejection.expected-statuses = [400, 404, 405, 413, 415, 422]\n"
PATHS = [
    "/", "/docs", "/health", "/ready", "/metrics", "/openapi.json", "/v1/models", "/v1/models/x", "/page/page.js",
    "//", "/%00",
    "/page/../../../../etc/passwd", "/page/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/docs/assets/..%2f..%2f..%2fetc/passwd",
    "/v1/models/%ff%fe", "/v1/models/" + "a" * 60_000, "/v1/next-words?text=" + "%41" * 10_000, "/v1/next-words/", "*",
]  # fmt: skip


def fuzz(bundle: Path | None, folder: Path, inputs: int = 50_000, clients: int = 4) -> Iterator[Promise]:
    """Send so many inputs of all kinds, drawn at random but the same each time."""
    with serving(folder, bundle, *OPTIONS) as service:
        before = {process.pid for process in service.group()}
        with ThreadPoolExecutor(clients) as pool:
            shares = [pool.submit(_send, service, random.Random(n), inputs // clients) for n in range(clients)]
            counts: Outcomes = sum((share.result() for share in shares), Counter())
        counts += _send_largest(service)
        yield _result(
            service,
            before,
            counts,
            f"{counts.total():,} inputs: bodies cut, flipped and spliced; wrong and "
            "missing fields; every Unicode plane; broken HTTP; depth 100,000, 20 MB strings, 1,000,000 words",
        )


def _result(service: Service, before: set[int], counts: Outcomes, attack: str) -> Promise:
    faults = {str(kind): count for kind, count in counts.items() if not (isinstance(kind, int) and 200 <= kind < 500)}
    faults.pop("closed", None)  # broken HTTP may be answered so
    log = service.faults()
    same = {process.pid for process in service.group()} == before
    with Client(service) as client:
        fine = client.ask(*next_words()).status == 200
    figures = ", ".join(f"{count:,} × {kind}" for kind, count in sorted(counts.items(), key=str))
    return Promise(
        PROMISE,
        attack,
        not faults and not log and same and fine,
        f"{figures}; the same processes {'run' if same else 'do not run'}; {len(log)} faults in the log",
    )


def _send(service: Service, draw: random.Random, inputs: int) -> Outcomes:
    counts: Outcomes = Counter()
    with Client(service, timeout=60) as client:
        for _ in range(inputs):
            if draw.random() < 0.15:
                counts[_exchange(service, _broken_http(draw))] += 1
                continue
            kind = draw.choices((_mutated, _structured, _unicode, _encoded), (35, 25, 20, 5))[0]
            path, body, headers = kind(draw)
            answer = client.ask("POST", path, body, headers)
            counts[_checked(answer)] += 1
    return counts


def _checked(answer: Answer) -> int | str:
    """Return the status, or what is wrong with the answer."""
    if answer.status >= 400 and answer.status != 499:
        try:
            if not answer.json["error"]["message"]:
                return f"{answer.status} without a message"
        except (ValueError, KeyError, TypeError):
            return f"{answer.status} in another shape"
    return answer.outcome


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _mutated(draw: random.Random) -> tuple[str, bytes, dict]:
    """Return a path, headers and a good body with some bytes changed, cut out, doubled or taken from elsewhere."""
    path, sample = draw.choice(SAMPLES)
    return path, _spoilt(draw, _json(sample)), {}


def _spoilt(draw: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(data) + 1)
        end = min(len(data), place + draw.randint(1, 8))
        piece = draw.choice([
            draw.randbytes(draw.randint(1, 4)), data[end - 8 : end], b"", b'"', b"\\", b"\\u", b"\\ud83d", b"[" * 20,
            b"{", b"}", b"NaN", b"-", b"1e999", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"null", b",", b":",
            b"9" * 30,
        ])  # fmt: skip
        data[place:end] = piece
    return bytes(data)


def _structured(draw: random.Random) -> tuple[str, bytes, dict]:
    """Return JSON whose fields have values of any kind, are missing, or are unknown."""
    path, sample = draw.choice(SAMPLES)
    fields = {name: value for name, value in sample.items() if draw.random() > 0.1}
    for _ in range(draw.randint(1, 3)):
        name = draw.choice([*sample, *FIELDS]) if draw.random() > 0.2 else draw.choice(list(sample))
        value = draw.choice(VALUES)
        fields[name] = [value, draw.choice(VALUES)] if draw.random() < 0.15 else value
    body = draw.choice(VALUES) if draw.random() < 0.03 else fields
    return path, _json(body), {}


def _unicode(draw: random.Random) -> tuple[str, bytes, dict]:
    """Return texts of characters from any of the 17 planes, surrogates too, as they are or escaped."""
    path, sample = draw.choice(SAMPLES)
    plane = draw.randrange(17)

    def character() -> str:
        return chr(plane * 0x10000 + draw.randrange(0x10000)) if draw.random() < 0.7 else draw.choice(" a.\n\u0301'\0")

    text = "".join(character() for _ in range(draw.randint(1, 200)))
    name = draw.choice([name for name, value in sample.items() if isinstance(value, (str, list))])
    value = [text] if isinstance(sample[name], list) else text
    body = json.dumps({**sample, name: value}, ensure_ascii=draw.random() < 0.5)
    return path, body.encode("utf-8", "surrogatepass"), {}


def _encoded(draw: random.Random) -> tuple[str, bytes, dict]:
    """Return good JSON in another encoding, or under headers that do not fit it."""
    path, sample = draw.choice(SAMPLES)
    body = json.dumps(sample).encode(
        draw.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-7", "cp500"])
    )
    name = draw.choice(
        ["content-type", "content-encoding", "accept", "authorization", "x-request-id", "cookie", "origin"]
    )
    value = draw.choice(["text/plain", "application/json; charset=utf-16", "gzip", "multipart/form-data", "é",
                         "a" * 5000, "application/x-www-form-urlencoded", "*/*;q=x", "Bearer ", "..", ";;=",
                         "application/json;" * 99])  # fmt: skip
    return path, body, {name: value}


def _broken_http(draw: random.Random) -> bytes:
    """Return the bytes of a request whose HTTP is wrong or unusual."""
    path, sample = draw.choice(SAMPLES)
    body = _json(sample)
    lines = [f"{draw.choice(['POST', 'GET', 'PUT', 'HEAD', 'OPTIONS', 'DELETE', 'BREW', 'CONNECT', 'TRACE'])} "
             f"{draw.choice([path, draw.choice(PATHS)])} "
             f"HTTP/{draw.choice(['1.1', '1.1', '1.0', '0.9', '2.0', '9.9', 'x'])}",
             "Host: localhost", "Content-Type: application/json"]  # fmt: skip
    lines += draw.sample([
        f"Content-Length: {len(body)}", f"Content-Length: {len(body) + 9}", "Content-Length: -1", "Content-Length: +5",
        "Content-Length: 9" + "9" * 30, "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: x", "Expect: 100-continue", "Upgrade: websocket\r\nConnection: Upgrade",
        "Connection: close", "X: " + "y" * 30_000, "\r\n".join(f"X{n}: y" for n in range(500)), "Host: b",
        " folded: x", "Bad\0Name: x", "NoColon", "Range: bytes=5-1,-,x", "If-Modified-Since: yesterday",
        "X-Forwarded-For: ' OR 1=1", "Accept-Encoding: \xff",
    ], draw.randint(0, 3))  # fmt: skip
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    chunked = (
        b"".join(b"%x\r\n%s\r\n" % (len(body[n : n + 7]), body[n : n + 7]) for n in range(0, len(body), 7))
        + b"0\r\n\r\n"
    )
    content = draw.choice([body, body, chunked, b"fffffffffffffffff\r\n" + body, b""])
    request = (head + content) * draw.choice([1, 1, 1, 10])
    if draw.random() < 0.4:
        return _spoilt(draw, request)
    return draw.randbytes(draw.randint(1, 2000)) if draw.random() < 0.05 else request


def _exchange(service: Service, request: bytes) -> int | str:
    """Send the bytes and nothing more. Return the highest status that comes, or a fault."""
    try:
        with connect(service, timeout=60) as connection:
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            except OSError:  # closed before all was sent; there may be an answer for all that
                pass
            received = b""
            while piece := connection.recv(65536):
                received = (received + piece)[:1_000_000]
    except TimeoutError:
        return "hangs"
    except OSError:
        return "closed"
    if b"root:x:0:0" in received:
        return "/etc/passwd in an answer"
    found = re.match(rb"HTTP/1\.1 (\d{3})", received)
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", received)]
    return max(statuses) if found else "closed"


def _send_largest(service: Service) -> Outcomes:
    """Send bodies that are huge, each in another way."""
    bodies: list[tuple[str, bytes]] = []
    for path, field in (("/v1/next-words", "text"), ("/v1/score", "text"), ("/v1/completions", "prompt")):
        for value in (
            b'"' + b"x" * 20_000_000 + b'"',
            b'"' + b"word " * 1_000_000 + b'"',
            b"[" * 100_000 + b"]" * 100_000,
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            b"9" * 1_000_000,
            b"1e" + b"9" * 100_000,
            b"[" + b'"",' * 600_000 + b'""]',
            b'"' + b"\\u0000" * 100_000 + b'"',
            b'"' + b"x" * 100_000 + b'"',
            b'"' + "\U0001f600".encode() * 100_000 + b'"',
            b'"' + b"a " * 50_000 + b'"',
            b" " * 1_900_000,
        ):
            bodies.append((path, b'{"%s": %s}' % (field.encode(), value)))
        bodies.append((path, b"{" + b",".join(b'"f%d": 1' % n for n in range(100_000)) + b"}"))
        bodies.append((path, b'{"' + b"k" * 1_900_000 + b'": 1}'))
        bodies.append((path, b"[" * 100_000))
    counts: Outcomes = Counter()
    for path, body in bodies:
        with Client(service, timeout=60) as client:
            answer = client.ask("POST", path, body)
            # A body refused before all of it was sent may be cut off before the answer is read.
            counts["closed" if len(body) > 2_000_000 and not answer.status else _checked(answer)] += 1
    return counts


def schemathesis(bundle: Path | None, folder: Path, examples: int = 100) -> Iterator[Promise]:
    """Have Schemathesis read the service's OpenAPI document and look for requests that contradict it."""
    promise = "Nothing contradicts the API's own description"
    attack = f"Schemathesis against the live OpenAPI document, up to {examples} examples an operation and phase"
    with serving(folder, bundle, *OPTIONS, "--profiles", str(folder / "profiles.sqlite")) as service:
        before = {process.pid for process in service.group()}
        (folder / "schemathesis.toml").write_text(REFUSALS)
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"http://{service.host}:{service.port}/openapi.json",
        ]
        command += ["--max-examples", str(examples), "--seed", "1", "--no-color", "--generation-database", "none",
                    "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
                    "response_schema_conformance,positive_data_acceptance,negative_data_rejection"]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if "No module named" in done.stderr:
            yield Promise(promise, attack, None, "Schemathesis is not installed")
            return
        same = {process.pid for process in service.group()} == before
        (folder / "schemathesis.log").write_text(done.stdout + done.stderr)
        cases = re.search(r"(\d+) generated.*", done.stdout)
        last = done.stdout.strip().splitlines()[-1].strip("= ")
    failures = "" if done.returncode == 0 else f" {_failures(done.stdout)}"
    yield Promise(promise, attack, done.returncode == 0 and same,
                  f"{cases[0] if cases else 'no count'}; {last}{failures}")  # fmt: skip


def _failures(report: str) -> str:
    return "; ".join(sorted(set(re.findall(r"^- (.*)$", report, re.MULTILINE))))
