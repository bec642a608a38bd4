"""What happens in a run: every command, and what again does (pure). Leaves are in `begin`, `attempts`, `asks`, `times`."""

from collections.abc import Sequence
from typing import Final, assert_never

from headrace import codec
from headrace.decider import Context, Library, Rejection
from headrace.errors import ConflictError, ForbiddenError, HeadraceError, NotFoundError, ValidationError
from headrace.events.base import SYSTEM, Actor, ErrorInfo
from headrace.events.runs import (
    ApprovalReceived,
    ApprovalResolved,
    CancelRequested,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunQueued,
    RunStarted,
    StepFailed,
)
from headrace.messages import (
    Advance,
    CancelRun,
    ClaimWrite,
    CreateRun,
    LoseAttempt,
    NoteApprovalReceived,
    ReportAttempt,
    ResolveApproval,
    RunCommand,
    StartRun,
    Wake,
)
from headrace.policy import may
from headrace.steering import (
    ConfirmPermit,
    DeliverEvent,
    DropAttempt,
    GrantPermit,
    NoteChildOutcomeReceived,
    NoteChildStarted,
    NotePermitQueued,
    OverdueAttempt,
    PauseRun,
    RefusePermit,
    ReportChild,
    ResumeRun,
    SettleOutcome,
    SignalRun,
    YieldPermit,
)
from headrace.vocabulary import (
    CANCEL_GRACE_S,
    ApprovalStatus,
    Automation,
    RunStatus,
)
from headrace_planner.runs import asks, attempts, begin, limits, pauses, permits, settling, times, undo
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.inputs import accept, priority
from headrace_planner.runs.loops import rounds_named
from headrace_planner.runs.state import Run

Decision = Sequence[RunEvent] | Rejection
NOTHING: Final[Decision] = ()


def decide(run: Run, command: RunCommand, context: Context, library: Library, graph: Graph | None) -> Decision:
    """Say what a command does to a run. `graph` is the plan that a CreateRun names."""
    try:
        return undo.first(run, rounds_named(run, _decide(run, command, context, library, graph)))
    except (ForbiddenError, ValidationError) as problem:
        return Rejection(problem)


def _decide(run: Run, command: RunCommand, context: Context, library: Library, graph: Graph | None) -> Decision:
    if isinstance(command, CreateRun):
        return NOTHING if run.exists else _create(command, context, graph)
    if not run.exists:
        if isinstance(command, permits.FromKey):
            return NOTHING  # what such a run holds is given back: see its receipts
        return Rejection(NotFoundError(f"there is no run {context.stream_id}"))
    match command:
        case Advance():
            return begin.advance(run, context, library)
        case StartRun():
            return _start(run, context)
        case CancelRun():
            return _cancel(run, command, context)
        case ReportAttempt():
            return _started(run, attempts.report(run, command, context, library))
        case ClaimWrite():
            return _started(run, attempts.claim(run, command, library))
        case LoseAttempt():
            return attempts.lose(run, command, context)
        case Wake():
            return _wake(run, context)
        case NoteApprovalReceived(approval_id=approval_id):
            ask = run.data.asks.get(approval_id)
            return NOTHING if ask is None or ask.received or run.final else (ApprovalReceived(approval_id=approval_id),)
        case ResolveApproval():
            return _resolve(run, command)
        case PauseRun():
            return pauses.pause(run, command, context)
        case ResumeRun():
            return pauses.resume(run, context)
        case YieldPermit():
            why = permits.yields(run, command)
            return NOTHING if why is None else _end(run, SYSTEM, why)
        case NotePermitQueued() | GrantPermit() | RefusePermit() | ConfirmPermit():
            return permits.hear(run, command)
        case SettleOutcome():
            return settling.settle(run, command, context, library)
        case DropAttempt():
            return limits.drop(run, command, context)
        case OverdueAttempt():
            return _started(run, attempts.overdue(run, command, context))
        case SignalRun() | DeliverEvent() | NoteChildStarted() | ReportChild() | NoteChildOutcomeReceived():
            return Rejection(ConflictError(f"{type(command).__name__} is not built yet"))
        case _:
            assert_never(command)


def _create(command: CreateRun, context: Context, graph: Graph | None) -> Decision:
    if graph is None:
        return Rejection(NotFoundError(f"there is no plan {command.plan_digest}"))
    may(context.actor, "run")
    plan = graph.plan
    trigger = codec.loads(command.trigger)
    if trigger and plan.automation == Automation.MANUAL:
        return Rejection(ConflictError(f"{plan.name!r} is started by people only (automation: manual)"))
    inputs = accept(plan.inputs, codec.loads(command.inputs))
    return (
        RunQueued(
            kind=plan.kind,
            plan_digest=command.plan_digest,
            inputs=codec.raw(inputs),
            inputs_digest=codec.digest(inputs),
            requester=context.actor,
            workflow=command.workflow,
            workflow_version=command.workflow_version,
            trigger=command.trigger,
            automation=plan.automation,
            authorized=command.authorized,
            attempt=command.attempt,
            retry_of=command.retry_of,
            rerun_from=command.rerun_from,
            reused=len(command.reused),
            parent=command.parent,
            subject=command.subject,
            stage=command.stage,
            labels=command.labels,
            priority=priority(plan.priority if command.priority is None else command.priority),
            connections=command.connections,
            workers_active=command.workers_active,
        ),
        *command.reused,
    )


def _start(run: Run, context: Context) -> Decision:
    may(context.actor, "run")
    if run.final:
        return Rejection(ConflictError(f"the run is over: {run.data.status}", details={"status": run.data.status}))
    return NOTHING if run.data.begun else (RunStarted(by=context.actor),)


def _started(run: Run, decision: Decision) -> Decision:
    """A worker's first word about a queued run says that it has started."""
    if isinstance(decision, Rejection) or not decision or run.data.status != RunStatus.QUEUED:
        return decision
    return (RunStarted(), *decision)


def _cancel(run: Run, command: CancelRun, context: Context) -> Decision:
    may(context.actor, "run")
    if run.data.status == RunStatus.CANCELLED or (run.data.cancel is not None and not run.final):
        return NOTHING
    if run.final:
        message = f"the run is already completed: it {run.data.status}"
        return Rejection(ConflictError(message, details={"status": run.data.status}))
    if run.data.undo is not None:
        message = "the run is over but for what undoes its steps"
        return Rejection(ConflictError(message, details={"status": run.data.status}))
    return _end(run, context.actor, command.reason)


def _end(run: Run, by: Actor, reason: str) -> Decision:
    if run.data.active == 0:
        return (RunCancelled(by=by, reason=reason),)
    return (CancelRequested(by=by, reason=reason),)


def _wake(run: Run, context: Context) -> Decision:
    if run.final:
        return NOTHING
    data = run.data
    if data.undo is not None:
        return (*undo.overdue(run, context.now), *times.due(run, context.now))
    if data.cancel is not None and data.cancel_at is not None:
        if context.now >= data.cancel_at + int(CANCEL_GRACE_S * 1000):
            return (RunCancelled(by=data.cancel.by, reason=data.cancel.reason),)
        return NOTHING
    deadline = times.run_deadline(run)
    if deadline is not None and context.now >= deadline:
        return (limits.run_over(run),)
    return times.due(run, context.now)


def _resolve(run: Run, command: ResolveApproval) -> Decision:
    ask = run.data.asks.get(command.approval_id)
    if ask is None:
        return Rejection(NotFoundError(f"the run asked for no approval {command.approval_id}"))
    if ask.status != ApprovalStatus.PENDING:
        return NOTHING
    if command.digest != ask.digest:
        message = f"the outcome is for {command.digest}, but the run asked about {ask.digest}"
        return Rejection(HeadraceError(message))
    resolved = ApprovalResolved(
        approval_id=command.approval_id, step=ask.step, status=command.status, by=command.by, reason=command.reason
    )
    if run.halted:
        return (resolved,)  # nothing waits for it any more
    if command.status == ApprovalStatus.APPROVED:
        return (resolved, *asks.approved(run, ask, command))
    who = ", ".join(actor.name for actor in command.by)
    said = f"{command.status}{f' by {who}' if who else ''}{f': {command.reason}' if command.reason else ''}"
    details = {"approval_id": ask.approval_id, "status": command.status}
    if ask.step:
        message = f"the approval of step {ask.step!r} was {said}"
        error = ErrorInfo(type="confirmation_denied", message=message, details=details)
        continued = run.graph.index[ask.step].on_error == "continue"
        return (resolved, StepFailed(step=ask.step, error=error, continued=continued))
    error = ErrorInfo(type="not_authorized", message=f"the run's gated tools were {said}", details=details)
    return (resolved, RunFailed(error=error))
