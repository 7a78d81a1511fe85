"""The log of all processes, on standard error: one line of text, or one JSON object, for each event.

The line with the address goes to standard output, so that a program can wait for it. It has the same format. The main
process sets the environment variable LOG_FORMAT, so the workers use that format too.
"""
from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
import time
from collections.abc import Mapping

LOG_FORMAT = "NEXTWORD_SERVE_LOG_FORMAT"
logger = logging.getLogger("serve")


def configure() -> None:
    """Send the log of the service and of its libraries to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter())
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
    """Log a line with fields. It does not go through `logging`, which takes longer than everything else."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{_formatter().line(time.time(), 'INFO', message, fields)}\n")


def announce(message: str) -> None:
    """Print a line to standard output, in the format of the log if that is JSON."""
    print(_JSON().line(time.time(), "INFO", message, {}) if _is_json() else message, flush=True)


def complain(message: str) -> None:
    """Print the reason why the service ends to standard error, in the format of the log if that is JSON."""
    print(_JSON().line(time.time(), "ERROR", message, {}) if _is_json() else message, file=sys.stderr)


def _is_json() -> bool:
    return os.environ.get(LOG_FORMAT) == "json"


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage() + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")
        return self.line(record.created, record.levelname, message, getattr(record, "fields", {}))

    def line(self, created: float, level: str, message: str, fields: Mapping[str, object]) -> str:
        return f"{_time(created)} {level} {message}" + "".join([f" {name}={value}" for name, value in fields.items()])


class _JSON(_Formatter):
    def line(self, created: float, level: str, message: str, fields: Mapping[str, object]) -> str:
        return json.dumps({"time": _time(created), "level": level.lower(), "message": message, **fields})


@functools.cache
def _formatter() -> _Formatter:
    return _JSON() if _is_json() else _Formatter()


def _time(created: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(created))}.{int(created % 1 * 1000):03}Z"
