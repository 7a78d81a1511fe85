"""The reasons why a question gets no answer, and why the service ends."""
from __future__ import annotations


class NoAnswer(Exception):
    """The question gets no answer."""


class Unavailable(NoAnswer):
    """No worker can take a question now; the message is the reason."""


class DeadlinePassed(NoAnswer):
    """No answer came before the deadline."""


class WorkerFault(NoAnswer):
    """The worker failed at this question, or two workers died while they had it. The log has the traceback."""


class ClientGone(Exception):
    """The client has closed its connection, so nobody reads the answer."""


class ServiceFailure(Exception):
    """The service cannot continue; the program should end with `exit_code`."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code
