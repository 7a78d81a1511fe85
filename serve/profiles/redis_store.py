"""Profiles in redis, where several services share them.

Each profile is one hash, so it changes and goes as a whole:

    born, created, changed, version, removals, characters, words    as in `store`
    taught           JSON: word → occurrences that it counts for
    forgotten        digests, separated by spaces
    text:VERSION     a text as JSON; VERSION is the profile's version with which it came
    id:ID            the VERSION of the text with this id

A sorted set has all profiles by their last use. A change reads the profile. It is made only if nobody else has changed
the profile meanwhile (WATCH and MULTI); otherwise it is tried again, for two seconds. Redis decides how safe a saved
change is: with `appendonly yes` and `appendfsync always` it is on the disk. Removed text stays in redis' append-only
file until redis rewrites that file. After a removal, the store asks for a rewrite.
"""
from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, ClassVar, TypeVar

from nextword.lm.forgetting import digest, without_forgotten
from nextword.serve.logs import logger
from nextword.serve.profiles.faults import (
    NoProfile,
    NoText,
    StoreDamaged,
    StoreFull,
    StoreUnavailable,
    TextTaken,
)
from nextword.serve.profiles.store import (
    DEFAULT,
    NUMBERS,
    SHORTEST,
    TAUGHT,
    TAUGHT_WORDS,
    Content,
    LearnedText,
    Limits,
    ProfileKey,
    ProfileStore,
    Reading,
    State,
    Summary,
    now,
    owner_of,
    spellings_of,
    stored,
)
from nextword.serve.profiles.store import TEXT as STORED_TEXT

PREFIX = "{nextword}:"  # the braces keep all keys on one node of a cluster
PROFILES = f"{PREFIX}profiles"  # the sorted set
TIMEOUT = 0.5  # seconds to connect, and to wait for each answer
PATIENCE = 2.0  # seconds in which a change is tried again while others change the same profile
PAUSE = 2.0  # seconds after a timeout without a call of redis, because a worker that waits answers nobody
REWRITE_AFTER = 600.0  # seconds after a removal; a rewrite reads all of redis' memory
READ_TOGETHER = 1_000  # fields
BUSY = "others change the same profile at this moment; try again in a second"
STATE = ("born", "version", "removals")
TEXT, ID = "text:", "id:"

Hash = dict[str, str]
Result = TypeVar("Result")


class RedisStore(ProfileStore):
    """The store in redis. Threads may share it; a process that forks must not have used it.

    Args:
        address: such as redis://host:6379/0, with rediss:// for TLS, or unix://.
        limits: the most that is kept.

    Raises:
        StoreUnavailable: the address cannot be used, or the `redis` package is missing.
    """

    def __init__(self, address: str, limits: Limits = DEFAULT):
        super().__init__(limits)
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise StoreUnavailable("profiles in redis need a package: pip install 'nextword[redis]'") from None
        self._redis = redis
        try:
            self._client: Any = redis.Redis.from_url(
                address, decode_responses=True, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT,
                retry=Retry(NoBackoff(), 1), health_check_interval=10,
            )
        except ValueError as error:
            raise StoreUnavailable(f"--profiles is no address of redis: {error}") from None
        self._lock = threading.Lock()
        self._rewriting: threading.Timer | None = None
        self._asked_again = 0.0  # by time.monotonic(), when redis may be asked after a timeout

    def check(self) -> None:
        """Warn in the log if redis cannot be reached, or would lose what it has acknowledged."""
        try:
            with self._faults():
                self._client.ping()
        except StoreUnavailable as fault:
            logger.warning("redis cannot be reached now, and profiles neither: %s", fault.__cause__)
            return
        try:
            safe = [self._client.config_get(name).get(name) for name in ("appendonly", "appendfsync")]
        except self._redis.RedisError:
            return  # a hosted redis does not tell
        if safe != ["yes", "always"]:
            logger.warning("redis may lose profiles that it has saved: set appendonly yes and appendfsync always")

    def learn(self, key: ProfileKey, text: LearnedText) -> LearnedText:
        def change(pipe: Any, name: str) -> LearnedText:
            header, old = _Header.of(pipe, name), []
            if header and (number := pipe.hget(name, ID + text.id)):
                same = _text(pipe.hget(name, TEXT + number))
                if same.text != without_forgotten(text.text, header.forgotten):
                    raise TextTaken
                pipe.multi()
                return same
            if header is None:
                header, old = _Header.new(), self._too_many(pipe, key)
            new = text.replaced(without_forgotten(text.text, header.forgotten))
            self.check_size(header.characters + new.characters)
            header.change(new.characters, new.words, removes=False)
            pipe.multi()
            self._drop(pipe, old)
            self._save(pipe, key, header, {TEXT + str(header.version): _json(new), ID + new.id: str(header.version)})
            return new

        return self._change(key, change)

    def undo(self, key: ProfileKey, id: str) -> None:
        def change(pipe: Any, name: str) -> None:
            header = _Header.required(pipe, name)
            number = pipe.hget(name, ID + id)
            if not number:
                raise NoText
            text = _text(pipe.hget(name, TEXT + number))
            header.change(-text.characters, -text.words)
            pipe.multi()
            pipe.hdel(name, TEXT + number, ID + id)
            self._save(pipe, key, header)

        self._change(key, change)
        self._rewrite_later()

    def teach(self, key: ProfileKey, word: str) -> None:
        def change(pipe: Any, name: str) -> None:
            header, old = _Header.of(pipe, name), []
            if header is None:
                header, old = _Header.new(), self._too_many(pipe, key)
            self.check_size(header.characters + SHORTEST)
            lost = header.drop_taught(word) + (digest(word) in header.forgotten)
            header.forgotten.discard(digest(word))
            header.taught[word] = TAUGHT
            header.change(SHORTEST - SHORTEST * lost)
            pipe.multi()
            self._drop(pipe, old)
            self._save(pipe, key, header)

        self._change(key, change)

    def forget(self, key: ProfileKey, word: str) -> int:
        def change(pipe: Any, name: str) -> int:
            header = _Header.required(pipe, name)
            new, growth, words, count = {}, 0, 0, 0
            for field, content in pipe.hgetall(name).items():
                if field.startswith(TEXT):
                    text = _text(content)
                    cut, places = text.without_word(word)
                    if places:
                        new[field] = _json(cut)
                        growth += cut.characters - text.characters
                        words += cut.words - text.words
                        count += places
            growth += SHORTEST * ((digest(word) not in header.forgotten) - header.drop_taught(word))
            header.forgotten.add(digest(word))
            header.change(growth, words)
            pipe.multi()
            self._save(pipe, key, header, new)
            return count

        count = self._change(key, change)
        self._rewrite_later()
        return count

    def load(self, key: ProfileKey, content: Content) -> Summary:
        content = content.without_forgotten()
        self.check_size(content.characters)
        numbered = list(enumerate(content.texts, 1))
        fields = {TEXT + str(number): _json(text) for number, text in numbered}
        fields.update((ID + text.id, str(number)) for number, text in numbered)
        count, words = len(content.texts), sum(text.words for text in content.texts)
        header = _Header(token_hex(8), content.created, now(), count, count, content.characters, words, content.taught,
                         content.forgotten)

        def change(pipe: Any, name: str) -> None:
            old = [] if pipe.exists(name) else self._too_many(pipe, key)
            pipe.multi()
            self._drop(pipe, old)
            pipe.delete(name)
            self._save(pipe, key, header, fields)

        self._change(key, change)
        self._rewrite_later()
        return header.summary(count)

    def delete(self, key: ProfileKey) -> None:
        def change(pipe: Any, name: str) -> None:
            if not pipe.exists(name):  # a damaged one goes too
                raise NoProfile
            pipe.multi()
            pipe.delete(name)
            pipe.zrem(PROFILES, key)

        self._change(key, change)
        self._rewrite_later()

    def summary(self, key: ProfileKey) -> Summary:
        with self._faults():
            fields = self._client.hlen(PREFIX + key)
            header = _Header.required(self._client, PREFIX + key)
        return header.summary((fields - len(_Header.NAMES)) // 2)

    def content(self, key: ProfileKey) -> Content:
        with self._faults():
            fields: Hash = self._client.hgetall(PREFIX + key)
        return _content(fields)

    def touch(self, key: ProfileKey) -> None:
        with self._faults():
            self._client.zadd(PROFILES, {key: time.time()}, xx=True)

    def read(self, key: ProfileKey, known: State | None) -> Reading | None:
        with self._faults():
            state = _state(self._client.hmget(PREFIX + key, STATE))
            if state == known:
                return None
            if known and state.has_only_grown(known):
                names = [f"{TEXT}{number}" for number in range(known.version + 1, state.version + 1)]
                texts: list[str | None] = []
                for start in range(0, len(names), READ_TOGETHER):
                    texts += self._client.hmget(PREFIX + key, names[start : start + READ_TOGETHER])
                if None not in texts:  # else something was removed meanwhile
                    new = [_text(text) for text in texts]
                    return Reading(state, Content(0, 0, new), whole=False)
            fields: Hash = self._client.hgetall(PREFIX + key)
        return Reading(_state([fields.get(name) for name in STATE]), _content(fields), whole=True)

    def close(self) -> None:
        if self._rewriting:
            self._rewriting.cancel()
            self._rewrite(again=False)
        self._client.close()

    # ---- Transactions

    def _change(self, key: ProfileKey, change: Callable[[Any, str], Result]) -> Result:
        """Do a change as one transaction, again and again until nobody else changes the profile meanwhile.

        change: reads by the pipeline, calls its `multi`, and adds the commands that change something.
        Raises StoreUnavailable if others do not stop to change it.
        """
        name, end = PREFIX + key, time.monotonic() + PATIENCE
        with self._faults(), self._client.pipeline() as pipe:
            while True:
                try:
                    pipe.watch(name)
                    result = change(pipe, name)
                    pipe.execute()
                    return result
                except self._redis.WatchError:
                    if time.monotonic() > end:
                        raise StoreUnavailable(BUSY) from None

    def _rewrite_later(self) -> None:
        """Let redis rewrite its append-only file once for all removals within REWRITE_AFTER."""
        with self._lock:
            if self._rewriting is None:
                self._rewriting = threading.Timer(REWRITE_AFTER, self._rewrite)
                self._rewriting.daemon = True
                self._rewriting.start()

    def _rewrite(self, again: bool = True) -> None:
        with self._lock:
            self._rewriting = None
        try:
            self._client.bgrewriteaof()
        except self._redis.RedisError as error:  # a hosted redis may refuse it for ever
            if again and ("progress" in str(error) or not isinstance(error, self._redis.ResponseError)):
                self._rewrite_later()

    def _too_many(self, pipe: Any, key: ProfileKey) -> list[ProfileKey]:
        """Return the profiles that have to go, so that there may be one more, of this key. Raises StoreFull."""
        pipe.watch(PROFILES)
        count = pipe.zcard(PROFILES)
        old: list[ProfileKey] = []
        if self.limits.drop and (surplus := count - self.limits.profiles + 1) > 0:
            owner, start = owner_of(key), 0
            while len(old) < surplus and (page := pipe.zrange(PROFILES, start, start + READ_TOGETHER - 1)):
                old += [other for other in page if other.startswith(owner)]
                start += READ_TOGETHER
            del old[surplus:]
        self.check_count(count - len(old) + 1)
        return old

    @staticmethod
    def _drop(pipe: Any, old: Sequence[ProfileKey]) -> None:
        if old:
            pipe.delete(*(PREFIX + key for key in old))
            pipe.zrem(PROFILES, *old)

    @staticmethod
    def _save(pipe: Any, key: ProfileKey, header: _Header, fields: Hash | None = None) -> None:
        pipe.hset(PREFIX + key, mapping={**header.fields(), **(fields or {})})
        pipe.zadd(PROFILES, {key: time.time()})

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Raise the errors of redis as StoreFaults. After a timeout, refuse at once for PAUSE seconds."""
        if time.monotonic() < self._asked_again:
            raise StoreUnavailable
        try:
            yield
        except self._redis.TimeoutError as error:
            self._asked_again = time.monotonic() + PAUSE
            raise StoreUnavailable from error
        except self._redis.OutOfMemoryError as error:
            raise StoreFull("profiles cannot be saved, because redis is full: the operator must make room") from error
        except self._redis.RedisError as error:
            text = str(error)
            if text.startswith("MISCONF") or "No space" in text:
                raise StoreFull from error
            if text.startswith("WRONGTYPE"):
                raise StoreDamaged from error
            raise StoreUnavailable from error
        except UnicodeDecodeError:
            raise StoreDamaged from None


@dataclass
class _Header:
    """The fields of a profile beside its texts."""

    NAMES: ClassVar = ("born", "created", "changed", "version", "removals", "characters", "words", "taught",
                       "forgotten")

    born: str
    created: int
    changed: int
    version: int
    removals: int
    characters: int
    words: int
    taught: dict[str, int]
    forgotten: set[str]

    @classmethod
    def new(cls) -> _Header:
        return _Header(token_hex(8), now(), now(), 0, 0, 0, 0, {}, set())

    @classmethod
    def of(cls, client: Any, name: str) -> _Header | None:
        values = client.hmget(name, cls.NAMES)
        return None if values[0] is None else cls.parsed(values)

    @classmethod
    def required(cls, client: Any, name: str) -> _Header:
        if header := cls.of(client, name):
            return header
        raise NoProfile

    @classmethod
    def parsed(cls, values: Sequence[str]) -> _Header:
        """Return the header of these fields, in the order of NAMES. Raises StoreDamaged."""
        try:
            born, *numbers, taught, forgotten = values
            created, changed, version, removals, characters, words = stored(NUMBERS, [*map(int, numbers)])
            return cls(born, created, changed, version, removals, characters, words,
                       stored(TAUGHT_WORDS, taught.encode()), set(forgotten.split()))
        except (AttributeError, TypeError, ValueError):
            raise StoreDamaged from None

    def change(self, characters: int, words: int = 0, removes: bool = True) -> None:
        """Note a change of the profile, which grew by so many characters and words."""
        self.version += 1
        self.changed = now()
        self.characters += characters
        self.words += words
        if removes:
            self.removals = self.version

    def drop_taught(self, word: str) -> int:
        """Remove a taught word in each letter case; return the number of spellings that there were."""
        same = spellings_of(word, self.taught)
        for other in same:
            del self.taught[other]
        return len(same)

    def fields(self) -> Hash:
        values = {name: str(getattr(self, name)) for name in self.NAMES}
        return {**values, "taught": json.dumps(self.taught), "forgotten": " ".join(sorted(self.forgotten))}

    def summary(self, texts: int) -> Summary:
        return Summary(self.created, self.changed, texts, self.words, self.characters, len(self.taught),
                       len(self.forgotten))


def _json(text: LearnedText) -> str:
    return json.dumps([text.id, text.text, text.learned, text.words], ensure_ascii=False)


def _text(content: str | None) -> LearnedText:
    return LearnedText(*stored(STORED_TEXT, (content or "").encode()))


def _state(values: list[str | None]) -> State:
    born, version, removals = values
    if born is None:
        raise NoProfile
    try:
        return State(born, *stored(NUMBERS, [int(version or ""), int(removals or "")]))
    except ValueError:
        raise StoreDamaged from None


def _content(fields: Hash) -> Content:
    if "born" not in fields:
        raise NoProfile
    header = _Header.parsed([fields.get(name, "") for name in _Header.NAMES])
    numbers = [name.removeprefix(TEXT) for name in fields if name.startswith(TEXT)]
    if not all(number.isascii() and number.isdecimal() and len(number) < 16 for number in numbers):
        raise StoreDamaged
    texts = [_text(fields[TEXT + number]) for number in sorted(numbers, key=int)]
    return Content(header.created, header.changed, texts, header.taught, header.forgotten)
