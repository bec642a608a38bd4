"""What a definition sets going: a plan is recorded for each workflow, and the gatekeeper is asked (pure)."""

from collections.abc import Iterable
from typing import Final, assert_never

from headrace.decider import Context, Effect, Tell
from headrace.events.catalogue import (
    AuthorizationReceived,
    AuthorizationRequested,
    AuthorizationResolved,
    CatalogueEvent,
    ConnectionDeleted,
    ConnectionSaved,
    PlanRecorded,
    TokenCreated,
    TokenRevoked,
    ToolAnnounced,
    WorkflowApplied,
    WorkflowCompiled,
)
from headrace.ids import PLAN
from headrace.messages import (
    Advance,
    AnnounceTool,
    ApplyWorkflow,
    CatalogueCommand,
    CreateToken,
    DeleteConnection,
    NoteApprovalReceived,
    NoteOutcomeReceived,
    OpenApproval,
    RecompileWorkflow,
    RecordPlan,
    RequestAuthorization,
    ResolveApproval,
    RevokeToken,
    SaveConnection,
    Wake,
)
from headrace.vocabulary import APPROVAL_EXPIRES_S, LOG_APPROVALS, LOG_CATALOGUE, TELL_REPEAT_S
from headrace_planner.catalogue.plans import SUBJECT
from headrace_planner.catalogue.state import Definition, Plan, Workflow, stream_of

NOTHING: Final[tuple[Effect, ...]] = ()


def react(state: Definition, event: CatalogueEvent) -> Iterable[Effect]:
    """Say what an event sets going, given the state after it."""
    match event:
        case WorkflowApplied() | WorkflowCompiled():
            return _record_plan(state)
        case AuthorizationRequested():
            return outstanding(state)
        case (
            PlanRecorded()
            | AuthorizationReceived()
            | AuthorizationResolved()
            | ToolAnnounced()
            | TokenCreated()
            | TokenRevoked()
            | ConnectionSaved()
            | ConnectionDeleted()
        ):
            return NOTHING
        case _:
            assert_never(event)


def receipts(state: Definition, command: CatalogueCommand, context: Context) -> Iterable[Effect]:
    """Say what a command earns, also when it repeats another."""
    match command:
        case ResolveApproval(approval_id=approval_id):
            return (Tell(LOG_APPROVALS, approval_id, NoteOutcomeReceived(), state.workspace),)
        case Wake():
            due = wake_at(state)
            return outstanding(state) if due is not None and due <= context.now else NOTHING
        case ApplyWorkflow() if state.updated_at < context.now:
            return _record_plan(state)
        case (
            ApplyWorkflow()
            | RecordPlan()
            | RecompileWorkflow()
            | AnnounceTool()
            | CreateToken()
            | RevokeToken()
            | SaveConnection()
            | DeleteConnection()
            | RequestAuthorization()
            | NoteApprovalReceived()
            | Advance()
        ):
            return NOTHING
        case _:
            assert_never(command)


def outstanding(state: Definition) -> Iterable[Effect]:
    """Give the request for an authorisation that the gatekeeper has not confirmed yet."""
    asked = state.thing.unheard if isinstance(state.thing, Plan) else None
    if asked is None:
        return NOTHING
    request = asked.request
    ask = OpenApproval(
        subject=SUBJECT,
        plan_digest=request.digest,
        digest=request.shown_digest,
        shown=request.shown,
        requester=request.requester,
        reply_to=state.id,
        roles=request.roles,
        quorum=request.quorum,
        expires_at=asked.requested_at + int(APPROVAL_EXPIRES_S * 1_000),
    )
    return (Tell(LOG_APPROVALS, request.approval_id, ask, state.workspace),)


def wake_at(state: Definition) -> int | None:
    """Give when a definition wants a wake-up: when its request for an authorisation is due again."""
    asked = state.thing.unheard if isinstance(state.thing, Plan) else None
    return None if asked is None else asked.requested_at + int(TELL_REPEAT_S * 1_000)


def _record_plan(state: Definition) -> Iterable[Effect]:
    """Have the workflow's plan recorded under its own digest too, where authorisations hang.

    Its body is stored with the workflow, so runs need no more than that; a repeated apply sends this again.
    """
    if not isinstance(state.thing, Workflow) or state.thing.plan_digest is None:
        return NOTHING
    digest = state.thing.plan_digest
    record = RecordPlan(plan_digest=digest)
    return (Tell(LOG_CATALOGUE, stream_of(PLAN, state.workspace, digest), record, state.workspace),)
