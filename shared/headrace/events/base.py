"""What every event is made of (pure).

One class per event, past tense, frozen, one docstring line that says who writes it and when. `tag` is its name in the
log, on the feed and in `docs/events.md`. Defaults are left out of the bytes. A changed meaning is a new class with a
new `SCHEMA` and an upcast, never an edit: golden files freeze with the first tag.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from headrace.codec import NULL, Raw


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An immutable fact."""

    SCHEMA: ClassVar[int] = 1

    @classmethod
    def type_name(cls) -> str:
        """Give the event's name in the log, such as `run.queued`."""
        return str(cls.__struct_config__.tag)

    @property
    def parts(self) -> "Sequence[Event]":
        """Give the events that it stands for, in order: those that came together in it, of any other itself."""
        return (self,)


class Actor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who did something: a token, a trigger, or headrace itself."""

    id: str
    name: str
    roles: tuple[str, ...] = ()


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An error as it is recorded: a type of VOCABULARY "Error envelope", never a traceback."""

    type: str
    message: str
    details: dict[str, Any] = {}
    plugin: str | None = None


class BlobRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A body too large to travel inline: its `sha256:` digest, its size in bytes, and a preview marked as such."""

    digest: str
    size_bytes: int
    preview: str = ""
    media_type: str = "application/json"


class ArtifactInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A kept output: its type and label, its value (a path, a url, a number), and where its body is."""

    type: str
    label: str
    value: Raw = NULL
    body: Raw = NULL
    blob: BlobRef | None = None
    media_type: str = "text/plain"


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where a result came from: the source that was asked and when it answered (milliseconds since 1970)."""

    source: str
    fetched_at: int
    complete: bool = True
    calls: int = 1
    next_cursor: str | None = None


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How many attempts may begin in a period of seconds."""

    limit: int
    period_s: float


SYSTEM = Actor(id="system", name="headrace", roles=())


class CarriedPermit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A request for a key, as it goes with the key into its next stream."""

    permit_id: str
    run_id: str
    limit: int
    period_ms: int = 0
    on_conflict: str = "queue"
    priority: int = 0
    count: int = 1
    given: int = 0
    asked_at: int = 0
    recalled_for: str = ""
