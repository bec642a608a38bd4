"""What may have happened: attempts at a write that were claimed and cut off, and the questions that come of it (pure)."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from headrace.events.base import ErrorInfo
from headrace.events.runs import AttemptFailed, StepFailed
from headrace.events.steering import Failure, OutcomeLost
from headrace.vocabulary import AttemptStatus
from headrace_planner.runs.kept import BROKEN, Cut, Try
from headrace_planner.runs.state import Instance, Run

HAPPENED: Final = "happened"
NOT_HAPPENED: Final = "not_happened"
LOST: Final = "lost"
TIMEOUT: Final = "timeout"
CANCELLED: Final = "cancelled"
REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {AttemptStatus.LOST: LOST, AttemptStatus.TIMED_OUT: TIMEOUT, AttemptStatus.CANCELLED: CANCELLED}
)
"""Why the outcome of a claimed act is unknown, by how its attempt ended; any other end is the word of who knows."""


def unsafe(run: Run, step_id: str, trial: Try) -> bool:
    """Tell whether a worker may have acted in a way that must not be done twice."""
    return trial.nonce is not None and not run.graph.pins[step_id].idempotent


def lost(run: Run, instance: Instance, trial: Try, reason: str = LOST, failure: Failure | None = None) -> OutcomeLost:
    """Give what says that nobody knows whether a write happened: a person must say."""
    assert trial.nonce is not None, "only what was claimed can have happened"
    return OutcomeLost(
        step=instance[0],
        index=instance[1],
        attempt=trial.attempt,
        attempt_id=run.attempt_id(instance, trial.attempt),
        nonce=trial.nonce,
        worker=trial.claimed_by,
        claimed_at=trial.claimed_at,
        arguments_digest=trial.claimed_digest,
        reason=reason,
        failure=failure,
    )


def _failure(ended: StepFailed) -> Failure:
    return Failure(
        error=ended.error,
        attempt=ended.attempt,
        attempt_id=ended.attempt_id,
        status=ended.status,
        continued=ended.continued,
        artifacts=ended.artifacts,
        worker=ended.worker,
        started_at=ended.started_at,
        finished_at=ended.finished_at,
    )


def earlier(cut: Cut, ended: StepFailed) -> OutcomeLost:
    """Give what says that nobody knows whether an earlier attempt acted of an instance that fails now as `ended` says."""
    return OutcomeLost(
        step=ended.step,
        index=ended.index,
        attempt=cut.attempt,
        attempt_id=cut.attempt_id,
        nonce=cut.nonce,
        worker=cut.worker,
        claimed_at=cut.claimed_at,
        arguments_digest=cut.digest,
        reason=cut.reason,
        failure=_failure(ended),
    )


def waiting(run: Run) -> Iterator[OutcomeLost]:
    """Give the questions about what waits to be tried again and will not be, where an earlier attempt may be undone."""
    for instance in run.under_way() if run.graph.undo else ():
        trial, (step_id, index) = run.trial(instance), instance
        if trial is None or trial.cut is None or not trial.idle or trial.unknown or step_id not in run.graph.undo:
            continue
        error = ErrorInfo(type="cancelled", message="it was not tried again")
        yield earlier(
            trial.cut,
            StepFailed(
                step=step_id,
                index=index,
                error=error,
                attempt=trial.cut.attempt,
                attempt_id=trial.cut.attempt_id,
                status=AttemptStatus.CANCELLED,
                worker=trial.cut.worker,
            ),
        )


def over_time(run: Run, instance: Instance, ended: StepFailed) -> OutcomeLost | None:
    """Give the question about a write that acts, or may have, while its step's time is over: where somebody needs to know.

    A map fails at once (`ended` says how), so of its items only those are asked about that would have to be undone.
    """
    trial = run.trial(instance)
    if trial is None or not trial.doubtful or trial.unknown is not None:
        return None
    step_id, index = instance
    undone = step_id in run.graph.undo and (index is None or not run.goes_on((step_id, None)))
    if not undone and (index is not None or not unsafe(run, step_id, trial)):
        return None
    if trial.cut is None or trial.nonce is not None:
        return lost(run, instance, trial, TIMEOUT)
    if index is None:
        return earlier(trial.cut, ended)
    attempt_id = run.attempt_id(instance, trial.attempt)
    return earlier(trial.cut, msgspec.structs.replace(ended, index=index, attempt=trial.attempt, attempt_id=attempt_id))


def happened(error: ErrorInfo, cut: Cut | None = None) -> ErrorInfo:
    """Say in an error that the act behind it happened: in the attempt that ends so, or in one that was `cut` before."""
    details = {**error.details, "outcome": HAPPENED}
    if cut is None:
        return msgspec.structs.replace(error, details=details)
    message = f"{error.message} (attempt {cut.attempt} acted, and what came of it was of no use)"
    return msgspec.structs.replace(error, message=message, details={**details, "attempt": cut.attempt})


def doubtful(error: ErrorInfo, cut: Cut | None = None) -> ErrorInfo:
    """Say in an error that what it ends may have happened: in the attempt that ends so, or in one that was `cut` before."""
    details = {**error.details, "outcome": "unknown"}
    if cut is None:
        return msgspec.structs.replace(error, details=details)
    message = f"{error.message} (attempt {cut.attempt} was cut off while it acted: whether it happened is unknown)"
    return msgspec.structs.replace(error, message=message, details={**details, "attempt": cut.attempt})


def reason_of(status: str, error: ErrorInfo) -> str | None:
    """Give why nobody knows what a claimed attempt did that ended so; None for the word of who knows.

    A tool that gave up waiting for the outside (an error of the type `timeout`) knows no more than one that was stopped.
    A worker says `outcome: happened` of an act whose result is of no use, or could not be kept.
    """
    if error.details.get("outcome") == HAPPENED:
        return BROKEN
    return REASONS.get(status) or (TIMEOUT if error.type == "timeout" else None)


def last(run: Run, trial: Try, ended: StepFailed, reason: str | None = None) -> StepFailed | OutcomeLost:
    """Give the end of an instance that is not tried again: an attempt that was cut off after its claim may have acted.

    Cut off was the last one, if there is a `reason`, or an earlier one of an act that is idempotent by key. Its error
    says so; where the act may have to be undone, a person is asked before.
    """
    cut = trial.nonce is not None and reason is not None
    if not cut and trial.cut is None:
        return ended
    if ended.step not in run.graph.undo:
        certain = (cut and reason == BROKEN) or trial.acted
        said = happened if certain else doubtful
        return msgspec.structs.replace(ended, error=said(ended.error, None if cut and not trial.acted else trial.cut))
    if cut:
        since = _failure(ended) if reason == BROKEN else None
        return lost(run, (ended.step, ended.index), trial, reason or LOST, since)
    assert trial.cut is not None, "that was just asked"
    return earlier(trial.cut, ended)


def cut_off(event: AttemptFailed, trial: Try) -> Cut | None:
    """Keep of an attempt that another follows what a person would look for, if it may have acted.

    Not so where it is known by now: what a person says holds for the earlier ones too, which had the same key.
    """
    if event.error.details.get("outcome") == NOT_HAPPENED:
        return None
    reason = reason_of(event.status, event.error)
    if trial.nonce is None or reason is None or trial.acted:
        return trial.cut
    return Cut(
        attempt=event.attempt,
        attempt_id=event.attempt_id,
        nonce=trial.nonce,
        reason=reason,
        worker=trial.claimed_by,
        claimed_at=trial.claimed_at,
        digest=trial.claimed_digest,
        before=0 if trial.cut is None else trial.cut.before + 1,
    )
