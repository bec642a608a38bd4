"""What a run remembers of each event (pure). Evaluates nothing: events record the outcomes of expressions."""

from typing import assert_never

from headrace.errors import HeadraceError
from headrace.events.base import ErrorInfo
from headrace.events.runs import (
    ApprovalReceived,
    ApprovalRequested,
    ApprovalResolved,
    AttemptFailed,
    CancelRequested,
    LateResultKept,
    MapStarted,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunQueued,
    RunStarted,
    RunSucceeded,
    StepFailed,
    StepReady,
    StepRetried,
    StepSkipped,
    StepsSucceeded,
    StepSucceeded,
    TimerStarted,
    WriteClaimed,
)
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
from headrace.vocabulary import (
    LATE_REMEMBERED_MAX,
    STEP_FINAL,
    ApprovalStatus,
    Automation,
    RunStatus,
    StepStatus,
)
from headrace_planner.runs import (
    children,
    holding,
    limits,
    loops,
    outcomes,
    pauses,
    permits,
    reuse,
    settling,
    shelving,
    undo,
    waits,
    watches,
)
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.instances import end, free_all, hold, make_ready, map_started, stop_all
from headrace_planner.runs.kept import Ask
from headrace_planner.runs.state import Run, StepState


def evolve(run: Run, event: RunEvent, at: int, graph: Graph | None = None) -> Run:
    """Remember an event, in place. `graph` is the plan, given with the first event.

    `run.stopped` then tells which instances this very event stopped.
    """
    run.at, run.settled = at, False
    run.stopped.clear()
    _apply(run, event, at, graph)
    if run.data.undo is not None:
        undo.go_on(run, at)
    run.data.version += 1
    if run.data.watches:
        watches.listen(run, event, at)
    _account(run, event, at)
    run.settle()
    return run


def _apply(run: Run, event: RunEvent, at: int, graph: Graph | None) -> None:  # noqa: PLR0915  (one arm for each event)
    match event:  # what comes most often first: a class that is not it costs 0.1 µs
        case StepSucceeded() | StepsSucceeded() | StepFailed() | StepRetried() | AttemptFailed() | WriteClaimed():
            outcomes.remember(run, event, at)
        case RunQueued():
            _queued(run, event, at, graph)
        case RunStarted():
            _started(run, at)
        case RunSucceeded() | RunFailed() | RunCancelled():
            _over(run, event, at)
        case ApprovalRequested():
            _requested(run, event, at)
        case ApprovalReceived(approval_id=approval_id):
            run.data.asks[approval_id].received = True
        case ApprovalResolved():
            _resolved(run, event)
        case ItemsKept() | ArtifactsKept() | WorkKept() | WorkRecalled():
            shelving.remember(run, event)
        case StepSkipped(step=step, reason=reason):
            run.step(step).reason = reason
            end(run, step, StepStatus.SKIPPED, at)
        case StepReady(step=step):
            run.step(step).go = True
            make_ready(run, step)
        case MapStarted():
            map_started(run, event, at)
        case TimerStarted(step=step, due_at=due_at):
            hold(run, step, at).due_at = due_at
        case CancelRequested():
            _cancelling(run, event, at)
        case LoopIterated():
            loops.iterated(run, event, at)
        case CompensationStarted():
            undo.started(run, event, at)
        case ClockMoved():
            limits.clock_moved(run, event)
        case RunPaused() | RunResumed():
            pauses.remember(run, event)
        case ChildHeld():
            holding.remember(run, event)
        case RunPurged():
            run.data.purged = True
        case OutcomeLost() | OutcomeSettled():
            settling.remember(run, event)
        case StepReused():
            if reuse.reused(run, event, at):
                _begin(run)
        case WaitStarted() | SignalReceived():
            waits.remember(run, event, at)
        case WaitRegistered() | RunWatched() | WatchConfirmed():
            watches.remember(run, event, at)
        case ChildStarted() | ChildEnded():
            children.remember(run, event, at)
        case PermitRequested() | PermitQueued() | PermitGranted() | PermitRefused():
            permits.remember(run, event, at)
        case LateResultKept(attempt_id=attempt_id):
            run.data.late = [*run.data.late[1 - LATE_REMEMBERED_MAX :], attempt_id]
            run.data.children.pop(attempt_id, None)
        case _:
            assert_never(event)


def _queued(run: Run, event: RunQueued, at: int, graph: Graph | None) -> None:
    if graph is None:
        message = "a run begins with its plan"
        raise HeadraceError(message)
    run.graph = graph
    run.data.queued = event
    run.data.created_at = at
    run.data.authorized = event.authorized
    run.data.left = {step.id: len(step.needs) for step in graph.plan.steps if step.needs}
    if event.automation == Automation.HUMAN_APPROVAL:
        run.data.status = RunStatus.WAITING
    elif not event.reused and not event.refused:
        _begin(run)


def _started(run: Run, at: int) -> None:
    run.data.status, run.data.started_at = RunStatus.RUNNING, at
    _begin(run)


def _cancelling(run: Run, event: CancelRequested, at: int) -> None:
    run.data.cancel, run.data.cancel_at = event, at
    stop_all(run)


def _begin(run: Run) -> None:
    if run.data.begun:
        return
    run.data.begun = True
    if permits.stands_in_line(run):
        return
    free_all(run)


def _requested(run: Run, event: ApprovalRequested, at: int) -> None:
    run.ask(
        Ask(
            approval_id=event.approval_id,
            step=event.step,
            digest=event.digest,
            shown=event.shown,
            roles=event.roles,
            quorum=event.quorum,
            asked_at=at,
            expires_at=event.expires_at,
        )
    )
    if event.step:
        hold(run, event.step, at).approval_id = event.approval_id


def _resolved(run: Run, event: ApprovalResolved) -> None:
    ask = run.data.asks[event.approval_id]
    ask.received, ask.status = True, event.status
    if run.final:
        return
    approved = event.status == ApprovalStatus.APPROVED
    if not event.step:
        run.data.authorized = run.data.authorized or approved
        if approved:
            for step_id in list(run.data.ready):
                make_ready(run, step_id)
    elif approved and run.graph.index[event.step].confirm:
        known = run.step(event.step)
        known.confirmed, known.status, known.started_at = True, StepStatus.PENDING, None
        make_ready(run, event.step)


def _over(run: Run, event: RunSucceeded | RunFailed | RunCancelled, at: int) -> None:
    match event:
        case RunSucceeded(outputs=outputs):
            run.data.outputs = outputs
            _finish(run, RunStatus.SUCCEEDED, at)
        case RunFailed(error=error):
            run.data.error = error
            _finish(run, RunStatus.FAILED, at)
        case RunCancelled(reason=reason, by=by):
            run.data.cancelled_by = by.name if run.queued.parent else ""
            run.data.error = ErrorInfo(type="cancelled", message=reason or "cancelled")
            _finish(run, RunStatus.CANCELLED, at)
        case _:
            assert_never(event)


def _finish(run: Run, status: RunStatus, at: int) -> None:
    stop_all(run)
    settling.left(run)
    run.data.status = status
    run.data.finished_at = at
    run.data.active = 0
    run.data.ready.clear()
    run.data.signals.clear()
    plan = run.graph.plan
    for step in (*plan.steps, *(undoing for undoing in plan.compensations if undoing.id in run.data.steps)):
        known = run.data.steps.get(step.id)
        if known is None or known.status not in STEP_FINAL:
            known = run.step(step.id)
            if known.status != StepStatus.PENDING:  # what has begun keeps the number of its attempt
                known.attempt = known.attempt or (1 if known.open is None else known.open.attempt)
            known.open = None
            if known.map is not None:
                known.map.cut.extend(sorted(known.map.open))
                known.map.open.clear()
            failed = known.error is not None  # a map of which an item failed
            left = StepStatus.FAILED if failed else StepStatus.CANCELLED
            known.status = StepStatus.SKIPPED if status == RunStatus.SUCCEEDED else left
            known.due_at = known.wait = None
            known.finished_at = at


def _account(run: Run, event: RunEvent, at: int) -> None:
    """Keep the run's own time, which counts only while something is performed, and its status."""
    data = run.data
    if data.active > 0 and data.active_since is None:
        data.active_since = at
    elif data.active_since is not None:
        limits.time_taken(run, event, at)
    if data.begun and data.status == RunStatus.QUEUED and data.paused is not None and data.active == 0:
        data.status = RunStatus.WAITING
    elif data.begun and data.status in {RunStatus.RUNNING, RunStatus.WAITING}:
        data.status = RunStatus.WAITING if data.active == 0 and _waits(run) else RunStatus.RUNNING


def _waits(run: Run) -> bool:
    """Tell whether the run waits; one that comes to its end does so only for what is under way."""
    if run.data.children:
        return True
    if run.halted:
        return any(known.open is not None or _retries(known) for _, known in run.going())
    if run.data.paused is not None or run.asked():
        return True
    return any(known.status == StepStatus.WAITING or _retries(known) for _, known in run.going())


def _retries(known: StepState) -> bool:
    return known.map is not None and bool(known.map.open)
