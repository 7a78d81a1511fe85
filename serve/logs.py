"""The log of all processes, on standard error: one line of text, or one JSON object, for each event.

The line with the address goes to standard output, so that a program can wait for it. It has the same format. The main
process sets the environment variable LOG_FORMAT, so the workers use that format too.
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
    """Log a line with fields. It does not look up the caller, because that takes longer than everything else."""
    record = logging.LogRecord(logger.name, logging.INFO, "", 0, message, (), None)
    record.fields = fields
    logger.handle(record)


def announce(message: str) -> None:
    """Print a line to standard output, in the format of the log if that is JSON."""
    record = logging.LogRecord(logger.name, logging.INFO, "", 0, message, (), None)
    print(_JSON().format(record) if _is_json() else message, flush=True)


def complain(message: str) -> None:
    """Print the reason why the service ends to standard error, in the format of the log if that is JSON."""
    record = logging.LogRecord(logger.name, logging.ERROR, "", 0, message, (), None)
    print(_JSON().format(record) if _is_json() else message, file=sys.stderr)


def _is_json() -> bool:
    return os.environ.get(LOG_FORMAT) == "json"


class _Formatter(logging.Formatter):
    def _time(self, record: logging.LogRecord) -> str:
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"

    def _message(self, record: logging.LogRecord) -> str:
        return record.getMessage() + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class _Text(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in getattr(record, "fields", {}).items())
        return f"{self._time(record)} {record.levelname} {self._message(record)}{fields}"


class _JSON(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self._time(record), "level": record.levelname.lower(), "message": self._message(record)}
        return json.dumps({**line, **getattr(record, "fields", {})})
