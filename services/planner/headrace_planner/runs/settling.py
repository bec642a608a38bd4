"""Unknown outcomes: a write was claimed and nobody knows what became of it, until a person says so (pure).

Its worker was lost while it acted, or ran out of time, or was cancelled midway. The worker's own late word settles it too.
What is unknown when the run is over stays so, and is kept by name (`doubt`).
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from headrace import codec
from headrace.decider import Context, Library, Rejection
from headrace.errors import ConflictError, NotFoundError, ValidationError
from headrace.events.base import ErrorInfo
from headrace.events.runs import AttemptFailed, RunEvent, StepFailed
from headrace.events.steering import Failure, OutcomeLost, OutcomeSettled
from headrace.messages import ReportAttempt
from headrace.policy import may
from headrace.steering import SettleOutcome
from headrace.vocabulary import INLINE_BYTES_MAX, AttemptStatus, StepStatus
from headrace_planner.runs import limits, results
from headrace_planner.runs.instances import keep_try, leave_line
from headrace_planner.runs.kept import Cut, Try
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
REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {AttemptStatus.LOST: LOST, AttemptStatus.TIMED_OUT: TIMEOUT, AttemptStatus.CANCELLED: CANCELLED}
)
"""Why the outcome of a claimed act is unknown, by how its attempt ended; any other end is the word of who knows."""
ERRORS: Final = MappingProxyType({TIMEOUT: "timeout", CANCELLED: "cancelled"})
"""The type of the error of a step that is given up, or tried again, by why its outcome was unknown; else worker_lost."""


def unsafe(run: Run, step_id: str, trial: Try) -> bool:
    """Tell whether a worker may have acted in a way that must not be done twice."""
    return trial.nonce is not None and not run.graph.pins[step_id].idempotent


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
        failure=Failure(
            error=ended.error,
            attempt=ended.attempt,
            attempt_id=ended.attempt_id,
            status=ended.status,
            continued=ended.continued,
            artifacts=ended.artifacts,
            worker=ended.worker,
            started_at=ended.started_at,
            finished_at=ended.finished_at,
        ),
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
    """
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
        return msgspec.structs.replace(ended, error=doubtful(ended.error, None if cut else trial.cut))
    if cut:
        return lost(run, (ended.step, ended.index), trial, reason or LOST)
    assert trial.cut is not None, "that was just asked"
    return earlier(trial.cut, ended)


def asked_about(run: Run, command: ReportAttempt, trial: Try) -> bool:
    """Tell whether a word is that of the worker about whose act a person is asked."""
    unknown = trial.unknown
    if unknown is None or run.final:
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
        return (settled, *results.succeeded(run, word, library))
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
        return (_settled(trial.unknown, HAPPENED, OWN_WORD), *results.succeeded(run, command, library))
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
    story = f"worker {unknown.worker} {how} {who} acted, and whether it happened is unknown"
    since = unknown.failure
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
        if trial is not None and trial.doubtful:
            run.data.doubts.append(run.label(instance))


def cut_off(event: AttemptFailed, trial: Try) -> Cut | None:
    """Keep of an attempt that another follows what a person would look for, if it may have acted.

    Not so where it is known by now: what a person says holds for the earlier ones too, which had the same key.
    """
    if event.error.details.get("outcome") == NOT_HAPPENED:
        return None
    reason = reason_of(event.status, event.error)
    if trial.nonce is None or reason is None:
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
