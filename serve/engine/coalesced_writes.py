"""Writes that go out together: each alone is a system call, and wakes who reads it."""
from __future__ import annotations

import asyncio


class Gathering:
    """A transport of which all that is written in one turn of the event loop goes out at once."""

    def __init__(self, transport: asyncio.Transport):
        self._transport, self._loop = transport, asyncio.get_running_loop()
        self._written: list[bytes] = []

    def __getattr__(self, name: str):
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._written:
            data, self._written = b"".join(self._written), []
            self._transport.write(data)
