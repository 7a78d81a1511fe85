"""The main process: it starts the HTTP process and the workers, replaces dead workers, and reloads the model.

Only this file depends on LitServe's internals. LitServe starts the worker processes, and runs `LitAPI.setup` and the
loop in them. Its own supervision is not used. That notices a dead worker only after seconds and never notices a dead
HTTP process. It waits for ever for a worker that dies during its start, and leaves its children running after SIGTERM.
"""
from __future__ import annotations

import contextlib
import multiprocessing
import signal
import socket
from collections.abc import Callable, Iterator
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from litserve import LitAPI, LitServer
from litserve.utils import WorkerSetupStatus
from starlette.types import ASGIApp

from nextword.serve.engine.dispatcher import HANGING_WORKER, NEW_WORKER, STOP_SIGNALS, Dispatcher
from nextword.serve.engine.faults import ServiceFailure
from nextword.serve.engine.http_server import HTTPServer, raise_connection_limit
from nextword.serve.engine.links import GENERATIONS
from nextword.serve.engine.readiness import Readiness
from nextword.serve.logs import logger

RELOAD = signal.SIGHUP
START_ATTEMPTS = 5  # starts in a row of a worker that is killed before it is ready


class ReloadableAPI(Protocol):
    """A LitAPI whose loop is a `DrainingLoop`."""

    model: str  # the name in its answers

    def reloaded(self) -> LitAPI:
        """Return the same with the model as it is on disk now. Raises ValueError where it cannot be used."""


class _SetupStatus:
    """LitServe's dictionary of worker states. It sets the shared flags."""

    def __init__(self, readiness: Readiness):
        self._readiness = readiness

    def __setitem__(self, name: str, status: str) -> None:
        self._readiness.set(int(name.rpartition("_")[2]), status == WorkerSetupStatus.READY)


class Supervisor(LitServer):
    """Watches the HTTP process, which is forked and has no torch, and the workers, which are spawned.

    Args:
        api: a `ReloadableAPI` for the workers.
        app: the application of the HTTP process.
        dispatcher: connects the application to the workers.
        readiness: the readiness of the workers.
        workers: the number of workers.
        deadline: the seconds within which each request is answered or refused.
    """

    def __init__(
        self, api: LitAPI, app: ASGIApp, dispatcher: Dispatcher, readiness: Readiness, *, workers: int, deadline: float
    ):
        self._api, self._application, self._dispatcher, self._readiness = api, app, dispatcher, readiness
        self._generation = self._failed_starts = 0
        super().__init__(api, accelerator="cpu", devices=1, workers_per_device=2 * workers, timeout=deadline)
        self.workers_setup_status = _SetupStatus(readiness)
        self.litapi_request_queues[api.api_path] = None
        self.inference_workers: list[BaseProcess] = []
        self._next_api: LitAPI | None = None  # the API of a new model, until all of its workers are ready
        self._next_workers: list[BaseProcess] = []
        self._retired: list[BaseProcess] = []  # workers of an old model, which answer their last questions

    def register_endpoints(self) -> None:
        self.app = self._application

    def _register_middleware(self) -> None:
        """Add no middleware: LitServe's compresses answers. That takes time for all answers and helps very few."""

    def serve(self, listener: socket.socket, signals: socket.socket, announce: Callable[[], None]) -> None:
        """Serve until a stop signal comes. Then answer the requests in flight, and end all processes.

        At RELOAD, new workers load the model that is on disk now. As soon as they are ready, they replace the old ones.
        If they do not get ready, the old workers continue.

        Args:
            listener: a bound socket.
            signals: receives the number of each signal; a signal handler must not raise.
            announce: called once, when the first worker is ready.

        Raises:
            ServiceFailure: a process died and cannot be replaced.
        """
        http = None
        self._http_link, self._dispatcher.supervisor = socket.socketpair()
        try:
            # Start it before signals are blocked, because its start unblocks them.
            resource_tracker.ensure_running()
            with _signals_blocked():
                http = self._start_http(listener)
                for worker_id in self._readiness.serving:
                    self.inference_workers.append(self.launch_single_inference_worker(self._api, worker_id))
            self._supervise(http, signals, announce)
        except ConnectionError as error:
            raise ServiceFailure("the HTTP process ended") from error
        finally:
            self._stop(http)

    def launch_single_inference_worker(self, lit_api: LitAPI, worker_id: int) -> BaseProcess:
        link, self._transport = socket.socketpair()
        with link, self._transport:
            worker = super().launch_single_inference_worker(lit_api, worker_id)
            generation = (self._generation + (lit_api is self._next_api)) % GENERATIONS
            socket.send_fds(self._http_link, [NEW_WORKER.pack(generation, worker.pid)], [link.fileno()])
        return worker

    def _start_http(self, listener: socket.socket) -> BaseProcess:
        def run() -> None:
            signal.set_wakeup_fd(-1)  # signals to this process are not reported to the main process
            self._http_link.close()
            raise_connection_limit()
            HTTPServer(self.app, listener.dup(), round(self.timeout) + 1).run(sockets=[listener])

        process = multiprocessing.get_context("fork").Process(target=run, name="http")
        process.start()
        self._dispatcher.supervisor.close()
        return process

    def _supervise(self, http: BaseProcess, signals: socket.socket, announce: Callable[[], None]) -> None:
        """Replace dead workers, and at RELOAD all workers, until a stop signal or the end of the HTTP process."""
        announced = False
        while True:
            ready = self._readiness.count(self._readiness.serving)
            if ready and not announced:
                announce()
                announced = True
            if self._next_workers and self._readiness.count(self._readiness.next) == len(self._next_workers):
                self._switch_to_next_workers()
            starting = self._next_workers or ready < len(self.inference_workers)
            workers = {worker.sentinel: worker for worker in self._all_workers()}
            sources: list[Any] = [signals, http.sentinel, self._http_link, *workers]
            events = connection.wait(sources, timeout=0.05 if starting else None)
            if signals in events:  # check this first, because a signal to the whole group ends the HTTP process too
                if not set(signals.recv(100)) <= {RELOAD}:
                    return
                self._reload()
                continue
            if http.sentinel in events:
                raise ServiceFailure("the HTTP process ended")
            if self._http_link in events:
                self._kill_hanging_worker(self._http_link.recv(HANGING_WORKER.size))
            for sentinel in workers.keys() & set(events):
                self._worker_ended(workers[sentinel])

    def _all_workers(self) -> list[BaseProcess]:
        return [*self.inference_workers, *self._next_workers, *self._retired]

    def _kill_hanging_worker(self, message: bytes) -> None:
        """Kill the worker that the HTTP process names. `_worker_ended` then replaces it."""
        if not message:
            raise ServiceFailure("the HTTP process ended")
        for worker in self._all_workers():
            if (worker.pid,) == HANGING_WORKER.unpack(message):
                logger.warning("a worker gives no sign of life and is killed")
                worker.kill()

    def _worker_ended(self, worker: BaseProcess) -> None:
        worker.join()
        if worker in self._retired:
            self._retired.remove(worker)
        elif worker in self._next_workers:
            self._replace(worker, self._next_workers, self._readiness.next, self._next_api)
        elif worker in self.inference_workers:
            self._replace(worker, self.inference_workers, self._readiness.serving, self._api)

    def _replace(self, dead: BaseProcess, workers: list[BaseProcess], ids: range, api: LitAPI) -> None:
        place = workers.index(dead)
        self._failed_starts = 0 if self._readiness.is_ready(ids[place]) else self._failed_starts + 1
        if self._failed_starts == START_ATTEMPTS or (self._failed_starts and (dead.exitcode or 0) >= 0):
            if workers is self._next_workers:
                return self._refuse_reload("a worker ended before it was ready")
            raise ServiceFailure("a worker ended before it was ready", exit_code=2 if dead.exitcode == 2 else 1)
        logger.warning("a worker ended with status %s and is replaced", dead.exitcode)
        with _signals_blocked():
            workers[place] = self.launch_single_inference_worker(api, ids[place])

    def _reload(self) -> None:
        if self._next_workers:
            return logger.warning("the model is being reloaded already")
        try:
            self._next_api = self._api.reloaded()
            logger.info("loading %s", self._next_api.model)
            with _signals_blocked():
                for worker_id in self._readiness.next:
                    self._next_workers.append(self.launch_single_inference_worker(self._next_api, worker_id))
        except ValueError as error:
            self._refuse_reload(error)
        except Exception as error:  # nothing that is on disk may end what runs
            self._refuse_reload(f"{type(error).__name__}: {error}")

    def _switch_to_next_workers(self) -> None:
        """Make the new workers the serving ones. The HTTP process now asks them, and ends the old ones."""
        self._retired += self.inference_workers
        self.inference_workers, self._next_workers = self._next_workers, []
        self._api, self._next_api = self._next_api, None
        self._generation += 1
        self._readiness.swap()
        logger.info("serving %s from now on", self._api.model)

    def _refuse_reload(self, reason: object) -> None:
        for worker in self._next_workers:
            worker.kill()
            worker.join()
        self._next_api, self._next_workers, self._failed_starts = None, [], 0
        logger.error("reload refused, %s goes on: %s", self._api.model, reason)

    def _stop(self, http: BaseProcess | None) -> None:
        if http:
            http.terminate()
            http.join(self.timeout + 5)
            http.kill()
            http.join()
        for worker in self._all_workers():  # no request is in flight now
            worker.kill()
            worker.join()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block stop signals and RELOAD. Processes that start in this context keep them blocked.

    A terminal sends these signals to the whole process group; only the main process handles them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS | {RELOAD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
