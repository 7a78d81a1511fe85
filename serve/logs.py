"""Log lines of all processes in one shape, to standard error: text, or JSON with one object a line.

The shape is LOG_FORMAT of the environment, which `python -m nextword.serve` sets, so that the workers have it too.
"""
from __future__ import annotations

import json
import logging
import os
import time

LOG_FORMAT = "NEXTWORD_SERVE_LOG_FORMAT"
logger = logging.getLogger("serve")


def configure() -> None:
    """Sends what the service and the libraries under it log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JSON() if os.environ.get(LOG_FORMAT) == "json" else _Text())
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = logging.logAsyncioTasks = False  # not shown
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logger.setLevel(logging.INFO)
    for name in ("litserve", "uvicorn", "uvicorn.error"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)


def note(message: str, **fields) -> None:
    """Logs what happens at each request: without looking for the caller, which costs more than all the rest."""
    record = logging.LogRecord(logger.name, logging.INFO, "", 0, message, (), None)
    record.fields = fields
    logger.handle(record)


class _Shape(logging.Formatter):
    def _time(self, record: logging.LogRecord) -> str:
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"

    def _message(self, record: logging.LogRecord) -> str:
        return record.getMessage() + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class _Text(_Shape):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items())
        return f"{self._time(record)} {record.levelname} {self._message(record)}{fields}"


class _JSON(_Shape):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"time": self._time(record), "level": record.levelname.lower(), "message": self._message(record),
                           **getattr(record, "fields", {})})
