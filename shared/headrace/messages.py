"""What travels on the bus: commands to deciders, work for workers, and what workers say (pure).

Commands are imperatives and say what is asked; `again` in a docstring says what a repeat does. Every message that a
program outside the owner may send is decoded by its union, so that an unknown or malformed one is parked, not guessed.
Times are milliseconds since 1970, durations seconds.
"""

from typing import Any

import msgspec

from headrace.codec import NULL, Raw
from headrace.events.base import Actor, ArtifactInfo, BlobRef, ErrorInfo, Evidence
from headrace.events.catalogue import ToolManifest


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Anything on the bus."""


# --- commands to a run -------------------------------------------------------------------------------------------


class CreateRun(Message, frozen=True, kw_only=True, tag="create_run"):
    """Create a run of a recorded plan. Again, under the same idempotency key: the same run.

    `authorized`, `connections` and `workers_active` are the planner's own findings: it overwrites them.
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


class StartRun(Message, frozen=True, kw_only=True, tag="start_run"):
    """Let a run go on that waits for `start`. Again: nothing."""


class CancelRun(Message, frozen=True, kw_only=True, tag="cancel_run"):
    """Stop a run. Again: nothing. On a finished run: refused with its status."""

    reason: str = ""


class ReportAttempt(Message, frozen=True, kw_only=True, tag="report"):
    """A worker's result of an attempt. Again, or after the step is over: kept as late."""

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
    """A time that the stream asked for has come. Again: nothing."""


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
)

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
    """The asker needs no answer any more (its run ended). Again: nothing."""

    reason: str = ""


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
    """A command on its way to an owner: to which stream (none: the owner mints one), by whom, under which key."""

    body: Raw
    actor: Actor
    workspace: str
    stream_id: str | None = None
    key: str | None = None
    traceparent: str | None = None


class Answer(Message, frozen=True, kw_only=True):
    """An owner's answer after commit: the stream and what it now says, or the error. `status` is the HTTP one."""

    status: int
    stream_id: str | None = None
    body: Raw = NULL
    error: ErrorInfo | None = None
    position: int | None = None


class Told(Message, frozen=True, kw_only=True):
    """A message between streams, or from a worker, on its way to the inbox of the stream's partition."""

    stream_id: str
    body: Raw
    workspace: str
    actor: Actor | None = None


# --- between owners and workers ----------------------------------------------------------------------------------


class WorkOrder(Message, frozen=True, kw_only=True):
    """An attempt to perform: what, with which arguments, until when, under which plan and key.

    Arguments or evidence over ORDER_INLINE_BYTES_MAX travel as a blob: then `arguments_blob` / `evidence_blob` is its
    digest and the field itself null. `arguments_digest` is `codec.sha256` of the arguments' bytes as they were sent.
    """

    attempt_id: str
    run_id: str
    step: str
    attempt: int
    workspace: str
    kind: str
    tool: str
    pool: str
    arguments: Raw = NULL
    arguments_blob: str | None = None
    arguments_digest: str
    plan_digest: str
    manifest_digest: str
    effect: str
    idempotency_key: str
    timeout_s: float
    index: int | None = None
    evidence: Raw = NULL
    evidence_blob: str | None = None
    artifacts: Raw = NULL
    precondition: Raw = NULL
    connection: Raw = NULL
    blob_token: str = ""
    traceparent: str | None = None


class ClaimGrant(Message, frozen=True, kw_only=True):
    """The owner's answer to a claim: granted until `expires_at`, or not and why."""

    granted: bool
    nonce: str
    expires_at: int = 0
    reason: str = ""


class Holding(Message, frozen=True, kw_only=True):
    """An attempt that a worker holds."""

    attempt_id: str
    tool: str
    since: int


class Beat(Message, frozen=True, kw_only=True):
    """A worker's sign of life: what it can do and what it holds."""

    worker: str
    service: str
    host: str
    pools: tuple[str, ...]
    slots: int
    holding: tuple[Holding, ...] = ()
    started_at: int = 0
    at: int = 0
    draining: bool = False
    done_total: int = 0
    failed_total: int = 0
    tools: tuple[dict[str, Any], ...] = ()


class Interrupt(Message, frozen=True, kw_only=True, tag="interrupt"):
    """Stop performing an attempt: its run was cancelled or it is over its time."""

    attempt_id: str
    reason: str


class BeatNow(Message, frozen=True, kw_only=True, tag="beat_now"):
    """Every worker says what it holds, at once: a new owner asks."""


class Drain(Message, frozen=True, kw_only=True, tag="drain"):
    """A worker takes no more work and ends when it holds none."""

    worker: str


class Probe(Message, frozen=True, kw_only=True, tag="probe"):
    """An owner's probe of the path that beats take: it must come back before silence counts."""

    owner: str
    nonce: str


Control = Interrupt | BeatNow | Drain | Probe


class Line(Message, frozen=True, kw_only=True):
    """One line that an attempt printed; unique by attempt and sequence."""

    run_id: str
    attempt_id: str
    step: str
    sequence: int
    at: int
    text: str
    workspace: str
    index: int | None = None
    stream: str = "log"
    level: str = "info"


class FeedEvent(Message, frozen=True, kw_only=True):
    """A committed event on the feed, as a CloudEvent (https://github.com/cloudevents/spec, version 1.0)."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: Raw
    log: str
    partition: int
    position: int
    version: int
    workspace: str
    specversion: str = "1.0"
    datacontenttype: str = "application/json"
