"""The loop of a worker, in place of LitServe's."""
from __future__ import annotations

import contextlib
from typing import Any

from litserve.loops.base import LitLoop

from nextword.serve.questions import Question
from nextword.serve.worker.inbox import Inbox


class DrainingLoop(LitLoop):
    """Waits for a question, and takes all questions that are there.

    LitServe's batching uses a core while idle, or makes a single request wait for others. Its queues take more time
    than a model's answer. In addition to LitServe's hooks, the API has:

    groups   splits questions into groups, in the order in which to answer them. Questions that it leaves out wait for
             the next call; the first question is never left out
    predict  answers a group: for each question bytes or an exception, so that a bad question fails alone
    counts   returns what the last `predict` counted
    idle     is called about once a second while there is no question
    work_ahead   does some work that can be done before the next question; False: there is none
    """

    def __call__(
        self, lit_api: Any, device: str, worker_id: int, request_queue: None, transport: Any,
        workers_setup_status: Any, callback_runner: Any,
    ) -> None:
        with contextlib.suppress(EOFError, ConnectionError):  # the HTTP process has ended
            inbox = Inbox(transport, lit_api.model)
            while True:
                self._answer(lit_api, inbox.first(lit_api.max_batch_size, lit_api.idle, lit_api.work_ahead), inbox)

    @staticmethod
    def _answer(lit_api: Any, batch: dict[int, Question], inbox: Inbox) -> None:
        numbers = list(batch)
        for group in lit_api.groups(list(batch.values())):
            inbox.update()
            waiting = [numbers[place] for place in group if numbers[place] in inbox]
            if waiting:
                results = list(lit_api.predict([batch[number] for number in waiting]))
                inbox.answer(zip(waiting, results), lit_api.counts())
