"""Opens the store that the setting `profiles` names."""
from __future__ import annotations

from pathlib import Path

from nextword.serve.profiles.store import DEFAULT, Limits, ProfileStore

SCHEMES = ("redis://", "rediss://", "unix://")


def open_store(address: str, limits: Limits = DEFAULT, writes: bool = True) -> ProfileStore:
    """Return the store at an address: a file, or redis. Each process opens its own. Raises StoreUnavailable.

    writes: False for a worker, which only reads.
    """
    if address.startswith(SCHEMES):
        from nextword.serve.profiles.redis_store import RedisStore

        return RedisStore(address, limits)
    from nextword.serve.profiles.sqlite_store import SQLiteStore

    return SQLiteStore(Path(address), limits, writes)
