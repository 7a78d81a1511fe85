"""The command `nextword serve`: it serves a bundle over HTTP until a signal stops it."""
from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from nextword.lm.blocklist import read_blocklist
from nextword.lm.bundle import Bundle, open_bundle
from nextword.lm.command import run
from nextword.serve import logs
from nextword.serve.profiles.faults import StoreFault
from nextword.serve.profiles.opening import open_store
from nextword.serve.settings import PREFIX, Settings, add_flags, forget_keys
from nextword.serve.settings import read as read_settings


def main(arguments: list[str] | None = None) -> int:
    """`python -m nextword.serve` is `nextword serve`."""
    return run("serve", sys.argv[1:] if arguments is None else arguments)


def command(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    parser.description = (
        "Serves a bundle over HTTP. Every flag can also be set in the environment "
        f"(--port as {PREFIX}PORT) or in a file (port = 8000). Precedence: flags, environment, file, defaults."
    )
    add_flags(parser)
    return lambda flags: _run(vars(flags))


def _run(flags: dict[str, Any]) -> int:
    signals = _signals()
    try:
        _check_temporary_folder()
        settings, description = read_settings(flags)
        bundle = open_bundle(settings.bundle)
        blocklist = read_blocklist(settings.unprompted_blocklist)
        _check_profiles(settings)
        listener = _bind(settings.host, settings.port)
    except (ValueError, OSError) as error:
        return _fail(error)
    forget_keys()
    os.environ[logs.LOG_FORMAT] = settings.log_format
    logs.configure()
    logs.logger.info(description)
    try:
        return _serve(settings, bundle, blocklist, listener, signals)
    except OSError as error:
        return _fail(error)


def _check_temporary_folder() -> None:
    """Raise OSError if no temporary folder is writable: the queues between the processes need one."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise OSError("no temporary folder can be written to; set TMPDIR to one that can") from None


def _check_profiles(settings: Settings) -> None:
    """Prepare the store of profiles. Raises OSError if it cannot be used."""
    if settings.profiles is None:
        return
    try:
        store = open_store(settings.profiles, settings.limits)
        store.check()
    except StoreFault as fault:
        raise OSError(fault) from fault
    store.close()  # each process opens its own


def _fail(message: object, exit_code: int = 2) -> int:
    logs.complain(f"nextword serve: {message}")
    return exit_code


def _signals() -> socket.socket:
    """Return a socket that receives the number of each SIGINT, SIGTERM and SIGHUP, even during start-up."""
    receiver, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.detach())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    had_terminal = _has_terminal()

    def on_hangup(*_: object) -> None:
        if had_terminal and not _has_terminal():  # this SIGHUP says that the terminal was closed; it is not a reload
            signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGHUP, on_hangup)
    return receiver


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _bind(host: str, port: int) -> socket.socket:
    """Bind the port. Until the HTTP process listens, clients are refused at once and can try another replica."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return listener
    except OSError as error:
        option = "--host" if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL else "--port"
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}; choose another with {option}") from error


def _serve(settings: Settings, bundle: Bundle, blocklist: tuple[str, ...], listener: socket.socket,
           signals: socket.socket) -> int:
    from nextword.serve.engine.dispatcher import Dispatcher
    from nextword.serve.engine.faults import ServiceFailure
    from nextword.serve.engine.readiness import Readiness
    from nextword.serve.engine.supervisor import Supervisor
    from nextword.serve.web.app import build_app
    from nextword.serve.worker import lit_api

    logs.configure()  # again, for the libraries of these imports
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{listener.getsockname()[1]}"
    workers, deadline = settings.workers, settings.deadline
    readiness = Readiness(workers)
    dispatcher = Dispatcher(bundle.name, readiness, workers, deadline)
    api = lit_api.NextWordsAPI(bundle, settings.cache * 1_000_000, blocklist, settings.profiles)
    app = build_app(dispatcher, settings, lifespan=dispatcher.lifespan)
    supervisor = Supervisor(api, app, dispatcher, readiness, workers=workers, deadline=deadline)
    try:
        supervisor.serve(listener, signals, announce=lambda: logs.announce(f"Serving {bundle.name} on {address}"))
    except ServiceFailure as failure:
        return _fail(failure, failure.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
