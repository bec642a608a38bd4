"""What a run remembers of each event (pure). Evaluates nothing: events record the outcomes of expressions."""

from typing import assert_never

from headrace.codec import NULL
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
    StepSucceeded,
    TimerStarted,
    WriteClaimed,
)
from headrace.vocabulary import (
    MAP_IN_FLIGHT_MAX,
    STEP_FINAL,
    ApprovalStatus,
    AttemptStatus,
    Automation,
    RunStatus,
    StepStatus,
)
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.state import Ask, Instance, MapState, Run, StepState, Try


def evolve(run: Run, event: RunEvent, at: int, graph: Graph | None = None) -> Run:
    """Remember an event, in place. `graph` is the plan, given with the first event.

    `run.opened` and `run.stopped` then tell which instances this very event opened or stopped.
    """
    run.opened.clear()
    run.stopped.clear()
    _apply(run, event, at, graph)
    run.data.version += 1
    _account(run, at)
    return run


def _apply(run: Run, event: RunEvent, at: int, graph: Graph | None) -> None:
    match event:
        case RunQueued():
            _queued(run, event, at, graph)
        case RunStarted():
            run.data.status = RunStatus.RUNNING
            run.data.started_at = at
            _begin(run)
        case StepSucceeded():
            _succeeded(run, event, at)
        case StepFailed():
            _failed(run, event, at)
        case StepSkipped(step=step, reason=reason):
            run.step(step).reason = reason
            _end(run, step, StepStatus.SKIPPED, at)
        case StepReady(step=step):
            run.step(step).go = True
            _ready(run, step)
        case StepRetried(step=step, index=index, attempt=attempt):
            _retried(run, (step, index), attempt)
        case AttemptFailed():
            _attempt_failed(run, event, at)
        case WriteClaimed():
            _claimed(run, event, at)
        case MapStarted():
            _map_started(run, event, at)
        case TimerStarted(step=step, due_at=due_at):
            _wait(run, step, at).due_at = due_at
        case ApprovalRequested():
            _requested(run, event, at)
        case ApprovalReceived(approval_id=approval_id):
            run.data.asks[approval_id].received = True
        case ApprovalResolved():
            _resolved(run, event)
        case CancelRequested():
            run.data.cancel, run.data.cancel_at = event, at
            _stop_all(run)
        case LateResultKept(attempt_id=attempt_id):
            run.data.late.append(attempt_id)
        case RunSucceeded(outputs=outputs):
            run.data.outputs = outputs
            _finish(run, RunStatus.SUCCEEDED, at)
        case RunFailed(error=error):
            run.data.error = error
            _finish(run, RunStatus.FAILED, at)
        case RunCancelled(reason=reason):
            run.data.error = ErrorInfo(type="cancelled", message=reason or "cancelled")
            _finish(run, RunStatus.CANCELLED, at)
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
    else:
        _begin(run)


def _begin(run: Run) -> None:
    if run.data.begun:
        return
    run.data.begun = True
    for step in run.graph.plan.steps:
        if not step.needs:
            _ready(run, step.id)


def _ready(run: Run, step_id: str) -> None:
    """Everything a step needs is over: a plain call is under way at once, the rest waits for `Advance` to decide."""
    if run.over(step_id):
        return
    if run.openable(step_id):
        open_instance(run, (step_id, None), Try())
    elif step_id not in run.data.ready:
        run.data.ready.append(step_id)


def open_instance(run: Run, instance: Instance, trial: Try) -> None:
    """Put an instance under way."""
    step_id, index = instance
    known = run.step(step_id)
    known.status = StepStatus.QUEUED if index is None else StepStatus.RUNNING
    if index is None:
        known.open = trial
    else:
        assert known.map is not None, "only a map has items"
        known.map.open[index] = trial
    if step_id in run.data.ready:
        run.data.ready.remove(step_id)
    run.data.active += 1
    run.opened.append(instance)
    run.unchecked.append(instance)


def _close(run: Run, instance: Instance) -> Try | None:
    step_id, index = instance
    known = run.step(step_id)
    trial = run.trial(instance)
    if trial is not None:
        run.orders.pop((instance, trial.attempt), None)
        run.data.active -= trial.retry_at is None
    if index is None:
        known.open = None
    elif known.map is not None:
        known.map.open.pop(index, None)
    return trial


def _succeeded(run: Run, event: StepSucceeded, at: int) -> None:
    known = run.step(event.step)
    instance = (event.step, event.index)
    _close(run, instance)
    known.artifacts.extend((event.index, event.attempt_id, at, kept) for kept in event.artifacts)
    if event.index is not None:
        _item_over(run, event, at)
        return
    known.attempt, known.attempt_id, known.worker = event.attempt, event.attempt_id, event.worker
    known.evidence, known.arguments_digest = event.evidence, event.arguments_digest
    known.started_at = event.started_at or known.started_at or at
    if known.map is None:
        known.output, known.blob = event.output, event.blob
    _end(run, event.step, StepStatus.SUCCEEDED, event.finished_at or at)


def _item_over(run: Run, event: StepSucceeded | StepFailed, at: int) -> None:
    known = run.step(event.step)
    assert known.map is not None and event.index is not None, "only a map has items"  # noqa: PT018  (one thought)
    known.map.done += 1
    if isinstance(event, StepSucceeded):
        known.map.outputs[event.index] = event.output
        if event.blob is not None:
            known.map.blobs[event.index] = event.blob
    else:
        known.map.failed[event.index] = event.error
    known.finished_at = at
    _open_next_item(run, event.step, known.map)


def _open_next_item(run: Run, step_id: str, state: MapState) -> None:
    if state.next < state.count and not run.halted:
        state.next += 1
        open_instance(run, (step_id, state.next - 1), Try())


def _failed(run: Run, event: StepFailed, at: int) -> None:
    known = run.step(event.step)
    _close(run, (event.step, event.index))
    known.artifacts.extend((event.index, event.attempt_id, at, kept) for kept in event.artifacts)
    if event.status == AttemptStatus.CANCELLED:
        if event.index is None:
            _end(run, event.step, StepStatus.CANCELLED, at)
        return
    if event.index is not None:
        if not event.continued:
            known.error = event.error
            run.data.failed_step = run.data.failed_step or event.step
        _item_over(run, event, at)
        return
    known.attempt, known.attempt_id, known.worker = event.attempt, event.attempt_id, event.worker
    known.error = event.error
    known.started_at = event.started_at or known.started_at or at
    if not event.continued:
        run.data.failed_step = run.data.failed_step or event.step
    _end(run, event.step, StepStatus.FAILED, event.finished_at or at)


def _end(run: Run, step_id: str, status: StepStatus, at: int) -> None:
    known = run.step(step_id)
    if known.status in STEP_FINAL:
        return
    known.status = status
    known.finished_at = at
    known.due_at = None
    run.data.steps_done += 1
    run.decoded.pop(("step", step_id), None)
    run.decoded.pop(("items", step_id), None)
    if step_id in run.data.ready:
        run.data.ready.remove(step_id)
    for follower in run.graph.successors[step_id]:
        run.data.left[follower] -= 1
        if run.data.left[follower] == 0:
            _ready(run, follower)


def _attempt_failed(run: Run, event: AttemptFailed, at: int) -> None:
    instance = (event.step, event.index)
    old = _close(run, instance)
    lost = (old.lost if old else 0) + (event.status == AttemptStatus.LOST)
    trial = Try(attempt=event.attempt + 1, lost=lost, retry_at=event.retry_at)
    if event.retry_at <= at:
        trial.retry_at = None
        open_instance(run, instance, trial)
        return
    known = run.step(event.step)
    if event.index is None:
        known.open, known.status = trial, StepStatus.WAITING
    else:
        assert known.map is not None, "only a map has items"
        known.map.open[event.index] = trial


def _retried(run: Run, instance: Instance, attempt: int) -> None:
    old = run.trial(instance)
    open_instance(run, instance, Try(attempt=attempt, lost=old.lost if old else 0))


def _claimed(run: Run, event: WriteClaimed, at: int) -> None:
    trial = run.trial((event.step, event.index))
    if trial is not None:
        trial.nonce, trial.claimed_by, trial.claimed_at = event.nonce, event.worker, at
    known = run.step(event.step)
    known.status = StepStatus.RUNNING
    known.started_at = known.started_at or at


def _map_started(run: Run, event: MapStarted, at: int) -> None:
    known = run.step(event.step)
    known.map = MapState(count=event.count, outputs=[NULL] * event.count)
    known.status, known.started_at = StepStatus.RUNNING, at
    if event.step in run.data.ready:
        run.data.ready.remove(event.step)
    while known.map.next < min(event.count, MAP_IN_FLIGHT_MAX):
        _open_next_item(run, event.step, known.map)


def _wait(run: Run, step_id: str, at: int) -> StepState:
    known = run.step(step_id)
    known.status, known.started_at = StepStatus.WAITING, at
    if step_id in run.data.ready:
        run.data.ready.remove(step_id)
    return known


def _requested(run: Run, event: ApprovalRequested, at: int) -> None:
    run.data.asks[event.approval_id] = Ask(
        approval_id=event.approval_id,
        step=event.step,
        digest=event.digest,
        shown=event.shown,
        roles=event.roles,
        quorum=event.quorum,
        asked_at=at,
        expires_at=event.expires_at,
    )
    if event.step:
        _wait(run, event.step, at).approval_id = event.approval_id


def _resolved(run: Run, event: ApprovalResolved) -> None:
    ask = run.data.asks[event.approval_id]
    ask.received, ask.status = True, event.status
    approved = event.status == ApprovalStatus.APPROVED
    if not event.step:
        run.data.authorized = run.data.authorized or approved
        if approved:
            for step_id in list(run.data.ready):
                _ready(run, step_id)
    elif approved and run.graph.index[event.step].confirm:
        known = run.step(event.step)
        known.confirmed, known.status, known.started_at = True, StepStatus.PENDING, None
        _ready(run, event.step)


def _stop_all(run: Run) -> None:
    for instance in run.under_way():
        trial = run.trial(instance)
        assert trial is not None, "what is under way has a try"
        if trial.retry_at is None:
            run.stopped.append((instance, trial.attempt))
        else:
            _close(run, instance)


def _finish(run: Run, status: RunStatus, at: int) -> None:
    _stop_all(run)
    run.data.status = status
    run.data.finished_at = at
    run.data.active = 0
    run.data.ready.clear()
    for step in run.graph.plan.steps:
        known = run.data.steps.get(step.id)
        if known is None or known.status not in STEP_FINAL:
            known = run.step(step.id)
            known.open = None
            if known.map is not None:
                known.map.open.clear()
            known.status = StepStatus.SKIPPED if status == RunStatus.SUCCEEDED else StepStatus.CANCELLED
            known.due_at = None
            known.finished_at = at


def _account(run: Run, at: int) -> None:
    """Keep the run's own time, which counts only while something is performed, and its status."""
    data = run.data
    if data.active > 0 and data.active_since is None:
        data.active_since = at
    elif data.active == 0 and data.active_since is not None:
        data.active_ms += max(0, at - data.active_since)
        data.active_since = None
    if data.begun and data.status in {RunStatus.RUNNING, RunStatus.WAITING}:
        data.status = RunStatus.WAITING if data.active == 0 and _waits(run) else RunStatus.RUNNING


def _waits(run: Run) -> bool:
    if any(ask.status == ApprovalStatus.PENDING for ask in run.data.asks.values()):
        return True
    return any(known.status == StepStatus.WAITING or _retries(known) for known in run.data.steps.values())


def _retries(known: StepState) -> bool:
    return known.map is not None and bool(known.map.open)
