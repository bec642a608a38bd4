"""Pausing and resuming: what is under way ends, nothing new begins until somebody lets the run go on (pure)."""

from collections.abc import Sequence

from headrace.decider import Context, Rejection
from headrace.errors import ConflictError
from headrace.events.runs import RunEvent
from headrace.events.steering import RunPaused, RunResumed
from headrace.policy import may
from headrace.steering import PauseRun
from headrace.vocabulary import RunStatus, StepStatus
from headrace_planner.runs import limits, permits
from headrace_planner.runs.instances import fill_map, make_ready
from headrace_planner.runs.kept import Hold
from headrace_planner.runs.state import Run


def pause(run: Run, command: PauseRun, context: Context) -> Sequence[RunEvent] | Rejection:
    """Let nothing new begin."""
    may(context.actor, "run")
    if run.final or run.data.cancel is not None or run.data.undo is not None:
        ending = "being cancelled" if run.data.undo is None else "over but for what undoes its steps"
        status = str(run.data.status) if run.final else ending
        return Rejection(ConflictError(f"the run cannot be paused: it is {status}", details={"status": status}))
    own = run.data.paused is not None and run.data.paused.parent_id is None
    return () if own else (RunPaused(by=context.actor, reason=command.reason),)


def resume(run: Run, context: Context) -> Sequence[RunEvent] | Rejection:
    """Let a paused run go on."""
    may(context.actor, "run")
    if run.final:
        return Rejection(ConflictError(f"the run is over: {run.data.status}", details={"status": run.data.status}))
    if run.data.paused is not None and run.data.paused.parent_id is not None:
        parent = run.data.paused.parent_id
        message = f"the run is paused with its parent {parent}: resume that one"
        return Rejection(ConflictError(message, details={"parent_id": parent}))
    if run.data.undo is not None:
        message = "the run cannot be resumed: it is over but for what undoes its steps"
        return Rejection(ConflictError(message, details={"status": str(run.data.status)}))
    return () if run.data.paused is None else (RunResumed(by=context.actor),)


def remember(run: Run, event: RunPaused | RunResumed) -> None:
    """Remember a pause, or its end."""
    if isinstance(event, RunPaused):
        _paused(run, event)
    else:
        _resumed(run, event)


def _paused(run: Run, event: RunPaused) -> None:
    """Remember a pause: the run's own, or its parent's."""
    hold = run.data.hold = run.data.hold or Hold()
    if event.parent_id is not None:
        hold.paused, hold.turn = event, event.turn
    if run.data.paused is None:
        limits.clocks_paused(run)
        hold.turned, hold.by = run.data.version + 1, event.by
    if run.data.paused is None or event.parent_id is None:
        run.data.paused = event


def over(run: Run) -> None:
    """Remember that no pause counts any more, since the run will not go on."""
    run.data.paused = None
    if run.data.hold is not None:
        run.data.hold.paused = None


def _resumed(run: Run, event: RunResumed) -> None:
    """Remember the end of a pause: what was held back begins, unless there is another reason to rest."""
    hold = run.data.hold = run.data.hold or Hold()
    own = run.data.paused if run.data.paused is not None and run.data.paused.parent_id is None else None
    if event.parent_id is not None:
        hold.paused, hold.turn = None, event.turn
    else:
        own = None
    rests, run.data.paused = run.data.paused is not None, own or hold.paused
    if run.data.paused is not None or not rests:
        return
    hold.turned, hold.by = run.data.version + 1, event.by
    limits.clocks_resumed(run)
    if run.data.begun:
        begins = run.data.started_at is None or permits.stands_in_line(run)
        run.data.status = RunStatus.QUEUED if begins else RunStatus.RUNNING
    for step_id in list(run.data.ready):
        make_ready(run, step_id)
    for step_id in run.graph.maps:
        known = run.data.steps.get(step_id)
        if known is not None and known.map is not None and known.status == StepStatus.RUNNING:
            fill_map(run, step_id, known.map)
