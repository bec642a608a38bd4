"""A run's times: timers, retries, its own deadline, and when it wants to be woken (pure)."""

from collections.abc import Iterator

from headrace import codec
from headrace.events.runs import RunEvent, StepRetried, StepSucceeded
from headrace.vocabulary import BATCH_EVENTS_MAX, CANCEL_GRACE_S, TELL_REPEAT_S, StepStatus
from headrace_planner.runs.state import Run


def run_deadline(run: Run) -> int | None:
    """Give when the run's own time is over: only while something is performed does it count."""
    data = run.data
    if data.active_since is None:
        return None
    return data.active_since + int(run.graph.plan.timeout_s * 1000) - data.active_ms


def timers_over(run: Run, now: int) -> Iterator[RunEvent]:
    """Give the end of every wait whose time has come."""
    for step_id, known in run.data.steps.items():
        if known.status == StepStatus.WAITING and known.due_at is not None and known.due_at <= now:
            output = codec.raw({"due_at": known.due_at, "ended_at": now})
            yield StepSucceeded(step=step_id, output=output, started_at=known.started_at, finished_at=now)


def retries_due(run: Run, now: int) -> list[RunEvent]:
    """Give the next try of every instance whose delay is over, so many as a batch may hold."""
    due: list[RunEvent] = []
    if run.data.paused is not None:
        return due
    for step_id, index in run.under_way():
        trial = run.trial((step_id, index))
        if trial is not None and trial.retry_at is not None and trial.retry_at <= now and len(due) < BATCH_EVENTS_MAX:
            due.append(StepRetried(step=step_id, index=index, attempt=trial.attempt))
    return due


def wake_at(run: Run) -> int | None:
    """Give the earliest time at which something is due."""
    if not run.exists or run.final:
        return None
    data = run.data
    times: list[int] = []
    if data.cancel_at is not None:
        times.append(data.cancel_at + int(CANCEL_GRACE_S * 1000))
    deadline = run_deadline(run)
    if deadline is not None:
        times.append(deadline)
    for known in data.steps.values():
        if known.due_at is not None:
            times.append(known.due_at)
        if run.data.paused is not None:
            continue
        if known.open is not None and known.open.retry_at is not None:
            times.append(known.open.retry_at)
        if known.map is not None and len(known.map.open) > 0:
            times.extend(trial.retry_at for trial in known.map.open.values() if trial.retry_at is not None)
    times.extend(ask.asked_at + int(TELL_REPEAT_S * 1000) for ask in data.asks.values() if not ask.received)
    return min(times, default=None)
