"""uvicorn with limits on the time and memory of a connection.

uvicorn itself waits for ever for the rest of a request and for a client that reads nothing. It keeps headers of any
length, takes trailers for headers, and keeps all bodies that wait for an earlier answer on their connection.
"""
from __future__ import annotations

import asyncio
import gc
import resource
import socket
from collections import deque
from typing import Any, ClassVar, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from nextword.serve.engine.coalesced_writes import CoalescedWrites

CONNECTION_TIMEOUT = 10.0  # seconds for a request to come whole, and for a client to read some of its answer
HEADERS_LIMIT = 65_536  # bytes of the headers, and of what comes at once between two parts of a body, about
HELD_LIMIT = 100_000_000  # bytes of all requests that are not answered yet
REQUEST_BYTES = 4_000  # objects of a request, about
CHECK_EVERY = 10  # ticks of the server, of 0.1 s each, between two checks of the connections
YOUNG_OBJECTS = 10_000  # more than 64 requests make, so that the garbage collector seldom visits those in progress
REFUSAL = "refusal"  # in the scope of a request that is refused here: status and message


class _Refused(Exception):
    """Ends the parsing of what a connection sends."""


class Connection(HttpToolsProtocol):
    """Notes since when it waits for its client, and what its requests hold. The times are the event loop's.

    A request that is refused here is given to the application with REFUSAL in its scope, so that the answer is like
    every other.
    """

    held_by_all: ClassVar[int] = 0  # bytes

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._receiving_since: float | None = self.loop.time()  # None while no request is incomplete
        self._blocked_since: float | None = None  # since when the client reads nothing
        self._active_cycle: RequestResponseCycle | None = None  # of the pipelined requests, the one being answered
        self._head_complete = False
        self._head_size = 0  # bytes of the names and values of headers and trailers
        self._unparsed = 0  # bytes since the parser last found something in them
        self._held: deque[int] = deque()  # bytes of each request that is not answered yet
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # The head of an answer is sent together with its body.
        self.transport = cast(asyncio.Transport, CoalescedWrites(transport))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._active_cycle:  # uvicorn notifies only the last of the pipelined requests
            self._active_cycle.disconnected = True
            self._active_cycle.message_event.set()
        while self._held:
            self._release()
        super().connection_lost(exc)

    @property
    def receives(self) -> bool:
        """Whether a request is incomplete."""
        return self._receiving_since is not None

    @property
    def held(self) -> int:
        """The bytes of the requests that are not answered yet."""
        return sum(self._held)

    def _hold(self, size: int) -> None:
        self._held[-1] += size
        Connection.held_by_all += size
        if Connection.held_by_all > HELD_LIMIT:
            connections: list[Any] = list(self.connections)
            largest = max((one for one in connections if one.receives), key=lambda one: one.held)
            largest._refuse(503, "too many requests are unfinished; try again in a second")
            if largest is self:
                raise _Refused

    def _release(self) -> None:
        Connection.held_by_all -= self._held.popleft()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._receiving_since is None:
            self._receiving_since = self.loop.time()
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > HEADERS_LIMIT:
            self._refuse_headers()

    def on_message_begin(self) -> None:
        self._receiving_since, self._head_complete, self._head_size = self.loop.time(), False, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > HEADERS_LIMIT:
            self._refuse_headers()
            raise _Refused
        if not self._head_complete:  # else it is a trailer, which nobody needs
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_complete, self._unparsed = True, 0
        self._held.append(0)
        self._hold(REQUEST_BYTES + self._head_size)

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        if not self.cycle.response_complete:
            super().on_body(body)
            self._hold(len(body))

    def on_message_complete(self) -> None:
        self._receiving_since, self._unparsed = None, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._held:
            self._release()
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._blocked_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._blocked_since = None
        super().resume_writing()

    def close_if_slow(self) -> None:
        """Close the connection if its client has exceeded the time limit."""
        now = self.loop.time()
        if self._blocked_since is not None and now - self._blocked_since > CONNECTION_TIMEOUT:
            self.transport.abort()
        elif self.transport.is_closing():
            self._blocked_since = self._blocked_since or now  # the client must still read the rest of the answer
        elif self._receiving_since is not None and now - self._receiving_since > CONNECTION_TIMEOUT:
            self._refuse(408, f"the request did not come whole within {CONNECTION_TIMEOUT:g} seconds")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP. uvicorn calls this, also where a callback of the parser has raised an exception."""
        self._refuse(400, "this is no valid HTTP request")

    def _refuse_headers(self) -> None:
        self._refuse(431, f"the headers may have {HEADERS_LIMIT:,} bytes")

    def _refuse(self, status: int, message: str) -> None:
        """Refuse the request that is coming in, read no more, and close the connection behind the last answer.

        Earlier requests keep their answers; then this one gets none. Neither does a request that has its answer.
        """
        if self._refused or self.transport.is_closing():
            return
        self._refused, self._receiving_since = True, None
        active = self._active_cycle
        own = self._head_complete and active is self.cycle  # the active request itself is refused
        if active and not active.response_complete:
            if not own or active.response_started or not active.more_body:
                return self._close_behind_earlier_answers(active)
            active.disconnected = True  # the application waits for the rest of the body
            active.message_event.set()
        elif active and own:
            return self.transport.close()
        self._start_asgi_task(self._refusal_cycle(status, message), self.app)

    def _close_behind_earlier_answers(self, active: RequestResponseCycle) -> None:
        if self._head_complete and self.pipeline:
            self.pipeline.popleft()  # the refused request
        last = self.pipeline[0][0] if self.pipeline else active
        last.keep_alive = False

    def _refusal_cycle(self, status: int, message: str) -> RequestResponseCycle:
        scope = {"type": "http", "http_version": "1.1", "headers": [], "client": self.client, "method": "-", "path": "",
                 "raw_path": b"", "query_string": b"", **(self.scope or {}), REFUSAL: (status, message)}
        return RequestResponseCycle(
            scope=cast(Any, scope),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )


def raise_connection_limit() -> None:
    """Raise this process's limit of open files, and so of connections, to its user's limit."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


class HTTPServer(uvicorn.Server):
    """A server that checks its connections, and refuses new ones as soon as it stops.

    Otherwise the copies of the listening socket in other processes would accept connections, and nobody would answer.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, shutdown_seconds: int):
        super().__init__(uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the application knows which proxies to believe
            ws="none",
            http=Connection,
            timeout_graceful_shutdown=shutdown_seconds,
        ))
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # the garbage collector need not visit what stays
        gc.set_threshold(YOUNG_OBJECTS)

    async def on_tick(self, counter: int) -> bool:
        if counter % CHECK_EVERY == 0:
            connections: list[Any] = list(self.server_state.connections)
            for connection in connections:
                connection.close_if_slow()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._listener.shutdown(socket.SHUT_RDWR)
        await super().shutdown(sockets)
