"""Compensation: what a run's steps did is undone in reverse order when the run fails or is cancelled (pure).

What undoes a step is a step of its own, `<step>.compensate`; where the step did its work more than once (a map, a
loop's body) it has items, numbered in the order in which that work was done. Everything that is under way is stopped
first; then one item after another is performed, the newest work first. What cannot be undone is recorded and does not
keep the rest from being undone. The pattern is the saga of Garcia-Molina and Salem (SIGMOD 1987).
"""

from collections.abc import Sequence
from itertools import islice
from typing import Final

from headrace.decider import Library, Rejection
from headrace.events.base import ErrorInfo
from headrace.events.runs import RunCancelled, RunEvent, RunFailed, StepFailed, StepSucceeded
from headrace.events.steering import CompensationStarted
from headrace.vocabulary import CANCEL_GRACE_S, AttemptStatus, StepStatus
from headrace_planner.runs import doubts, pauses, shelving, work
from headrace_planner.runs.instances import open_instance, stop_all
from headrace_planner.runs.kept import MapState, Try, Undo
from headrace_planner.runs.pieces import Results
from headrace_planner.runs.state import Instance, Run

FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
NAMED_MAX: Final = 20


# --- what happens ------------------------------------------------------------------------------------------------


def first(run: Run, decision: Sequence[RunEvent] | Rejection) -> Sequence[RunEvent] | Rejection:
    """Put the undoing of what was done before the end of a run that fails or is cancelled."""
    if isinstance(decision, Rejection) or not decision or not run.exists or not run.graph.undo:
        return decision
    *before, last = decision
    if run.data.undo is not None or not isinstance(last, RunFailed | RunCancelled):
        return decision
    doing = any(step_id in run.graph.undo for step_id, _ in run.under_way())
    if not run.data.done and not run.data.work and not doing:
        return decision
    return (*before, *doubts.waiting(run), _started(last))


def _started(last: RunFailed | RunCancelled) -> CompensationStarted:
    if isinstance(last, RunFailed):
        return CompensationStarted(reason=FAILED, error=last.error, step=last.step)
    return CompensationStarted(reason=CANCELLED, by=last.by, why=last.reason)


def advance(run: Run, library: Library) -> Sequence[RunEvent]:
    """Give what follows when nothing is under way any more: a step is undone, more is to be undone, or the run is over.

    What has been undone leaves the state as what is done does. Raises MissingError while a body must be fetched.
    """
    undo = run.data.undo
    assert undo is not None, "the caller sees to it"
    left = (*shelving.results(run, run.graph.undo.values()), *(shelving.leavings(run) if run.full else ()))
    if left or run.under_way():
        return left
    for step_id in run.graph.undo.values():
        known = run.data.steps.get(step_id)
        if known is None or known.status != StepStatus.RUNNING or known.map is None:
            continue
        if known.map.done == known.map.count:
            return (_over(step_id, known.map, known.started_at, library),)
    if run.data.done:
        return ()
    return (work.recalled(run, library),) if run.data.work else (_end(run, undo),)


def _over(step_id: str, state: MapState, started_at: int | None, library: Library) -> RunEvent:
    if not state.failures:
        return StepSucceeded(step=step_id, started_at=started_at)
    first = Results(state, library).failed[0]
    index, error = first["index"], first["error"]
    message = f"{state.failures} of {state.count} could not be undone, the first {step_id}[{index}]: {error['message']}"
    info = ErrorInfo(type=error["type"], message=message, details={"failed_items": state.failures})
    return StepFailed(step=step_id, error=info, started_at=started_at, continued=True)


def _end(run: Run, undo: Undo) -> RunEvent:
    ended = [step_id for step_id in run.graph.undo.values() if run.over(step_id)]
    failed = [step_id for step_id in ended if run.status_of(step_id) != StepStatus.SUCCEEDED]
    left = f"; not undone: {', '.join(failed)}" if failed else ""
    if undo.by is not None:
        return RunCancelled(by=undo.by, reason=f"{undo.why}{left}".removeprefix("; "))
    error = undo.error or ErrorInfo(type="execution_error", message="it failed")
    details = {**error.details, "compensation": {"undone": len(ended) - len(failed), "failed": failed}}
    info = ErrorInfo(type=error.type, message=error.message + left, details=details, plugin=error.plugin)
    return RunFailed(error=info, step=undo.step)


def deadline(run: Run) -> int | None:
    """Give when the time of the whole undoing is over; None while it stands still, and when nothing is undone."""
    undo = run.data.undo
    if undo is None or undo.since is None:
        return None
    return undo.since + int(run.bounds.undoing_s * 1000) - undo.spent_ms


def _given_up(run: Run, undo: Undo, library: Library) -> RunFailed:
    """Give the end of a run whose undoing takes too long: its error names what was not undone."""
    names = list(islice(work.names(run, library), NAMED_MAX + 1))
    failed = [step_id for step_id in run.graph.undo.values() if run.status_of(step_id) == StepStatus.FAILED]
    shown = ", ".join([*failed, *names[:NAMED_MAX]]) + (", …" if len(names) > NAMED_MAX else "")
    story = f"what it did was not undone within {run.bounds.undoing_s:g} s; not undone: {shown}"
    compensation = {"timed_out": True, "timeout_s": run.bounds.undoing_s, "failed": failed, "left": names[:NAMED_MAX]}
    if undo.error is None:
        by = undo.by.name if undo.by is not None else "somebody"
        message = f"compensation timeout: {by} cancelled the run, and {story}"
        return RunFailed(error=ErrorInfo(type="timeout", message=message, details={"compensation": compensation}))
    details = {**undo.error.details, "compensation": compensation}
    message = f"{undo.error.message}; compensation timeout: {story}"
    return RunFailed(
        error=ErrorInfo(type=undo.error.type, message=message, details=details, plugin=undo.error.plugin),
        step=undo.step,
    )


def overdue(run: Run, now: int, library: Library) -> Sequence[RunEvent]:
    """Give up on what was told to stop and did not, which the rest must not wait for; and on an undoing without end.

    Raises MissingError while a body must be fetched.
    """
    undo, until = run.data.undo, deadline(run)
    if undo is not None and until is not None and now >= until:
        return (_given_up(run, undo, library),)
    if undo is None or undo.going or now < undo.at + int(CANCEL_GRACE_S * 1000):
        return ()
    late = f"it did not stop within {CANCEL_GRACE_S:g} s: "
    found: list[RunEvent] = []
    for step_id, index in run.under_way():
        trial = run.trial((step_id, index))
        assert trial is not None, "what is under way has a try"
        if trial.unknown is not None:
            continue  # a person must speak first
        idle = run.graph.claims(step_id) and trial.nonce is None  # nor can any claim it now
        message = late + (
            "no worker had claimed this attempt, so it did not act" if idle else "whether it happened is unknown"
        )
        ended = StepFailed(
            step=step_id,
            index=index,
            error=ErrorInfo(type="cancelled", message=message),
            attempt=trial.attempt,
            attempt_id=run.attempt_id((step_id, index), trial.attempt),
            status=AttemptStatus.CANCELLED,
            worker=trial.claimed_by,
        )
        found.append(doubts.last(run, trial, ended, doubts.CANCELLED))
    return found


# --- what is remembered ------------------------------------------------------------------------------------------


def started(run: Run, event: CompensationStarted, at: int) -> None:
    """Remember that undoing begins: what is under way is stopped, and a pause is over, since the run will not go on."""
    pauses.over(run)
    run.data.undo = Undo(at=at, error=event.error, step=event.step, by=event.by, why=event.why)
    run.data.ready.clear()
    stop_all(run)


def go_on(run: Run, at: int) -> None:
    """Begin to undo the newest work that is left, once nothing else is under way."""
    undo = run.data.undo
    if undo is None or run.final:
        return
    busy = list(run.under_way())
    _count_time(undo, at, asks=bool(busy) and all((each := run.trial(one)) and each.unknown for one in busy))
    if busy:
        return
    if not undo.going:
        undo.going = True
        several = work.several(run)
        for step_id, count in work.left(run).items():
            if count > 1 or step_id in several:
                known = run.step(run.graph.undo[step_id])
                known.map = MapState(count=count, next=count)
                known.status, known.started_at = StepStatus.RUNNING, at
    if run.data.done:
        left = work.left(run)
        undo.item = run.data.done.pop()
        left[undo.item.step] -= 1
        compensation = run.graph.undo[undo.item.step]
        instance: Instance = (compensation, left[undo.item.step] if run.peek(compensation).map is not None else None)
        open_instance(run, instance, Try())


def _count_time(undo: Undo, at: int, *, asks: bool) -> None:
    """Let the clock of the whole undoing run, or stand still while all that is open waits for people's word."""
    if not asks and undo.since is None:
        undo.since = at
    elif asks and undo.since is not None:
        undo.spent_ms, undo.since = undo.spent_ms + max(0, at - undo.since), None
