"""What happens in a run: every command, and what again does (pure). Leaves are in `begin`, `attempts`, `asks`, `times`."""

from collections.abc import Sequence
from typing import Final, assert_never

from headrace.decider import Context, Library, Rejection
from headrace.errors import ConflictError, ForbiddenError, NotFoundError, ValidationError
from headrace.events.base import SYSTEM, Actor
from headrace.events.runs import (
    ApprovalReceived,
    CancelRequested,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunStarted,
    StepsSucceeded,
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
    HoldChild,
    NoteChildHeld,
    NoteChildOutcomeReceived,
    NoteChildStarted,
    NoteEventReceived,
    NotePermitQueued,
    NoteWatched,
    OverdueAttempt,
    PauseRun,
    PurgeRun,
    RefusePermit,
    ReportChild,
    ResumeRun,
    SettleOutcome,
    SignalRun,
    WatchRun,
    YieldPermit,
)
from headrace.vocabulary import (
    CANCEL_GRACE_S,
    RunStatus,
)
from headrace_planner.runs import (
    asks,
    attempts,
    batches,
    begin,
    chains,
    children,
    creating,
    doubts,
    holding,
    limits,
    parents,
    pauses,
    permits,
    purging,
    settling,
    times,
    undo,
    waits,
    watches,
)
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.loops import rounds_named
from headrace_planner.runs.results import maps_ended
from headrace_planner.runs.state import Run

Decision = Sequence[RunEvent] | Rejection
NOTHING: Final[Sequence[RunEvent]] = ()
TOGETHER_MIN: Final = 2
AnsweredAnyway = NoteChildStarted | ReportChild | HoldChild | NoteChildHeld | watches.BetweenRuns
Said = AnsweredAnyway | NoteChildOutcomeReceived


def decide(run: Run, command: RunCommand, context: Context, library: Library, graph: Graph | None) -> Decision:
    """Say what a command does to a run. `graph` is the plan that a CreateRun names."""
    try:
        decision = _decide(run, command, context, library, graph)
        if not decision or not run.exists or run.graph.straight:
            return decision
        return rounds_named(run, undo.first(run, maps_ended(run, decision)))
    except (ForbiddenError, ValidationError) as problem:
        return Rejection(problem)


def _decide(run: Run, command: RunCommand, context: Context, library: Library, graph: Graph | None) -> Decision:
    if not run.exists and not isinstance(command, CreateRun):
        if isinstance(command, permits.FromKey | AnsweredAnyway):
            return NOTHING  # what it holds is given back, and whoever tells it something is answered: see receipts
        return Rejection(NotFoundError(f"there is no run {context.stream_id}"))
    match command:  # what comes most often first: a class that is not it costs 0.1 µs
        case Advance():
            return begin.advance(run, context, library)
        case CreateRun(parent=None):
            return NOTHING if run.exists else creating.create(command, context, graph)
        case CreateRun():
            return parents.born(run, command, context, graph, creating.create, _cancel)
        case ReportAttempt():
            return _started(run, attempts.report(run, command, context, library))
        case ClaimWrite():
            return _started(run, attempts.claim(run, command, library))
        case NoteApprovalReceived(approval_id=approval_id):
            ask = run.data.asks.get(approval_id)
            return NOTHING if ask is None or ask.received or run.final else (ApprovalReceived(approval_id=approval_id),)
        case ResolveApproval():
            return asks.resolve(run, command)
        case Wake():
            return _wake(run, command, context, library)
        case StartRun():
            return _start(run, context)
        case CancelRun():
            return _cancel(run, command, context)
        case LoseAttempt() | DropAttempt() | OverdueAttempt():
            return attempts.found(run, command, context)
        case PauseRun():
            return pauses.pause(run, command, context)
        case ResumeRun():
            return pauses.resume(run, context)
        case PurgeRun():
            return purging.purge(run, command, context)
        case YieldPermit():
            why = permits.yields(run, command)
            return NOTHING if why is None else _end(run, SYSTEM, why)
        case NotePermitQueued() | GrantPermit() | RefusePermit() | ConfirmPermit():
            return permits.hear(run, command)
        case SettleOutcome():
            return settling.settle(run, command, context, library)
        case SignalRun():
            return waits.signal(run, command, context)
        case (
            DeliverEvent()
            | NoteChildStarted()
            | ReportChild()
            | NoteChildOutcomeReceived()
            | HoldChild()
            | NoteChildHeld()
            | WatchRun()
            | NoteWatched()
            | NoteEventReceived()
        ):
            return _hear(run, command, context, library)
        case _:
            assert_never(command)


def together(
    run: Run, commands: Sequence[ReportAttempt], context: Context, library: Library
) -> tuple[Sequence[RunEvent], int]:
    """Say what results of a map's items, or of a chain, do that came together, and of how many, the first ones, that is all."""
    alone = commands[0].index is None
    found = chains.results(run, commands, library) if alone else batches.results(run, commands, context, library)
    if len(found) < TOGETHER_MIN:
        return NOTHING, 0
    decided = rounds_named(run, _started(run, (StepsSucceeded(results=found),)))
    assert not isinstance(decided, Rejection), "successes are not refused"
    return decided, len(found)


def _hear(run: Run, command: Said, context: Context, library: Library) -> Decision:
    """Take the word of another run, or of what brings a trigger's event."""
    match command:
        case NoteChildStarted():
            return _started(run, children.started(run, command))
        case ReportChild():
            return _started(run, children.reported(run, command, context, library))
        case NoteChildOutcomeReceived():
            return parents.received(run)
        case HoldChild():
            return holding.hold(run, command, context)
        case NoteChildHeld():
            return holding.confirmed(run, command)
        case DeliverEvent(source=waits.RUN):
            return watches.hear(run, command, library)
        case DeliverEvent():
            return waits.deliver(run, command, library)
        case WatchRun():
            return watches.watch(run, command)
        case NoteWatched():
            return watches.registered(run, command)
        case NoteEventReceived():
            return watches.confirmed(run, command)
        case _:
            assert_never(command)


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
    if run.data.active == 0 and not run.data.children:
        return (RunCancelled(by=by, reason=reason),)
    return (*doubts.waiting(run), CancelRequested(by=by, reason=reason))


def _wake(run: Run, command: Wake, context: Context, library: Library) -> Decision:
    if run.final:
        return NOTHING
    data = run.data
    if data.undo is not None:
        late = undo.overdue(run, context.now, library)
        return late if late and isinstance(late[-1], RunFailed) else (*late, *times.due(run, context.now))
    if data.cancel is not None and data.cancel_at is not None:
        if context.now >= data.cancel_at + int(CANCEL_GRACE_S * 1000):
            return (RunCancelled(by=data.cancel.by, reason=data.cancel.reason),)
        return NOTHING
    if times.looks(run, command, context.now):
        over = limits.run_over(run, command, context.now)
        return (over,) if isinstance(over, RunFailed) else (over, *times.due(run, context.now))
    return times.due(run, context.now)
