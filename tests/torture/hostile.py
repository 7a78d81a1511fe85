"""Bundles made to attack, at a reload; bodies that are never finished; names of hosts that mean this machine."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from nextword.lm.bundle import DESCRIPTION, ENGLISH, MODEL, TOKENIZER, write_bundle
from nextword.serve.engine.http_server import HELD_LIMIT
from tests.harness.client import Client, connect
from tests.harness.service import Service
from tests.harness.waiting import wait_until
from tests.torture.promise import Promise, tally
from tests.torture.quiet_service import serving

TERABYTES = b"\x8a\x06" + (10**12).to_bytes(6, "little")  # as a number in a pickle
HOSTS = ("rebound.example", "localhost.example:8000", "", "127.0.0.1.example", "localhost:8000", "[::1]")
BODY = 1_900_000  # bytes


def hostile(bundle: Path | None, folder: Path, bodies: int = 100) -> Iterator[Promise]:
    """Reload bundles made to attack, send bodies without their last byte, and ask under other hosts' names."""
    given = shutil.copytree(bundle or ENGLISH, folder / "bundle")
    with serving(folder, given) as service:
        yield _reload(service, given, folder / "written")
        yield _bodies(service, bodies)
        yield _hosts(service)


def _reload(service: Service, bundle: Path, victim: Path) -> Promise:
    """Put each kind of bad bundle in the place of the running one, and send SIGHUP."""
    whole = {name: (bundle / name).read_bytes() for name in (MODEL, TOKENIZER, DESCRIPTION)}
    write = f'    torch.save(torch.zeros([1]), "{victim}")\n    return None\n'
    models = {
        "a tensor of 4 TB": _changed(whole[MODEL], ".pkl", rb"(?s)(?:J....|M..|K.)tQ", TERABYTES + b"tQ"),
        "a pickle that calls os.system": _changed(whole[MODEL], ".pkl", rb"c__torch__[^\n]*\n[^\n]*", b"cos\nsystem"),
        "no program": b"no program",
    }
    kinds: dict[str, Callable[[], object]] = {
        "a FIFO": lambda: os.mkfifo(bundle / MODEL),
        "a device": lambda: (bundle / MODEL).symlink_to("/dev/zero"),
        "1 GB": lambda: (bundle / MODEL).touch() or os.truncate(bundle / MODEL, 1_000_000_001),
        "a nested description": lambda: (bundle / DESCRIPTION).write_text("[" * 200_000),
        **{kind: lambda model=model: _write(bundle, model, whole[TOKENIZER]) for kind, model in models.items()},
    }
    wrong = []
    for kind, put in kinds.items():
        for name, content in whole.items():
            (bundle / name).unlink(missing_ok=True)
            (bundle / name).write_bytes(content)
        (bundle / (DESCRIPTION if "description" in kind else MODEL)).unlink()
        put()
        if not _answers_after_reload(service, "reload refused"):
            wrong.append(kind)
    _write(bundle, _changed(whole[MODEL], ".py", rb"    return None\n", write.encode()), whole[TOKENIZER])
    if not _answers_after_reload(service, "from now on") or victim.exists():
        wrong.append("a program that writes a file")
    return Promise(
        "No bundle that is there at a reload ends, blocks or misleads the service",
        f"SIGHUP with {', '.join(kinds)}; with a program that writes a file",
        not wrong,
        f"refused, and the old model answers; the weights are taken and the program is not run; not so: "
        f"{', '.join(wrong) or 'none'}",
    )


def _changed(archive: bytes, ending: str, old: bytes, new: bytes) -> bytes:
    """Return an archive whose members with this ending have other bytes in place of a pattern."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, re.sub(old, lambda _: new, content) if name.endswith(ending) else content)
    return made.getvalue()


def _write(bundle: Path, model: bytes, tokenizer: bytes) -> None:
    shutil.rmtree(bundle)
    write_bundle(bundle, model, tokenizer.decode(), {"name": "hostile"})


def _answers_after_reload(service: Service, line: str) -> bool:
    """Send SIGHUP, wait for a line of the log, and tell whether the service answers."""
    before = service.output().count(line)
    service.signal(signal.SIGHUP)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: service.output().count(line) > before, line, 60)
        return service.ask("I went to the").status == 200
    return False


def _bodies(service: Service, count: int) -> Promise:
    """Send bodies without their last byte on many connections, and ask beside them."""
    before = service.memory()
    head = b"POST /v1/next-words HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (BODY + 1)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(service)) for _ in range(count)]
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(head + b" " * BODY)
        answer = service.ask("I went to the")
        with contextlib.suppress(AssertionError):  # the refusals arrive one after another
            wait_until(lambda: _held(connections) <= HELD_LIMIT, "refusals", 10)
        held = _held(connections)
        grown = service.memory() - before
    return Promise(
        "Unfinished bodies have one limit together",
        f"{count} bodies of {BODY / 1e6:g} MB, each without its last byte",
        answer.status == 200 and grown < 150_000_000 and held <= HELD_LIMIT,
        f"memory {grown / 1e6:+.0f} MB; a short request beside them: {answer.outcome}; {held / 1e6:.0f} MB held",
    )


def _held(connections: list[socket.socket]) -> int:
    """Return the bytes of the bodies that are not refused."""
    return BODY * sum(not _is_refused(connection) for connection in connections)


def _is_refused(connection: socket.socket) -> bool:
    """Tell whether there is an answer, or no connection any more."""
    connection.setblocking(False)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _hosts(service: Service) -> Promise:
    """Ask under names that are not this machine's, and under two that are."""
    with Client(service) as client:
        outcomes = [client.ask("GET", "/v1/models", headers={"Host": host}).status for host in HOSTS]
    return Promise(
        "A page whose name was made to mean this machine asks nothing",
        f"the hosts {', '.join(HOSTS)}",
        outcomes == [421] * 4 + [200] * 2,
        tally(outcomes),
    )
