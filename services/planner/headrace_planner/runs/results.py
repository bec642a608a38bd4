"""What a result becomes: the events of a success, of an end, and of a try that another will follow (pure)."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.codec import NULL, Raw
from headrace.decider import Library, Rejection
from headrace.errors import StepError
from headrace.events.base import ArtifactInfo, ErrorInfo
from headrace.events.runs import AttemptFailed, RunEvent, StepFailed, StepSucceeded
from headrace.messages import ReportAttempt
from headrace.plans.model import GateStep, PlanStep
from headrace.vocabulary import RETRY_ATTEMPTS_MAX, AttemptStatus, Outcome
from headrace_planner.runs import limits
from headrace_planner.runs.orders import digest_for, scope_of
from headrace_planner.runs.scope import items_of
from headrace_planner.runs.state import Instance, Run

RETRY_AFTER_S_MAX: Final = 86_400.0
"""How far a source may put the next try off: what asks for more is tried again after a day."""


def succeeded(run: Run, command: ReportAttempt, library: Library) -> Sequence[RunEvent]:
    """Give what a success becomes: the step's result, or its failure where a gate or an artifact of the plan says so."""
    step = run.graph.index[command.step]
    instance = (command.step, command.index)
    if isinstance(step.body, GateStep):
        blocked = _verdict_error(step, step.body, command)
        if blocked is not None:
            return (ended(run, command, blocked),)
    try:
        kept = artifacts(run, step, command, library)
        arguments_digest = digest_for(run, library, instance)
    except StepError as problem:
        error = ErrorInfo(type=problem.type, message=problem.message, details=problem.details, plugin=problem.plugin)
        return (ended(run, command, error),)
    return (
        StepSucceeded(
            step=command.step,
            index=command.index,
            attempt=command.attempt,
            attempt_id=command.attempt_id,
            output=command.output,
            blob=command.blob,
            artifacts=kept,
            evidence=command.evidence,
            worker=command.worker,
            started_at=command.started_at,
            finished_at=command.finished_at,
            arguments_digest=arguments_digest,
            item=item_kept(run, instance, library),
        ),
    )


def item_kept(run: Run, instance: Instance, library: Library) -> Raw:
    """Give the item that what undoes an instance may ask for, where its map is in a loop: see `undone_scope`."""
    step_id, index = instance
    if index is None or step_id not in run.graph.undo or not run.graph.index[step_id].parent:
        return NULL
    return codec.raw(items_of(run, library, step_id)[index])


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


def artifacts(run: Run, step: PlanStep, command: ReportAttempt, library: Library) -> tuple[ArtifactInfo, ...]:
    """Give the worker's artifacts, and the plan's own; one of both with the same type and value is one artifact."""
    if not step.artifacts:
        return command.artifacts
    kept = list(command.artifacts)
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


def ended(run: Run, command: ReportAttempt, error: ErrorInfo, *, status: str = AttemptStatus.FAILED) -> StepFailed:
    """Give the end of an instance that will not be tried again."""
    return StepFailed(
        step=command.step,
        index=command.index,
        error=error,
        attempt=command.attempt,
        attempt_id=command.attempt_id,
        status=status,
        continued=run.goes_on((command.step, command.index)),
        artifacts=command.artifacts,
        worker=command.worker,
        started_at=command.started_at,
        finished_at=command.finished_at,
    )


def maps_ended(run: Run, decision: Sequence[RunEvent] | Rejection) -> Sequence[RunEvent] | Rejection:
    """Let a map whose step may fail (`on_error: continue`) fail with its first item, unless failures are collected.

    What else of it is under way is cut off with the step. A map whose step may not fail ends with its run.
    """
    if isinstance(decision, Rejection) or StepFailed not in map(type, decision):
        return decision
    events: list[RunEvent] = []
    over: set[str] = set()
    for event in decision:
        if isinstance(event, StepFailed) and event.index is not None and event.step in over:
            continue  # it is cut off
        if not isinstance(event, StepFailed) or event.index is None or not _ends_map(run, event):
            events.append(event)
            continue
        over.add(event.step)
        events.append(msgspec.structs.replace(event, ends=True))
        events.append(_map_failed(run, event, (event.step, event.index)))
    return events


def _map_failed(run: Run, event: StepFailed, instance: Instance) -> StepFailed:
    """Give the failure of a map with its item's; it names what is cut off and may have happened."""
    cut_off = [each for each in limits.acting(run, event.step) if each != instance]
    known = {name: value for name, value in event.error.details.items() if name not in {"outcome", "unknown"}}
    error = msgspec.structs.replace(
        event.error,
        message=f"{run.label(instance)} failed: {event.error.message}",
        details={**known, "item": event.index, **limits.doubted(run, cut_off)},
    )
    return StepFailed(
        step=event.step,
        error=error,
        continued=True,
        started_at=run.peek(event.step).started_at,
        finished_at=event.finished_at,
    )


def _ends_map(run: Run, event: StepFailed) -> bool:
    step = run.graph.index[event.step]
    ends = step.is_map and step.on_error == "continue" and step.on_item_error != "collect"
    return ends and event.status != AttemptStatus.CANCELLED and not run.halted and not run.over(event.step)


def tried(command: ReportAttempt, error: ErrorInfo, status: str, retry_at: int) -> AttemptFailed:
    """Give a failed try that another follows at `retry_at`."""
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


def error_of(command: ReportAttempt) -> ErrorInfo:
    """Give the error of a report, which a worker may have left out."""
    return command.error or ErrorInfo(type="execution_error", message="the worker gave no error")


def delay_s(run: Run, instance: Instance, attempt: int, retry_after_s: float | None) -> float:
    """Give the delay before the next try: exponential, with jitter drawn from a hash, at least what the source asked."""
    retry = run.graph.index[instance[0]].retry
    delay = min(retry.max_s, retry.initial_s * retry.factor ** min(attempt - 1, RETRY_ATTEMPTS_MAX))
    drawn = hashlib.sha256(f"{run.data.id}:{run.label(instance)}:{attempt}".encode()).digest()
    unit = int.from_bytes(drawn[:8], "big") / 2**64
    return max(delay * (1 + retry.jitter * (2 * unit - 1)), min(retry_after_s or 0.0, RETRY_AFTER_S_MAX))
