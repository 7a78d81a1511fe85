"""The routes for profiles, and the store as the HTTP process uses it."""
from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Response
from pydantic import ValidationError

from nextword.lm.forgetting import is_one_word
from nextword.lm.words import key as word_key
from nextword.lm.words import words_in
from nextword.serve.engine.dispatcher import AnyDispatcher
from nextword.serve.engine.faults import DeadlinePassed
from nextword.serve.profile_schemas import (
    ONE_WORD,
    TEXT_ID,
    CountedWord,
    ExportedText,
    Learned,
    LearnRequest,
    LoadRequest,
    OwnWords,
    ProfileExport,
    ProfileSummary,
    Removed,
    Taught,
    TaughtWord,
)
from nextword.serve.profiles.faults import NoStore, StoreDamaged, StoreUnavailable
from nextword.serve.profiles.opening import open_store
from nextword.serve.profiles.store import Content, LearnedText, ProfileKey, ProfileStore, count_words, now
from nextword.serve.questions import OwnWordsQuestion
from nextword.serve.schemas import PROFILE_NAME, WORD_LIMIT
from nextword.serve.settings import Settings
from nextword.serve.web.any_path import rest
from nextword.serve.web.errors import Fault, responses
from nextword.serve.web.middleware.api_keys import owner
from nextword.serve.web.middleware.rate_limit import count_as

WORDS_LIMIT = 100_000  # that an export lists
THREADS = 4  # that wait for the store
PENDING_LIMIT = 100  # calls of the store that wait
LEARNED_CHARACTERS = 2_000  # of a text that count as one request for the rate limit
WHOLE = 5  # requests that a change of a whole profile counts as, for the rate limit
TOUCH_SECONDS = 3_600  # between two notes that a profile is in use
TOUCHED_LIMIT = 10_000  # profiles whose last note is remembered

Result = TypeVar("Result")
Name = Annotated[str, Path(pattern=PROFILE_NAME, description="The name of the profile", examples=["me"])]
TextId = Annotated[str, Path(pattern=TEXT_ID, examples=["3f1c9d2e5a7b4860"])]
Word = Annotated[str, Path(max_length=WORD_LIMIT, examples=["Kowalczyk"], json_schema_extra={"pattern": ONE_WORD})]


class Profiles:
    """The store of profiles for the routes. Each method that needs a store raises NoStore if there is none.

    Args:
        settings: name the store.
    """

    def __init__(self, settings: Settings):
        self._store = open_store(settings.profiles, settings.limits) if settings.profiles else None
        self._deadline, self._drops = settings.deadline, settings.profiles_drop
        self._threads = ThreadPoolExecutor(THREADS, "profiles")
        self._pending = 0
        self._touched: dict[ProfileKey, float] = {}  # by time.monotonic()
        if self.on:
            count_words("")  # its first call takes 50 ms

    @property
    def on(self) -> bool:
        """Whether the service keeps profiles."""
        return self._store is not None

    @property
    def store(self) -> ProfileStore:
        if self._store is None:
            raise NoStore
        return self._store

    def key(self, name: str | None) -> ProfileKey:
        """Return the key of a profile that the request's API key owns; "" for None. Every question passes here."""
        if name is None:
            return ""
        key, store = f"{owner()}/{name}", self.store
        if self._drops and time.monotonic() - self._touched.get(key, -TOUCH_SECONDS) >= TOUCH_SECONDS:
            self._touched.pop(key, None)
            if len(self._touched) >= TOUCHED_LIMIT:
                del self._touched[next(iter(self._touched))]  # the oldest
            self._touched[key] = time.monotonic()
            if self._pending < PENDING_LIMIT:  # else the note is not worth the wait of others
                self._start(lambda: store.touch(key))
        return key

    def _start(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        self._pending += 1
        done = asyncio.get_running_loop().run_in_executor(self._threads, work)
        done.add_done_callback(self._finish)
        return done

    async def call(self, name: str, work: Callable[[ProfileStore, ProfileKey], Result]) -> Result:
        """Do work with a profile in a thread. Raises the store's StoreFaults, StoreUnavailable or DeadlinePassed."""
        key, store = self.key(name), self.store
        if self._pending >= PENDING_LIMIT:
            raise StoreUnavailable
        try:
            return await asyncio.wait_for(asyncio.shield(self._start(lambda: work(store, key))), self._deadline)
        except asyncio.TimeoutError:
            raise DeadlinePassed from None

    def _finish(self, done: asyncio.Future[Any]) -> None:
        self._pending -= 1
        done.cancelled() or done.exception()  # an error after the deadline has no reader

    def close(self) -> None:
        self._threads.shutdown()
        if self._store:
            self._store.close()


def build_router(dispatcher: AnyDispatcher, profiles: Profiles) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/profiles/{name}", tags=["profiles"],
                       responses=responses(401, 404, 422, 429, 500, 501, 503, 504))
    _add_texts(router, profiles)
    _add_words(router, dispatcher, profiles)
    _add_whole(router, profiles)
    return router


def _add_texts(router: APIRouter, profiles: Profiles) -> None:
    @router.post("/text", operation_id="learn", summary="Learn a text", responses=responses(400, 409, 413, 415, 507))
    async def learn(name: Name, request: LearnRequest) -> Learned:
        """Every question with this profile knows the text from now on. The profile is made if there is none."""
        count_as(1 + len(request.text) // LEARNED_CHARACTERS)
        text = await profiles.call(name, lambda store, key: store.learn(key, LearnedText.of(request.text, request.id)))
        return Learned(id=text.id, words=text.words)

    @router.delete("/text/{id}", operation_id="undo", summary="Take a text back")
    async def undo(name: Name, id: TextId) -> Removed:
        """The profile is as if the text had never been learned, except for the words that were forgotten since."""
        await profiles.call(name, lambda store, key: store.undo(key, id))
        return Removed(removed=1)


def _add_words(router: APIRouter, dispatcher: AnyDispatcher, profiles: Profiles) -> None:
    @router.head("/words", include_in_schema=False)
    @router.get("/words", operation_id="own_words", summary="The own words", response_model=OwnWords)
    async def own_words(name: Name) -> Response:
        """Lists the words that the vocabulary lacks, and those that were taught."""
        answer = await dispatcher.ask(OwnWordsQuestion(profiles.key(name)))
        return Response(answer, media_type="application/json")

    @router.put(f"/words/{rest('word')}", operation_id="teach", summary="Teach or allow a word",
                responses=responses(409, 507))
    async def teach(name: Name, word: Word) -> Taught:
        """The word is suggested from now on, in this spelling, even if it was forgotten or the service blocks it."""
        _check_word(word, 404)
        await profiles.call(name, lambda store, key: store.teach(key, word))
        return Taught(word=word)

    @router.delete(f"/words/{rest('word')}", operation_id="forget", summary="Forget or block a word")
    async def forget(name: Name, word: Word) -> Removed:
        """No answer with this profile has the word until it is taught. It is cut out of all texts, with its genitive
        and with words that are joined to it by hyphens; a digest is kept, from which it cannot be read.
        """
        _check_word(word, 404)
        count_as(WHOLE)
        return Removed(removed=await profiles.call(name, lambda store, key: store.forget(key, word)))


def _add_whole(router: APIRouter, profiles: Profiles) -> None:
    @router.head("", include_in_schema=False)
    @router.get("", operation_id="profile", summary="Size and dates of a profile")
    async def summary(name: Name) -> ProfileSummary:
        """Says how much is kept."""
        return ProfileSummary(**asdict(await profiles.call(name, lambda store, key: store.summary(key))))

    @router.head("/export", include_in_schema=False)
    @router.get("/export", operation_id="export_profile", summary="A profile, for another service",
                response_model=ProfileExport)
    async def export(name: Name) -> Response:
        """Returns everything that is kept. `PUT /v1/profiles/{name}` loads it."""
        count_as(WHOLE)
        content = await profiles.call(name, lambda store, key: _exported(store.content(key)).model_dump_json())
        return Response(content, media_type="application/json")

    @router.put("", operation_id="load_profile", summary="Load a profile",
                responses=responses(400, 409, 413, 415, 507))
    async def load(name: Name, request: LoadRequest) -> ProfileSummary:
        """Loads an export in place of what there is. An empty export makes an empty profile."""
        characters = sum(len(text.text) for text in request.texts)
        count_as(WHOLE + characters // LEARNED_CHARACTERS)
        for place, word in enumerate(request.taught):
            _check_word(word.word, 422, f"taught.{place}.word")
        if len({text.id for text in request.texts}) < len(request.texts):
            raise Fault(409, "texts: two of them have the same id", "texts", kind="id_taken")
        return ProfileSummary(**asdict(await profiles.call(name, lambda store, key: store.load(key, _loaded(request)))))

    @router.delete("", operation_id="delete_profile", summary="Delete a profile")
    async def delete(name: Name) -> Removed:
        """Nothing of the profile is left."""
        await profiles.call(name, lambda store, key: store.delete(key))
        return Removed(removed=1)


def _check_word(word: str, status: int, where: str = "word") -> None:
    """Raise Fault with this status if it is not one word."""
    if not is_one_word(word):
        raise Fault(status, f"{where}: it must be one word, with no space or mark beside it", where)


def _exported(content: Content) -> ProfileExport:
    """Return a profile as it is exported; words of equal frequency are sorted by their keys. Raises StoreDamaged."""
    try:
        return _export_of(content)
    except ValidationError:  # what was saved could not have been learned
        raise StoreDamaged from None


def _export_of(content: Content) -> ProfileExport:
    texts = [ExportedText(id=text.id, text=text.text, learned=text.learned) for text in content.texts]
    counts = Counter(match[0] for text in content.texts for match in words_in(text.text))
    words = sorted(((word, count) for word, count in counts.items() if len(word) <= WORD_LIMIT),
                   key=lambda word: (-word[1], word_key(word[0]), word[0]))[:WORDS_LIMIT]
    return ProfileExport(
        created=content.created, changed=content.changed, texts=texts, forgotten=sorted(content.forgotten),
        taught=[TaughtWord(word=word, count=count) for word, count in sorted(content.taught.items())],
        words=[CountedWord(word=word, count=count) for word, count in words],
    )


def _loaded(request: LoadRequest) -> Content:
    created = now() if request.created is None else request.created
    texts = [LearnedText.of(text.text, text.id, text.learned) for text in request.texts]
    return Content(created, now(), texts, {word.word: word.count for word in request.taught}, set(request.forgotten))
