"""What a run keeps of what lies outside it: signals, events, children, permits, and runs that wait for it (pure)."""

import msgspec

from headrace.codec import NULL, Raw
from headrace.events.base import Actor


class Wait(msgspec.Struct, omit_defaults=True):
    """What a step waits for: a signal or an event by `name`, or another run (`run_id`), which may have it on record."""

    kind: str
    name: str
    when: str | None = None
    run_id: str | None = None
    expires_at: int | None = None
    registered: bool = False


class Signal(msgspec.Struct, omit_defaults=True):
    """A signal that no step has taken yet."""

    signal_id: str
    name: str
    by: Actor
    at: int
    data: Raw = NULL


class Child(msgspec.Struct, omit_defaults=True):
    """A child run that has not said how it ended; `started` once it is known to be on record."""

    step: str
    attempt: int
    asked_at: int
    index: int | None = None
    iteration: int = 0
    started: bool = False


class Heard(msgspec.Struct, omit_defaults=True):
    """An event of this run that another one waits for and has not confirmed; `version` is its place."""

    version: int
    name: str
    at: int
    data: Raw


class Watch(msgspec.Struct, omit_defaults=True):
    """A run that waits for events of this one; `pending` are those that it has not confirmed."""

    by_run: str
    name: str
    at: int
    pending: list[Heard] = []


class Permit(msgspec.Struct, omit_defaults=True):
    """What the run has asked of a key that many runs share: for itself, or for `count` attempts; `granted` so many."""

    flow_id: str
    kind: str
    key: str
    limit: int
    period_ms: int = 0
    on_conflict: str = "queue"
    count: int = 1
    granted: int = 0
    asked_at: int = 0
    received: bool = False
    held_by: tuple[str, ...] = ()
    until: int | None = None
