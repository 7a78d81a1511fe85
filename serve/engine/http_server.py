"""uvicorn with limits on the time and memory of a connection.

uvicorn itself waits for ever for the rest of a request, and for a client that does not read its answer. It accepts
headers of any length.
"""
from __future__ import annotations

import asyncio
import json
import resource
import socket
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from nextword.serve.engine.coalesced_writes import CoalescedWrites

CONNECTION_TIMEOUT = 10.0  # seconds until a request must be complete, or a client must read more of its answer
HEADERS_LIMIT = 65_536  # bytes of request line and headers, approximately
CHECK_EVERY = 10  # ticks of the server (0.1 s each) between two checks of the connections


class Connection(HttpToolsProtocol):
    """A connection that notes the time from which it waits for its client. Times are the event loop's."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._receiving_since: float | None = self.loop.time()  # None while no request is incomplete
        self._blocked_since: float | None = None  # None while the client reads its answers
        self._active_cycle: RequestResponseCycle | None = None  # the pipelined request that is being answered
        self._headers_size: int | None = 0  # None once the headers are complete

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
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._receiving_since is None:
            self._receiving_since = self.loop.time()
        super().data_received(data)
        if self._headers_size is not None:
            self._headers_size += len(data)
            if self._headers_size > HEADERS_LIMIT:
                self._refuse(431, "too_large", f"the headers may have {HEADERS_LIMIT:,} bytes")

    def on_message_begin(self) -> None:
        self._receiving_since, self._headers_size = self.loop.time(), 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._headers_size = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._receiving_since = None
        super().on_message_complete()

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
            self._refuse(408, "too_slow", f"the request did not come whole within {CONNECTION_TIMEOUT:g} seconds")

    def _refuse(self, status: int, kind: str, message: str) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = json.dumps({"error": {"type": kind, "message": message}}).encode()
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


def raise_connection_limit() -> None:
    """Raise this process's limit of open files, and so of connections, to its user's limit."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


class HTTPServer(uvicorn.Server):
    """A server that checks its connections, and refuses new ones as soon as it stops.

    Otherwise the copies of the listening socket in other processes would accept connections, and nobody would answer.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket):
        super().__init__(config)
        self._listener = listener

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
