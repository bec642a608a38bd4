"""What a worker's word about an attempt does: results, claims, losses, retries (pure)."""

from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from headrace.decider import Context, Library, Rejection
from headrace.errors import ConflictError
from headrace.events.base import ErrorInfo
from headrace.events.runs import LateResultKept, RunEvent, StepFailed, WriteClaimed
from headrace.messages import ClaimWrite, LoseAttempt, ReportAttempt
from headrace.steering import DropAttempt, OverdueAttempt
from headrace.vocabulary import (
    HANDED_BACK_MAX,
    HANDED_BACK_WAIT_S_MAX,
    LOST_ATTEMPTS_MAX,
    NEVER_AGAIN,
    AttemptStatus,
)
from headrace_planner.runs import doubts, fusion, limits, results, settling
from headrace_planner.runs.fusion import Standing
from headrace_planner.runs.kept import BROKEN, Try
from headrace_planner.runs.orders import order_for
from headrace_planner.runs.pieces import Results
from headrace_planner.runs.state import Run

GIVEN_UP: Final = frozenset({"worker_lost", "timeout"})
"""Errors that an owner may have found without the worker's word, which is then news."""


def report(run: Run, command: ReportAttempt, context: Context, library: Library) -> Sequence[RunEvent] | Rejection:
    """Judge a worker's result. Late ones are kept and change nothing; the same one again is nothing."""
    instance = (command.step, command.index)
    if command.step not in run.graph.index:
        return Rejection(ConflictError(f"the run has no step {command.step!r}"))
    trial = run.trial(instance)
    if command.after and (judged := _chained(run, command, context, library, trial)) is not None:
        return judged
    if trial is not None and trial.unknown is not None and settling.asked_about(run, command, trial.unknown):
        return settling.own_word(run, command, trial, library) or _late(run, command, library)
    if trial is None or trial.attempt != command.attempt or run.final:
        return _late(run, command, library)
    if trial.idle and trial.unknown is None:
        return _late(run, command, library)
    if trial.nonce is not None and command.worker != trial.claimed_by:
        return _late(run, command, library)  # another worker, whose claim was refused, knows nothing of this one
    if command.attempt_id != run.attempt_id(instance, trial.attempt):
        if run.graph.index[command.step].parent:
            return _late(run, command, library)  # the word of an earlier round
        return Rejection(ConflictError(f"{command.attempt_id} is not the attempt of {run.label(instance)}"))
    if trial.unknown is not None:
        return _late(run, command, library)
    if command.status == AttemptStatus.SUCCEEDED:
        if run.graph.claims(command.step) and trial.nonce is None:
            return Rejection(ConflictError(f"{run.label(instance)} acts on the world and was never claimed"))
        return _succeeded(run, command, trial, library)
    if command.status == AttemptStatus.CANCELLED:
        return _handed_back(run, command, trial, context)
    return _failed(run, command, trial, context)


def _succeeded(run: Run, command: ReportAttempt, trial: Try, library: Library) -> Sequence[RunEvent]:
    """Take a success; of a write whose step fails all the same, since what it gave is of no use, it is said that it acted."""
    done = results.succeeded(run, command, library)
    if trial.nonce is None:
        return done
    return tuple(doubts.last(run, trial, each, BROKEN) if isinstance(each, StepFailed) else each for each in done)


def _chained(
    run: Run, command: ReportAttempt, context: Context, library: Library, trial: Try | None
) -> Sequence[RunEvent] | Rejection | None:
    """Judge what only a chain can bring; None for a result that is to be judged like any.

    While a run is paused, what its workers had begun goes on: a step that was not to begin any more, and has been
    performed within the chain of one that was, counts as under way when the pause came.
    """
    stands = fusion.standing(run, command, library, trial)
    match stands:
        case Standing.REFUSED:
            return Rejection(ConflictError(f"{command.step!r} does not follow {command.after!r} in a chain"))
        case Standing.EARLY:
            return ()
        case Standing.OTHER:
            return _late(run, command, library)
        case Standing.PAUSED if command.status == AttemptStatus.SUCCEEDED:
            return results.succeeded(run, command, library)
        case Standing.PAUSED:
            return _failed(run, command, Try(), context)
        case Standing.USUAL:
            return None
        case _:
            assert_never(stands)


def _late(run: Run, command: ReportAttempt, library: Library) -> Sequence[RunEvent]:
    if _accepted(run, command, library) or command.attempt_id in run.data.late:
        return ()
    return (
        LateResultKept(
            step=command.step,
            index=command.index,
            attempt=command.attempt,
            attempt_id=command.attempt_id,
            status=command.status,
            output=command.output,
            blob=command.blob,
            error=command.error,
            worker=command.worker,
        ),
    )


def _accepted(run: Run, command: ReportAttempt, library: Library) -> bool:
    """Tell whether a report is on record; not so the word of a worker that was given up for lost: it is news."""
    known = run.data.steps.get(command.step)
    if known is None:
        return False
    if any(each.attempt_id == command.attempt_id and each.status == command.status for each in known.tried):
        return True
    error = known.error
    if command.index is not None:
        state = known.map
        if state is None or command.index in state.open or command.index in state.cut or command.index >= state.next:
            return False
        settled = Results(state, library).settled(command.index)
        attempt = settled.attempt if settled is not None else state.accepted.get(command.index, 1)
        if attempt != command.attempt:
            return False
        error = None if settled is None else settled.error
    elif known.attempt_id != command.attempt_id:
        return False
    given_up = error is not None and error.type in GIVEN_UP
    return not given_up or (command.error is not None and command.error.type == "worker_lost")


def _handed_back(run: Run, command: ReportAttempt, trial: Try, context: Context) -> Sequence[RunEvent]:
    """A worker let an attempt go: because the run is being cancelled, or because the worker is leaving.

    A worker that leaves is no lost one: the next takes the attempt up, at once at first, then ever later, and not for ever.
    """
    instance = (command.step, command.index)
    if not run.stands(command.step):
        error = command.error or ErrorInfo(type="cancelled", message="cancelled")
        ended = results.ended(run, command, error, status=AttemptStatus.CANCELLED)
        return (doubts.last(run, trial, ended, doubts.CANCELLED),)
    if doubts.unsafe(run, command.step, trial):
        return (doubts.lost(run, instance, trial, doubts.CANCELLED),)
    times = trial.returned + 1
    message = f"worker {command.worker} left and handed {run.label(instance)} back"
    error = command.error or ErrorInfo(type="worker_lost", message=message)
    if times >= HANDED_BACK_MAX:
        message = f"{run.label(instance)} was handed back {times} times: no worker stayed until it was done"
        error = ErrorInfo(type="worker_lost", message=message, details={"handed_back": times, "worker": command.worker})
        return (doubts.last(run, trial, results.ended(run, command, error), doubts.CANCELLED),)
    error = msgspec.structs.replace(error, details={**error.details, "handed_back": times})
    return (
        results.tried(
            command,
            error,
            AttemptStatus.CANCELLED,
            context.now + _handed_back_wait_ms(times - run.bounds.handed_back_at_once),
        ),
    )


def _handed_back_wait_ms(beyond: int) -> int:
    """Give how long an attempt waits that was handed back so often beyond the first: workers that come and go must not spin it."""
    return 0 if beyond <= 0 else int(min(2.0 ** min(beyond - 1, 16), HANDED_BACK_WAIT_S_MAX) * 1000)


def _failed(run: Run, command: ReportAttempt, trial: Try, context: Context) -> Sequence[RunEvent]:
    step = run.graph.index[command.step]
    error = results.error_of(command)
    retry = step.retry
    unsafe = doubts.unsafe(run, command.step, trial)
    reason = doubts.reason_of(command.status, error)
    over_time = reason == doubts.TIMEOUT
    if over_time and unsafe and run.stands(command.step):
        return (doubts.lost(run, (command.step, command.index), trial, doubts.TIMEOUT),)
    allowed = command.retryable and error.type not in NEVER_AGAIN and not unsafe
    tries = command.attempt - trial.lost - trial.returned
    wanted = tries < retry.max_attempts and (not retry.on or error.type in retry.on)
    if not allowed or not wanted or not run.stands(command.step):
        timed_out = command.status == AttemptStatus.TIMED_OUT
        status = AttemptStatus.TIMED_OUT if timed_out else AttemptStatus.FAILED
        ended = results.ended(run, command, error, status=status)
        return (doubts.last(run, trial, ended, reason),)
    delay_s = results.delay_s(run, (command.step, command.index), tries, command.retry_after_s)
    return (results.tried(command, error, command.status, context.now + int(delay_s * 1000)),)


def found(run: Run, command: LoseAttempt | DropAttempt | OverdueAttempt, context: Context) -> Sequence[RunEvent]:
    """Judge what the owner found out about the workers of an attempt."""
    match command:
        case LoseAttempt():
            return lose(run, command, context)
        case DropAttempt():
            return _dropped(run, command, context)
        case OverdueAttempt():
            return overdue(run, command, context)
        case _:
            assert_never(command)


def _dropped(run: Run, command: DropAttempt, context: Context) -> Sequence[RunEvent]:
    ended, trial = limits.drop(run, command, context), run.trial((command.step, command.index))
    return () if ended is None or trial is None else (doubts.last(run, trial, ended),)


def lose(run: Run, command: LoseAttempt, context: Context) -> Sequence[RunEvent]:
    """The worker of an attempt is dead: try again, or say that it is unknown what happened."""
    trial = limits.found_of(run, command)
    if trial is None:
        return ()
    worker = command.worker or trial.claimed_by or ""
    return _again(run, _as_report(run, command, AttemptStatus.LOST, worker, context), trial, context)


def overdue(run: Run, command: OverdueAttempt, context: Context) -> Sequence[RunEvent]:
    """A live worker is over an attempt's time and says nothing: as if it had said so, but for what it may have done."""
    trial = limits.found_of(run, command)
    if trial is None:
        return ()
    error = limits.attempt_error(run, (command.step, command.index), command.worker)
    return _failed(
        run, _as_report(run, command, AttemptStatus.TIMED_OUT, command.worker, context, error), trial, context
    )


def _as_report(
    run: Run,
    command: LoseAttempt | OverdueAttempt,
    status: AttemptStatus,
    worker: str,
    context: Context,
    error: ErrorInfo | None = None,
) -> ReportAttempt:
    """Write a finding down as the report that its worker did not make."""
    return ReportAttempt(
        run_id=run.data.id,
        step=command.step,
        index=command.index,
        attempt=command.attempt,
        attempt_id=command.attempt_id,
        status=status,
        worker=worker,
        error=error,
        finished_at=context.now,
    )


def _again(run: Run, command: ReportAttempt, trial: Try, context: Context) -> Sequence[RunEvent]:
    lost = trial.lost + 1
    who = run.label((command.step, command.index))
    if doubts.unsafe(run, command.step, trial):
        return (doubts.lost(run, (command.step, command.index), trial),)
    message = (
        f"worker {command.worker} was lost while it performed {who}"
        if command.worker
        else f"the order of {who} was lost"
    )
    error = command.error or ErrorInfo(type="worker_lost", message=message, details={"lost": lost})
    if lost >= LOST_ATTEMPTS_MAX or not run.stands(command.step):
        ended = results.ended(run, command, error, status=AttemptStatus.LOST)
        return (doubts.last(run, trial, ended, doubts.LOST),)
    return (results.tried(command, error, AttemptStatus.LOST, context.now),)


def claim(run: Run, command: ClaimWrite, library: Library) -> Sequence[RunEvent] | Rejection:
    """Let a worker act, once an attempt, on exactly the arguments that the plan gives. Again: the same grant."""
    instance = (command.step, command.index)
    trial = run.trial(instance)
    who = run.label(instance)
    if trial is None or trial.attempt != command.attempt or trial.idle or not run.stands(command.step):
        return Rejection(ConflictError(f"{who} is not to be performed now (attempt {command.attempt})"))
    if trial.nonce == command.nonce:
        return ()
    if trial.nonce is not None:
        return Rejection(ConflictError(f"{who} is already claimed by {trial.claimed_by}"))
    order = order_for(run, library, instance)
    if command.attempt_id != order.attempt_id:
        return Rejection(ConflictError(f"{command.attempt_id} is not the attempt of {who}"))
    if command.arguments_digest != order.arguments_digest:
        message = f"the claim of {who} is for other arguments: {command.arguments_digest}, not {order.arguments_digest}"
        return Rejection(ConflictError(message))
    if not run.permitted(command.step):
        return Rejection(ConflictError(f"{who} is covered by no approval"))
    return (
        WriteClaimed(
            step=command.step,
            index=command.index,
            attempt=command.attempt,
            attempt_id=command.attempt_id,
            nonce=command.nonce,
            arguments_digest=command.arguments_digest,
            worker=command.worker,
        ),
    )
