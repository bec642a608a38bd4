"""A run's times: timers, retries, deadlines, questions to be asked again, and when it wants to be woken (pure)."""

import heapq
from collections.abc import Iterator
from typing import Final

from headrace import codec
from headrace.events.runs import RunEvent, StepFailed, StepRetried, StepSucceeded
from headrace.events.steering import OutcomeLost
from headrace.messages import Wake
from headrace.vocabulary import BATCH_EVENTS_MAX, CANCEL_GRACE_S, TELL_REPEAT_S, StepStatus
from headrace_planner.runs import children, doubts, holding, limits, parents, permits, undo, waits, watches
from headrace_planner.runs.asks import unheard
from headrace_planner.runs.state import Instance, Run

ITSELF: Final = -1
"""The place of a step itself among retries, where items have their index."""
AGAIN_MS: Final = int(TELL_REPEAT_S * 1000)


def run_deadline(run: Run) -> int | None:
    """Give when the run's own time is over: only while something is performed does it count."""
    data = run.data
    if data.active_since is None:
        return None
    until = data.active_since + int(run.graph.plan.timeout_s * 1000) - data.active_ms
    return until if data.look_at is None else max(until, data.look_at)


def looks(run: Run, command: Wake, now: int) -> bool:
    """Tell whether the run's own time is to be looked at: it is over by the clock, or what was in a queue is performed."""
    deadline = run_deadline(run)
    begun = run.data.look_at is not None and bool(command.performed_ms)
    return begun or (deadline is not None and now >= deadline)


def due(run: Run, now: int) -> list[RunEvent]:
    """Give everything whose time has come: steps over their time, waits that end, tries that begin."""
    over = list(limits.steps_over(run, now, doubts.over_time))
    ended = {event.step for event in over if isinstance(event, StepFailed | OutcomeLost)}
    again = [event for event in retries_due(run, now) if event.step not in ended]
    if run.halted:
        return [*over, *again]
    return [*over, *timers_over(run, now), *waits.expired(run, now), *again]


def timers_over(run: Run, now: int) -> Iterator[RunEvent]:
    """Give the end of every wait whose time has come."""
    for step_id, known in run.going():
        if known.status == StepStatus.WAITING and known.due_at is not None and known.due_at <= now:
            output = codec.raw({"due_at": known.due_at, "ended_at": now})
            yield StepSucceeded(step=step_id, output=output, started_at=known.started_at, finished_at=now)


def retries_due(run: Run, now: int) -> list[StepRetried]:
    """Give the next try of every instance whose delay is over, so many as a batch may hold."""
    first = next_retry(run)
    if run.data.paused is not None or first is None or first > now:
        return []
    found: list[StepRetried] = []
    for step_id, index in run.under_way():
        trial = run.trial((step_id, index))
        if trial is not None and trial.retry_at is not None and trial.retry_at <= now and len(found) < BATCH_EVENTS_MAX:
            found.append(StepRetried(step=step_id, index=index, attempt=trial.attempt))
    return found


def wake_at(run: Run) -> int | None:
    """Give the earliest time at which something is due; once found, it stands until the next event."""
    if run.wakes is None or run.wakes[0] != run.data.version:
        run.wakes = run.data.version, min(_times(run), default=None)
    return run.wakes[1]


def wake_after(run: Run, now: int) -> int | None:
    """Give the earliest time later than `now` at which something is due: what is overdue must not put it off."""
    retries = (at for at, _, _ in _retries(run)) if run.data.paused is None and not run.final else ()
    return min((at for at in (*_times(run), *retries) if at > now), default=None)


def _times(run: Run) -> Iterator[int]:
    """Give when each thing is due; of retries the earliest only, which a heap keeps, since a map may have many."""
    if not run.exists:
        return
    if run.data.asks:
        for ask in unheard(run):
            yield (_ending_since(run) or ask.asked_at) + AGAIN_MS
    if not run.apart:
        yield from _told_again(run)
    if not run.final:
        yield from _own(run)


def _ending_since(run: Run) -> int | None:
    """Give since when a run needs no answers any more."""
    data = run.data
    if run.final:
        return data.finished_at or data.created_at
    return data.cancel_at if data.undo is None else data.undo.at


def _told_again(run: Run) -> Iterator[int]:
    """Give when others than people are told again what they have not confirmed."""
    data = run.data
    if data.children:
        for child in children.unheard(run):
            yield child.asked_at + AGAIN_MS
        for _, child in holding.unheard(run):
            yield child.asked_at + AGAIN_MS
    if data.watches or run.graph.waits:
        for since in watches.unheard(run):
            yield since + AGAIN_MS
    if parents.unheard(run):
        yield (data.finished_at or data.created_at) + AGAIN_MS
    for _, permit in permits.unheard(run):
        yield permit.asked_at + AGAIN_MS


def _own(run: Run) -> Iterator[int]:
    """Give when something of the run itself is due, which is not over."""
    data = run.data
    if data.undo is not None:
        if (until := undo.deadline(run)) is not None:
            yield until
        if not data.undo.going and data.active:
            yield data.undo.at + int(CANCEL_GRACE_S * 1000)
    elif data.cancel_at is not None:
        yield data.cancel_at + int(CANCEL_GRACE_S * 1000)
    deadline = run_deadline(run)
    if deadline is not None and data.undo is None:
        yield deadline
    under_way = False
    for step_id, known in run.going():
        under_way = under_way or known.open is not None or known.map is not None
        if known.due_at is not None and not run.halted:
            yield known.due_at
        if known.wait is not None and known.wait.expires_at is not None and not run.halted:
            yield known.wait.expires_at
        if known.timed_since is not None and (until := limits.step_deadline(run, step_id, known)) is not None:
            yield until
    retry = next_retry(run) if under_way and data.paused is None else None
    if retry is not None:
        yield retry


def will_retry(run: Run, instance: Instance, at: int) -> None:
    """Note that an instance is tried again at a time: for `evolve` alone."""
    if run.retries is not None:
        heapq.heappush(run.retries, _entry(instance, at))


def next_retry(run: Run) -> int | None:
    """Give when the first of what waits to be tried again is due; None when nothing does."""
    retries = _retries(run)
    while retries:
        at, step_id, place = retries[0]
        trial = run.trial((step_id, None if place == ITSELF else place))
        if trial is not None and trial.retry_at == at:
            return at
        heapq.heappop(retries)  # it was tried, or came to an end otherwise
    return None


def _retries(run: Run) -> list[tuple[int, str, int]]:
    """Give the heap of retries, made from what is under way when it is first wanted."""
    if run.retries is None:
        waiting = ((instance, run.trial(instance)) for instance in run.under_way())
        run.retries = [_entry(instance, trial.retry_at) for instance, trial in waiting if trial and trial.retry_at]
        heapq.heapify(run.retries)
    return run.retries


def _entry(instance: Instance, at: int) -> tuple[int, str, int]:
    step_id, index = instance
    return at, step_id, ITSELF if index is None else index
