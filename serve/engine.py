"""The parts of LitServe that are leaned on or replaced; no other module knows its inner side.

LitServe gives the queues, the worker processes and the way back of an answer. Replaced
are the loop in the workers, the waiting of a request and the supervision of the
processes, each for the reason its class gives.

The processes: the main one only watches; one speaks HTTP (forked, without torch);
`workers` compute (spawned); one holds the queues.
"""
from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import connection, resource_tracker
from queue import Empty
from typing import Any

import uvicorn
from fastapi import FastAPI
from litserve import LitAPI, LitServer
from litserve.loops.base import LitLoop
from litserve.utils import LitAPIStatus, LoopResponseType, ResponseBufferItem, WorkerSetupStatus

SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Unavailable(Exception):
    """No worker can take the request now."""


class DeadlinePassed(Exception):
    """No answer came in time."""


class WorkerFault(Exception):
    """The worker failed at this one request; its log says how."""


class ServiceFailure(Exception):
    """The service cannot go on. `exit_code` is what the program should end with."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


class DrainingLoop(LitLoop):
    """Takes the first request when it comes, and with it all that wait behind it.

    LitServe's batching spins while idle, or makes a lone request wait for company.
    Here `predict` gets a list of requests and yields, in any order, the place of each
    and its result, which may be an exception, so that one bad request does not fail
    its batch. Each result goes out as it comes.
    """

    def __call__(self, lit_api, device, worker_id, request_queue, transport, workers_setup_status, callback_runner):
        with contextlib.suppress(EOFError, ConnectionError):  # the queues are gone: the service has ended
            while True:
                batch = self._take(request_queue, lit_api.max_batch_size, lit_api.request_timeout)
                if batch:
                    self._answer(lit_api, batch, transport)

    @staticmethod
    def _take(queue, most: int, deadline: float) -> list[tuple]:
        """Returns up to `most` requests that are not too late already."""
        taken = []
        with contextlib.suppress(Empty):
            # Finite, because a worker killed while it waits loses what comes within this time.
            taken.append(queue.get(timeout=1.0))
            while len(taken) < most:
                taken.append(queue.get_nowait())
        return [item for item in taken if time.monotonic() - item[2] < deadline]

    @staticmethod
    def _answer(lit_api: LitAPI, batch: list[tuple], transport) -> None:
        for place, result in lit_api.predict([request for *_, request in batch]):
            consumer, uid, *_ = batch[place]
            failed = isinstance(result, Exception)
            status = LitAPIStatus.ERROR if failed else LitAPIStatus.OK
            message = (None if failed else result, status, LoopResponseType.REGULAR, None)
            transport.send((uid, message), consumer_id=consumer)


class Engine(LitServer):
    """LitServe's server with routes, waiting and supervision of its own.

    `LitServer.run` notices a dead worker after seconds and a dead HTTP process never,
    waits for ever for a worker that dies while it starts, leaves its children behind
    on SIGTERM, and its requests have no deadline; so `serve` and `ask` stand in for it.

    Args:
        api: computes in the workers; its loop must be a `DrainingLoop`.
        build_app: makes the FastAPI application, given this engine.
        workers: how many processes compute.
        deadline: seconds in which each request is answered or refused.
        most_waiting: how many requests may wait at once.
    """

    def __init__(
        self,
        api: LitAPI,
        build_app: Callable[[Engine], FastAPI],
        *,
        workers: int = 1,
        deadline: float = 2.0,
        most_waiting: int = 1000,
    ):
        self._build_app = build_app
        self._api = api
        self._most_waiting = most_waiting
        self._ready_workers = multiprocessing.RawValue("i", 0)  # written by the main process, read by the HTTP one
        self.inference_workers = []
        super().__init__(api, accelerator="cpu", devices=1, workers_per_device=workers, timeout=deadline)

    def register_endpoints(self) -> None:
        self.app = self._build_app(self)
        self.app.response_queue_id = 0

    # In the HTTP process

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI):
        # From here on uvicorn handles these; any that came while the process started are delivered now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        async with super().lifespan(app):
            yield

    @property
    def ready_workers(self) -> int:
        return self._ready_workers.value

    @property
    def waiting(self) -> int:
        """How many requests have no result yet."""
        return len(self.response_buffer)

    def unavailable(self) -> str | None:
        """Returns why no request would be taken now."""
        if not self.ready_workers:
            return "the model is being loaded"
        return "too many requests are waiting" if self.waiting >= self._most_waiting else None

    async def ask(self, request: Any) -> Any:
        """Has a worker answer a request (anything that pickles) and returns its result.

        Raises:
            Unavailable: no worker is ready, or too many requests wait.
            DeadlinePassed: no result came in time.
            WorkerFault: the worker failed at it.
        """
        if reason := self.unavailable():
            raise Unavailable(reason)
        item = ResponseBufferItem(asyncio.Event())
        uid = uuid.uuid4().hex
        self.response_buffer[uid] = item
        timer = asyncio.get_running_loop().call_later(self.timeout, item.event.set)
        try:
            self._get_request_queue(self._api.api_path).put((0, uid, time.monotonic(), request))
            await item.event.wait()
        finally:
            timer.cancel()
            del self.response_buffer[uid]
        if item.response is None:
            raise DeadlinePassed
        result, status = item.response
        if status != LitAPIStatus.OK:
            raise WorkerFault
        return result

    # In the main process

    def serve(self, listener: socket.socket, stop: socket.socket, announce: Callable[[], None]) -> None:
        """Serves until told to stop; then answers what is in flight, and leaves no process behind.

        Args:
            listener: a bound socket.
            stop: becomes readable when it is time to stop; a signal handler must not raise.
            announce: called once, when the first worker is ready.

        Raises:
            ServiceFailure: a process died that cannot be replaced.
        """
        manager = http = None
        try:
            # Its start would unblock the signals in the middle of ours.
            resource_tracker.ensure_running()
            with _signals_blocked():
                manager = self._init_manager(1)
                http = self._start_http(listener)
                self.inference_workers = self.launch_inference_worker(self._api)
            self._watch({http.sentinel: "HTTP", manager._process.sentinel: "queue"}, stop, announce)
        except (EOFError, ConnectionError) as error:
            raise ServiceFailure("the queue process ended") from error
        finally:
            self._stop(manager, http)

    def _start_http(self, listener: socket.socket) -> multiprocessing.Process:
        config = uvicorn.Config(
            self.app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=round(self.timeout) + 1,
        )

        def run() -> None:
            signal.set_wakeup_fd(-1)  # signals to this process are not for the main one
            _HTTPServer(config, listener.dup()).run(sockets=[listener])

        process = multiprocessing.get_context("fork").Process(target=run, name="http")
        process.start()
        return process

    def _watch(self, vital: dict[int, str], stop: socket.socket, announce: Callable[[], None]) -> None:
        """Counts the ready workers and replaces dead ones, until `stop` or the end of a vital process."""
        announced = False
        while True:
            ready = self._count_ready_workers()
            if ready and not announced:
                announce()
                announced = True
            workers = [worker.sentinel for worker in self.inference_workers]
            starting = ready < len(workers)
            events = connection.wait([stop, *vital, *workers], timeout=0.05 if starting else None)
            if stop in events:  # first, as a signal to the whole group ends the HTTP process too
                return
            for event in events:
                if event in vital:
                    raise ServiceFailure(f"the {vital[event]} process ended")
                self._replace_worker(workers.index(event))

    def _count_ready_workers(self) -> int:
        ready = list(self.workers_setup_status.values()).count(WorkerSetupStatus.READY)
        self._ready_workers.value = ready
        return ready

    def _replace_worker(self, worker_id: int) -> None:
        dead = self.inference_workers[worker_id]
        dead.join()
        status = list(self.workers_setup_status.values())[worker_id]
        if status != WorkerSetupStatus.READY:
            raise ServiceFailure("a worker ended before it was ready", exit_code=2 if dead.exitcode == 2 else 1)
        with _signals_blocked():
            self.inference_workers[worker_id] = self.launch_single_inference_worker(self._api, worker_id)

    def _stop(self, manager, http) -> None:
        if http:
            http.terminate()
            http.join(self.timeout + 5)
            http.kill()
            http.join()
        for worker in self.inference_workers:  # nothing is in flight any more
            worker.kill()
            worker.join()
        if manager:
            manager.shutdown()


class _HTTPServer(uvicorn.Server):
    """Refuses new connections as soon as it stops; without this, the copies of the listening
    socket in the other processes would go on taking them, for nobody to answer.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket):
        super().__init__(config)
        self._listener = listener

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._listener.shutdown(socket.SHUT_RDWR)
        await super().shutdown(sockets)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started within are immune to SIGINT and SIGTERM, also when sent to the whole group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
