"""The HTTP process alone: its processor time for a request, with a worker that answers at once, and bare uvicorn's."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import uvicorn

from nextword.serve.engine.dispatcher import NEW_WORKER, Dispatcher
from nextword.serve.engine.http_server import HTTPServer
from nextword.serve.engine.readiness import Readiness
from nextword.serve.questions import Counts
from nextword.serve.schemas import NextWordsResponse
from nextword.serve.settings import Settings
from nextword.serve.web.app import build_app
from nextword.serve.worker.inbox import Inbox
from tests.benchmarks.serving import text
from tests.benchmarks.serving.load import Case, run_wrk

CONNECTIONS, BATCH, PAUSE = 64, 32, 0.003  # the pause lets requests gather, as behind a model
ANSWER = json.dumps(NextWordsResponse.model_config["json_schema_extra"]["examples"][0]).encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER)), *[(b"x-header", b"1")] * 7]


def service(listener: socket.socket) -> None:
    """Serve as the HTTP process does. A forked process is the worker."""
    readiness = Readiness(1)
    dispatcher = Dispatcher("tiny", readiness, 1, 2.0)
    main, dispatcher.supervisor = socket.socketpair()
    link, transport = socket.socketpair()
    worker = multiprocessing.get_context("fork").Process(target=_answer, args=(transport, link), daemon=True)
    worker.start()
    readiness.set(0, True)
    socket.send_fds(main, [NEW_WORKER.pack(0, worker.pid)], [link.fileno()])
    link.close()
    transport.close()
    HTTPServer(build_app(dispatcher, Settings(), dispatcher.lifespan), listener.dup(), 1).run(sockets=[listener])


def _answer(transport: socket.socket, link: socket.socket) -> None:
    link.close()
    inbox = Inbox(transport, "tiny")
    with contextlib.suppress(EOFError, ConnectionError):  # the HTTP process has ended
        while True:
            batch = inbox.first(BATCH, lambda: None, lambda: False)
            time.sleep(PAUSE)
            inbox.answer([(number, ANSWER) for number in batch], Counts("next_words", len(batch), len(batch), 0, 1))


def bare(listener: socket.socket) -> None:
    """Serve a fixed answer with nothing but uvicorn, and as many headers as the service's answers have."""

    async def app(scope, receive, send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": ANSWER})

    uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")).run(sockets=[listener])


@contextlib.contextmanager
def _running(serve: Callable[[socket.socket], None]) -> Iterator[tuple[psutil.Process, str]]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def run() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the log
        serve(listener)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    try:
        yield psutil.Process(process.pid), f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.terminate()
        process.join()
        listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving.http_process", description=__doc__)
    parser.add_argument("--seconds", type=int, default=2, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    spent: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, _running(service) as one, _running(bare) as other:
        files, content = {words: Path(folder, f"{words}.txt") for words in (5, 500)}, text.words()
        for words, file in files.items():
            text.write(file, text.openings(content, words, CONNECTIONS), content)
        for seed in range(chosen.rounds + 1):
            for (process, url), name in ((one, "the HTTP process"), (other, "bare uvicorn")):
                for words, file in files.items():
                    before = process.cpu_times()
                    load = run_wrk(url, file, Case("typing", words, CONNECTIONS), chosen.seconds, seed)
                    after = process.cpu_times()
                    assert not load.refused and not load.broken
                    took = after.user + after.system - before.user - before.system
                    if seed:  # the first round warms up
                        spent.setdefault((name, words), []).append(1000 * took / load.requests)
    for (name, words), values in spent.items():
        print(f"{name}, behind {words} words: {statistics.median(values):.3f} ms of the processor a request")


if __name__ == "__main__":
    main()
