"""Time limits, in layers: waiting for a worker, an attempt, a step, the run (pure).

- queue (`queue_timeout_s`): from the moment an attempt is to be performed until a live worker performs it, which its
  beat, its claim or its result says. The owner's dispatcher compares and reports (`DropAttempt`, up to a beat later),
  so that no event is needed for an attempt that is taken. Not tried again: the next try would stand in the same queue.
- attempt (`timeout_s`): the worker's own clock. A live worker that holds an attempt ATTEMPT_GRACE_S longer and says
  nothing is reported (`OverdueAttempt`). Tried again as the step's retry says.
- step (`step_timeout_s`): all attempts and the delays between them; of a map, all its items. It stands still while
  people are waited for: approvals come before it, and while the run is paused or an outcome is unknown it rests.
- run (`Plan.timeout_s`): only while something is performed does it count, which results say behind and beats before.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from headrace.decider import Context
from headrace.events.base import ErrorInfo
from headrace.events.runs import AttemptFailed, RunEvent, RunFailed, StepFailed, StepsSucceeded, StepSucceeded
from headrace.events.steering import ClockMoved, OutcomeLost
from headrace.messages import LoseAttempt, Wake
from headrace.steering import DropAttempt, OverdueAttempt
from headrace.vocabulary import PRESENCE_INTERVAL_S, STEP_FINAL, AttemptStatus
from headrace_planner.runs.kept import Try
from headrace_planner.runs.state import Instance, Run, StepState

Unknown = Callable[[Run, Instance, StepFailed], RunEvent | None]
NAMED_MAX: Final = 20
BEGUN_LOOK_S: Final = 1.5 * PRESENCE_INTERVAL_S
QUEUED_LOOK_S: Final = 300.0
"""How often it is looked whether a run whose time is over by the clock is still in a queue, lest nobody tell that it began."""


def timeout_error(layer: str, limit_s: float, step: str | None, message: str, **more: Any) -> ErrorInfo:
    """Write a timeout down: which limit, how long, of which step."""
    details = {"timeout": layer, "timeout_s": limit_s, "step": step, **more}
    return ErrorInfo(type="timeout", message=f"{layer} timeout: {message}", details=details)


def queue_until(run: Run, instance: Instance, trial: Try) -> int | None:
    """Give until when an attempt may wait for a worker."""
    limit_s = run.graph.index[instance[0]].queue_timeout_s
    return None if limit_s is None or trial.since is None else trial.since + int(limit_s * 1000)


def drop(run: Run, command: DropAttempt, context: Context) -> StepFailed | None:
    """No live worker holds an attempt: it ends if it was to be stopped, or has waited long enough."""
    instance = (command.step, command.index)
    trial = found_of(run, command)
    if trial is None or trial.nonce is not None:
        return None
    if not run.stands(command.step):
        error = ErrorInfo(type="cancelled", message="stopped before any worker said that it performs it")
        return _ended(run, command, error, AttemptStatus.CANCELLED, context)
    until, limit_s = queue_until(run, instance, trial), run.graph.index[command.step].queue_timeout_s
    if until is None or limit_s is None or context.now < until:
        return None
    who, pool = run.label(instance), run.graph.pins[command.step].pool
    message = f"{who} waited {limit_s:g} s for a worker of pool {pool!r}, and none took it"
    error = timeout_error("queue", limit_s, who, message, pool=pool)
    return _ended(run, command, error, AttemptStatus.TIMED_OUT, context)


def found_of(run: Run, command: LoseAttempt | DropAttempt | OverdueAttempt) -> Try | None:
    """Give the try that an owner's finding is of; None when it is not under way any more, or of an earlier round."""
    instance = (command.step, command.index)
    trial = run.trial(instance)
    if trial is None or trial.attempt != command.attempt or trial.idle or run.final:
        return None
    return trial if command.attempt_id == run.attempt_id(instance, trial.attempt) else None


def _ended(run: Run, command: DropAttempt, error: ErrorInfo, status: AttemptStatus, context: Context) -> StepFailed:
    return StepFailed(
        step=command.step,
        index=command.index,
        error=error,
        attempt=command.attempt,
        attempt_id=command.attempt_id,
        status=status,
        continued=run.goes_on((command.step, command.index)),
        finished_at=context.now,
    )


def attempt_error(run: Run, instance: Instance, worker: str) -> ErrorInfo:
    """Write down that a live worker is over an attempt's time and says nothing."""
    limit_s, who = run.graph.index[instance[0]].timeout_s, run.label(instance)
    message = f"{who} takes more than {limit_s:g} s at worker {worker}, which says nothing of it"
    return timeout_error("attempt", limit_s, who, message, worker=worker)


def steps_over(run: Run, now: int, unknown: Unknown) -> Iterator[RunEvent]:
    """Give the end of every step whose own time is over.

    Of a write that may have happened, and must not happen twice, a person is asked first (`unknown` gives that
    question). A map ends at once: its error names what may have happened; what is to be undone is asked about behind it.
    """
    for step_id in run.graph.timed:
        known = run.data.steps.get(step_id)
        until = None if known is None else step_deadline(run, step_id, known)
        if known is None or until is None or until > now:
            continue
        step = run.graph.index[step_id]
        assert step.step_timeout_s is not None, "only steps with a limit are timed"
        who, trial = run.label((step_id, None)), known.open
        what = f"{known.map.done} of {known.map.count} items" if known.map else "attempts and the delays between them"
        message = f"step {who} is not over after {step.step_timeout_s:g} s ({what})"
        ended = StepFailed(
            step=step_id,
            error=timeout_error("step", step.step_timeout_s, who, message),
            attempt=trial.attempt if trial else 1,
            attempt_id=run.attempt_id((step_id, None), trial.attempt) if trial else None,
            status=AttemptStatus.TIMED_OUT,
            continued=step.on_error == "continue",
            worker=trial.claimed_by if trial else None,
            finished_at=now,
        )
        doubts = acting(run, step_id)
        asked = [event for instance in doubts if (event := unknown(run, instance, ended)) is not None]
        yield from asked
        if not asked or known.map is not None:
            details = {**ended.error.details, **doubted(run, doubts)}
            yield msgspec.structs.replace(ended, error=msgspec.structs.replace(ended.error, details=details))


def doubted(run: Run, instances: Sequence[Instance]) -> dict[str, Any]:
    """Say in an error's details which instances it cuts off that may have happened."""
    trials = ((instance, run.trial(instance)) for instance in instances)
    named = [run.label(instance) for instance, trial in trials if trial is not None and trial.uncertain]
    return {"outcome": "unknown", "unknown": named[:NAMED_MAX]} if named else {}


def acting(run: Run, step_id: str) -> list[Instance]:
    """Give the instances of a step, still open, that a worker was permitted to perform on the world: now or before."""
    known = run.peek(step_id)
    items: list[Instance] = [(step_id, index) for index in known.map.open] if known.map is not None else []
    found = [(step_id, None), *items] if known.open is not None else items
    return [each for each in found if (trial := run.trial(each)) is not None and trial.doubtful]


def run_over(run: Run, command: Wake, now: int) -> RunFailed | ClockMoved:
    """Give the end of a run whose own time is over; or what says that some of it was spent in queues, and so is left.

    Whoever began since the last beat is given the time of a beat to say so; then it is looked at when somebody begins,
    which the dispatcher tells. Nothing is judged by an owner that may not have heard of those who perform it.
    """
    data, limit_s, performed_ms = run.data, run.graph.plan.timeout_s, command.performed_ms
    left_ms = int(limit_s * 1000) - data.active_ms
    if command.unheard and data.active_since is not None:
        return ClockMoved(since=data.active_since, look_at=now + int(BEGUN_LOOK_S * 1000))
    if performed_ms is not None and left_ms > 0 and performed_ms < left_ms:
        waits = performed_ms == 0
        look_s = QUEUED_LOOK_S if data.look_at is not None else BEGUN_LOOK_S
        return ClockMoved(since=now - performed_ms, look_at=now + int(look_s * 1000) if waits else None)
    busy = [run.label(instance) for instance in run.under_way()]
    during = f", while {busy[0]} was performed" if busy else ""
    message = f"the run timed out after {limit_s:g} s of work{during}"
    return RunFailed(error=timeout_error("run", limit_s, busy[0] if busy else None, message))


def step_deadline(run: Run, step_id: str, known: StepState) -> int | None:
    """Give when a step's own time is over; None while its clock stands still, and when it has none."""
    limit_s = run.graph.index[step_id].step_timeout_s
    if limit_s is None or known.timed_since is None:
        return None
    return known.timed_since + int(limit_s * 1000) - known.spent_ms


# --- what a run remembers, for `evolve` alone --------------------------------------------------------------------


def clock_moved(run: Run, event: ClockMoved) -> None:
    """Let the run's time count from a moment on."""
    run.data.active_since = max(run.data.active_since or event.since, event.since)
    run.data.look_at = event.look_at


def time_taken(run: Run, event: RunEvent, at: int) -> None:
    """Count what an event says was performed, by its worker's own clock; what nobody says was performed, waited.

    Of attempts side by side the time counts once. A claim whose end nobody told counts from the claim on.
    """
    data = run.data
    assert data.active_since is not None, "something was under way"
    performed_ms = _performed_ms(event, at)
    if performed_ms is not None:
        data.active_ms += max(0, min(performed_ms, at - data.active_since))
        data.active_since = max(at, data.active_since)
    if data.active == 0:
        data.active_since = data.look_at = None


def _performed_ms(event: RunEvent, at: int) -> int | None:
    """Give how long a worker performed what an event ends; None of an event that ends no attempt, or does not say."""
    times: list[tuple[int | None, int | None]]
    if isinstance(event, OutcomeLost):
        since = event.failure
        times = [(event.claimed_at, at) if since is None else (since.started_at, since.finished_at)]
    elif isinstance(event, StepsSucceeded):
        times = [(each.started_at, each.finished_at) for each in event.results if each.worker]
    elif isinstance(event, StepSucceeded | StepFailed | AttemptFailed) and event.worker:
        times = [(event.started_at, event.finished_at)]
    else:
        return None
    known = [(begun, ended) for begun, ended in times if begun is not None and ended is not None]
    return max(ended for _, ended in known) - min(begun for begun, _ in known) if known else None


def clock_runs(run: Run, step_id: str) -> None:
    """Let the clock run of a step that the plan bounds; again is nothing."""
    known = run.step(step_id)
    if known.timed_since is None and known.status not in STEP_FINAL:
        known.timed_since = run.at


def clock_stops(run: Run, step_id: str) -> None:
    """Let a step's clock stand still; again is nothing."""
    known = run.step(step_id)
    if known.timed_since is not None:
        known.spent_ms += max(0, run.at - known.timed_since)
        known.timed_since = None


def clock_rests(run: Run, step_id: str) -> None:
    """Let a step's clock stand still if all that is open of it waits for people."""
    if not any(works(trial) for trial in _trials(run.step(step_id))):
        clock_stops(run, step_id)


def works(trial: Try) -> bool:
    """Tell whether an open attempt counts against its step's time: also while it waits to be tried again."""
    return trial.unknown is None and trial.limited is None


def clocks_paused(run: Run) -> None:
    """Let all clocks of steps stand still."""
    for step_id in run.graph.timed:
        if step_id in run.data.steps:
            clock_stops(run, step_id)


def clocks_resumed(run: Run) -> None:
    """Let the clocks run again of steps that are under way."""
    for step_id in run.graph.timed:
        known = run.data.steps.get(step_id)
        if known is not None and any(works(trial) for trial in _trials(known)):
            clock_runs(run, step_id)


def _trials(known: StepState) -> list[Try]:
    if known.open is not None:
        return [known.open]
    return list(known.map.open.values()) if known.map is not None else []
