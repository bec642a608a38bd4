"""Events of a run (log `runs`, written by the planner) (pure)."""

from collections.abc import Sequence

import msgspec

from headrace.codec import NULL, Raw
from headrace.events.base import Actor, ArtifactInfo, BlobRef, ErrorInfo, Event, Evidence
from headrace.events.steering import (
    ArtifactsKept,
    ChildEnded,
    ChildHeld,
    ChildStarted,
    ClockMoved,
    CompensationStarted,
    ItemsKept,
    LoopIterated,
    OutcomeLost,
    OutcomeSettled,
    PermitGranted,
    PermitQueued,
    PermitRefused,
    PermitRequested,
    RunPaused,
    RunPurged,
    RunResumed,
    RunWatched,
    SignalReceived,
    StepReused,
    WaitRegistered,
    WaitStarted,
    WatchConfirmed,
    WorkKept,
    WorkRecalled,
)


class Parent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The run and the step instance that a child run was made for, and how deep it lies (1: a child of a run of people).

    `above` are the runs that this parent is itself a child of, the nearest first.
    """

    run_id: str
    step: str
    attempt: int = 1
    index: int | None = None
    iteration: int = 0
    depth: int = 1
    above: tuple[str, ...] = ()


class RunQueued(Event, frozen=True, kw_only=True, tag="run.queued"):
    """Written when a run is created: what will run, with what inputs, for whom, why, and how many results stand."""

    kind: str
    plan_digest: str
    inputs: Raw
    inputs_digest: str
    requester: Actor
    workflow: str | None = None
    workflow_version: int | None = None
    trigger: Raw = NULL
    automation: str = "fully_auto"
    authorized: bool = False
    attempt: int = 1
    retry_of: str | None = None
    subject: str | None = None
    stage: str | None = None
    labels: dict[str, str] = {}
    connections: Raw = NULL
    workers_active: bool = True
    rerun_from: str | None = None
    parent: Parent | None = None
    priority: int = 0
    refused: bool = False
    reused: int = 0


class RunStarted(Event, frozen=True, kw_only=True, tag="run.started"):
    """Written when a run's first step can begin: its timeout counts from here."""

    by: Actor | None = None


class StepSucceeded(Event, frozen=True, kw_only=True, tag="step.succeeded"):
    """Written when a step, or one item of a map (`index`), ended well; the only event of a step that only reads."""

    step: str
    index: int | None = None
    attempt: int = 1
    attempt_id: str | None = None
    output: Raw = NULL
    blob: BlobRef | None = None
    artifacts: tuple[ArtifactInfo, ...] = ()
    evidence: Evidence | None = None
    worker: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    arguments_digest: str | None = None
    iteration: int = 0
    child_id: str | None = None
    event_id: str | None = None
    item: Raw = NULL  # in a loop's map whose work may have to be undone: the list differs from round to round


class StepsSucceeded(Event, frozen=True, kw_only=True, tag="steps.succeeded"):
    """Written when results came together, of items of a map or of steps of a chain: each counts as its `step.succeeded`."""

    results: tuple[StepSucceeded, ...]

    @property
    def parts(self) -> Sequence[Event]:
        """Give the results, each as the event that it would be by itself."""
        return self.results


class StepFailed(Event, frozen=True, kw_only=True, tag="step.failed"):
    """Written when a step, or one item of a map, ended badly and will not be tried again."""

    step: str
    error: ErrorInfo
    index: int | None = None
    attempt: int = 1
    attempt_id: str | None = None
    status: str = "failed"
    continued: bool = False
    ends: bool = False  # no other item of its map begins: the step fails with it, and the run may go on
    artifacts: tuple[ArtifactInfo, ...] = ()
    worker: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    iteration: int = 0
    child_id: str | None = None


class StepSkipped(Event, frozen=True, kw_only=True, tag="step.skipped"):
    """Written when a step will not run: its branch was not chosen, its condition was false, or all it needs were skipped."""

    step: str
    reason: str
    iteration: int = 0


class AttemptFailed(Event, frozen=True, kw_only=True, tag="attempt.failed"):
    """Written when one try ended (failed, timed_out, lost, or cancelled: handed back) and another follows at `retry_at`."""

    step: str
    attempt: int
    attempt_id: str
    status: str
    error: ErrorInfo
    retry_at: int
    index: int | None = None
    worker: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    iteration: int = 0
    child_id: str | None = None


class WriteClaimed(Event, frozen=True, kw_only=True, tag="write.claimed"):
    """Written before a worker may act on the world: which attempt, with which arguments, under which nonce."""

    step: str
    attempt: int
    attempt_id: str
    nonce: str
    arguments_digest: str
    worker: str
    index: int | None = None
    iteration: int = 0


class StepReady(Event, frozen=True, kw_only=True, tag="step.ready"):
    """Written when a step's condition was found true, so that it may begin."""

    step: str
    iteration: int = 0


class StepRetried(Event, frozen=True, kw_only=True, tag="step.retried"):
    """Written when the delay after a failed try is over and the next one begins."""

    step: str
    attempt: int
    index: int | None = None
    iteration: int = 0


class MapStarted(Event, frozen=True, kw_only=True, tag="map.started"):
    """Written when a map's list is known: how many items it has."""

    step: str
    count: int
    iteration: int = 0


class TimerStarted(Event, frozen=True, kw_only=True, tag="timer.started"):
    """Written when a wait begins: the step ends at `due_at` (milliseconds since 1970)."""

    step: str
    due_at: int
    iteration: int = 0


class ApprovalRequested(Event, frozen=True, kw_only=True, tag="approval.requested"):
    """Written when a run needs a person: for a step, or (`step` empty) for its gated tools as a whole."""

    approval_id: str
    digest: str
    shown: Raw
    step: str = ""
    roles: tuple[str, ...] = ("approver",)
    quorum: int = 1
    expires_at: int | None = None
    iteration: int = 0


class ApprovalReceived(Event, frozen=True, kw_only=True, tag="approval.received"):
    """Written when the gatekeeper has the request on record, so that it need not be asked again."""

    approval_id: str


class ApprovalResolved(Event, frozen=True, kw_only=True, tag="approval.resolved"):
    """Written when the gatekeeper's outcome arrives: approved, rejected or expired, by whom and why."""

    approval_id: str
    step: str
    status: str
    by: tuple[Actor, ...] = ()
    reason: str = ""


class CancelRequested(Event, frozen=True, kw_only=True, tag="run.cancel_requested"):
    """Written when somebody asks to cancel while attempts are under way."""

    by: Actor
    reason: str = ""


class LateResultKept(Event, frozen=True, kw_only=True, tag="attempt.late"):
    """Written when a result arrives after its step was over: kept as evidence, changes nothing."""

    step: str
    attempt: int
    attempt_id: str
    status: str
    index: int | None = None
    output: Raw = NULL
    blob: BlobRef | None = None
    error: ErrorInfo | None = None
    worker: str | None = None


class RunSucceeded(Event, frozen=True, kw_only=True, tag="run.succeeded"):
    """Written when every step is over and none failed: the run's outputs."""

    outputs: Raw = NULL


class RunFailed(Event, frozen=True, kw_only=True, tag="run.failed"):
    """Written when a step failed, or the run's own time was over."""

    error: ErrorInfo
    step: str | None = None


class RunCancelled(Event, frozen=True, kw_only=True, tag="run.cancelled"):
    """Written when a cancel is complete."""

    by: Actor
    reason: str = ""


RunEvent = (
    RunQueued
    | RunStarted
    | StepSucceeded
    | StepsSucceeded
    | StepFailed
    | StepSkipped
    | StepReady
    | StepRetried
    | AttemptFailed
    | WriteClaimed
    | MapStarted
    | TimerStarted
    | ApprovalRequested
    | ApprovalReceived
    | ApprovalResolved
    | CancelRequested
    | LateResultKept
    | RunSucceeded
    | RunFailed
    | RunCancelled
    | ArtifactsKept
    | ChildEnded
    | ChildHeld
    | ChildStarted
    | ClockMoved
    | CompensationStarted
    | ItemsKept
    | LoopIterated
    | OutcomeSettled
    | OutcomeLost
    | PermitGranted
    | PermitQueued
    | PermitRefused
    | PermitRequested
    | RunPaused
    | RunPurged
    | RunResumed
    | RunWatched
    | SignalReceived
    | StepReused
    | WaitRegistered
    | WaitStarted
    | WatchConfirmed
    | WorkKept
    | WorkRecalled
)
