"""What a worker's word about an attempt does: results, claims, losses, retries (pure)."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from headrace import codec
from headrace.decider import Context, Library, Rejection
from headrace.errors import ConflictError, StepError
from headrace.events.base import ArtifactInfo, ErrorInfo
from headrace.events.runs import (
    AttemptFailed,
    LateResultKept,
    RunEvent,
    StepFailed,
    StepSucceeded,
    WriteClaimed,
)
from headrace.messages import ClaimWrite, LoseAttempt, ReportAttempt
from headrace.plans.model import GateStep, PlanStep
from headrace.vocabulary import LOST_ATTEMPTS_MAX, AttemptStatus, Outcome
from headrace_planner.runs.orders import order_for, scope_of
from headrace_planner.runs.state import Instance, Run, Try

NEVER_AGAIN: Final = frozenset(
    {
        "validation_error",
        "missing_argument",
        "tool_not_found",
        "confirmation_denied",
        "not_authorized",
        "forbidden",
        "precondition_failed",
        "integration_not_connected",
    }
)
"""Errors that the same call would meet again."""
RETRY_AFTER_S_MAX: Final = 86_400.0
"""How far a source may put the next try off: what asks for more is tried again after a day."""


def report(run: Run, command: ReportAttempt, context: Context, library: Library) -> Sequence[RunEvent] | Rejection:
    """Judge a worker's result. Late ones are kept and change nothing; the same one again is nothing."""
    instance = (command.step, command.index)
    if command.step not in run.graph.index:
        return Rejection(ConflictError(f"the run has no step {command.step!r}"))
    trial = run.trial(instance)
    if trial is None or trial.attempt != command.attempt or trial.idle or run.final:
        return _late(run, command)
    if trial.nonce is not None and command.worker != trial.claimed_by:
        return _late(run, command)  # another worker, whose claim was refused, knows nothing of what this one does
    if command.attempt_id != run.attempt_id(instance, trial.attempt):
        if run.graph.index[command.step].parent:
            return _late(run, command)  # the word of an earlier round
        return Rejection(ConflictError(f"{command.attempt_id} is not the attempt of {run.label(instance)}"))
    if command.status == AttemptStatus.SUCCEEDED:
        if run.graph.claims(command.step) and trial.nonce is None:
            return Rejection(ConflictError(f"{run.label(instance)} acts on the world and was never claimed"))
        return _succeeded(run, command, library)
    if command.status == AttemptStatus.CANCELLED:
        return _handed_back(run, command, trial, context)
    return _failed(run, command, trial, context)


def _late(run: Run, command: ReportAttempt) -> Sequence[RunEvent]:
    if _accepted(run, command) or command.attempt_id in run.data.late:
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


def _accepted(run: Run, command: ReportAttempt) -> bool:
    """Tell whether a report is on record; not so the word of a worker that was given up for lost: it is news."""
    known = run.data.steps.get(command.step)
    if known is None:
        return False
    error = known.error
    if command.index is not None:
        error = known.map.failed.get(command.index) if known.map is not None else None
    elif known.attempt_id != command.attempt_id:
        return False
    given_up = error is not None and error.type == "worker_lost"
    return not given_up or (command.error is not None and command.error.type == "worker_lost")


def _succeeded(run: Run, command: ReportAttempt, library: Library) -> Sequence[RunEvent]:
    step = run.graph.index[command.step]
    instance = (command.step, command.index)
    if isinstance(step.body, GateStep):
        blocked = _verdict_error(step, step.body, command)
        if blocked is not None:
            return (_ended(run, command, blocked),)
    try:
        artifacts = _artifacts(run, step, command, library)
        arguments_digest = order_for(run, library, instance).arguments_digest
    except StepError as problem:
        error = ErrorInfo(type=problem.type, message=problem.message, details=problem.details, plugin=problem.plugin)
        return (_ended(run, command, error),)
    return (
        StepSucceeded(
            step=command.step,
            index=command.index,
            attempt=command.attempt,
            attempt_id=command.attempt_id,
            output=command.output,
            blob=command.blob,
            artifacts=artifacts,
            evidence=command.evidence,
            worker=command.worker,
            started_at=command.started_at,
            finished_at=command.finished_at,
            arguments_digest=arguments_digest,
        ),
    )


def _verdict_error(step: PlanStep, gate: GateStep, command: ReportAttempt) -> ErrorInfo | None:
    """Turn a verdict that blocks into the step's error; only `passed` lets a required gate pass."""
    verdict: Any = codec.loads(command.output)
    outcome = verdict.get("outcome") if isinstance(verdict, dict) else None
    if outcome == Outcome.PASSED or not gate.required:
        return None
    found = str(verdict.get("message", "")) if isinstance(verdict, dict) else "the gate gave no verdict"
    message = gate.failure_message or found or f"gate {gate.gate} did not pass"
    details = {"gate": step.id, "type": gate.gate, "outcome": outcome, "found": found}
    return ErrorInfo(type="precondition_failed", message=message, details=details, plugin=f"gate.{gate.gate}")


def _artifacts(run: Run, step: PlanStep, command: ReportAttempt, library: Library) -> tuple[ArtifactInfo, ...]:
    """Give the worker's artifacts, and the plan's own; one of both with the same type and value is one artifact."""
    kept = list(command.artifacts)
    if not step.artifacts:
        return tuple(kept)
    output = codec.loads(library.body(command.blob.digest) if command.blob else command.output)
    scope = scope_of(run, library, (command.step, command.index), {"output": output})
    for place, wanted in enumerate(step.artifacts):
        made = run.graph.template(step.id, f"artifacts.{place}", wanted.value).resolve(scope)
        value = codec.raw(output if wanted.value is None else made)
        label = str(run.graph.template(step.id, f"artifacts.{place}.label", wanted.label).resolve(scope))
        same = next((known for known in kept if known.type == wanted.type and known.value == value), None)
        if same is not None:
            kept.remove(same)
            kept.append(
                ArtifactInfo(
                    type=same.type,
                    label=label,
                    value=same.value,
                    body=same.body,
                    blob=same.blob,
                    media_type=same.media_type,
                )
            )
        else:
            kept.append(ArtifactInfo(type=wanted.type, label=label, value=value))
    return tuple(kept)


def _handed_back(run: Run, command: ReportAttempt, trial: Try, context: Context) -> Sequence[RunEvent]:
    """A worker let an attempt go: because the run is being cancelled, or because the worker is leaving."""
    if run.data.cancel is not None:
        error = command.error or ErrorInfo(type="cancelled", message="cancelled")
        return (_ended(run, command, error, status=AttemptStatus.CANCELLED),)
    return _again(run, command, trial, context, AttemptStatus.LOST)


def _failed(run: Run, command: ReportAttempt, trial: Try, context: Context) -> Sequence[RunEvent]:
    step = run.graph.index[command.step]
    error = _error_of(command)
    retry = step.retry
    pin = run.graph.pins[command.step]
    unsafe = trial.nonce is not None and not pin.idempotent
    allowed = command.retryable and error.type not in NEVER_AGAIN and not unsafe
    wanted = command.attempt - trial.lost < retry.max_attempts and (not retry.on or error.type in retry.on)
    if not allowed or not wanted or run.halted:
        status = AttemptStatus.TIMED_OUT if command.status == AttemptStatus.TIMED_OUT else AttemptStatus.FAILED
        return (_ended(run, command, error, status=status),)
    delay_s = _delay_s(run, (command.step, command.index), command.attempt, command.retry_after_s)
    return (_tried(command, error, command.status, context.now + int(delay_s * 1000)),)


def _error_of(command: ReportAttempt) -> ErrorInfo:
    return command.error or ErrorInfo(type="execution_error", message="the worker gave no error")


def _ended(run: Run, command: ReportAttempt, error: ErrorInfo, *, status: str = AttemptStatus.FAILED) -> StepFailed:
    return StepFailed(
        step=command.step,
        index=command.index,
        error=error,
        attempt=command.attempt,
        attempt_id=command.attempt_id,
        status=status,
        continued=run.graph.index[command.step].on_error == "continue",
        artifacts=command.artifacts,
        worker=command.worker,
        started_at=command.started_at,
        finished_at=command.finished_at,
    )


def _delay_s(run: Run, instance: Instance, attempt: int, retry_after_s: float | None) -> float:
    """Give the delay before the next try: exponential, with jitter drawn from a hash, at least what the source asked."""
    retry = run.graph.index[instance[0]].retry
    delay = min(retry.max_s, retry.initial_s * retry.factor ** (attempt - 1))
    drawn = hashlib.sha256(f"{run.data.id}:{run.label(instance)}:{attempt}".encode()).digest()
    unit = int.from_bytes(drawn[:8], "big") / 2**64
    return max(delay * (1 + retry.jitter * (2 * unit - 1)), min(retry_after_s or 0.0, RETRY_AFTER_S_MAX))


def lose(run: Run, command: LoseAttempt, context: Context) -> Sequence[RunEvent]:
    """The worker of an attempt is dead: try again, or say that it is unknown what happened."""
    instance = (command.step, command.index)
    trial = run.trial(instance)
    if trial is None or trial.attempt != command.attempt or trial.idle or run.final:
        return ()
    as_report = ReportAttempt(
        run_id=run.data.id,
        step=command.step,
        index=command.index,
        attempt=command.attempt,
        attempt_id=command.attempt_id,
        status=AttemptStatus.LOST,
        worker=command.worker or trial.claimed_by or "",
        finished_at=context.now,
    )
    return _again(run, as_report, trial, context, AttemptStatus.LOST)


def _again(run: Run, command: ReportAttempt, trial: Try, context: Context, status: AttemptStatus) -> Sequence[RunEvent]:
    lost = trial.lost + 1
    who = run.label((command.step, command.index))
    if trial.nonce is not None and not run.graph.pins[command.step].idempotent:
        message = f"worker {command.worker} was lost while {who} acted: whether it happened is unknown"
        details = {"outcome": "unknown", "claimed_at": trial.claimed_at, "nonce": trial.nonce}
        return (_ended(run, command, ErrorInfo(type="worker_lost", message=message, details=details)),)
    message = (
        f"worker {command.worker} was lost while it performed {who}"
        if command.worker
        else f"the order of {who} was lost"
    )
    error = command.error or ErrorInfo(type="worker_lost", message=message, details={"lost": lost})
    if lost >= LOST_ATTEMPTS_MAX or run.halted:
        return (_ended(run, command, error),)
    return (_tried(command, error, status, context.now),)


def _tried(command: ReportAttempt, error: ErrorInfo, status: str, retry_at: int) -> AttemptFailed:
    return AttemptFailed(
        step=command.step,
        index=command.index,
        attempt=command.attempt,
        attempt_id=command.attempt_id,
        status=status,
        error=error,
        retry_at=retry_at,
        worker=command.worker,
        started_at=command.started_at,
        finished_at=command.finished_at,
    )


def claim(run: Run, command: ClaimWrite, library: Library) -> Sequence[RunEvent] | Rejection:
    """Let a worker act, once an attempt, on exactly the arguments that the plan gives. Again: the same grant."""
    instance = (command.step, command.index)
    trial = run.trial(instance)
    who = run.label(instance)
    if trial is None or trial.attempt != command.attempt or trial.idle or run.halted:
        return Rejection(ConflictError(f"{who} is not to be performed now (attempt {command.attempt})"))
    if trial.nonce == command.nonce:
        return ()
    if trial.nonce is not None:
        return Rejection(ConflictError(f"{who} is already claimed by {trial.claimed_by}"))
    order = order_for(run, library, instance)
    if command.attempt_id != order.attempt_id or command.arguments_digest != order.arguments_digest:
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
