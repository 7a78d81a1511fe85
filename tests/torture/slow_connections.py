"""Connections that send nothing, or byte by byte, or read nothing: they are closed, and others do not wait for them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from tests.harness.client import Answer, Client, connect, next_words
from tests.harness.service import Service
from tests.harness.waiting import wait_until
from tests.torture.promise import Promise, percentile
from tests.torture.quiet_service import serving

CLOSED = 15.0  # seconds until a request that is not whole is given up; the service's own limit is 10
HEAD = b"POST /v1/next-words HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
FIRST = b'{"text": ""}'
KINDS: dict[str, tuple[bytes, bytes]] = {  # bytes sent at first, and bytes sent once a second then
    "nothing": (b"", b""),
    "headers byte by byte": (HEAD, b"X"),
    "a body byte by byte": (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
    "a body in chunks of a byte": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "trailers byte by byte": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X"),
    "a second request's headers byte by byte": (
        HEAD + b"Content-Length: %d\r\n\r\n" % len(FIRST) + FIRST + b"POST / HTTP/1.1\r\n",
        b"X",
    ),
}


def slow_connections(bundle: Path | None, folder: Path, each: int = 100) -> Iterator[Promise]:
    """Open so many connections of each kind at once, and ask beside them."""
    with serving(folder, bundle) as service:
        files = service.http().num_fds()
        yield _hold(service, each)
        yield _endless_headers(service, "header", HEAD)
        yield _endless_headers(service, "trailer", HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
        yield _no_reader(service, min(each, 20), files)


def _hold(service: Service, each: int) -> Promise:
    """Send byte by byte on many connections until the service has closed them all."""
    held: dict[socket.socket, str] = {}
    for kind, (first, _) in KINDS.items():
        for _ in range(each):
            connection = connect(service)
            connection.sendall(first)
            connection.setblocking(False)
            held[connection] = kind
    start = time.monotonic()
    closed: list[float] = []
    answers: list[Answer] = []
    with Client(service) as client:
        while held and time.monotonic() < start + CLOSED + 5:
            answers.append(client.ask(*next_words()))
            time.sleep(max(0, 1 - answers[-1].seconds))
            for connection in [one for one in held if _is_closed(one, KINDS[held[one]][1])]:
                held.pop(connection)
                connection.close()
                closed.append(time.monotonic() - start)
    slow = percentile([answer.seconds for answer in answers], 1.0)
    left = sorted(set(held.values()))
    for connection in held:
        connection.close()
    return Promise(
        "Slow and half-open connections are given up, and others do not wait for them",
        f"{each} connections each that send: {', '.join(KINDS)}",
        not left and max(closed) <= CLOSED and all(answer.status == 200 for answer in answers) and slow < 1,
        f"closed after {min(closed, default=0):.0f} to {max(closed, default=0):.0f} s; "
        f"left open: {', '.join(left) or 'none'}; "
        f"{len(answers)} requests beside them, the slowest {slow * 1000:.0f} ms",
    )


def _is_closed(connection: socket.socket, piece: bytes) -> bool:
    """Read what there is. Send the piece and return False, or return True where the other side has closed."""
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        with contextlib.suppress(OSError):
            connection.send(piece)
        return False
    except OSError:
        pass
    return True


def _endless_headers(service: Service, kind: str, begin: bytes) -> Promise:
    """Send a header or trailer without an end, as fast as the service reads."""
    before, sent, start = service.memory(), 0, time.monotonic()
    line = b"X-Endless: " + b"y" * 60_000
    with connect(service, timeout=5) as connection, contextlib.suppress(OSError):
        connection.sendall(begin + b"X-First: ")
        while sent < 200_000_000 and time.monotonic() - start < 20:
            connection.sendall(line)
            sent += len(line)
    grown = service.memory() - before
    return Promise(
        "Headers have a limit",
        f"one {kind} of up to 200 MB",
        sent < 20_000_000 and grown < 20_000_000,
        f"cut off after {sent / 1e6:.1f} MB; memory {grown / 1e6:+.0f} MB",
    )


def _no_reader(service: Service, connections: int, files: int) -> Promise:
    """Ask for large answers, again and again, and read none of them."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    held, start = [], time.monotonic()
    for _ in range(connections):
        connection = connect(service)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            for _ in range(500):
                connection.send(request)
        held.append(connection)
    wait_until(lambda: service.http().num_fds() >= files + connections // 2, "all connections")

    def closed() -> bool:
        return service.http().num_fds() <= files + 2

    while not closed() and time.monotonic() - start < 60:
        time.sleep(1)
    seconds, kept = time.monotonic() - start, closed()
    for connection in held:
        connection.close()
    return Promise(
        "A client that does not read the answers does not hold a connection for ever",
        f"{connections} connections that ask for 500 documents each and read none",
        kept,
        f"closed after {seconds:.0f} s" if kept else "not closed after 60 s",
    )
