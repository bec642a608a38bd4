"""What travels on the bus: commands to deciders, work for workers, and what workers say (pure).

Commands are imperatives and say what is asked; `again` in a docstring says what a repeat does. Every message that a
program outside the owner may send is decoded by its union, so that an unknown or malformed one is parked, not guessed.
Times are milliseconds since 1970, durations seconds.
"""

from typing import Any

from headrace.codec import NULL, Raw
from headrace.envelope import Message
from headrace.events.base import Actor, ArtifactInfo, BlobRef, ErrorInfo, Evidence
from headrace.events.catalogue import ToolManifest
from headrace.events.runs import Parent
from headrace.events.steering import StepReused
from headrace.steering import (
    ConfirmPermit,
    DeliverEvent,
    DropAttempt,
    GrantPermit,
    HoldChild,
    NoteChildHeld,
    NoteChildOutcomeReceived,
    NoteChildStarted,
    NoteEventReceived,
    NotePermitQueued,
    NotePermitReceived,
    NoteWatched,
    OverdueAttempt,
    PauseRun,
    PurgeRun,
    RefusePermit,
    ReleasePermit,
    ReportChild,
    RequestPermit,
    ResumeRun,
    SettleOutcome,
    SignalRun,
    WatchRun,
    YieldPermit,
)

# --- commands to a run -------------------------------------------------------------------------------------------


class CreateRun(Message, frozen=True, kw_only=True, tag="create_run"):
    """Create a run of a recorded plan. Again, under the same idempotency key: the same run.

    `authorized`, `connections`, `workers_active` and `reused` are the planner's own findings: it overwrites them.
    `rerun_from` names the step of `retry_of` from which a rerun performs anew. What follows `parent` comes from owners
    alone: a child's requester is its parent's; `cancelled` says why its parent needs it no more, so that it is recorded
    as cancelled and never begins; `refused` is the planner's finding why it cannot run.
    """

    plan_digest: str
    inputs: Raw = NULL
    workflow: str | None = None
    workflow_version: int | None = None
    trigger: Raw = NULL
    subject: str | None = None
    stage: str | None = None
    labels: dict[str, str] = {}
    attempt: int = 1
    retry_of: str | None = None
    authorized: bool = False
    connections: Raw = NULL
    workers_active: bool = True
    rerun_from: str | None = None
    reused: tuple[StepReused, ...] = ()
    parent: Parent | None = None
    priority: int | None = None
    requester: Actor | None = None
    cancelled: str | None = None
    refused: ErrorInfo | None = None


class StartRun(Message, frozen=True, kw_only=True, tag="start_run"):
    """Let a run go on that waits for `start`. Again: nothing."""


class CancelRun(Message, frozen=True, kw_only=True, tag="cancel_run"):
    """Stop a run. Again: nothing. On a finished run: refused with its status."""

    reason: str = ""


class ReportAttempt(Message, frozen=True, kw_only=True, tag="report"):
    """A worker's result of an attempt. Again, or after the step is over: kept as late.

    Of an attempt that was ordered within a chain, `after` is the step before it and `arguments_digest` that of the
    arguments which the worker made of the results before it: those of the planner must be the same. `then` are the
    results of the steps that follow it in the chain, in order, without `then` of their own. `goes_on` is the attempt of
    the chain that its worker has begun after the last of them: nobody else need perform it.
    """

    run_id: str
    step: str
    attempt: int
    attempt_id: str
    status: str
    worker: str
    index: int | None = None
    output: Raw = NULL
    blob: BlobRef | None = None
    artifacts: tuple[ArtifactInfo, ...] = ()
    evidence: Evidence | None = None
    error: ErrorInfo | None = None
    started_at: int | None = None
    finished_at: int | None = None
    retryable: bool = True
    retry_after_s: float | None = None
    after: str = ""
    arguments_digest: str = ""
    goes_on: str = ""
    then: tuple["ReportAttempt", ...] = ()


class ClaimWrite(Message, frozen=True, kw_only=True, tag="claim"):
    """A worker's request to act on the world. Again with the same nonce: the same grant."""

    run_id: str
    step: str
    attempt: int
    attempt_id: str
    nonce: str
    arguments_digest: str
    worker: str
    index: int | None = None


class LoseAttempt(Message, frozen=True, kw_only=True, tag="lose"):
    """The owner's finding that the worker of an attempt is dead. Again: nothing."""

    step: str
    attempt: int
    attempt_id: str
    worker: str
    index: int | None = None


class Wake(Message, frozen=True, kw_only=True, tag="wake"):
    """A time that the stream asked for has come. Again: nothing.

    `performed_ms` is how long living workers have said without a break that they perform something of the stream, 0
    when none does; None: nobody looked. `unheard`: its owner has only just begun, and workers may still have to speak.
    """

    performed_ms: int | None = None
    unheard: bool = False


class Advance(Message, frozen=True, kw_only=True, tag="advance"):
    """Do what can be done now without the outside: the host sends it until it yields nothing."""


class NoteApprovalReceived(Message, frozen=True, kw_only=True, tag="approval_received"):
    """The gatekeeper has the request on record. Again: nothing."""

    approval_id: str


class ResolveApproval(Message, frozen=True, kw_only=True, tag="approval_resolved"):
    """The gatekeeper's outcome. Again: the receipt again."""

    approval_id: str
    step: str
    status: str
    digest: str
    by: tuple[Actor, ...] = ()
    reason: str = ""


RunCommand = (
    CreateRun
    | StartRun
    | CancelRun
    | ReportAttempt
    | ClaimWrite
    | LoseAttempt
    | Wake
    | Advance
    | NoteApprovalReceived
    | ResolveApproval
    | PauseRun
    | ResumeRun
    | PurgeRun
    | SignalRun
    | SettleOutcome
    | DropAttempt
    | OverdueAttempt
    | DeliverEvent
    | WatchRun
    | NoteWatched
    | NoteEventReceived
    | NoteChildStarted
    | ReportChild
    | NoteChildOutcomeReceived
    | HoldChild
    | NoteChildHeld
    | NotePermitQueued
    | GrantPermit
    | RefusePermit
    | YieldPermit
    | ConfirmPermit
)

FlowCommand = RequestPermit | NotePermitReceived | ReleasePermit | Wake | Advance

# --- commands to an approval -------------------------------------------------------------------------------------


class OpenApproval(Message, frozen=True, kw_only=True, tag="open_approval"):
    """Ask people to decide on what is shown; `reply_to` is the stream that waits. Again: the receipt again."""

    subject: str
    plan_digest: str
    digest: str
    shown: Raw
    requester: Actor
    reply_to: str
    step: str = ""
    roles: tuple[str, ...] = ("approver",)
    quorum: int = 1
    expires_at: int | None = None


class DecideApproval(Message, frozen=True, kw_only=True, tag="decide"):
    """One person's decision on the digest of what they saw. Again, by the same person: nothing."""

    action: str
    digest: str
    reason: str = ""


class SupersedeApproval(Message, frozen=True, kw_only=True, tag="supersede"):
    """The asker needs no answer any more (its run ended). Again: the outcome again, to `reply_to`.

    `asked` is the question, from an asker without a receipt of it: one that was not opened yet is opened and closed at
    once, so that it is open to nobody should it arrive after this. Without it, `step` and `digest` let what nobody ever
    opened be answered too.
    """

    reason: str = ""
    reply_to: str = ""
    step: str = ""
    digest: str = ""
    asked: OpenApproval | None = None


class NoteOutcomeReceived(Message, frozen=True, kw_only=True, tag="outcome_received"):
    """The asker has the outcome on record. Again: nothing."""


ApprovalCommand = OpenApproval | DecideApproval | SupersedeApproval | NoteOutcomeReceived | Wake | Advance

# --- commands to the catalogue -----------------------------------------------------------------------------------


class RecordPlan(Message, frozen=True, kw_only=True, tag="record_plan"):
    """Compile a spec and keep the plan. Again: the same digest. `plan` and `problems` are the planner's own answer.

    Instead of a spec, `plan_digest` names a plan whose body is stored already (a workflow's).
    """

    spec: Raw = NULL
    plan_digest: str | None = None
    plan: Raw = NULL
    problems: tuple[dict[str, Any], ...] = ()


class ApplyWorkflow(Message, frozen=True, kw_only=True, tag="apply"):
    """Keep a document as the newest version of its name. Again with the same document: nothing."""

    spec: Raw
    plan: Raw = NULL
    problems: tuple[dict[str, Any], ...] = ()


class RecompileWorkflow(Message, frozen=True, kw_only=True, tag="recompile"):
    """Compile a workflow's newest version again because a tool changed. Again: nothing."""

    plan: Raw = NULL
    problems: tuple[dict[str, Any], ...] = ()


class AnnounceTool(Message, frozen=True, kw_only=True, tag="announce"):
    """A worker's manifest of a tool. Again: nothing."""

    manifest: ToolManifest
    worker: str


class CreateToken(Message, frozen=True, kw_only=True, tag="create_token"):
    """Make an access token whose hash the caller brings. Again: refused, the id is taken."""

    token_id: str
    name: str
    roles: tuple[str, ...]
    secret_hash: str


class RevokeToken(Message, frozen=True, kw_only=True, tag="revoke_token"):
    """Make a token worthless. Again: nothing."""


class SaveConnection(Message, frozen=True, kw_only=True, tag="save_connection"):
    """Connect an integration: settings, and references to secrets (`env:NAME`, `file:PATH`). Again: nothing."""

    name: str
    integration: str
    settings: dict[str, Any] = {}
    secrets: dict[str, str] = {}


class DeleteConnection(Message, frozen=True, kw_only=True, tag="delete_connection"):
    """Take a connection away. Again: nothing."""


class RequestAuthorization(Message, frozen=True, kw_only=True, tag="request_authorization"):
    """Ask that a plan be authorised for every run of it. Again while pending or approved: nothing."""

    roles: tuple[str, ...] = ("approver",)
    quorum: int = 1


CatalogueCommand = (
    RecordPlan
    | ApplyWorkflow
    | RecompileWorkflow
    | AnnounceTool
    | CreateToken
    | RevokeToken
    | SaveConnection
    | DeleteConnection
    | RequestAuthorization
    | NoteApprovalReceived
    | ResolveApproval
    | Wake
    | Advance
)

# --- between programs and owners ---------------------------------------------------------------------------------


class Command(Message, frozen=True, kw_only=True):
    """A command on its way to an owner: to which stream (none: the owner mints one), by whom, under which key.

    `end_to` is where the sender of one that creates a stream wants to be told how it ended, as `<place>.<what>`. It may
    not be told (another owner by then, a message lost), so it follows the feed as well.
    """

    body: Raw
    actor: Actor
    workspace: str
    stream_id: str | None = None
    key: str | None = None
    traceparent: str | None = None
    end_to: str = ""


class Ended(Message, frozen=True, kw_only=True):
    """How a stream stood at its end, once that was committed, for who asked so with `to`.

    `rows` are its projection rows by table, as they are kept: values in the order of the table's columns, documents as
    text. `layout` names that order: who knows another one reads the rows instead.
    """

    to: str
    stream_id: str
    layout: str
    rows: dict[str, list[tuple[Any, ...]]]


class Answer(Message, frozen=True, kw_only=True):
    """An owner's answer after commit: the stream and what it now says, or the error. `status` is the HTTP one."""

    status: int
    stream_id: str | None = None
    body: Raw = NULL
    error: ErrorInfo | None = None
    position: int | None = None


class Told(Message, frozen=True, kw_only=True):
    """A message between streams, or from a worker, on its way to the inbox of the stream's partition.

    An array of them is one message too: all of one partition, sealed once. Each stands for itself: what became of one
    says nothing of the others.
    """

    stream_id: str
    body: Raw
    workspace: str
    actor: Actor | None = None
    traceparent: str | None = None
