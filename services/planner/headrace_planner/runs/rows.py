"""The projection rows of a run, from its state alone (pure)."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from headrace import codec, ids
from headrace.codec import NULL
from headrace.decider import Row
from headrace.events.runs import (
    ApprovalResolved,
    CancelRequested,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunQueued,
    RunStarted,
    RunSucceeded,
)
from headrace.events.steering import CompensationStarted, PermitGranted, RunResumed
from headrace.vocabulary import (
    INLINE_BYTES_MAX,
    PREVIEW_CHARS,
    RunStatus,
    StepStatus,
    WaitingFor,
)
from headrace_planner.runs import children, parents, permits, settling, waits, watches
from headrace_planner.runs.asks import unheard
from headrace_planner.runs.state import Run, StepState, Tried
from headrace_planner.runs.times import wake_at

INPUTS_SHOWN_BYTES_MAX: Final = 4_096
OPEN_SHOWN_MAX: Final = 20
FAILED_ITEMS_SHOWN_MAX: Final = 20
ENDS: Final = (RunSucceeded, RunFailed, RunCancelled)
WIDE: Final = (RunQueued, RunStarted, CancelRequested, RunResumed, CompensationStarted, *ENDS)
"""Events that may open or stop steps which they do not name."""


def rows(run: Run, events: Sequence[RunEvent] | None) -> Iterator[Row]:
    """Give the rows that events changed, or all of the run's; a purged run has none."""
    if not run.exists or run.data.purged:
        return
    yield Row("runs", _run(run))
    if events is None or any(isinstance(event, RunQueued) for event in events):
        yield from _lineage(run)
    changed = _changed(run, events)
    yield from waits.rows(run, events, changed)
    for step_id in changed:
        known = run.data.steps.get(step_id)
        if known is None or _untouched(run, step_id, known):
            continue
        yield Row("steps", _step(run, step_id, known))
        first = 0 if events is None else len(known.artifacts) - _added(step_id, events)
        for number, (index, attempt_id, at, _) in enumerate(known.artifacts[first:], first):
            yield Row("artifacts", _artifact(run, step_id, known, number, index, attempt_id, at))


def _untouched(run: Run, step_id: str, known: StepState) -> bool:
    """Tell whether a step has no row yet; in a loop's body it may have one of an earlier round, which is no more true."""
    again = bool(run.graph.index[step_id].parent)
    return known.status == StepStatus.PENDING and known.approval_id is None and not again


def _changed(run: Run, events: Sequence[RunEvent] | None) -> list[str]:
    """Name the steps whose rows may be others now: those of the events, and those that their end may have opened."""
    if events is None or any(_wide(event) for event in events):
        return [step for step in run.graph.index if step in run.data.steps]
    named = dict.fromkeys(step for event in events if (step := getattr(event, "step", None)))
    if any(isinstance(event, PermitGranted) for event in events):
        if run.queued.reused:
            return [step for step in run.graph.index if step in run.data.steps]  # what begins need not be a root
        named |= dict.fromkeys([*run.graph.roots, *run.graph.limitable])
    if run.data.undo is not None:
        named |= dict.fromkeys(step for step, _ in run.going())  # what is undone next is named by no event
    near = (other for step in named for other in (step, *run.graph.inside.get(step, ()), *run.graph.successors[step]))
    return list(dict.fromkeys(near))


def _wide(event: RunEvent) -> bool:
    return isinstance(event, WIDE) or (isinstance(event, ApprovalResolved) and not event.step)


def _added(step_id: str, events: Sequence[RunEvent]) -> int:
    """Count the artifacts that events brought a step: they are its last ones, and the only ones without a row."""
    return sum(len(getattr(event, "artifacts", ())) for event in events if getattr(event, "step", None) == step_id)


def _run(run: Run) -> dict[str, Any]:
    data, queued = run.data, run.queued
    waiting = list(_waits(run))
    return {
        "id": data.id,
        "workspace": data.workspace,
        "partition": ids.partition_of(data.id),
        "version": data.version,
        "kind": queued.kind,
        "name": run.graph.plan.name,
        "workflow": queued.workflow,
        "workflow_version": queued.workflow_version,
        "plan_digest": queued.plan_digest,
        "inputs_digest": queued.inputs_digest,
        "status": str(data.status),
        "waiting_for": waiting[0]["for"] if waiting and data.status == RunStatus.WAITING else None,
        "error_type": data.error.type if data.error else None,
        "error_message": data.error.message if data.error else None,
        "attempt": queued.attempt,
        "retry_of": queued.retry_of,
        "requester_id": queued.requester.id,
        "requester_name": queued.requester.name,
        "subject": queued.subject,
        "stage": queued.stage,
        "labels": queued.labels,
        "cancel_requested": data.cancel is not None and not run.final,
        "workers_active": queued.workers_active,
        "created_at": data.created_at,
        "started_at": data.started_at,
        "finished_at": data.finished_at,
        "steps_total": len(run.graph.plan.steps),
        "steps_done": data.steps_done,
        "detail": {
            "inputs": codec.loads(queued.inputs) if len(bytes(queued.inputs)) <= INPUTS_SHOWN_BYTES_MAX else None,
            "trigger": codec.loads(queued.trigger) if len(bytes(queued.trigger)) <= INPUTS_SHOWN_BYTES_MAX else None,
            "outputs": codec.loads(data.outputs) if len(bytes(data.outputs)) <= INLINE_BYTES_MAX else None,
            "error": None
            if data.error is None
            else {
                "type": data.error.type,
                "message": data.error.message,
                "details": data.error.details,
                "plugin": data.error.plugin,
            },
            "waiting": waiting,
            "open": [run.label(instance) for instance in run.under_way()[:OPEN_SHOWN_MAX]],
            **({"rerun_from": queued.rerun_from} if queued.rerun_from else {}),
            **({"parent": msgspec.to_builtins(queued.parent)} if queued.parent else {}),
            "connections": sorted(codec.loads(queued.connections) or {}),
        },
        "wake_at": wake_at(run),
        "busy": busy(run),
    }


def _lineage(run: Run) -> Iterator[Row]:
    """Give the row that shows a child with its parent."""
    parent = run.queued.parent
    if parent is not None:
        columns = {
            "id": run.data.id,
            "workspace": run.data.workspace,
            "parent_id": parent.run_id,
            "step": parent.step,
            "item": parent.index,
            "iteration": parent.iteration,
            "attempt": parent.attempt,
            "depth": parent.depth,
            "created_at": run.data.created_at,
        }
        yield Row("children", columns)


def busy(run: Run) -> bool:
    """Tell whether a new owner has something to look after: attempts, or what others have not confirmed."""
    told = any(True for _ in unheard(run)) or bool(permits.unheard(run)) or parents.unheard(run)
    told = told or any(True for _ in children.unheard(run)) or any(True for _ in watches.unheard(run))
    return told or (not run.final and run.data.active > 0)


def _waits(run: Run) -> Iterator[dict[str, Any]]:
    """Give what the run waits for, the most telling first."""
    if run.final:
        return
    if not run.data.begun:
        yield {
            "step": None,
            "for": str(WaitingFor.START),
            "until": None,
            "approval_id": None,
            "message": "a person's start",
        }
    if run.data.paused is not None:
        message = f"paused by {run.data.paused.by.name}"
        yield {"step": None, "for": str(WaitingFor.RESUME), "until": None, "approval_id": None, "message": message}
    for ask in run.asked():
        message = f"{ask.quorum} of {' or '.join(ask.roles)}"
        yield {
            "step": ask.step or None,
            "for": str(WaitingFor.APPROVAL),
            "until": ask.expires_at,
            "approval_id": ask.approval_id,
            "message": message,
        }
    yield from _unknown_outcomes(run)
    yield from permits.waits(run)
    yield from waits.shown(run)
    yield from children.waits(run)
    for step_id, known in run.going():
        if known.due_at is not None:
            yield {
                "step": step_id,
                "for": str(WaitingFor.TIMER),
                "until": known.due_at,
                "approval_id": None,
                "message": "a timer",
            }
        if known.open is not None and known.open.retry_at is not None:
            message = f"attempt {known.open.attempt}"
            yield {
                "step": step_id,
                "for": str(WaitingFor.RETRY),
                "until": known.open.retry_at,
                "approval_id": None,
                "message": message,
            }
        elif known.map is not None and run.data.active == 0:
            again = [trial.retry_at for trial in known.map.open.values() if trial.retry_at is not None]
            if again:
                yield {
                    "step": step_id,
                    "for": str(WaitingFor.RETRY),
                    "until": min(again),
                    "approval_id": None,
                    "message": f"{len(again)} items",
                }


def _unknown_outcomes(run: Run) -> Iterator[dict[str, Any]]:
    """Give the writes of which a person must say what happened, with all that is known of them."""
    waiting = (trial for instance in run.under_way() if (trial := run.trial(instance)) and trial.unknown)
    for trial in islice(waiting, OPEN_SHOWN_MAX):
        assert trial.unknown is not None, "that was just asked"
        yield {
            "step": trial.unknown.step,
            "for": str(WaitingFor.INPUT),
            "until": None,
            "approval_id": None,
            "message": settling.question(run, trial.unknown),
            "evidence": settling.evidence(run, trial.unknown),
        }


def _tried(each: Tried) -> dict[str, Any]:
    return {
        "number": each.number,
        "status": each.status,
        "index": each.index,
        "iteration": each.iteration,
        "attempt_id": each.attempt_id,
        "worker": each.worker,
        "error": {"type": each.error.type, "message": each.error.message},
        "started_at": each.started_at,
        "finished_at": each.finished_at,
        "next_at": each.next_at,
    }


def _step(run: Run, step_id: str, known: StepState) -> dict[str, Any]:
    output, size = _shown_output(known)
    state = known.map
    return {
        "run_id": run.data.id,
        "step": step_id,
        "workspace": run.data.workspace,
        "ordinal": run.graph.order[step_id],
        "kind": run.graph.index[step_id].kind,
        "status": str(known.status),
        "attempt": known.attempt or (known.open.attempt if known.open else 1),
        "attempt_id": known.attempt_id,
        "worker": known.worker,
        "started_at": known.started_at,
        "finished_at": known.finished_at,
        "items_total": state.count if state else None,
        "items_done": state.done if state else None,
        "items_failed": len(state.failed) if state else None,
        "error_type": known.error.type if known.error else None,
        "error_message": known.error.message if known.error else None,
        "output": output,
        "blob": known.blob.digest if known.blob else None,
        "output_bytes": size,
        "detail": _step_detail(known),
    }


def _step_detail(known: StepState) -> dict[str, Any]:
    evidence = known.evidence
    failed = known.map.failed if known.map else {}
    return {
        "evidence": None
        if evidence is None
        else {
            "source": evidence.source,
            "fetched_at": evidence.fetched_at,
            "complete": evidence.complete,
            "calls": evidence.calls,
        },
        "arguments_digest": known.arguments_digest,
        "approval_id": known.approval_id,
        "due_at": known.due_at,
        "reason": known.reason or None,
        "error_details": known.error.details if known.error else None,
        **({"attempts": [_tried(each) for each in known.tried]} if known.tried else {}),
        **({"reused_from": known.reused_from} if known.reused_from else {}),
        "failed_items": {str(index): error.message for index, error in islice(failed.items(), FAILED_ITEMS_SHOWN_MAX)},
    }


def _shown_output(known: StepState) -> tuple[Any, int | None]:
    """Give the output, or a preview marked as such, and its size in bytes; a map's only when it is over."""
    if known.blob is not None:
        return {
            "preview": known.blob.preview,
            "truncated": True,
            "size_bytes": known.blob.size_bytes,
        }, known.blob.size_bytes
    if known.map is not None:
        return _map_output(known)
    size = len(bytes(known.output))
    if size > INLINE_BYTES_MAX:
        return {
            "preview": bytes(known.output)[:PREVIEW_CHARS].decode("utf-8", "replace"),
            "truncated": True,
            "size_bytes": size,
        }, size
    return codec.loads(known.output), None if known.output == NULL else size


def _map_output(known: StepState) -> tuple[Any, int | None]:
    assert known.map is not None, "only a map has items"
    if known.status != StepStatus.SUCCEEDED:
        return None, None
    size = sum(len(bytes(output)) + 1 for output in known.map.outputs) + 1
    size += sum(blob.size_bytes for blob in known.map.blobs.values())
    if size > INLINE_BYTES_MAX or known.map.blobs:
        first = bytes(known.map.outputs[0])[:PREVIEW_CHARS].decode("utf-8", "replace") if known.map.outputs else ""
        return {"preview": f"[{first}, …]", "truncated": True, "size_bytes": size, "items": known.map.count}, size
    return [codec.loads(output) for output in known.map.outputs], size


def _artifact(
    run: Run, step_id: str, known: StepState, number: int, index: int | None, attempt_id: str | None, at: int
) -> dict[str, Any]:
    kept = known.artifacts[number][3]
    created = ids.millis_of(run.data.id)
    return {
        "id": ids.derive(ids.ARTIFACT, created, ids.partition_of(run.data.id), run.data.id, step_id, str(number)),
        "workspace": run.data.workspace,
        "run_id": run.data.id,
        "step": step_id,
        "item": index,
        "attempt_id": attempt_id,
        "type": kept.type,
        "label": kept.label,
        "value": codec.loads(kept.value),
        "body": codec.loads(kept.body),
        "blob": kept.blob.digest if kept.blob else None,
        "size_bytes": kept.blob.size_bytes if kept.blob else len(bytes(kept.body)),
        "media_type": kept.media_type,
        "subject": run.queued.subject,
        "created_at": at,
    }
