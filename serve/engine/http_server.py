"""What one connection may cost: how long its bytes may take to come and to be taken, and how long its headers may be.

uvicorn waits for ever for a request that has begun and for a reader, and keeps headers of any length.
"""
from __future__ import annotations

import asyncio
import json
import resource
import socket

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from nextword.serve.engine.coalesced_writes import Gathering

PATIENCE = 10.0  # seconds for a request to come whole, and for some of an answer to be taken
HEAD_LIMIT = 65_536  # bytes of request line and headers, about
CHECKS = 10  # ticks of the server, of 0.1 s, from one look at the connections to the next


class Connection(HttpToolsProtocol):
    """Notes since when it waits for its client."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._reading: float | None = self.loop.time()  # since when a request is not whole
        self._writing: float | None = None  # since when none of an answer is taken
        self._answered: RequestResponseCycle | None = None  # the request that is answered now, of those that have come
        self._head: int | None = 0  # bytes of headers that are not whole

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.transport = Gathering(transport)  # the head of an answer goes out with its body

    def _start_asgi_task(self, cycle: RequestResponseCycle, app) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered:  # uvicorn tells only the last of several requests
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._reading is None:
            self._reading = self.loop.time()
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > HEAD_LIMIT:
                self._refuse(431, "too_large", f"the headers may have {HEAD_LIMIT:,} bytes")

    def on_message_begin(self) -> None:
        self._reading, self._head = self.loop.time(), 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._reading = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        self._writing = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._writing = None
        super().resume_writing()

    def end_if_slow(self) -> None:
        """Closes the connection where its client had the time it may have."""
        now = self.loop.time()
        if self._writing is not None and now - self._writing > PATIENCE:
            self.transport.abort()
        elif self.transport.is_closing():
            self._writing = self._writing or now  # what is left of the answer is still to be taken
        elif self._reading is not None and now - self._reading > PATIENCE:
            self._refuse(408, "too_slow", f"the request did not come whole within {PATIENCE:g} seconds")

    def _refuse(self, status: int, kind: str, message: str) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = json.dumps({"error": {"type": kind, "message": message}}).encode()
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


def allow_many() -> None:
    """Lets this process have as many connections as its user may; what they may cost is bounded above."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class HTTPServer(uvicorn.Server):
    """Looks after its connections, and refuses new ones as soon as it stops.

    Without that, the copies of the listening socket in the other processes would go on taking them, for nobody to answer.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket):
        super().__init__(config)
        self._listener = listener

    async def on_tick(self, counter: int) -> bool:
        if counter % CHECKS == 0:
            for connection in list(self.server_state.connections):
                connection.end_if_slow()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._listener.shutdown(socket.SHUT_RDWR)
        await super().shutdown(sockets)
