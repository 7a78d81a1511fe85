"""A worker's profiles, built from the texts and decisions in the store.

Before each batch, a worker asks the store for the state of the batch's profiles, and reads what is new. So all workers
know a change as soon as it is acknowledged. A large profile takes seconds to learn, so a worker learns it in parts:
between batches, and while there is no question. Until then the worker refuses the profile's questions, and other
questions wait no longer than for one part.
"""
from __future__ import annotations

import contextlib
import json
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from nextword.lm.forgetting import digest, parts, without_forgotten
from nextword.lm.model import Model
from nextword.lm.profile import Profile
from nextword.lm.words import key as word_key
from nextword.serve.logs import logger
from nextword.serve.profiles.faults import NoStore, ProfileBeingRead, StoreDamaged, StoreFault
from nextword.serve.profiles.store import Content, ProfileKey, ProfileStore, Reading, State
from nextword.serve.questions import OwnWordsQuestion

KEPT_CHARACTERS = 4_000_000  # of all built profiles, which take about ten bytes a character
SECONDS = 0.25  # of the processor before a batch, for learning texts; a text is learnt as a whole
SECONDS_AHEAD = 0.05  # the same while there is no question: one that comes waits for it
BUILDING = 5_000  # characters that can be read in the time of building a profile of ordinary size


@dataclass
class _Built:
    """A profile, its texts by their ids, and those that it has yet to learn."""

    profile: Profile
    state: State
    texts: dict[str, str] = field(default_factory=dict)
    unlearnt: dict[str, str] = field(default_factory=dict)
    characters: int = 0

    def learn(self, end: float) -> None:
        """Learn texts until a time by time.thread_time(), at least one."""
        while self.unlearnt:
            id = next(iter(self.unlearnt))
            self.profile.learn(self.unlearnt[id])
            self.texts[id] = self.unlearnt.pop(id)
            if time.thread_time() > end:
                break


class Profiles:
    """The profiles that were asked for lately; the least recently used ones are dropped first.

    Args:
        store: where they are read from; None: the service keeps none.
        limit: the most characters of all of them.
    """

    def __init__(self, store: ProfileStore | None, limit: int = KEPT_CHARACTERS):
        self._store, self._limit = store, limit
        self._built: OrderedDict[ProfileKey, _Built] = OrderedDict()

    def cost(self, key: ProfileKey) -> int:
        """Return the characters that can be read in the time of building a profile, about."""
        return BUILDING if key and key not in self._built else 0

    def get(self, key: ProfileKey) -> Profile | None:
        """Return a profile as the last `update` has read it; None for no key."""
        return self._built[key].profile if key else None

    def update(self, keys: Iterable[ProfileKey]) -> dict[ProfileKey, StoreFault]:
        """Bring profiles to the state of the store; return the faults of those for which this is not possible."""
        faults: dict[ProfileKey, StoreFault] = {}
        keys = {key for key in keys if key}
        end = time.thread_time() + SECONDS
        for key in keys:
            try:
                self._update(key)
                if not self._learn(key, end):
                    faults[key] = ProfileBeingRead()
            except StoreFault as fault:
                self._built.pop(key, None)
                faults[key] = fault
            except Exception as error:  # no profile ends a worker
                logger.error("a profile cannot be built: %s", type(error).__name__)
                self._built.pop(key, None)
                faults[key] = StoreDamaged()
        while sum(built.characters for built in self._built.values()) > self._limit:
            oldest = next(iter(self._built))
            if oldest in keys:  # the batch needs it
                break
            del self._built[oldest]
        return faults

    def learn_ahead(self) -> bool:
        """Learn some of the texts of a large profile; return False if there is nothing to learn."""
        key = next((key for key, built in self._built.items() if built.unlearnt), None)
        if key is None:
            return False
        try:
            self._built[key].learn(time.thread_time() + SECONDS_AHEAD)
        except Exception:  # the next question finds it again, and gets the error
            del self._built[key]
        return True

    def _learn(self, key: ProfileKey, end: float) -> bool:
        """Learn texts of a profile until a time, its first one in any case; return False if that is not all."""
        built = self._built[key]
        if built.unlearnt and (time.thread_time() < end or not built.texts):
            built.learn(end)
        return not built.unlearnt

    def _update(self, key: ProfileKey) -> None:
        if self._store is None:
            raise NoStore
        built = self._built.get(key)
        reading = self._store.read(key, built.state if built else None)
        if reading is not None:
            self._built[key] = built = _changed(built, reading)
        self._built.move_to_end(key)


def _changed(built: _Built | None, reading: Reading) -> _Built:
    """Return a built profile in its new state. It is built again from the start if that takes less time."""
    texts = {text.id: text.text for text in reading.content.texts}
    gone: dict[str, str] = {}
    if built and reading.whole:
        _forget(built, reading.content.forgotten - built.profile.forgotten, texts)
        gone = {id: text for id, text in built.texts.items() if texts.get(id) != text}
    if built is None or 3 * sum(map(len, gone.values())) > built.characters:
        built, gone = _Built(Profile(), reading.state), {}
    for id, text in gone.items():
        try:
            built.profile.unlearn(text)
        except ValueError:  # a word was forgotten, and cut out of the profile and of the text in different places
            return _changed(None, reading)
        del built.texts[id]
    if reading.whole:
        built.unlearnt = {}
    built.unlearnt.update((id, text) for id, text in texts.items() if id not in built.texts)
    built.state = reading.state
    built.characters = sum(map(len, [*built.texts.values(), *built.unlearnt.values()]))
    if reading.whole:
        _decide(built.profile, reading.content)
    return built


def _forget(built: _Built, digests: set[str], texts: dict[str, str]) -> None:
    """Forget the words with these digests, in a profile and in those of its texts that have changed."""
    if not digests:
        return
    for word in {part for spelling in built.profile.spellings for part in parts(spelling)}:
        if digest(word) in digests:
            built.profile.forget(word)
    built.texts = {id: text if text == texts.get(id) else without_forgotten(text, digests)
                   for id, text in built.texts.items()}


def _decide(profile: Profile, content: Content) -> None:
    """Replace the decisions of a profile."""
    profile.taught, profile.forgotten = {}, set()
    for word, count in content.taught.items():
        with contextlib.suppress(ValueError):  # it is no single word
            profile.teach(word, count)
    profile.forgotten = set(content.forgotten)
    profile.changed()


class OwnWords:
    """Answers questions for the words of profiles.

    Args:
        model: words that its vocabulary has are left out, unless they were taught.
        profiles: the profiles of the worker.
    """

    def __init__(self, model: Model, profiles: Profiles):
        self._known = set(model.vocabulary.keys)
        self._profiles = profiles

    def answer(self, question: OwnWordsQuestion) -> bytes:
        profile = self._profiles.get(question.profile)
        assert profile is not None
        known = self._known - {word_key(word) for word in profile.taught}
        words = [asdict(word) for word in profile.words(known)]
        return json.dumps({"words": words}, ensure_ascii=False).encode()
