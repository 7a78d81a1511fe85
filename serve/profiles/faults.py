"""The reasons why a store of profiles does not do what it is asked. They never name a profile, and quote no text."""
from __future__ import annotations

from typing import ClassVar

from nextword.serve.engine.faults import NoAnswer


class StoreFault(NoAnswer):
    """Nothing was changed; the message says why, and what to do.

    Attributes:
        status: the HTTP status.
        kind: one word for programs.
        where: the place in the request, if the request is at fault.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal_error"
    where: ClassVar[str | None] = None
    message: ClassVar[str] = "the store of profiles failed"

    def __init__(self, message: str | None = None):
        super().__init__(message or self.message)


class NoStore(StoreFault):
    """The service keeps no profiles."""

    status, kind, where = 501, "no_profiles", "profile"
    message = "this service keeps no profiles: start it with --profiles FILE or --profiles redis://HOST"


class NoProfile(StoreFault):
    """There is no such profile, or it belongs to another API key."""

    status, kind, where = 404, "no_such_profile", "profile"
    message = "there is no such profile; POST a text to it, and it is made"


class NoText(StoreFault):
    """The profile has no text of this id."""

    status, kind, where = 404, "no_such_text", "id"
    message = "the profile has no text of this id"


class TextTaken(StoreFault):
    """The profile has another text of this id."""

    status, kind, where = 409, "id_taken", "id"
    message = "the profile has another text of this id; leave the id out, and a new one is made"


class ProfileFull(StoreFault):
    """The profile would get more characters than it may have."""

    status, kind = 409, "profile_full"
    message = "the profile would have too many characters"


class StoreFull(StoreFault):
    """There are as many profiles as the service may keep, or the disk or redis is full."""

    status, kind = 507, "store_full"
    message = "profiles cannot be saved, because the disk is full: the operator must make room"


class StoreUnavailable(StoreFault):
    """The store cannot be reached now."""

    status, kind = 503, "unavailable"
    message = "profiles cannot be read or saved now; try again in a second"


class ProfileBeingRead(StoreFault):
    """A worker has not read all of a large profile yet."""

    status, kind, where = 503, "unavailable", "profile"
    message = "the profile is large, and it is still being read; try again in a second"


class StoreDamaged(StoreFault):
    """The store has something else than what was saved."""

    status, kind = 500, "store_damaged"
    message = "the saved profiles are damaged: the operator must put back a copy of them"


FAULTS: dict[str, type[StoreFault]] = {fault.__name__: fault for fault in StoreFault.__subclasses__()}
