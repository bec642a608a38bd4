"""What a run keeps beside its steps: signals, children, permits, approvals, failed tries, what must be undone (pure)."""

from typing import Final

import msgspec

from headrace.codec import NULL, Raw
from headrace.events.base import Actor, ArtifactInfo, BlobRef, ErrorInfo
from headrace.events.steering import ItemsPiece, OutcomeLost, RunPaused

Left = tuple[int | None, str | None, int, ArtifactInfo]
"""An artifact that a step has left: of which item and which attempt, when it came, and what it is."""


BROKEN: Final = "broken"
"""Why an attempt that acted was cut off: what it gave is of no use."""


class Settled(msgspec.Struct, omit_defaults=True):
    """An item that is over: its output or its error, and which attempt it was that ended it."""

    output: Raw = NULL
    blob: BlobRef | None = None
    error: ErrorInfo | None = None
    attempt: int = 1


class Cut(msgspec.Struct, omit_defaults=True):
    """An attempt that was claimed and then cut off: it may have acted. `before` counts those of which that was so earlier."""

    attempt: int
    attempt_id: str
    nonce: str
    reason: str
    worker: str | None = None
    claimed_at: int | None = None
    digest: str | None = None
    before: int = 0


class Try(msgspec.Struct, omit_defaults=True):
    """An instance that is under way: its attempt, and the claim of the worker that acts.

    `since` is when the attempt began to wait for a worker, kept where that may take only so long. `unknown` says that
    its worker was lost while it acted: a person must say what happened. `limited` is the rate limit that it waits for,
    `child` the run that performs it instead of a worker. `lost` and `returned` count the attempts before it whose
    worker died, or handed it back because it was leaving: neither is one of those that a step's retry allows. `cut` is
    the newest attempt before it that may have acted, kept until one succeeds or somebody says what happened.
    """

    attempt: int = 1
    lost: int = 0
    returned: int = 0
    retry_at: int | None = None
    nonce: str | None = None
    claimed_by: str | None = None
    claimed_at: int | None = None
    claimed_digest: str | None = None
    since: int | None = None
    unknown: OutcomeLost | None = None
    limited: str | None = None
    child: str | None = None
    cut: Cut | None = None

    @property
    def doubtful(self) -> bool:
        """Tell whether a worker was permitted to act, in this attempt or in an earlier one that was cut off."""
        return self.nonce is not None or self.cut is not None

    @property
    def uncertain(self) -> bool:
        """Tell whether it is unknown if one has acted; by its key an act that happened once has happened."""
        return not self.acted and self.doubtful

    @property
    def acted(self) -> bool:
        """Tell whether an earlier attempt is known to have acted."""
        return self.cut is not None and self.cut.reason == BROKEN

    @property
    def idle(self) -> bool:
        """Tell whether the attempt is not with the workers: a child run has it, or it waits for something else."""
        waits = self.retry_at is not None or self.unknown is not None or self.limited is not None
        return waits or self.child is not None


class MapState(msgspec.Struct, omit_defaults=True):
    """How far a map is. Items below `next` are under way or over: over are those `settled`, and those in `pieces`.

    `size` is how many bytes the list of results takes, `weight` those of what is settled here; `large`: some results
    are bodies of their own; `first` is how the list begins. `accepted` is the attempt that ended an item which was
    stopped, where it was not the first; `cut` are the items that the end of the run or of the step cut off.
    """

    count: int
    next: int = 0
    done: int = 0
    failures: int = 0
    size: int = 0
    weight: int = 0
    large: bool = False
    first: str = ""
    open: dict[int, Try] = {}
    settled: dict[int, Settled] = {}
    pieces: list[ItemsPiece] = []
    failed_first: dict[int, str] = {}
    accepted: dict[int, int] = {}
    cut: list[int] = []


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
    """A child run that has not said how it ended; `started` once it is known to be on record.

    `turn` is the newest turn of its parent's resting and going on that it has confirmed, or that came before it.
    """

    step: str
    attempt: int
    asked_at: int
    index: int | None = None
    iteration: int = 0
    started: bool = False
    turn: int = 0


class Hold(msgspec.Struct, omit_defaults=True):
    """A run's rest among its relatives: `turned` is the version at which it last began to rest or to go on, by `by`.

    `paused` is its parent's pause, `turn` the newest turn of its parent that it knows.
    """

    turned: int = 0
    by: Actor | None = None
    paused: RunPaused | None = None
    turn: int = 0


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


class Ask(msgspec.Struct, omit_defaults=True):
    """An approval that the run waits for or has had."""

    approval_id: str
    step: str
    digest: str
    shown: Raw
    roles: tuple[str, ...]
    quorum: int
    asked_at: int
    expires_at: int | None = None
    received: bool = False
    status: str = "pending"


class Done(msgspec.Struct, omit_defaults=True):
    """Work that may have to be undone: a step's, an item's, or a round's, with its output (and its item, in a loop).

    With a `place` these two are there in the body that was recalled last: see `work`.
    """

    step: str
    index: int | None = None
    output: Raw = NULL
    blob: BlobRef | None = None
    iteration: int = 0
    item: Raw = NULL
    place: int | None = None


class Undo(msgspec.Struct, omit_defaults=True):
    """How far the undoing of a run is: `item` is undone now; `going` once everything else has stopped.

    `error` and `step`, or `by` and `why`, say how the run ends after it. `since` and `spent_ms` are the clock of the
    whole undoing, which stands still while only people are waited for. `recalled` is the body whose work is undone.
    """

    at: int
    error: ErrorInfo | None = None
    step: str | None = None
    by: Actor | None = None
    why: str = ""
    going: bool = False
    item: Done | None = None
    since: int | None = None
    spent_ms: int = 0
    recalled: str = ""


class Tried(msgspec.Struct, omit_defaults=True):
    """A failed attempt as people read it; `next_at` is when the next one was to begin, if there was to be one."""

    number: int
    status: str
    error: ErrorInfo
    index: int | None = None
    iteration: int = 0
    attempt_id: str | None = None
    worker: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    next_at: int | None = None
