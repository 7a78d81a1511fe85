"""Corpora from the Hugging Face hub, or from the cache of `datasets` if the hub does not answer."""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import datasets
import httpx

from nextword.training.corpora import tables
from nextword.training.corpora.corpus import CorpusError, HubUnreachable

PATIENCE = 8  # seconds to wait for an answer of the hub
T = TypeVar("T")


def load(hub_id: str, config: str | None, use: Callable[[datasets.DatasetBuilder], T]) -> T:
    """Return `use(builder)` for the builder of a dataset.

    Raises HubUnreachable within about 10 s, and CorpusError if the hub has no such dataset.
    """
    reachable = not datasets.config.HF_HUB_OFFLINE and _answers(datasets.config.HF_ENDPOINT)
    name = hub_id + (f":{config}" if config else "")
    try:
        with contextlib.nullcontext() if reachable else _offline():
            builder = datasets.load_dataset_builder(hub_id, config)
            if tables.type_of(builder) == "csv":
                builder = datasets.load_dataset_builder(hub_id, config, **tables.CSV_OPTIONS)
            return use(builder)
    except datasets.exceptions.DatasetNotFoundError:
        raise CorpusError(f"the hub has no dataset {hub_id!r}, or not for everybody") from None
    except (*tables.LOADING_ERRORS, httpx.HTTPError) as error:
        if reachable and not isinstance(error, (ConnectionError, httpx.TransportError)):
            raise CorpusError(f"{name} cannot be loaded from the hub: {' '.join(str(error).split())}") from error
        raise HubUnreachable(
            f"the hub ({datasets.config.HF_ENDPOINT}) does not answer, and {name} is not in the cache; "
            "a directory, a text file and python-docs work without it"
        ) from None


def _answers(address: str) -> bool:
    """True if the address answers. The request runs in a thread, because the look-up of a name has no time limit."""
    answers: list[httpx.Response] = []

    def ask() -> None:
        with contextlib.suppress(httpx.HTTPError):
            answers.append(httpx.head(address, timeout=PATIENCE))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return any(answer.status_code < 500 and answer.status_code not in (403, 407) for answer in answers)


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
