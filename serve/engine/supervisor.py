"""The parts of LitServe that are leaned on or replaced; no other module knows its inner side.

LitServe gives the worker processes and what they run. Replaced are the loop in the workers,
the way of a request to them and back, and the supervision of the processes, each for the
reason its class gives.

The processes: the main one only watches; one speaks HTTP (forked, without torch);
`workers` compute (spawned).
"""
from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import pickle
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection, resource_tracker
from typing import Any

import uvicorn
from fastapi import FastAPI
from litserve import LitAPI, LitServer
from litserve.loops.base import LitLoop
from litserve.utils import WorkerSetupStatus

from nextword.serve.engine.http_server import Connection, HTTPServer, allow_many
from nextword.serve.engine.client_presence import client_has_left, waited
from nextword.serve.engine.links import GENERATIONS, Inbox, Lost, Questions
from nextword.serve.logs import logger
from nextword.serve.engine.admission import Pace
from nextword.serve.engine.liveness import EVERY

SIGNALS = {signal.SIGINT, signal.SIGTERM}
RELOAD = signal.SIGHUP
STARTS = 5  # of a worker that is killed each time before it is ready
WORKER = struct.Struct("=BI")  # a worker is introduced to the HTTP process by its generation and process
SILENT = struct.Struct("=I")  # and one that gives no sign of life is named to the main process
LOOK = 0.1  # seconds after which it is looked, again and again, whether a client still waits


class Unavailable(Exception):
    """No worker can take the request now."""


class DeadlinePassed(Exception):
    """No answer came in time."""


class WorkerFault(Exception):
    """The worker failed at this one request; its log says how."""


class ClientGone(Exception):
    """Nobody waits for the answer."""


class ServiceFailure(Exception):
    """The service cannot go on. `exit_code` is what the program should end with."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


class DrainingLoop(LitLoop):
    """Takes the first request when it comes, and with it all that wait behind it.

    LitServe's batching spins while idle, or makes a lone request wait for company, and its queues
    cost more than a model's answer. Here the API says by `groups` which of the requests it would
    answer together, in which order; `predict` gets one group and returns for each request its
    answer as bytes, or an exception, so that one bad request does not fail those beside it. `idle`
    is called about once a second while there is nothing to answer.
    """

    def __call__(self, lit_api, device, worker_id, request_queue, transport, workers_setup_status, callback_runner):
        with contextlib.suppress(EOFError, ConnectionError):  # the HTTP process has ended
            inbox = Inbox(transport, lit_api.model)
            while True:
                first = inbox.first(lit_api.max_batch_size, lit_api.idle)
                batch = {number: pickle.loads(content) for number, content in first.items()}
                self._answer(lit_api, batch, inbox)

    @staticmethod
    def _answer(lit_api: LitAPI, batch: dict[int, Any], inbox: Inbox) -> None:
        numbers = list(batch)
        for group in lit_api.groups(list(batch.values())):
            inbox.update()
            wanted = [numbers[place] for place in group if numbers[place] in inbox]
            if wanted:
                results = lit_api.predict([batch[number] for number in wanted])
                inbox.answer((number, b"" if isinstance(result, Exception) else result)
                             for number, result in zip(wanted, results))


class _Readiness:
    """Which workers are ready, for all processes to see; a worker writes it as LitServe has it do.

    There is place for as many again, with other ids: those that are to take over with a new bundle.
    """

    def __init__(self, workers: int):
        context = multiprocessing.get_context("spawn")
        self._ready, self._first = context.RawArray("b", 2 * workers), context.RawValue("i", 0)
        self._workers = workers

    def __setitem__(self, name: str, status: str) -> None:
        self._ready[int(name.rpartition("_")[2])] = status == WorkerSetupStatus.READY

    def __getitem__(self, worker_id: int) -> bool:
        return bool(self._ready[worker_id])

    @property
    def present(self) -> range:
        """The ids of those that are asked."""
        return range(self._first.value, self._first.value + self._workers)

    @property
    def coming(self) -> range:
        first = self._workers - self._first.value
        return range(first, first + self._workers)

    def take_over(self) -> None:
        self._first.value = self.coming.start

    def count(self, ids: range) -> int:
        return sum(self._ready[ids.start : ids.stop])


class Engine(LitServer):
    """LitServe's server with routes, waiting and supervision of its own.

    `LitServer.run` notices a dead worker after seconds and a dead HTTP process never,
    waits for ever for a worker that dies while it starts, leaves its children behind
    on SIGTERM, and its requests have no deadline and go through a process that only holds
    queues; so `serve` and `ask` stand in for it.

    Args:
        api: computes in the workers; its loop must be a `DrainingLoop`, `model` names what it answers with,
            and `renewed()` gives one with the model as it is on disk now, or raises ValueError.
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
        self._questions, self._pace = Questions(api.model, workers), Pace()
        self._failed_starts = self._generation = 0
        self.inference_workers = []
        self._next_api, self._coming = None, []  # a new model, and its workers until all of them are ready
        self._retired: list[multiprocessing.Process] = []  # those of an old one, which answer what they have
        super().__init__(api, accelerator="cpu", devices=1, workers_per_device=2 * workers, timeout=deadline)
        self.workers_setup_status = _Readiness(workers)
        self.litapi_request_queues[api.api_path] = None

    def register_endpoints(self) -> None:
        self.app = self._build_app(self)

    def _register_middleware(self) -> None:
        """None: LitServe's compresses answers, which costs all of them time and is worth it for next to none."""

    # In the HTTP process

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI):
        # From here on uvicorn handles these; any that came while the process started are delivered now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._workers_come.fileno(), self._connect_worker)
        watching = loop.create_task(self._watch_workers())
        yield
        watching.cancel()

    async def _watch_workers(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            for process in self._questions.silent():
                self._workers_come.send(SILENT.pack(process))

    def _connect_worker(self) -> None:
        sent, sockets, *_ = socket.recv_fds(self._workers_come, WORKER.size, 1)
        if not sent:  # the main process has ended
            asyncio.get_running_loop().remove_reader(self._workers_come.fileno())
            signal.raise_signal(signal.SIGTERM)
        for number in sockets:
            connecting = self._questions.connect(socket.socket(fileno=number), *WORKER.unpack(sent))
            self._connecting = asyncio.ensure_future(connecting)

    @property
    def model(self) -> str:
        """The name of what answers now."""
        return self._questions.model

    @property
    def ready_workers(self) -> int:
        return self.workers_setup_status.count(self.workers_setup_status.present)

    @property
    def waiting(self) -> int:
        """How many requests have no result yet."""
        return len(self._questions)

    def unavailable(self) -> str | None:
        """Returns why no request would be taken now."""
        if not self.ready_workers:
            return "the model is being loaded"
        too_many = self.waiting >= min(self._most_waiting, self._pace.room(self.timeout))
        return "too many requests are waiting" if too_many else None

    async def ask(self, request: Any) -> bytes:
        """Has a worker answer a request (anything that pickles) and returns its result.

        Raises:
            Unavailable: no worker is ready, or too many requests wait.
            DeadlinePassed: no result came in time.
            WorkerFault: the worker failed at it.
            ClientGone: whoever asked left before the result came.
        """
        if reason := self.unavailable():
            raise Unavailable(reason)
        if (left := self.timeout - waited()) <= 0:
            raise DeadlinePassed
        number, answer = self._questions.ask(pickle.dumps(request))
        asked = time.monotonic()
        self._pace.waits(self.waiting)
        loop = asyncio.get_running_loop()
        watch: list[asyncio.Task] = []
        timer = loop.call_later(min(LOOK, left), lambda: watch.append(loop.create_task(self._watch(answer, left - LOOK))))
        try:
            result = await answer
            self._pace.answered(time.monotonic() - asked)
            return result
        except Lost as error:
            raise WorkerFault from error
        finally:
            timer.cancel()
            for task in watch:
                task.cancel()
            self._questions.close(number)
            self._pace.waits(self.waiting)

    async def _watch(self, answer: asyncio.Future, seconds: float) -> None:
        """Ends the waiting for an answer when it is of no use any more, at the latest after `seconds`."""
        end = time.monotonic() + seconds
        while not await client_has_left():
            if (left := end - time.monotonic()) <= 0:
                return answer.done() or answer.set_exception(DeadlinePassed())
            await asyncio.sleep(min(LOOK, left))
        answer.done() or answer.set_exception(ClientGone())

    # In the main process

    def serve(self, listener: socket.socket, stop: socket.socket, announce: Callable[[], None]) -> None:
        """Serves until told to stop; then answers what is in flight, and leaves no process behind.

        At RELOAD the workers are replaced by new ones, with the model as it is on disk now, as soon as those are
        ready. Where they do not get ready, the old ones go on.

        Args:
            listener: a bound socket.
            stop: brings the numbers of signals; a signal handler must not raise.
            announce: called once, when the first worker is ready.

        Raises:
            ServiceFailure: a process died that cannot be replaced.
        """
        http = None
        self._workers_go, self._workers_come = socket.socketpair()
        try:
            # Its start would unblock the signals in the middle of ours.
            resource_tracker.ensure_running()
            with _signals_blocked():
                http = self._start_http(listener)
                for worker_id in self.workers_setup_status.present:
                    self.inference_workers.append(self.launch_single_inference_worker(self._api, worker_id))
            self._supervise(http, stop, announce)
        except ConnectionError as error:
            raise ServiceFailure("the HTTP process ended") from error
        finally:
            self._stop(http)

    def launch_single_inference_worker(self, lit_api: LitAPI, worker_id: int) -> multiprocessing.Process:
        link, self._transport = socket.socketpair()
        with link, self._transport:
            worker = super().launch_single_inference_worker(lit_api, worker_id)
            generation = self._generation + (lit_api is self._next_api)
            socket.send_fds(self._workers_go, [WORKER.pack(generation % GENERATIONS, worker.pid)], [link.fileno()])
        return worker

    def _start_http(self, listener: socket.socket) -> multiprocessing.Process:
        config = uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            http=Connection,
            timeout_graceful_shutdown=round(self.timeout) + 1,
        )

        def run() -> None:
            signal.set_wakeup_fd(-1)  # signals to this process are not for the main one
            self._workers_go.close()
            allow_many()
            HTTPServer(config, listener.dup()).run(sockets=[listener])

        process = multiprocessing.get_context("fork").Process(target=run, name="http")
        process.start()
        self._workers_come.close()
        return process

    def _supervise(self, http: multiprocessing.Process, stop: socket.socket, announce: Callable[[], None]) -> None:
        """Replaces dead workers, and all of them at RELOAD, until another signal or the end of the HTTP process."""
        announced = False
        while True:
            ready = self.ready_workers
            if ready and not announced:
                announce()
                announced = True
            if self._coming and self.workers_setup_status.count(self.workers_setup_status.coming) == len(self._coming):
                self._take_over()
            starting = self._coming or ready < len(self.inference_workers)
            processes = {process.sentinel: process for process in self._workers()}
            events = connection.wait([stop, http.sentinel, self._workers_go, *processes], timeout=0.05 if starting else None)
            if stop in events:  # first, as a signal to the whole group ends the HTTP process too
                if not set(stop.recv(100)) <= {RELOAD}:
                    return
                self._begin_reload()
                continue
            if http.sentinel in events:
                raise ServiceFailure("the HTTP process ended")
            if self._workers_go in events:
                self._end_silent(self._workers_go.recv(SILENT.size))
            for event in processes.keys() & set(events):
                self._bury(processes[event])

    def _workers(self) -> list[multiprocessing.Process]:
        return [*self.inference_workers, *self._coming, *self._retired]

    def _end_silent(self, named: bytes) -> None:
        """Kills a worker that the HTTP process has named. It is then replaced like any that has ended."""
        if not named:
            raise ServiceFailure("the HTTP process ended")
        for worker in self._workers():
            if (worker.pid,) == SILENT.unpack(named):
                logger.warning("a worker gives no sign of life and is killed")
                worker.kill()

    def _bury(self, dead: multiprocessing.Process) -> None:
        """Deals with a worker that has ended."""
        dead.join()
        if dead in self._retired:
            self._retired.remove(dead)
        elif dead in self._coming:
            self._replace(dead, self._coming, self.workers_setup_status.coming, self._next_api)
        elif dead in self.inference_workers:
            self._replace(dead, self.inference_workers, self.workers_setup_status.present, self._api)

    def _replace(self, dead: multiprocessing.Process, workers: list, ids: range, api: LitAPI) -> None:
        place = workers.index(dead)
        self._failed_starts = 0 if self.workers_setup_status[ids[place]] else self._failed_starts + 1
        if self._failed_starts == STARTS or self._failed_starts and dead.exitcode >= 0:
            if workers is self._coming:
                return self._refuse_reload("a worker ended before it was ready")
            raise ServiceFailure("a worker ended before it was ready", exit_code=2 if dead.exitcode == 2 else 1)
        logger.warning("a worker ended with status %s and is replaced", dead.exitcode)
        with _signals_blocked():
            workers[place] = self.launch_single_inference_worker(api, ids[place])

    def _begin_reload(self) -> None:
        if self._coming:
            return logger.warning("the model is being reloaded already")
        try:
            self._next_api = self._api.renewed()
        except ValueError as error:
            return self._refuse_reload(error)
        logger.info("loading %s", self._next_api.model)
        with _signals_blocked():
            for worker_id in self.workers_setup_status.coming:
                self._coming.append(self.launch_single_inference_worker(self._next_api, worker_id))

    def _take_over(self) -> None:
        """The new workers are all ready: the HTTP process asks them from now on, and ends the old ones."""
        self._retired += self.inference_workers
        self.inference_workers, self._coming = self._coming, []
        self._api, self._next_api = self._next_api, None
        self._generation += 1
        self.workers_setup_status.take_over()
        logger.info("serving %s from now on", self._api.model)

    def _refuse_reload(self, reason: object) -> None:
        for worker in self._coming:
            worker.kill()
            worker.join()
        self._next_api, self._coming, self._failed_starts = None, [], 0
        logger.error("reload refused, %s goes on: %s", self._api.model, reason)

    def _stop(self, http: multiprocessing.Process | None) -> None:
        if http:
            http.terminate()
            http.join(self.timeout + 5)
            http.kill()
            http.join()
        for worker in self._workers():  # nothing is in flight any more
            worker.kill()
            worker.join()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started within are immune to these signals and RELOAD, also when sent to the whole group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS | {RELOAD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
