"""Unknown outcomes: a write was claimed and nobody knows what became of it, until a person says so (pure).

Its worker was lost while it acted, or ran out of time, or was cancelled midway. The worker's own late word settles it too.
What is unknown when the run is over stays so, and is kept by name (`doubt`).
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from headrace import codec
from headrace.decider import Context, Library, Rejection
from headrace.errors import ConflictError, NotFoundError, ValidationError
from headrace.events.base import ErrorInfo
from headrace.events.runs import RunEvent, StepFailed
from headrace.events.steering import OutcomeLost, OutcomeSettled
from headrace.messages import ReportAttempt
from headrace.policy import may
from headrace.steering import SettleOutcome
from headrace.vocabulary import INLINE_BYTES_MAX, AttemptStatus, StepStatus
from headrace_planner.runs import limits, results
from headrace_planner.runs.kept import Try
from headrace_planner.runs.state import Instance, Run

HAPPENED: Final = "happened"
NOT_HAPPENED: Final = "not_happened"
GIVE_UP: Final = "give_up"
FAILED: Final = "failed"
"""What only the lost worker itself can say: it acted, and the tool gave an error."""
ANSWERS: Final = (HAPPENED, NOT_HAPPENED, GIVE_UP)
OWN_WORD: Final = "its worker's own late word"
LOST: Final = "lost"
TIMEOUT: Final = "timeout"
CANCELLED: Final = "cancelled"
STORIES: Final = MappingProxyType(
    {LOST: "was lost while", TIMEOUT: "ran out of time while", CANCELLED: "was stopped while"}
)
ERRORS: Final = MappingProxyType({TIMEOUT: "timeout", CANCELLED: "cancelled"})
"""The type of the error of a step that is given up, or tried again, by why its outcome was unknown; else worker_lost."""


def unsafe(run: Run, step_id: str, trial: Try) -> bool:
    """Tell whether a worker may have acted in a way that must not be done twice."""
    return trial.nonce is not None and not run.graph.pins[step_id].idempotent


def asks(run: Run, step_id: str, trial: Try) -> bool:
    """Tell whether a person must say what a lost worker did: it must not be done twice, or may have to be undone."""
    return undoable(run, step_id, trial) or unsafe(run, step_id, trial)


def undoable(run: Run, step_id: str, trial: Try) -> bool:
    """Tell whether a worker may have done something that is to be undone, since the run does not go on."""
    return trial.nonce is not None and step_id in run.graph.undo and not run.stands(step_id)


def lost(run: Run, instance: Instance, trial: Try, reason: str = LOST) -> OutcomeLost:
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
    )


def over_time(run: Run, instance: Instance) -> OutcomeLost | None:
    """Give the question about a write that acts while its step's time is over: unless nothing depends on the answer.

    A map fails at once, so of its items only those are asked about that would have to be undone.
    """
    trial = run.trial(instance)
    if trial is None or trial.nonce is None or trial.unknown is not None:
        return None
    step_id, index = instance
    ends = index is not None
    asked = step_id in run.graph.undo and not run.goes_on((step_id, None)) if ends else unsafe(run, step_id, trial)
    return lost(run, instance, trial, TIMEOUT) if asked else None


def doubtful(error: ErrorInfo) -> ErrorInfo:
    """Say in an error that what it ends may have happened."""
    return msgspec.structs.replace(error, details={**error.details, "outcome": "unknown"})


def given_up(run: Run, command: ReportAttempt, trial: Try, error: ErrorInfo, reason: str) -> StepFailed | OutcomeLost:
    """Give the end of an attempt that was lost or over its time, and is the last: a claimed act may have happened.

    That is said in its error, also of an act that is idempotent by key; a person is asked if it may have to be undone.
    """
    if trial.nonce is not None and command.step in run.graph.undo:
        return lost(run, (command.step, command.index), trial, reason)
    status = AttemptStatus.LOST if reason == LOST else AttemptStatus.TIMED_OUT
    return results.ended(run, command, error if trial.nonce is None else doubtful(error), status=status)


def settle(run: Run, command: SettleOutcome, context: Context, library: Library) -> Sequence[RunEvent] | Rejection:
    """Take a person's word: it happened, it did not (the next attempt begins), or give up (the step fails)."""
    may(context.actor, "run")
    refusal = _refusal(run, command)
    if refusal is not None:
        return Rejection(refusal)
    trial = run.trial((command.step, command.index))
    assert trial is not None and trial.unknown is not None, "that was just asked"  # noqa: PT018  (one thought)
    settled = _settled(trial.unknown, command.answer, command.reason, context)
    word = ReportAttempt(
        run_id=run.data.id,
        step=command.step,
        index=command.index,
        attempt=trial.attempt,
        attempt_id=trial.unknown.attempt_id,
        status=AttemptStatus.LOST,
        worker=trial.unknown.worker or "",
        output=command.output,
        started_at=trial.unknown.claimed_at,
        finished_at=context.now,
    )
    if command.answer == HAPPENED:
        return (settled, *results.succeeded(run, word, library))
    said = "did not happen" if command.answer == NOT_HAPPENED else "is given up"
    why = f": {command.reason}" if command.reason else ""
    message = f"{_story(run, trial.unknown)}; {context.actor.name} says that it {said}{why}"
    outcome = NOT_HAPPENED if command.answer == NOT_HAPPENED else "unknown"
    kind = ERRORS.get(trial.unknown.reason, "worker_lost")
    error = ErrorInfo(type=kind, message=message, details={"outcome": outcome, "by": context.actor.name})
    if command.answer == NOT_HAPPENED and run.stands(command.step):
        return (settled, results.tried(word, error, AttemptStatus.LOST, context.now))
    status = AttemptStatus.LOST if trial.unknown.reason == LOST else AttemptStatus.FAILED
    return (settled, results.ended(run, word, error, status=status))


def own_word(run: Run, command: ReportAttempt, trial: Try, library: Library) -> Sequence[RunEvent]:
    """Take the lost worker's late word: what it says of its own act is known. Nothing when it does not know either."""
    assert trial.unknown is not None, "its outcome is unknown"
    if command.status == AttemptStatus.SUCCEEDED:
        return (_settled(trial.unknown, HAPPENED, OWN_WORD), *results.succeeded(run, command, library))
    if command.status == AttemptStatus.FAILED:
        ended = results.ended(run, command, results.error_of(command))
        return (_settled(trial.unknown, FAILED, OWN_WORD), ended)
    return ()


def _refusal(run: Run, command: SettleOutcome) -> ConflictError | NotFoundError | ValidationError | None:
    if command.step not in run.graph.index:
        return NotFoundError(f"the run has no step {command.step!r}; it has: {', '.join(run.graph.index)}")
    if command.answer not in ANSWERS:
        return ValidationError(f"unknown answer {command.answer!r}; known are: {', '.join(ANSWERS)}")
    if command.answer != HAPPENED and command.output != codec.NULL:
        return ValidationError(f"an output goes with {HAPPENED!r} only")
    size = len(bytes(command.output))
    if size > INLINE_BYTES_MAX:
        return ValidationError(f"the output takes {size} bytes; at most {INLINE_BYTES_MAX} can be told so")
    known, who = run.peek(command.step), run.label((command.step, command.index))
    if run.final:
        return ConflictError(f"the run is over: {run.data.status}", details={"status": str(run.data.status)})
    trial = run.trial((command.step, command.index))
    if trial is not None and trial.unknown is not None:
        return None
    settled = known.settled
    if settled is not None and settled.index == command.index:
        by = f" by {settled.by.name}" if settled.by else f" ({settled.reason})"
        return ConflictError(f"the outcome of {who} is already settled: {settled.answer}{by}")
    items = known.map.open.items() if known.map is not None and command.index is None else ()
    unknown = [run.label((command.step, index)) for index, each in items if each.unknown is not None]
    named = f"; unknown are those of its items {', '.join(unknown)}" if unknown else ""
    return ConflictError(f"no outcome of {who} is unknown: it is {known.status}{named}")


def _settled(unknown: OutcomeLost, answer: str, reason: str, context: Context | None = None) -> OutcomeSettled:
    return OutcomeSettled(
        step=unknown.step,
        index=unknown.index,
        attempt=unknown.attempt,
        attempt_id=unknown.attempt_id,
        answer=answer,
        by=context.actor if context else None,
        reason=reason,
    )


def _story(run: Run, unknown: OutcomeLost) -> str:
    who = run.label((unknown.step, unknown.index))
    how = STORIES.get(unknown.reason, STORIES[LOST])
    return f"worker {unknown.worker} {how} {who} acted, and whether it happened is unknown"


def question(run: Run, unknown: OutcomeLost) -> str:
    """Write what a person is asked."""
    return f"{_story(run, unknown)}: somebody must look and say so"


def evidence(run: Run, unknown: OutcomeLost) -> dict[str, object]:
    """Give what is known of an act whose outcome is not."""
    label = run.label((unknown.step, unknown.index))
    return {
        "step": label,
        "attempt": unknown.attempt,
        "attempt_id": unknown.attempt_id,
        "worker": unknown.worker,
        "claimed_at": unknown.claimed_at,
        "arguments_digest": unknown.arguments_digest,
        "nonce": unknown.nonce,
        "idempotency_key": f"{run.data.id}:{label}",
    }


# --- what a run remembers, for `evolve` alone --------------------------------------------------------------------


def remember(run: Run, event: OutcomeLost | OutcomeSettled) -> None:
    """Remember that an outcome is unknown, or what was said of it."""
    if isinstance(event, OutcomeLost):
        _outcome_lost(run, event)
    else:
        _outcome_settled(run, event)


def doubt(run: Run, event: StepFailed) -> None:
    """Keep by name what a failure says may have happened, but for what somebody is still asked about."""
    details = event.error.details
    if details.get("outcome") != "unknown":
        return
    asked = {run.label((step_id, index)) for step_id, index in run.under_way() if step_id == event.step}
    named = details.get("unknown") or [run.label((event.step, event.index))]
    run.data.doubts.extend(name for name in named if name not in asked)


def left(run: Run) -> None:
    """Keep by name what acts, or may have acted, while the run comes to its end."""
    for instance in run.under_way():
        trial = run.trial(instance)
        if trial is not None and trial.nonce is not None:
            run.data.doubts.append(run.label(instance))


def _outcome_lost(run: Run, event: OutcomeLost) -> None:
    """Remember that an attempt is with nobody any more, and that a person must speak."""
    instance = (event.step, event.index)
    trial = run.trial(instance)
    if trial is None or trial.idle:
        return
    trial.unknown = event
    run.data.active -= 1
    if event.reason == TIMEOUT:
        run.stopped.append((instance, event.attempt))  # its time is over: it shall stop, though it may still say more
    if event.index is None:
        run.step(event.step).status = StepStatus.WAITING
    limits.clock_rests(run, event.step)


def _outcome_settled(run: Run, event: OutcomeSettled) -> None:
    """Remember what was said; the event behind it says what follows.

    Until a person speaks, a worker that lives after all may finish and say so itself; from then on it must not act.
    """
    if event.by is not None:
        run.stopped.append(((event.step, event.index), event.attempt))
    run.step(event.step).settled = event
