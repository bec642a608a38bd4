"""Events of a run's steering: loops, waits, children, pauses, permits, unknown outcomes, compensation (pure).

They belong to the log `runs` like those in `events.runs`, which holds the union.
"""

import msgspec

from headrace.codec import NULL, Raw
from headrace.events.base import Actor, ArtifactInfo, BlobRef, ErrorInfo, Event, Evidence


class LoopIterated(Event, frozen=True, kw_only=True, tag="loop.iterated"):
    """Written when a loop's condition held: its body begins again, for the `count`th time of this loop's own run."""

    step: str
    count: int
    iteration: int = 0
    outputs: dict[str, Raw] = {}  # by step, those named ones of the round before that speak of what stood in it
    unmade: dict[str, str] = {}  # why others could not be made


class WaitStarted(Event, frozen=True, kw_only=True, tag="wait.started"):
    """Written when a step begins to wait for a signal or an event, until `expires_at` at the latest."""

    step: str
    kind: str
    name: str
    when: str | None = None
    run_id: str | None = None
    expires_at: int | None = None
    iteration: int = 0


class WaitRegistered(Event, frozen=True, kw_only=True, tag="wait.registered"):
    """Written when the run that a step waits for has the wait on record, so that it need not be asked again."""

    step: str
    run_id: str
    iteration: int = 0


class RunWatched(Event, frozen=True, kw_only=True, tag="run.watched"):
    """Written when another run waits for an event of this one, or (`name` empty) for its end."""

    watch_id: str
    by_run: str
    name: str = ""


class WatchConfirmed(Event, frozen=True, kw_only=True, tag="watch.confirmed"):
    """Written when a waiting run has this one's events up to `version` on record; `over`: it waits no more."""

    watch_id: str
    version: int
    over: bool = False


class SignalReceived(Event, frozen=True, kw_only=True, tag="signal.received"):
    """Written when somebody signals a run: kept until a step waits for that name; the oldest is taken first."""

    signal_id: str
    name: str
    by: Actor
    data: Raw = NULL


class ChildStarted(Event, frozen=True, kw_only=True, tag="child.started"):
    """Written when the run that a sub-workflow step asked for is on record, so that it need not be asked for again."""

    step: str
    child_id: str
    attempt: int = 1
    index: int | None = None
    iteration: int = 0


class ChildEnded(Event, frozen=True, kw_only=True, tag="child.ended"):
    """Written when a child's parent has its outcome on record, so that it need not be told again."""

    parent_id: str


class ChildHeld(Event, frozen=True, kw_only=True, tag="child.held"):
    """Written when a child has confirmed that it rests because this run was paused, or goes on with it (`held` false)."""

    step: str
    child_id: str
    held: bool


class RunPaused(Event, frozen=True, kw_only=True, tag="run.paused"):
    """Written when somebody pauses a run, or its parent: what is under way ends, nothing new begins."""

    by: Actor
    reason: str = ""
    parent_id: str | None = None
    turn: int = 0


class RunResumed(Event, frozen=True, kw_only=True, tag="run.resumed"):
    """Written when somebody lets a paused run go on, or its parent."""

    by: Actor
    parent_id: str | None = None
    turn: int = 0


class RunPurged(Event, frozen=True, kw_only=True, tag="run.purged"):
    """Written when a finished run is purged: its rows and what it printed are gone, its events stay with their month."""

    by: Actor
    reason: str = ""


class ItemsRange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Items of a map that lie next to each other, the last one included."""

    first: int
    last: int


class ItemsPiece(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Results of items of a map as one body: its digest, its size in bytes, whose results they are.

    `blobs` are bodies of their own that it names, where the run's own events do not name them.
    """

    digest: str
    size_bytes: int
    ranges: tuple[ItemsRange, ...]
    blobs: tuple[str, ...] = ()


class ItemsKept(Event, frozen=True, kw_only=True, tag="items.kept"):
    """Written when enough items of a long map are over: their results are one body from now on, which this names."""

    step: str
    piece: ItemsPiece
    iteration: int = 0


class ArtifactsPiece(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Artifacts of a step as one body: its digest, its size in bytes, how many they are.

    `large`: some have bodies of their own; `blobs` are those, where the run's own events do not name them.
    """

    digest: str
    size_bytes: int
    count: int
    large: bool = False
    blobs: tuple[str, ...] = ()


class ArtifactsKept(Event, frozen=True, kw_only=True, tag="artifacts.kept"):
    """Written when a step has left many artifacts: the oldest are one body from now on, which this names."""

    step: str
    piece: ArtifactsPiece
    iteration: int = 0


class ReusedItems(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The results of a long map that stand: how many items it has, how many failed, the list's size and beginning.

    `large`: some results are bodies of their own, which the `pieces` name.
    """

    count: int
    failures: int
    size_bytes: int
    pieces: tuple[ItemsPiece, ...]
    large: bool = False
    first: str = ""


class FailedItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item of a map that failed, in a result that stands."""

    index: int
    error: ErrorInfo


class StepReused(Event, frozen=True, kw_only=True, tag="step.reused"):
    """Written when a rerun begins: the recorded result of a step of the earlier run stands for this one's."""

    step: str
    run_id: str
    status: str = "succeeded"
    attempt_id: str | None = None
    output: Raw = NULL
    blob: BlobRef | None = None
    artifacts: tuple[ArtifactInfo, ...] = ()
    evidence: Evidence | None = None
    reason: str = ""
    items: ReusedItems | None = None
    artifact_pieces: tuple[ArtifactsPiece, ...] = ()  # those before `artifacts`
    error: ErrorInfo | None = None  # of a step in a loop's body that failed, and let the run go on
    outputs: Raw = NULL  # named ones that speak of what stood in the earlier run
    failed: tuple[FailedItem, ...] = ()  # of a short map, whose results are `output`


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a step, or one item of a map, failed for good, after an attempt of it whose outcome nobody knows."""

    error: ErrorInfo
    attempt: int = 1
    attempt_id: str | None = None
    status: str = "failed"
    continued: bool = False
    artifacts: tuple[ArtifactInfo, ...] = ()
    worker: str | None = None
    started_at: int | None = None
    finished_at: int | None = None


class OutcomeLost(Event, frozen=True, kw_only=True, tag="outcome.lost"):
    """Written when nobody knows what became of a claimed write (its worker was lost, timed out, cancelled): a person says."""

    step: str
    attempt: int
    attempt_id: str
    nonce: str
    index: int | None = None
    iteration: int = 0
    worker: str | None = None
    claimed_at: int | None = None
    arguments_digest: str | None = None
    reason: str = "lost"
    failure: Failure | None = None  # what has come since: it stands unless the act happened


class OutcomeSettled(Event, frozen=True, kw_only=True, tag="outcome.settled"):
    """Written when a person, or the lost worker's own late word, says what became of a write: happened, not, or given up."""

    step: str
    attempt: int
    attempt_id: str
    answer: str
    index: int | None = None
    iteration: int = 0
    by: Actor | None = None
    reason: str = ""


class ClockMoved(Event, frozen=True, kw_only=True, tag="run.clock_moved"):
    """Written when a run's time seems over, but nobody performed anything before `since`: it is looked at again at `look_at`."""

    since: int
    look_at: int | None = None


class CompensationStarted(Event, frozen=True, kw_only=True, tag="compensation.started"):
    """Written when a run failed or was cancelled and what its steps did is to be undone, the newest first."""

    reason: str
    error: ErrorInfo | None = None
    step: str | None = None
    by: Actor | None = None
    why: str = ""


class WorkPiece(msgspec.Struct, frozen=True, kw_only=True):
    """Work that may have to be undone as one body: its digest, its size in bytes, how much of it each step has done."""

    digest: str
    size_bytes: int
    steps: dict[str, int]


class WorkKept(Event, frozen=True, kw_only=True, tag="work.kept"):
    """Written when a run has done much that may have to be undone: what it did first is one body from now on."""

    piece: WorkPiece


class WorkGroup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Work that a step did in one round of its loop, one after the other: of which items, null for the step as a whole."""

    step: str
    indexes: tuple[int | None, ...]
    iteration: int = 0


class WorkRecalled(Event, frozen=True, kw_only=True, tag="work.recalled"):
    """Written when undoing comes to work that is kept as a body: what it is, in the order in which it was done."""

    digest: str
    done: tuple[WorkGroup, ...]


class PermitRequested(Event, frozen=True, kw_only=True, tag="permit.requested"):
    """Written when a run must ask a key that many runs share, for itself (`step` empty) or for `count` of its attempts."""

    permit_id: str
    flow_id: str
    kind: str
    key: str
    limit: int
    period_ms: int = 0
    on_conflict: str = "queue"
    step: str = ""
    index: int | None = None
    attempt: int = 1
    iteration: int = 0
    count: int = 1


class PermitQueued(Event, frozen=True, kw_only=True, tag="permit.queued"):
    """Written when the key has the request on record: who holds it, and until when at the earliest."""

    permit_id: str
    held_by: tuple[str, ...] = ()
    until: int | None = None


class PermitGranted(Event, frozen=True, kw_only=True, tag="permit.granted"):
    """Written when the key lets the run, or `count` more of its attempts, go on."""

    permit_id: str
    count: int = 1


class PermitRefused(Event, frozen=True, kw_only=True, tag="permit.refused"):
    """Written when the key refuses the run: it is taken, and the plan says `on_conflict: reject`."""

    permit_id: str
    held_by: tuple[str, ...] = ()
