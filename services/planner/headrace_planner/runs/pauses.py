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
from headrace_planner.runs.state import Run


def pause(run: Run, command: PauseRun, context: Context) -> Sequence[RunEvent] | Rejection:
    """Let nothing new begin."""
    may(context.actor, "run")
    if run.final or run.data.cancel is not None or run.data.undo is not None:
        ending = "being cancelled" if run.data.undo is None else "over but for what undoes its steps"
        status = str(run.data.status) if run.final else ending
        return Rejection(ConflictError(f"the run cannot be paused: it is {status}", details={"status": status}))
    return () if run.data.paused is not None else (RunPaused(by=context.actor, reason=command.reason),)


def resume(run: Run, context: Context) -> Sequence[RunEvent] | Rejection:
    """Let a paused run go on."""
    may(context.actor, "run")
    if run.final:
        return Rejection(ConflictError(f"the run is over: {run.data.status}", details={"status": run.data.status}))
    return () if run.data.paused is None else (RunResumed(by=context.actor),)


def paused(run: Run, event: RunPaused) -> None:
    """Remember a pause."""
    limits.clocks_paused(run)
    run.data.paused = event


def resumed(run: Run) -> None:
    """Remember the end of a pause: what was held back begins."""
    run.data.paused = None
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
