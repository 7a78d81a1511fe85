"""Log lines of all processes, in one shape, to standard error: text, or one JSON object a line.

The line that names the address goes to standard output, so that a program can wait for it. It has the same shape.
The shape is LOG_FORMAT of the environment. The main process sets it, so the workers have it too.
"""
from __future__ import annotations

import json
import logging
import os
import sys
import time

LOG_FORMAT = "NEXTWORD_SERVE_LOG_FORMAT"
logger = logging.getLogger("serve")


def configure() -> None:
    """Send the log of the service and of its libraries to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JSON() if _is_json() else _Text())
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)  # the lines do not show these
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logger.setLevel(logging.INFO)
    for name in ("litserve", "uvicorn", "uvicorn.error"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)


def note(message: str, **fields: object) -> None:
    """Log a line with fields. The caller is not looked up, which would cost more than all the rest."""
    record = logging.LogRecord(logger.name, logging.INFO, "", 0, message, (), None)
    record.fields = fields
    logger.handle(record)


def announce(message: str) -> None:
    """Print a line to standard output; as JSON, it has the shape of the log's lines."""
    record = logging.LogRecord(logger.name, logging.INFO, "", 0, message, (), None)
    print(_JSON().format(record) if _is_json() else message, flush=True)


def complain(message: str) -> None:
    """Say why the service ends, on standard error; as JSON, it has the shape of the log's lines."""
    record = logging.LogRecord(logger.name, logging.ERROR, "", 0, message, (), None)
    print(_JSON().format(record) if _is_json() else message, file=sys.stderr)


def _is_json() -> bool:
    return os.environ.get(LOG_FORMAT) == "json"


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
        line = {"time": self._time(record), "level": record.levelname.lower(), "message": self._message(record)}
        return json.dumps({**line, **getattr(record, "fields", {})})
