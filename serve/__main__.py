"""`python -m serve`: serves a bundle over HTTP until it is told to stop."""
from __future__ import annotations

import argparse
import functools
import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from lm import BundleError, open_bundle
from serve.scratch import scratch_folder


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    stop = _stop_signal()
    try:
        model = open_bundle(options.bundle).name
        listener = _listen(options.host, options.port)
    except (BundleError, OSError) as error:
        return _fail(error)
    try:
        with scratch_folder() as folder:
            # Where all processes count (see serve.metrics), and keep whatever else they need.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
            return _serve(options, model, listener, stop)
    except OSError as error:
        return _fail(error)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m serve", description="Serves a bundle over HTTP.")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the model to serve (default: the English one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_number(int, 0, 65535), default=8000, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=_number(int, 1, 64), default=1, help="processes that compute (default: %(default)s)"
    )
    parser.add_argument(
        "--deadline",
        type=_number(float, 0.1, 60),
        default=2.0,
        metavar="SECONDS",
        help="by when a request is answered or refused (default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        type=_number(int, 0, 1_000_000),
        default=64,
        metavar="MB",
        help="megabytes that each worker may use to remember recent texts (default: %(default)s)",
    )
    return parser.parse_args(arguments)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        sys.exit(_fail(message))


def _number(kind: type, least: float, most: float):
    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        return value

    return parse


def _fail(message: object, exit_code: int = 2) -> int:
    print(f"serve: {message}", file=sys.stderr)
    return exit_code


def _stop_signal() -> socket.socket:
    """Returns what becomes readable when SIGINT or SIGTERM comes, be it in the middle of the start."""
    stop, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.detach())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return stop


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port") from error


def _serve(options: argparse.Namespace, model: str, listener: socket.socket, stop: socket.socket) -> int:
    from serve.api import NextWordsAPI
    from serve.app import build_app
    from serve.engine import Engine, ServiceFailure

    logging.getLogger("litserve").setLevel(logging.WARNING)
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    engine = Engine(
        NextWordsAPI(options.bundle, options.cache * 1_000_000),
        functools.partial(build_app, model=model),
        workers=options.workers,
        deadline=options.deadline,
    )
    try:
        engine.serve(listener, stop, announce=lambda: print(f"Serving {model} on {url}", flush=True))
    except ServiceFailure as failure:
        return _fail(failure, failure.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
