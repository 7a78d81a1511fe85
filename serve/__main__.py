"""The command `nextword serve`: serves a bundle over HTTP until it is told to stop."""
from __future__ import annotations

import argparse
import functools
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable

from nextword.lm.blocklist import read_blocklist
from nextword.lm.bundle import Bundle, open_bundle
from nextword.lm.command import run
from nextword.serve import logs
from nextword.serve.scratch import scratch_folder
from nextword.serve.settings import PREFIX, Settings, add_flags
from nextword.serve.settings import read as read_settings


def main(arguments: list[str] | None = None) -> int:
    """`python -m nextword.serve` is `nextword serve`."""
    return run("serve", sys.argv[1:] if arguments is None else arguments)


def command(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    parser.description = (f"Serves a bundle over HTTP. What a flag sets, the environment can too (--port as {PREFIX}PORT), "
                          "and a file (port = 8000); flags come first, then the environment.")
    add_flags(parser)
    return lambda flags: _run(vars(flags))


def _run(flags: dict[str, object]) -> int:
    signals = _signals()
    try:
        settings, shown = read_settings(flags)
        bundle = open_bundle(settings.bundle)
        blocklist = read_blocklist(settings.unprompted_blocklist)
        listener = _bound(settings.host, settings.port)
    except (ValueError, OSError) as error:
        return _fail(error)
    os.environ[logs.LOG_FORMAT] = settings.log_format
    logs.configure()
    try:
        with scratch_folder() as folder:
            logs.logger.info(shown)
            # Where all processes count (see serve.metrics), and keep whatever else they need.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
            return _serve(settings, bundle, blocklist, listener, signals)
    except OSError as error:
        return _fail(error)


def _fail(message: object, exit_code: int = 2) -> int:
    print(f"nextword serve: {message}", file=sys.stderr)
    return exit_code


def _signals() -> socket.socket:
    """Returns what brings the numbers of SIGINT, SIGTERM and SIGHUP when they come, be it in the middle of the start."""
    come, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.detach())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    on_terminal = _has_terminal()

    def hung_up(*_) -> None:
        if on_terminal and not _has_terminal():  # it was closed, which is no wish for another model
            signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGHUP, hung_up)
    return come


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _bound(host: str, port: int) -> socket.socket:
    """Takes the port. Who connects before the HTTP process listens is refused at once, and can ask another replica."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return listener
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port") from error


def _serve(settings: Settings, bundle: Bundle, blocklist: tuple[str, ...], listener: socket.socket,
           signals: socket.socket) -> int:
    from nextword.serve.worker.lit_api import NextWordsAPI
    from nextword.serve.web.app import build_app
    from nextword.serve.engine.supervisor import Engine, ServiceFailure

    logs.configure()  # the libraries that these bring, too
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    serving = f"Serving {bundle.name} on http://{host}:{listener.getsockname()[1]}"
    engine = Engine(
        NextWordsAPI(bundle, settings.cache * 1_000_000, blocklist),
        functools.partial(build_app, settings=settings),
        workers=settings.workers,
        deadline=settings.deadline,
    )
    try:
        engine.serve(listener, signals, announce=lambda: print(serving, flush=True))
    except ServiceFailure as failure:
        return _fail(failure, failure.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
