"""What happens to a definition (pure)."""

from collections.abc import Sequence
from typing import Final, assert_never

from headrace import codec, ids
from headrace.decider import Context, Library, Rejection
from headrace.errors import DigestMismatchError, HeadraceError, NotFoundError, ValidationError
from headrace.events.catalogue import (
    AuthorizationReceived,
    AuthorizationRequested,
    AuthorizationResolved,
    CatalogueEvent,
    PlanRecorded,
    ToolAnnounced,
    WorkflowApplied,
    WorkflowCompiled,
)
from headrace.ids import PLAN, TOOL, WORKFLOW
from headrace.messages import (
    Advance,
    AnnounceTool,
    ApplyWorkflow,
    CatalogueCommand,
    CreateToken,
    DeleteConnection,
    NoteApprovalReceived,
    RecompileWorkflow,
    RecordPlan,
    RequestAuthorization,
    ResolveApproval,
    RevokeToken,
    SaveConnection,
    Wake,
)
from headrace.plans import model
from headrace.policy import may
from headrace.vocabulary import LOG_APPROVALS, LOG_PARTITIONS, Role
from headrace_planner.catalogue import grants
from headrace_planner.catalogue.plans import compiled, refuse_problems, shown
from headrace_planner.catalogue.state import APPROVED, PENDING, Definition, Plan, Tool, Workflow

Events = Sequence[CatalogueEvent]
TOOL_PLAN: Final = "ToolPlan"
NOTHING: Final[Events] = ()


def decide(state: Definition, command: CatalogueCommand, context: Context, library: Library) -> Events | Rejection:
    """Say what a command does to a definition. Raises MissingError when a plan's body must be fetched first."""
    try:
        return _decide(state, command, context, library)
    except HeadraceError as problem:
        return Rejection(problem)


def _decide(state: Definition, command: CatalogueCommand, context: Context, library: Library) -> Events:
    match command:
        case RecordPlan():
            return _record(state, command, context)
        case ApplyWorkflow():
            return _apply(state, command, context)
        case RecompileWorkflow():
            return _recompile(state, command, context)
        case AnnounceTool():
            return _announce(state, command, context)
        case RequestAuthorization():
            return _request(state, command, context, library)
        case NoteApprovalReceived(approval_id=approval_id):
            return _note_receipt(state, approval_id)
        case ResolveApproval():
            return _resolve(state, command)
        case CreateToken():
            return grants.create_token(state, command, context)
        case RevokeToken():
            return grants.revoke_token(state, context)
        case SaveConnection():
            return grants.save_connection(state, command, context)
        case DeleteConnection():
            return grants.delete_connection(state, context)
        case Wake() | Advance():
            return NOTHING
        case _:
            assert_never(command)


def _record(state: Definition, command: RecordPlan, context: Context) -> Events:
    may(context.actor, "plan")
    refuse_problems(command.problems)
    plan, digest = compiled(command.plan)
    grants.belongs(context, PLAN, digest)
    if state.thing is not None:
        return NOTHING
    recorded = PlanRecorded(digest=digest, name=plan.name, kind=plan.kind, gated=plan.gated, by=context.actor)
    return (recorded,)


def _apply(state: Definition, command: ApplyWorkflow, context: Context) -> Events:
    may(context.actor, "apply")
    refuse_problems(command.problems)
    plan, digest = compiled(command.plan)
    grants.belongs(context, WORKFLOW, plan.name)
    known = state.thing
    version = 1
    if isinstance(known, Workflow):
        same = codec.canonical(codec.loads(known.applied.spec)) == codec.canonical(codec.loads(command.spec))
        if same:
            moved = known.plan_digest != digest or bool(known.problems)
            return (_compiled(known, digest),) if moved else NOTHING
        version = known.applied.version + 1
    applied = WorkflowApplied(
        name=plan.name, kind=plan.kind, version=version, spec=command.spec, plan_digest=digest, by=context.actor
    )
    return (applied,)


def _recompile(state: Definition, command: RecompileWorkflow, context: Context) -> Events:
    may(context.actor, "apply")
    known = state.thing
    if not isinstance(known, Workflow):
        message = f"there is no workflow {context.stream_id}"
        raise NotFoundError(message)
    if command.problems:
        problems = tuple(str(problem.get("message", problem)) for problem in command.problems)
        same = known.plan_digest is None and known.problems == problems
        version = known.applied.version
        return NOTHING if same else (WorkflowCompiled(name=known.applied.name, version=version, problems=problems),)
    _, digest = compiled(command.plan)
    return NOTHING if known.plan_digest == digest else (_compiled(known, digest),)


def _compiled(known: Workflow, digest: str) -> WorkflowCompiled:
    return WorkflowCompiled(name=known.applied.name, version=known.applied.version, plan_digest=digest)


def _announce(state: Definition, command: AnnounceTool, context: Context) -> Events:
    grants.belongs(context, TOOL, command.manifest.name)
    grants.check_manifest(command.manifest)
    digest = model.manifest_digest(command.manifest)
    if isinstance(state.thing, Tool) and state.thing.announced.digest == digest:
        return NOTHING
    return (ToolAnnounced(manifest=command.manifest, digest=digest, worker=command.worker),)


def _request(state: Definition, command: RequestAuthorization, context: Context, library: Library) -> Events:
    may(context.actor, "authorize")
    known = state.thing
    if not isinstance(known, Plan):
        message = f"no plan is recorded at {context.stream_id}"
        raise NotFoundError(message)
    if known.standing in {PENDING, APPROVED}:
        return NOTHING
    recorded = known.recorded
    if not recorded.gated and recorded.kind != TOOL_PLAN:
        message = f"plan {recorded.digest} only reads: it runs without an authorisation"
        raise ValidationError(message, details={"field": "digest"})
    unknown = [role for role in command.roles if role not in set(Role)]
    if unknown or not command.roles or command.quorum < 1:
        message = (
            f"an authorisation needs known roles and at least one person, not {command.roles} and {command.quorum}"
        )
        raise ValidationError(message, details={"field": "roles"})
    body = model.parse(library.body(recorded.digest))
    document = shown(body, recorded.digest, command)
    partition = ids.partition_for(LOG_PARTITIONS[LOG_APPROVALS], context.stream_id)
    approval_id = ids.derive(ids.APPROVAL, context.now, partition, context.stream_id, str(state.version))
    requested = AuthorizationRequested(
        digest=recorded.digest,
        approval_id=approval_id,
        shown=codec.raw(document),
        shown_digest=codec.digest(document),
        requester=context.actor,
        roles=command.roles,
        quorum=command.quorum,
    )
    return (requested,)


def _note_receipt(state: Definition, approval_id: str) -> Events:
    asked = state.thing.unheard if isinstance(state.thing, Plan) else None
    if asked is None or asked.request.approval_id != approval_id:
        return NOTHING
    return (AuthorizationReceived(approval_id=approval_id),)


def _resolve(state: Definition, command: ResolveApproval) -> Events:
    asked = state.thing.authorization if isinstance(state.thing, Plan) else None
    if asked is None or asked.request.approval_id != command.approval_id or asked.status != PENDING:
        return NOTHING
    if asked.request.shown_digest != command.digest:
        message = f"{asked.request.shown_digest} was shown, but the outcome is about {command.digest}"
        raise DigestMismatchError(message, details={"expected": asked.request.shown_digest, "given": command.digest})
    resolved = AuthorizationResolved(
        digest=asked.request.digest,
        approval_id=command.approval_id,
        status=command.status,
        by=command.by,
        reason=command.reason,
    )
    return (resolved,)
