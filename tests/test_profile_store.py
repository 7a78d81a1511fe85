"""The stores of profiles, at their interface: a file of SQLite, and a real redis where one is installed."""
from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nextword.lm.profile import END, Profile
from nextword.serve.profiles import faults, redis_store
from nextword.serve.profiles.opening import open_store
from nextword.serve.profiles.store import Content, LearnedText, Limits, ProfileStore
from nextword.serve.worker import profiles as worker_profiles
from nextword.serve.worker.profiles import Profiles
from tests.harness.redis import Redis, find_redis
from tests.harness.waiting import wait_until

Open = Callable[..., ProfileStore]
KEY = "owner/me"
needs_redis = pytest.mark.skipif(not find_redis(), reason="redis-server or the package redis is not installed")


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty store."""
    if request.param == "sqlite":
        yield str(tmp_path / "profiles.sqlite")
        return
    if not find_redis():
        pytest.skip("redis-server or the package redis is not installed")
    with Redis(tmp_path) as server:
        yield server.address


@pytest.fixture
def opened(address: str) -> Iterator[Open]:
    """A function that opens the store once more, as another process would."""
    stores = []

    def opened(**limits: int | bool) -> ProfileStore:
        stores.append(open_store(address, Limits(**limits)))  # type: ignore[arg-type]
        stores[-1].check()
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


def texts(store: ProfileStore, key: str = KEY) -> list[str]:
    return [text.text for text in store.content(key).texts]


def test_what_is_learned_is_kept_until_it_is_taken_back(opened: Open) -> None:
    store, other = opened(), opened()
    first = store.learn(KEY, LearnedText.of("We met Zofia."))
    second = other.learn(KEY, LearnedText.of("Zofia lives here."))
    assert texts(store) == ["We met Zofia.", "Zofia lives here."]
    assert (store.summary(KEY).texts, store.summary(KEY).words) == (2, 6)
    store.undo(KEY, first.id)
    assert texts(other) == ["Zofia lives here."]
    with pytest.raises(faults.NoText):
        store.undo(KEY, first.id)
    store.undo(KEY, second.id)
    assert (store.summary(KEY).texts, store.summary(KEY).words, store.summary(KEY).characters) == (0, 0, 0)
    store.delete(KEY)
    for use in (store.summary, store.content, store.delete, lambda key: store.read(key, None)):
        with pytest.raises(faults.NoProfile):
            use(KEY)


def test_a_text_that_is_sent_again_is_learned_once(opened: Open) -> None:
    store = opened()
    for _ in range(2):
        assert store.learn(KEY, LearnedText.of("We met Zofia.", "mine")).id == "mine"
    with pytest.raises(faults.TextTaken):
        store.learn(KEY, LearnedText.of("Another text.", "mine"))
    assert texts(store) == ["We met Zofia."]


def test_a_forgotten_word_is_in_no_text_and_comes_in_with_none(opened: Open) -> None:
    store = opened()
    store.teach(KEY, "Kowalczyk")
    store.learn(KEY, LearnedText.of("Mr Kowalczyk’s dog, KOWALCZYK and Nowak-Kowalczyk met Kowalczykowa."))
    assert store.forget(KEY, "kowalczyk") == 3
    store.learn(KEY, LearnedText.of("I called Kowalczyk."))
    assert texts(store) == ["Mr \ufffc dog, \ufffc and \ufffc met Kowalczykowa.", "I called \ufffc."]
    content = store.content(KEY)
    assert content.taught == {} and len(content.forgotten) == 1
    store.teach(KEY, "Kowalczyk")
    store.learn(KEY, LearnedText.of("I called Kowalczyk."))
    assert texts(store)[-1] == "I called Kowalczyk."
    assert [*store.content(KEY).taught] == ["Kowalczyk"] and not store.content(KEY).forgotten
    assert store.summary(KEY).characters == store.content(KEY).characters


def test_workers_read_only_what_is_new(opened: Open) -> None:
    store, worker = opened(), opened()
    store.learn(KEY, LearnedText.of("First.", "1"))
    reading = worker.read(KEY, None)
    assert reading and reading.whole and worker.read(KEY, reading.state) is None
    store.learn(KEY, LearnedText.of("Second.", "2"))
    more = worker.read(KEY, reading.state)
    assert more and not more.whole and [text.text for text in more.content.texts] == ["Second."]
    for change in (lambda: store.undo(KEY, "1"), lambda: store.teach(KEY, "word"), lambda: store.forget(KEY, "word"),
                   lambda: store.load(KEY, Content(1, 1)), lambda: (store.delete(KEY), store.teach(KEY, "word"))):
        change()
        store.learn(KEY, LearnedText.of("Another."))
        after = worker.read(KEY, more.state)
        assert after and after.whole and texts(store) == [text.text for text in after.content.texts]
        more = after


def test_an_export_is_the_same_profile_elsewhere(opened: Open) -> None:
    store = opened()
    for number in range(3):
        store.learn(KEY, LearnedText.of(f"Text {number} of Zofia and Barnaby.", f"id-{number}", learned=number))
    store.teach(KEY, "pierogi")
    store.forget(KEY, "Zofia")
    content = store.content(KEY)
    store.learn("owner/other", LearnedText.of("This is replaced."))
    assert store.load("owner/other", content) == store.summary("owner/other")
    loaded = store.content("owner/other")
    assert (loaded.texts, loaded.taught, loaded.forgotten) == (content.texts, content.taught, content.forgotten)
    store.undo("owner/other", "id-1")
    assert len(store.content(KEY).texts) == 3, "the profiles have nothing in common"


def test_limits_are_kept_and_only_a_setting_drops_profiles(opened: Open) -> None:
    store = opened(profiles=2, characters=200)
    store.learn("o/1", LearnedText.of("x" * 150, "long"))
    with pytest.raises(faults.ProfileFull, match="201 characters.*200"):
        store.learn("o/1", LearnedText.of("x" * 51))
    with pytest.raises(faults.ProfileFull):
        store.load("o/1", Content(0, 0, [LearnedText.of("x" * 201)]))
    store.learn("o/1", LearnedText.of(""))
    with pytest.raises(faults.ProfileFull):
        store.teach("o/1", "word")
    assert store.summary("o/1").characters == 200
    store.teach("o/2", "word")
    for make in (lambda: store.teach("o/3", "word"), lambda: store.load("o/3", Content(0, 0)),
                 lambda: store.learn("o/3", LearnedText.of("text"))):
        with pytest.raises(faults.StoreFull, match="keeps 2 profiles"):
            make()
    store.touch("o/1")
    dropping = opened(profiles=2, characters=200, drop=True)
    dropping.teach("o/3", "word")
    assert [key for key in ("o/1", "o/2", "o/3") if _exists(store, key)] == ["o/1", "o/3"]


def test_no_owner_drops_the_profiles_of_another(opened: Open) -> None:
    store = opened(profiles=3, drop=True)
    keys = ("a/old", "ab/1", "b/1", "b/2", "b/3")
    store.teach("a/old", "word")
    for make in (lambda: store.teach("b/1", "word"), lambda: store.learn("b/2", LearnedText.of("text")),
                 lambda: store.load("b/3", Content(0, 0))):
        make()
    assert [key for key in keys if _exists(store, key)] == ["a/old", "b/2", "b/3"]
    with pytest.raises(faults.StoreFull, match="keeps 3 profiles"):
        store.teach("ab/1", "word")
    smaller = opened(profiles=2, drop=True)
    smaller.teach("b/1", "word")
    assert [key for key in keys if _exists(store, key)] == ["a/old", "b/1"]


@needs_redis
def test_redis_drops_nothing_for_a_profile_that_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Redis(tmp_path) as server:
        store = open_store(server.address, Limits(profiles=1, characters=100, drop=True))
        store.teach("o/1", "word")
        with pytest.raises(faults.ProfileFull):
            store.learn("o/2", LearnedText.of("x" * 101))
        assert _exists(store, "o/1")
        store.learn("o/2", LearnedText.of("text"))
        assert (_exists(store, "o/1"), _exists(store, "o/2")) == (False, True)


@needs_redis
def test_redis_gives_up_where_others_do_not_stop_to_change_a_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "PATIENCE", 0.2)
    with Redis(tmp_path) as server:
        store, other = open_store(server.address), open_store(server.address)
        store.learn(KEY, LearnedText.of("One.", "1"))
        read = redis_store._Header.of

        def read_and_change(client: Any, name: str) -> Any:
            header = read(client, name)
            if client is not other._client:  # type: ignore[attr-defined]
                other._client.hincrby(name, "changed", 1)  # type: ignore[attr-defined]
            return header

        with monkeypatch.context() as patch:
            patch.setattr(redis_store._Header, "of", read_and_change)
            with pytest.raises(faults.StoreUnavailable, match="others change the same profile"):
                store.learn(KEY, LearnedText.of("Two.", "2"))
        store.learn(KEY, LearnedText.of("Three.", "3"))
        assert texts(store) == ["One.", "Three."]


def damage_redis(store: ProfileStore, changes: dict[str, str | bytes]) -> None:
    store._client.hset("{nextword}:" + KEY, mapping=changes)  # type: ignore[attr-defined]


def check_damage_is_told(store: ProfileStore) -> None:
    """Each way of reading the profile tells of the damage, and the profile can be deleted."""
    with pytest.raises(faults.StoreDamaged):
        store.content(KEY)
    with pytest.raises(faults.StoreDamaged):
        store.read(KEY, None)
    store.delete(KEY)
    assert not _exists(store, KEY)


@needs_redis
@pytest.mark.parametrize("changes", [
    {"created": "-1"}, {"characters": "NaN"}, {"words": "1e308"}, {"version": "9" * 5_000}, {"removals": ""},
    {"taught": "[1]"}, {"taught": '{"word": -1}'}, {"taught": '{"word": "3"}'}, {"taught": "[" * 100_000},
    {"text:1": "5"}, {"text:1": '["one", "text", "yesterday", 1]'}, {"text:1": '["one", "text", 1, 1e308]'},
    {"text:1": '["one", "text"]'}, {"text:1": "null"}, {"text:1": b"\xff"}, {"text:one": '["one", "text", 1, 1]'},
], ids=lambda changes: repr(changes)[:40])
def test_what_redis_has_in_another_form_is_told_as_damage(tmp_path: Path, changes: dict[str, str | bytes]) -> None:
    with Redis(tmp_path) as server:
        store = open_store(server.address)
        store.learn(KEY, LearnedText.of("One.", "one"))
        damage_redis(store, changes)
        check_damage_is_told(store)
        store._client.set("{nextword}:" + KEY, "no hash")  # type: ignore[attr-defined]
        with pytest.raises(faults.StoreDamaged):
            store.summary(KEY)


@pytest.mark.parametrize("change", [
    "UPDATE texts SET learned = -1", "UPDATE texts SET learned = 'yesterday'", "UPDATE texts SET words = 1e308",
    "UPDATE texts SET text = x'00'", "UPDATE texts SET id = x'00'", "UPDATE taught SET count = 0",
    "UPDATE taught SET count = 'three'", "UPDATE profiles SET created = 'never'", "UPDATE profiles SET characters = -1",
])
def test_what_a_file_has_in_another_form_is_told_as_damage(tmp_path: Path, change: str) -> None:
    file = tmp_path / "profiles.sqlite"
    with contextlib.closing(open_store(str(file))) as store, contextlib.closing(sqlite3.connect(file)) as damaging:
        store.check()
        store.learn(KEY, LearnedText.of("One.", "one"))
        store.teach(KEY, "word")
        damaging.execute(change)
        damaging.commit()
        check_damage_is_told(store)


def test_the_reserve_is_written_to_no_other_place(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "profiles.sqlite-reserve").symlink_to(elsewhere)
    with contextlib.closing(open_store(str(tmp_path / "profiles.sqlite"))) as store:
        store.check()
        store.learn(KEY, LearnedText.of("One."))
    assert not elsewhere.exists()


def _exists(store: ProfileStore, key: str) -> bool:
    try:
        store.summary(key)
    except faults.NoProfile:
        return False
    return True


def test_clients_that_learn_at_once_lose_nothing(opened: Open) -> None:
    stores = [opened() for _ in range(4)]
    reading = threading.Event()

    def read() -> set[str]:
        state, seen = None, set()
        while not reading.is_set() or (news := stores[0].read(KEY, state)):
            try:
                news = stores[0].read(KEY, state)
            except faults.NoProfile:
                continue
            if news:
                assert not (seen & {text.id for text in news.content.texts}), "each text is read once"
                state, seen = news.state, seen | {text.id for text in news.content.texts}
        return seen

    with ThreadPoolExecutor(5) as pool:
        reader = pool.submit(read)
        learned = list(pool.map(
            lambda number: stores[number % 4].learn(KEY, LearnedText.of(f"Text {number}.")).id, range(60)
        ))
        reading.set()
    assert sorted(text.id for text in stores[0].content(KEY).texts) == sorted(learned)
    assert reader.result() == set(learned)
    assert stores[0].summary(KEY).texts == 60


def test_forgetting_leaves_nothing_in_the_files(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "profiles.sqlite"))
    store.check()
    for number in range(300):  # more than the write-ahead log keeps
        store.learn(f"o/{number % 3}", LearnedText.of(f"Text {number}: I called Kowalczyk. " * (1 + number % 7 * 30)))
    store.teach("o/0", "kowalczyk")

    def places(word: bytes) -> int:
        return sum(file.read_bytes().lower().count(word) for file in tmp_path.iterdir())

    assert places(b"kowalczyk") > 100
    for number in range(3):
        store.forget(f"o/{number}", "Kowalczyk")
    assert (places(b"kowalczyk"), places(b"i called") > 100) == (0, True)
    taken = store.learn("o/0", LearnedText.of("a secret"))
    store.undo("o/0", taken.id)
    assert places(b"secret") == 0
    for number in range(2):
        store.delete(f"o/{number}")
    store.load("o/2", Content(0, 0))
    assert places(b"called") == places(b"o/0") == 0
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {"0o600"}


@needs_redis
def test_redis_rewrites_its_file_after_a_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nextword.serve.profiles.redis_store.REWRITE_AFTER", 0.1)
    with Redis(tmp_path) as server:
        store = open_store(server.address)

        def places(word: bytes) -> int:
            count = 0
            for file in tmp_path.rglob("*.*"):
                with contextlib.suppress(OSError):  # the socket, and files that redis has just removed
                    count += file.read_bytes().lower().count(word)
            return count

        store.learn(KEY, LearnedText.of("I called Kowalczyk."))
        assert places(b"kowalczyk") == 1
        store.forget(KEY, "Kowalczyk")
        wait_until(lambda: places(b"kowalczyk") == 0, "the new file")
        assert places(b"called") == 1
        store.delete(KEY)
        store.close()  # which does not wait for the time
        wait_until(lambda: places(b"called") == 0, "the new file")


def test_nothing_is_forgotten_while_the_log_still_has_it(tmp_path: Path) -> None:
    """A process that reads keeps the log from being emptied: what it may have is not told to be forgotten."""
    file = tmp_path / "profiles.sqlite"
    with contextlib.closing(open_store(str(file))) as store, contextlib.closing(sqlite3.connect(file)) as reader:
        store.check()
        store.learn(KEY, LearnedText.of("We met Zofia.", "one"))
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM texts").fetchall()
        with pytest.raises(faults.StoreUnavailable, match="log .* still has it"):
            store.undo(KEY, "one")
        reader.execute("COMMIT")
        with pytest.raises(faults.NoText):
            store.undo(KEY, "one")
        assert not any(b"Zofia" in part.read_bytes() for part in tmp_path.iterdir())


def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "profiles.sqlite"
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(faults.StoreDamaged, match="is damaged, or no file of profiles"):
        open_store(str(file)).check()
    assert file.read_bytes() == b"no database" * 1000
    for unusable in (tmp_path, tmp_path / "missing" / "file"):
        with pytest.raises(faults.StoreUnavailable, match=str(unusable)):
            open_store(str(unusable)).check()
    for address in ("redis://localhost:port", "redis://localhost/x?socket_timeout=no"):
        if find_redis():
            with pytest.raises(faults.StoreUnavailable, match="no address of redis"):
                open_store(address)


def test_a_damaged_file_is_found_and_nothing_else_is_answered(tmp_path: Path) -> None:
    file = tmp_path / "profiles.sqlite"
    store = open_store(str(file))
    store.check()
    store.learn(KEY, LearnedText.of("We met Zofia at the market."))
    store.close()
    content = file.read_bytes()
    file.write_bytes(content.replace(b"at the market", b"at the margin"))
    store.check()  # SQLite itself does not see it
    for use in (store.content, lambda key: store.read(key, None), lambda key: store.forget(key, "Zofia")):
        with pytest.raises(faults.StoreDamaged):
            use(KEY)
    store.close()
    file.write_bytes(content[:4096] + b"\xff" * 8192 + content[4096 + 8192 :])
    with pytest.raises(faults.StoreDamaged):
        store.check()
    store.close()
    file.write_bytes(content)  # the copy is put back, under the same name
    assert texts(store) == ["We met Zofia at the market."]


def test_a_file_that_is_replaced_or_removed_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "profiles.sqlite"
    store, worker = open_store(str(file)), open_store(str(file), writes=False)
    store.check()
    store.learn(KEY, LearnedText.of("Before."))
    assert worker.read(KEY, None)
    for part in tmp_path.iterdir():
        part.unlink()
    store.learn(KEY, LearnedText.of("After."))
    reading = worker.read(KEY, None)
    assert reading and [text.text for text in reading.content.texts] == ["After."]


@pytest.mark.skipif(not shutil.which("unshare"), reason="there is no unshare")
def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    program = """
import sys, pathlib
from nextword.serve.profiles.faults import StoreFull
from nextword.serve.profiles.opening import open_store
from nextword.serve.profiles.store import LearnedText
folder = pathlib.Path(sys.argv[1])
store = open_store(str(folder / "profiles.sqlite"))
store.check()
learned = []
try:
    while True:
        learned.append(store.learn("o/me", LearnedText.of("Some words. " * 500)).id)
except StoreFull as fault:
    print(fault)
assert [text.id for text in store.content("o/me").texts] == learned and len(learned) > 10
reader = open_store(str(folder / "profiles.sqlite"), writes=False)
assert len(reader.read("o/me", None).content.texts) == len(learned)
(folder / "filler").unlink()
store.learn("o/me", LearnedText.of("More."))
assert len(store.content("o/me").texts) == len(learned) + 1
print("kept", len(learned))
"""
    mount = (f"mount -t tmpfs -o size=3m tmpfs {tmp_path} && head -c 1000000 /dev/zero > {tmp_path}/filler && "
             f"exec $PYTHON -c \"$PROGRAM\" {tmp_path}")
    run = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", mount], capture_output=True, text=True,
                         env={**os.environ, "PYTHON": sys.executable, "PROGRAM": program})
    if "unshare" in run.stderr or "mount" in run.stderr:
        pytest.skip(f"no file system can be mounted here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    assert "because the disk is full" in run.stdout and "kept" in run.stdout


def sequences(profile: Profile) -> list[list[str]]:
    """Return the learned texts of a profile as tokens, sorted."""
    texts: list[list[str]] = [[]]
    for number in profile.tokens[1:].tolist():
        if number == END:
            texts.append([])
        else:
            texts[-1].append(profile.spellings[number] if number >= 0 else "gone")
    return sorted(text for text in texts if text)


def test_a_profile_that_follows_the_changes_is_the_one_that_is_built_anew(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "profiles.sqlite"))
    store.check()
    following = Profiles(store)
    draw = random.Random(0)
    words = ["I", "met", "Zofia", "zofia’s", "Zofia-Anna", "don't", "naïve", "Łódź.\n", "twice", "twice", "🙂", "\n"]
    ids = []
    for _ in range(120):
        change = draw.random()
        if change < 0.6 or not ids:
            text = " ".join(draw.choices(words, k=draw.randrange(1, 12)))
            ids.append(store.learn(KEY, LearnedText.of(text)).id)
        elif change < 0.75:
            store.undo(KEY, ids.pop(draw.randrange(len(ids))))
        elif change < 0.85:
            store.forget(KEY, draw.choice(["zofia", "ANNA", "naïve", "Łódź", "met"]))
        elif change < 0.97:
            store.teach(KEY, draw.choice(["Zofia", "anna", "NAÏVE", "Łódź", "met"]))
        else:
            store.load(KEY, store.content(KEY))
        if draw.random() < 0.5:
            assert following.update([KEY]) == {}
            anew = Profiles(store)
            anew.update([KEY])
            own, other = following.get(KEY), anew.get(KEY)
            assert own and other
            assert sequences(own) == sequences(other)
            assert (own.taught, own.forgotten) == (other.taught, other.forgotten)
            assert own.words() == other.words()


def test_a_profile_that_cannot_be_followed_ends_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, other = tmp_path / "profiles.sqlite", "owner/other"
    with contextlib.closing(open_store(str(file))) as store:
        store.check()
        for key in (KEY, other):
            store.learn(key, LearnedText.of("We met Zofia.", "one"))
            store.learn(key, LearnedText.of("We met Jan and all of his many friends in the old town.", "two"))
        following = Profiles(store)
        assert following.update([KEY, other]) == {}
        store.undo(KEY, "one")
        with monkeypatch.context() as patch:
            patch.setattr(Profile, "unlearn", lambda self, text: self.teach("two words"))  # which is a ValueError
            assert following.update([KEY]) == {}
        assert [word.word for word in following.get(KEY).words({"we", "met"})][:1] == ["all"]
        with contextlib.closing(sqlite3.connect(file)) as damaging:
            damaging.execute("UPDATE texts SET text = x'00' WHERE profile = 1")
            damaging.execute("UPDATE profiles SET version = 9, removals = 9 WHERE number = 1")
            damaging.commit()
        faulty = following.update([KEY, other])
        assert list(faulty) == [KEY] and isinstance(faulty[KEY], faults.StoreDamaged)
        assert "Zofia" in following.get(other).spellings


def test_a_large_profile_is_learnt_in_parts_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_profiles, "SECONDS", 0.0)
    monkeypatch.setattr(worker_profiles, "SECONDS_AHEAD", 0.0)
    other = "owner/other"
    with contextlib.closing(open_store(str(tmp_path / "profiles.sqlite"))) as store:
        store.check()
        for number in range(4):
            store.learn(KEY, LearnedText.of(f"Text {number} of Zofia.", f"id-{number}"))
        store.learn(other, LearnedText.of("One text."))
        profiles = Profiles(store)
        assert {key: type(fault) for key, fault in profiles.update([KEY, other]).items()} == {
            KEY: faults.ProfileBeingRead}
        assert profiles.get(other)
        assert profiles.learn_ahead()
        store.undo(KEY, "id-3")
        store.forget(KEY, "Zofia")
        store.learn(KEY, LearnedText.of("A new text.", "new"))
        assert list(profiles.update([KEY])) == [KEY]
        while profiles.learn_ahead():
            pass
        assert profiles.update([KEY, other]) == {}
        anew = Profiles(store)
        anew.update([KEY])
        while anew.learn_ahead():
            pass
        own, fresh = profiles.get(KEY), anew.get(KEY)
        assert own and fresh and sequences(own) == sequences(fresh) and len(sequences(own)) == 4
        assert not any("zofia" in spelling.lower() for spelling in own.spellings)
