"""Profiles in one SQLite file, for the services of one machine.

Each change is one transaction. It is on the disk (`synchronous=FULL`) when the method returns. Before a method that
removes text returns, the text is overwritten with zeros in the file (`secure_delete`), and the write-ahead log is
emptied. A removal needs room on the disk. So a file beside this one reserves some. It is deleted when the disk is full.
"""
from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from nextword.lm.forgetting import digest, without_forgotten
from nextword.serve.profiles.faults import (
    NoProfile,
    NoText,
    StoreDamaged,
    StoreFault,
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
    TEXT,
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

APPLICATION = 0x4E585457  # SQLite's application_id of these files
SCHEMA_VERSION = 1
PATIENCE = 2.0  # seconds that a transaction waits for those of other processes
RESERVE = 1_000_000  # bytes
LOG_PAGES = 200  # of 4,096 bytes; then the write-ahead log is written into the file
CHECKED_BYTES = 200_000_000  # a larger file is not checked at the start, because that would take seconds
SCHEMA = """
CREATE TABLE profiles (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,
    changed INTEGER NOT NULL, used REAL NOT NULL, version INTEGER NOT NULL, removals INTEGER NOT NULL,
    characters INTEGER NOT NULL);
CREATE INDEX by_use ON profiles (used);
CREATE TABLE texts (
    profile INTEGER NOT NULL, version INTEGER NOT NULL, id TEXT NOT NULL, learned INTEGER NOT NULL,
    words INTEGER NOT NULL, crc INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (profile, version)) WITHOUT ROWID;
CREATE UNIQUE INDEX by_id ON texts (profile, id);
CREATE TABLE taught (profile INTEGER, word TEXT, count INTEGER, PRIMARY KEY (profile, word)) WITHOUT ROWID;
CREATE TABLE forgotten (profile INTEGER, digest TEXT, PRIMARY KEY (profile, digest)) WITHOUT ROWID;
"""
PARTS = ("texts", "taught", "forgotten")  # the tables of a profile's content
LEFT = "it is removed, but the log of the profiles still has it, because it is being read; try again in a second"
# Errors by SQLite's own messages: Python 3.10 gives no codes.
FULL = ("full",)
DAMAGED = ("malformed", "not a database", "decode")

LAST = chr(0x10FFFF)  # comes after each name of a profile
Row = sqlite3.Row
Result = TypeVar("Result")


class SQLiteStore(ProfileStore):
    """The store in a file. Threads may share it; a process that forks must not have used it.

    Args:
        path: the file. `check` makes it where it is missing; only its owner can read it.
        limits: the most that is kept.
        writes: False for a worker, which only reads.
    """

    def __init__(self, path: Path, limits: Limits = DEFAULT, writes: bool = True):
        super().__init__(limits)
        self._path, self._writes = path, writes
        self._reserve = path.with_name(f"{path.name}-reserve")
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # device and inode of the open file

    def check(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(self._path.stat().st_mode):
                raise StoreUnavailable(f"{self._path} is no regular file: name another one for the profiles")
        try:
            with self._connected() as db:
                if self._path.stat().st_size <= CHECKED_BYTES:
                    (result,) = db.execute("PRAGMA quick_check(1)").fetchone()
                    if result != "ok":
                        raise StoreDamaged
                _empty_log(db)  # a process that was killed has left one
            self._keep_reserve()
        except StoreDamaged:
            raise StoreDamaged(f"{self._path} is damaged, or no file of profiles: put back a copy of it, or move it "
                               "away to begin anew") from None
        except StoreFault as fault:
            cause = f" ({fault.__cause__})" if fault.__cause__ else ""
            raise type(fault)(f"profiles cannot be kept in {self._path}: {fault}{cause}") from None

    def learn(self, key: ProfileKey, text: LearnedText) -> LearnedText:
        with self._changing() as db:
            row = self._checked(db, key) or self._make(db, key)
            number = row["number"]
            text = text.replaced(without_forgotten(text.text, _forgotten(db, number)))
            same = db.execute("SELECT * FROM texts WHERE profile = ? AND id = ?", (number, text.id)).fetchone()
            if same and same["text"] != text.text:
                raise TextTaken
            if not same:
                self.check_size(row["characters"] + text.characters)
                version = _change(db, number, text.characters, removes=False)
                _insert_texts(db, number, [text], version)
            return _text(same) if same else text

    def undo(self, key: ProfileKey, id: str) -> None:
        def undo(db: sqlite3.Connection) -> None:
            number = self._row(db, key)["number"]
            row = db.execute("SELECT * FROM texts WHERE profile = ? AND id = ?", (number, id)).fetchone()
            if not row:
                raise NoText
            db.execute("DELETE FROM texts WHERE profile = ? AND version = ?", (number, row["version"]))
            _change(db, number, -_text(row).characters)

        self._remove(undo)

    def teach(self, key: ProfileKey, word: str) -> None:
        with self._removing() as db:
            row = self._checked(db, key) or self._make(db, key)
            number = row["number"]
            self.check_size(row["characters"] + SHORTEST)
            lost = db.execute("DELETE FROM forgotten WHERE profile = ? AND digest = ?",
                              (number, digest(word))).rowcount
            lost += _delete_taught(db, number, word)
            db.execute("INSERT INTO taught VALUES (?, ?, ?)", (number, word, TAUGHT))
            _change(db, number, SHORTEST - SHORTEST * lost)

    def forget(self, key: ProfileKey, word: str) -> int:
        def forget(db: sqlite3.Connection) -> int:
            row = self._row(db, key)
            number, growth, count = row["number"], 0, 0
            growth -= SHORTEST * _delete_taught(db, number, word)
            for found in db.execute("SELECT * FROM texts WHERE profile = ?", (number,)).fetchall():
                text = _text(found)
                new, places = text.without_word(word)
                if places:
                    db.execute("UPDATE texts SET text = ?, words = ?, crc = ? WHERE profile = ? AND version = ?",
                               (new.text, new.words, _crc(new.text), number, found["version"]))
                    growth += new.characters - text.characters
                    count += places
            new_digest = db.execute("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", (number, digest(word))).rowcount
            _change(db, number, growth + SHORTEST * new_digest)
            return count

        return self._remove(forget)

    def load(self, key: ProfileKey, content: Content) -> Summary:
        content = content.without_forgotten()
        self.check_size(content.characters)
        with self._removing() as db:
            old = self._found(db, key)
            if old:
                _delete(db, old["number"])
            number = self._make(db, key, content)["number"]
            _insert_texts(db, number, content.texts, 1)
            db.executemany("INSERT INTO taught VALUES (?, ?, ?)", [(number, *item) for item in content.taught.items()])
            db.executemany("INSERT INTO forgotten VALUES (?, ?)", [(number, one) for one in content.forgotten])
            return _summary(db, self._row(db, key))

    def delete(self, key: ProfileKey) -> None:
        def delete(db: sqlite3.Connection) -> None:
            row = self._found(db, key)  # also a damaged one
            if not row:
                raise NoProfile
            _delete(db, row["number"])

        self._remove(delete)

    def summary(self, key: ProfileKey) -> Summary:
        with self._reading() as db:
            return _summary(db, self._row(db, key))

    def content(self, key: ProfileKey) -> Content:
        with self._reading() as db:
            return _content(db, self._row(db, key))

    def touch(self, key: ProfileKey) -> None:
        with self._changing() as db:
            db.execute("UPDATE profiles SET used = ? WHERE key = ?", (time.time(), key))

    def read(self, key: ProfileKey, known: State | None) -> Reading | None:
        with self._reading() as db:
            row = self._row(db, key)
            state = State(str(row["number"]), row["version"], row["removals"])
            if state == known:
                return None
            after = known.version if known and state.has_only_grown(known) else -1
            return Reading(state, _content(db, row, after), whole=after < 0)

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    # ---- Connections and transactions

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Lock the connection. After an error of SQLite it is closed, and the next call opens a new one."""
        with self._lock:
            try:
                if self._db is None or self._file != _identity(self._path):  # the file may have been replaced
                    self._disconnect()
                    self._connect()
                assert self._db is not None
                yield self._db
            except sqlite3.Error as error:
                self._disconnect()
                raise _fault(error) from error
            except OSError as error:
                self._disconnect()
                raise StoreUnavailable from error

    def _connect(self) -> None:
        if self._writes:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite's other files get the same mode
        file = self._path.resolve().as_uri()
        db = self._db = sqlite3.connect(f"{file}?mode=rw", uri=True, timeout=PATIENCE, isolation_level=None,
                                        check_same_thread=False)
        db.row_factory = Row
        self._file = _identity(self._path)
        application, version = _pragma(db, "application_id"), _pragma(db, "user_version")
        if application not in (0, APPLICATION) or version > SCHEMA_VERSION or (version and not application):
            raise StoreDamaged("it is a database of another program, or of a newer version")
        for setting in ("secure_delete = ON", "temp_store = MEMORY", "synchronous = FULL",
                        f"wal_autocheckpoint = {LOG_PAGES}"):
            db.execute(f"PRAGMA {setting}")
        if not self._writes:
            db.execute("PRAGMA query_only = ON")
        elif not version:
            db.execute("PRAGMA journal_mode = WAL")
            self._make_tables(db)

    @staticmethod
    def _make_tables(db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        if _pragma(db, "user_version") == 0:  # no other process has made them meanwhile
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreDamaged("it is a database of another program")
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")

    def _disconnect(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of the store."""
        with self._connected() as db, _transaction(db, "BEGIN"):
            yield db

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk at its end, or undone if there is an error."""
        with self._connected() as db, _transaction(db, "BEGIN IMMEDIATE"):
            yield db

    @contextlib.contextmanager
    def _removing(self) -> Iterator[sqlite3.Connection]:
        """A transaction. At its end, no file has the texts that it or an earlier one has removed."""
        with self._connected() as db:
            try:
                with _transaction(db, "BEGIN IMMEDIATE"):
                    yield db
            except (NoProfile, NoText):  # the log may still have it from an earlier try
                if _empty_log(db):
                    raise
            else:
                if _empty_log(db):
                    return
            raise StoreUnavailable(LEFT)

    def _remove(self, removal: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do a change that only removes. If the disk is full, it gets the room of the reserve."""
        def remove() -> Result:
            with self._removing() as db:
                return removal(db)

        try:
            return remove()
        except StoreFull:
            with contextlib.suppress(OSError):
                self._reserve.unlink()
            try:
                return remove()
            finally:
                self._keep_reserve()

    def _keep_reserve(self) -> None:
        """Keep a reserve on the disk if there is room."""
        try:
            # With O_EXCL a symbolic link is not followed.
            descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:  # there is one, or no room
            return
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(bytes(RESERVE))
        except OSError:
            with contextlib.suppress(OSError):
                self._reserve.unlink()

    @staticmethod
    def _found(db: sqlite3.Connection, key: ProfileKey) -> Row | None:
        row: Row | None = db.execute("SELECT * FROM profiles WHERE key = ?", (key,)).fetchone()
        return row

    def _row(self, db: sqlite3.Connection, key: ProfileKey) -> Row:
        if row := self._checked(db, key):
            return row
        raise NoProfile

    def _checked(self, db: sqlite3.Connection, key: ProfileKey) -> Row | None:
        row = self._found(db, key)
        if row:
            stored(NUMBERS, [row[name] for name in ("created", "changed", "version", "removals", "characters")])
        return row

    def _make(self, db: sqlite3.Connection, key: ProfileKey, content: Content | None = None) -> Row:
        (count,) = db.execute("SELECT count(*) FROM profiles").fetchone()
        if self.limits.drop and count >= self.limits.profiles:
            owner = owner_of(key)
            old = db.execute("SELECT number FROM profiles WHERE key >= ? AND key < ? ORDER BY used LIMIT ?",
                             (owner, f"{owner}{LAST}", count - self.limits.profiles + 1)).fetchall()
            for row in old:
                _delete(db, row["number"])
            count -= len(old)
        self.check_count(count + 1)
        created, version = (content.created, len(content.texts)) if content else (now(), 0)
        db.execute(
            "INSERT INTO profiles (key, created, changed, used, version, removals, characters) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, created, now(), time.time(), version, version, content.characters if content else 0),
        )
        return self._row(db, key)


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection, begin: str) -> Iterator[None]:
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _empty_log(db: sqlite3.Connection) -> bool:
    """Write the write-ahead log into the file, and empty it: it may have what was removed.

    Returns False if it cannot be emptied now, because another process reads it.
    """
    (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _fault(error: sqlite3.Error) -> StoreFault:
    message = str(error)
    if any(part in message for part in FULL):
        return StoreFull()
    if any(part in message for part in DAMAGED):
        return StoreDamaged()
    return StoreUnavailable()


def _crc(text: str) -> int:
    return zlib.crc32(text.encode())


def _text(row: Row) -> LearnedText:
    text = LearnedText(*stored(TEXT, (row["id"], row["text"], row["learned"], row["words"])))
    if _crc(text.text) != row["crc"]:
        raise StoreDamaged
    return text


def _insert_texts(db: sqlite3.Connection, profile: int, texts: Iterable[LearnedText], version: int) -> None:
    """Save texts, each with the next version; the first one has this version."""
    rows = [(profile, number, text.id, text.learned, text.words, _crc(text.text), text.text)
            for number, text in enumerate(texts, version)]
    db.executemany("INSERT INTO texts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _change(db: sqlite3.Connection, profile: int, growth: int, removes: bool = True) -> int:
    """Note a change of a profile that grew by so many characters; return its new version."""
    db.execute(
        "UPDATE profiles SET version = version + 1, removals = CASE WHEN ? THEN version + 1 ELSE removals END, "
        "changed = ?, used = ?, characters = characters + ? WHERE number = ?",
        (removes, now(), time.time(), growth, profile),
    )
    (version,) = db.execute("SELECT version FROM profiles WHERE number = ?", (profile,)).fetchone()
    return int(version)


def _delete_taught(db: sqlite3.Connection, profile: int, word: str) -> int:
    """Remove a taught word in each letter case; return the number of spellings that there were."""
    taught = [row["word"] for row in db.execute("SELECT word FROM taught WHERE profile = ?", (profile,))]
    same = [(profile, other) for other in spellings_of(word, taught)]
    db.executemany("DELETE FROM taught WHERE profile = ? AND word = ?", same)
    return len(same)


def _delete(db: sqlite3.Connection, profile: int) -> None:
    for table in PARTS:
        db.execute(f"DELETE FROM {table} WHERE profile = ?", (profile,))
    db.execute("DELETE FROM profiles WHERE number = ?", (profile,))


def _forgotten(db: sqlite3.Connection, profile: int) -> set[str]:
    return {row["digest"] for row in db.execute("SELECT digest FROM forgotten WHERE profile = ?", (profile,))}


def _content(db: sqlite3.Connection, row: Row, after: int = -1) -> Content:
    """Return a profile with its texts since a version."""
    number = row["number"]
    texts = db.execute("SELECT * FROM texts WHERE profile = ? AND version > ? ORDER BY version", (number, after))
    taught = db.execute("SELECT word, count FROM taught WHERE profile = ?", (number,))
    return Content(row["created"], row["changed"], [_text(text) for text in texts],
                   stored(TAUGHT_WORDS, dict(map(tuple, taught))), _forgotten(db, number))


def _summary(db: sqlite3.Connection, row: Row) -> Summary:
    number = row["number"]
    texts, words = db.execute("SELECT count(*), total(words) FROM texts WHERE profile = ?", (number,)).fetchone()
    taught, forgotten = (db.execute(f"SELECT count(*) FROM {table} WHERE profile = ?", (number,)).fetchone()[0]
                         for table in ("taught", "forgotten"))
    return Summary(row["created"], row["changed"], texts, int(words), row["characters"], taught, forgotten)
