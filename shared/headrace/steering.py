"""Commands that steer a run under way: by people, by its children and parent, by keys that runs share (pure).

They are members of `messages.RunCommand`; the commands to a key itself are `FlowCommand` below. Times are milliseconds
since 1970.
"""

from headrace.codec import NULL, Raw
from headrace.envelope import Message
from headrace.events.base import Actor, ArtifactInfo, BlobRef, ErrorInfo

# --- by people ---------------------------------------------------------------------------------------------------


class PauseRun(Message, frozen=True, kw_only=True, tag="pause_run"):
    """Let nothing new begin. Again: nothing. On a finished run: refused with its status."""

    reason: str = ""


class ResumeRun(Message, frozen=True, kw_only=True, tag="resume_run"):
    """Let a paused run go on. Again: nothing."""


class PurgeRun(Message, frozen=True, kw_only=True, tag="purge_run"):
    """Let a finished run go: its rows and lines at once, its events with their month. Again: nothing."""

    reason: str = ""


class SignalRun(Message, frozen=True, kw_only=True, tag="signal_run"):
    """Give a run a signal by name. Again with the same `signal_id`: nothing. On a finished run: refused."""

    name: str
    signal_id: str
    data: Raw = NULL


class SettleOutcome(Message, frozen=True, kw_only=True, tag="settle_outcome"):
    """Say what became of a write whose worker was lost: `happened` (with its output), `not_happened` or `give_up`.

    Again, once it is settled: refused with what was said.
    """

    step: str
    answer: str
    index: int | None = None
    output: Raw = NULL
    reason: str = ""


# --- by the owner, about workers ---------------------------------------------------------------------------------


class DropAttempt(Message, frozen=True, kw_only=True, tag="drop"):
    """The owner's finding that no live worker holds an attempt that was to be stopped, or whose queue time is over.

    Again, or once it is claimed: nothing.
    """

    step: str
    attempt: int
    attempt_id: str
    index: int | None = None


class OverdueAttempt(Message, frozen=True, kw_only=True, tag="overdue"):
    """The owner's finding that a live worker holds an attempt beyond its time and says nothing. Again: nothing."""

    step: str
    attempt: int
    attempt_id: str
    worker: str
    index: int | None = None


# --- by events ---------------------------------------------------------------------------------------------------


class DeliverEvent(Message, frozen=True, kw_only=True, tag="deliver_event"):
    """An event that a step of the run may wait for: `source` is `trigger` or `run`. Again, or not waited for: nothing.

    Of another run (`run_id`), `watch_id` names the wait that it is for, and `version` its place in that run; `over`:
    that run has ended, so that no other event of it will come.
    """

    source: str
    name: str
    event_id: str
    at: int
    data: Raw = NULL
    run_id: str | None = None
    watch_id: str = ""
    version: int = 0
    over: bool = False


class WatchRun(Message, frozen=True, kw_only=True, tag="watch_run"):
    """A run waits for an event of this one, or (`name` empty) for its end. Again: the answer again."""

    watch_id: str
    by_run: str
    workspace: str
    name: str = ""


class NoteWatched(Message, frozen=True, kw_only=True, tag="watched"):
    """The run that is waited for has the wait on record, or says in `refused` why not. Again: nothing.

    `refused_type` is the type of error that it is for the step that waits: `not_found` when there is no such run.
    """

    watch_id: str
    refused: str = ""
    refused_type: str = ""
    run_id: str = ""


class NoteEventReceived(Message, frozen=True, kw_only=True, tag="event_received"):
    """The run that waits has this one's events up to `version`; `over`: it waits no more. Again: nothing."""

    watch_id: str
    version: int
    over: bool = False


# --- between a run and its children ------------------------------------------------------------------------------


class NoteChildStarted(Message, frozen=True, kw_only=True, tag="child_started"):
    """A child tells its parent that it is on record. Again: nothing."""

    child_id: str
    step: str
    attempt: int = 1
    index: int | None = None
    iteration: int = 0


class ReportChild(Message, frozen=True, kw_only=True, tag="child_report"):
    """A child tells its parent how it ended, or (`status` refused) that it could not be made. Again: the receipt again."""

    child_id: str
    step: str
    status: str
    attempt: int = 1
    index: int | None = None
    iteration: int = 0
    output: Raw = NULL
    blob: BlobRef | None = None
    artifacts: tuple[ArtifactInfo, ...] = ()
    error: ErrorInfo | None = None
    started_at: int | None = None
    finished_at: int | None = None


class HoldChild(Message, frozen=True, kw_only=True, tag="hold_child"):
    """A parent that was paused (`held`), or goes on, tells its child to do the same. Again: the receipt again.

    `turn` numbers the parent's turns: one that is older than what the child knows changes nothing.
    """

    parent_id: str
    held: bool
    turn: int
    by: Actor
    reason: str = ""


class NoteChildHeld(Message, frozen=True, kw_only=True, tag="child_held"):
    """A child tells its parent that it rests, or goes on, as of a turn. Again: nothing."""

    child_id: str
    held: bool
    turn: int


class NoteChildOutcomeReceived(Message, frozen=True, kw_only=True, tag="child_outcome_received"):
    """The parent has its child's outcome on record. Again: nothing."""


# --- by keys that runs share -------------------------------------------------------------------------------------


class NotePermitQueued(Message, frozen=True, kw_only=True, tag="permit_queued"):
    """The key has the request on record, behind these holders, or until this time. Again: nothing."""

    permit_id: str
    held_by: tuple[str, ...] = ()
    until: int | None = None


class GrantPermit(Message, frozen=True, kw_only=True, tag="grant_permit"):
    """The key lets the run, or `count` of its attempts so far, go on. Again: the receipt again."""

    permit_id: str
    count: int = 1
    flow_id: str = ""


class RefusePermit(Message, frozen=True, kw_only=True, tag="refuse_permit"):
    """The key refuses (`on_conflict: reject`). Again: nothing."""

    permit_id: str
    held_by: tuple[str, ...] = ()


class YieldPermit(Message, frozen=True, kw_only=True, tag="yield_permit"):
    """The key asks its holder to make room (`on_conflict: replace`): the run is cancelled. Again: nothing."""

    permit_id: str
    for_run: str
    flow_id: str = ""


class ConfirmPermit(Message, frozen=True, kw_only=True, tag="confirm_permit"):
    """The key asks whether a holder still needs its permit; one that is over gives it back. Again: the answer again."""

    permit_id: str
    flow_id: str = ""


# --- commands to a key -------------------------------------------------------------------------------------------


class RequestPermit(Message, frozen=True, kw_only=True, tag="request_permit"):
    """A run asks for a permit, for itself or for `count` attempts. Again: the answer again."""

    permit_id: str
    run_id: str
    kind: str
    key: str
    limit: int
    period_ms: int = 0
    on_conflict: str = "queue"
    priority: int = 0
    asked_at: int = 0
    count: int = 1


class NotePermitReceived(Message, frozen=True, kw_only=True, tag="permit_received"):
    """The run has its permit, for `count` attempts so far, on record. Again: nothing."""

    permit_id: str
    count: int = 1


class ReleasePermit(Message, frozen=True, kw_only=True, tag="release_permit"):
    """A run gives its permit back, or asks no longer. Again: nothing."""

    permit_id: str
