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
from headrace.events.steering import Failure, OutcomeLost, OutcomeSettled
from headrace.messages import ReportAttempt
from headrace.policy import may
from headrace.steering import SettleOutcome
from headrace.vocabulary import INLINE_BYTES_MAX, AttemptStatus, StepStatus
from headrace_planner.runs import limits, results
from headrace_planner.runs.doubts import CANCELLED, HAPPENED, LOST, NOT_HAPPENED, TIMEOUT, last, reason_of
from headrace_planner.runs.instances import keep_try, leave_line
from headrace_planner.runs.kept import BROKEN, Try
from headrace_planner.runs.state import Run

GIVE_UP: Final = "give_up"
FAILED: Final = "failed"
"""What only the lost worker itself can say: it acted, and the tool gave an error."""
ANSWERS: Final = (HAPPENED, NOT_HAPPENED, GIVE_UP)
OWN_WORD: Final = "its worker's own late word"
STORIES: Final = MappingProxyType(
    {
        LOST: "was lost while",
        TIMEOUT: "ran out of time while",
        CANCELLED: "was stopped while",
        BROKEN: "gave no usable result when",
    }
)
ERRORS: Final = MappingProxyType({TIMEOUT: "timeout", CANCELLED: "cancelled"})
"""The type of the error of a step that is given up, or tried again, by why its outcome was unknown; else worker_lost."""


def asked_about(run: Run, command: ReportAttempt, unknown: OutcomeLost) -> bool:
    """Tell whether a word is that of the worker about whose act a person is asked."""
    if run.final:
        return False
    return command.attempt_id == unknown.attempt_id and command.worker == unknown.worker


def settle(run: Run, command: SettleOutcome, context: Context, library: Library) -> Sequence[RunEvent] | Rejection:
    """Take a person's word: it happened, it did not (the next attempt begins), or give up (the step fails)."""
    may(context.actor, "run")
    refusal = _refusal(run, command)
    if refusal is not None:
        return Rejection(refusal)
    trial = run.trial((command.step, command.index))
    assert trial is not None and trial.unknown is not None, "that was just asked"  # noqa: PT018  (one thought)
    settled, since = _settled(trial.unknown, command.answer, command.reason, context), trial.unknown.failure
    word = ReportAttempt(
        run_id=run.data.id,
        step=command.step,
        index=command.index,
        attempt=trial.unknown.attempt,
        attempt_id=trial.unknown.attempt_id,
        status=AttemptStatus.LOST,
        worker=trial.unknown.worker or "",
        output=command.output,
        started_at=trial.unknown.claimed_at,
        finished_at=context.now,
    )
    if command.answer == HAPPENED:
        done = results.succeeded(run, word, library)
        failed = next((event.error.message for event in done if isinstance(event, StepFailed)), None)
        if failed is not None:
            return Rejection(
                ValidationError(f"output: with this one the step fails: {failed}", details={"field": "output"})
            )
        return (settled, *done)
    said = "did not happen" if command.answer == NOT_HAPPENED else "is given up"
    why = f": {command.reason}" if command.reason else ""
    message = f"{_story(run, trial.unknown)}; {context.actor.name} says that it {said}{why}"
    outcome = NOT_HAPPENED if command.answer == NOT_HAPPENED else "unknown"
    known = {"outcome": outcome, "by": context.actor.name}
    if since is not None:
        return (settled, _stands(trial.unknown, since, f"{since.error.message}; {message}", known))
    kind = ERRORS.get(trial.unknown.reason, "worker_lost")
    error = ErrorInfo(type=kind, message=message, details=known)
    if command.answer == NOT_HAPPENED and run.stands(command.step):
        return (settled, results.tried(word, error, AttemptStatus.LOST, context.now))
    status = AttemptStatus.LOST if trial.unknown.reason == LOST else AttemptStatus.FAILED
    return (settled, results.ended(run, word, error, status=status))


def own_word(run: Run, command: ReportAttempt, trial: Try, library: Library) -> Sequence[RunEvent]:
    """Take the lost worker's late word: what it says of its own act is known. Nothing when it does not know either."""
    assert trial.unknown is not None, "its outcome is unknown"
    if command.status == AttemptStatus.SUCCEEDED:
        done = results.succeeded(run, command, library)
        broken = any(isinstance(event, StepFailed) for event in done)
        return () if broken else (_settled(trial.unknown, HAPPENED, OWN_WORD), *done)
    if command.status != AttemptStatus.FAILED or reason_of(command.status, results.error_of(command)):
        return ()
    since, settled = trial.unknown.failure, _settled(trial.unknown, FAILED, OWN_WORD)
    if since is None:
        return (settled, last(run, trial, results.ended(run, command, results.error_of(command))))
    if trial.cut is not None and trial.cut.before:
        return ()  # attempts before that one were cut off too
    return (settled, _stands(trial.unknown, since, since.error.message, {}))


def _stands(unknown: OutcomeLost, since: Failure, message: str, known: dict[str, str]) -> StepFailed:
    """Give the failure that stands, since the act did not happen, or nobody will ever know."""
    error = msgspec.structs.replace(since.error, message=message, details={**since.error.details, **known})
    return StepFailed(
        step=unknown.step,
        index=unknown.index,
        error=error,
        attempt=since.attempt,
        attempt_id=since.attempt_id,
        status=since.status,
        continued=since.continued,
        artifacts=since.artifacts,
        worker=since.worker,
        started_at=since.started_at,
        finished_at=since.finished_at,
    )


def _refusal(run: Run, command: SettleOutcome) -> ConflictError | NotFoundError | ValidationError | None:
    if command.step not in run.graph.index:
        return NotFoundError(f"the run has no step {command.step!r}; it has: {', '.join(run.graph.index)}")
    if command.answer not in ANSWERS:
        return ValidationError(
            f"unknown answer {command.answer!r}; known are: {', '.join(ANSWERS)}", details={"field": "answer"}
        )
    if command.answer != HAPPENED and command.output != codec.NULL:
        return ValidationError(f"an output goes with {HAPPENED!r} only", details={"field": "output"})
    size = len(bytes(command.output))
    if size > INLINE_BYTES_MAX:
        return ValidationError(
            f"the output takes {size} bytes; at most {INLINE_BYTES_MAX} can be told so", details={"field": "output"}
        )
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
    since = unknown.failure
    if unknown.reason == BROKEN and since is not None and since.attempt == unknown.attempt:
        return f"worker {unknown.worker} acted for {who}, and what came of it is of no use: {since.error.message}"
    how = STORIES.get(unknown.reason, STORIES[LOST])
    story = f"worker {unknown.worker} {how} {who} acted, and whether it happened is unknown"
    if since is None or since.attempt == unknown.attempt:
        return story
    return f"{story} (attempt {unknown.attempt}; attempt {since.attempt} failed)"


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
        if trial is not None and trial.uncertain:
            run.data.doubts.append(run.label(instance))


def _outcome_lost(run: Run, event: OutcomeLost) -> None:
    """Remember that an attempt is with nobody any more, and that a person must speak."""
    instance = (event.step, event.index)
    trial = run.trial(instance)
    if trial is None:
        return
    out, since = not trial.idle, event.failure
    run.data.active -= out
    leave_line(run, instance, trial)
    trial.unknown, trial.retry_at = event, None
    if since is not None and since.status != AttemptStatus.CANCELLED:
        keep_try(run, _stands(event, since, since.error.message, {}))
    over_time = event.reason == TIMEOUT if since is None else since.status == AttemptStatus.TIMED_OUT
    if out and over_time:
        run.stopped.append((instance, trial.attempt))  # its time is over: it shall stop, though it may still say more
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
