"""The projection rows of a run, from its state alone (pure)."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from headrace import codec, ids
from headrace.codec import NULL, storable
from headrace.decider import AnyRow, Laid, Library, Row
from headrace.events.base import Evidence
from headrace.events.runs import RunEvent, RunQueued
from headrace.log.tables import TABLES
from headrace.vocabulary import INLINE_BYTES_MAX, PREVIEW_CHARS, StepStatus
from headrace_planner.runs import artifacts, waits
from headrace_planner.runs.kept import Left, Tried
from headrace_planner.runs.pieces import beginning
from headrace_planner.runs.run_row import run_row
from headrace_planner.runs.state import Run, StepState

STEP_KINDS: Final = TABLES["steps"].columns
NEVER_BEGUN: Final = frozenset({StepStatus.PENDING, StepStatus.CANCELLED, StepStatus.SKIPPED})
"""Steps of these statuses have no attempt, unless one is known."""
NULL_TEXT: Final = "null"
NAMES_MAX: Final = 4_096
END: Final = ',"due_at":null,"reason":null,"error_details":null,"failed_items":{}}'
"""How the `detail` of a step ends of which there is nothing more to say than its evidence, arguments' digest and question."""


def rows(run: Run, events: Sequence[RunEvent] | None, library: Library) -> Iterator[AnyRow]:
    """Give the rows that the last events changed, or all of the run's; a purged run has none.

    Raises MissingError while a body must be fetched in which artifacts are.
    """
    if not run.exists or run.data.purged:
        return
    new = events is None or RunQueued in map(type, events)
    yield run_row(run, stands=not new)
    if run.queued.parent and new:
        yield from _lineage(run)
    changed = run.changed(len(events)) if events is not None else _all(run)
    if run.graph.waits:
        yield from waits.rows(run, events, changed)
    if events is None:
        artifacts.fetch((run.data.steps[step_id] for step_id in changed), library)
    for step_id in changed:
        known = run.data.steps[step_id]
        if _untouched(run, step_id, known):
            continue
        yield Laid("steps", _step(run, step_id, known), STEP_KINDS)
        if known.artifacts or known.artifact_pieces:
            first = 0 if events is None else _first(step_id, known, events)
            for number, left in enumerate(artifacts.read(known, library, first), first):
                yield Row("artifacts", _artifact(run, step_id, number, left))


def _all(run: Run) -> list[str]:
    return [step_id for step_id in run.graph.index if step_id in run.data.steps]


def _untouched(run: Run, step_id: str, known: StepState) -> bool:
    """Tell whether a step has no row yet; in a loop's body it may have one of an earlier round, which is no more true."""
    again = bool(run.graph.index[step_id].parent)
    return known.status == StepStatus.PENDING and known.approval_id is None and not again


def _first(step_id: str, known: StepState, events: Sequence[RunEvent]) -> int:
    """Give the number of the first artifact that events brought a step: they are its last, the only ones without a row."""
    mine = (part for event in events for part in event.parts if getattr(part, "step", None) == step_id)
    return artifacts.count(known) - sum(map(artifacts.brought, mine))


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


def _step(run: Run, step_id: str, known: StepState) -> tuple[Any, ...]:
    output, size = _shown_output(known)
    state, error = known.map, known.error
    step = run.graph.index[step_id]
    return (
        run.data.id,
        storable(step_id),
        storable(run.data.workspace),
        run.graph.order[step_id],
        step.shown_kind,
        str(known.status),
        known.attempt or (known.open.attempt if known.open else int(known.status not in NEVER_BEGUN)),
        known.attempt_id,
        None if known.worker is None else storable(known.worker),
        known.started_at,
        known.finished_at,
        state.count if state else None,
        state.done if state else None,
        state.failures if state else None,
        storable(error.type) if error else None,
        storable(error.message) if error else None,
        output,
        known.blob.digest if known.blob else None,
        size,
        _step_detail(known),
    )


def _step_detail(known: StepState) -> str:
    unusual = known.reason or known.error or known.tried or known.reused_from
    evidence = known.evidence
    if not unusual and known.due_at is None and known.map is None:
        ours = f'"arguments_digest":{_ours(known.arguments_digest)},"approval_id":{_ours(known.approval_id)}'
        return f'{{"evidence":{_evidence(evidence)},{ours}{END}'
    detail = {
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
        "failed_items": {str(index): said for index, said in (known.map.failed_first if known.map else {}).items()},
    }
    return codec.written(detail)


def _evidence(evidence: Evidence | None) -> str:
    """Write what a step's row says of where its result came from."""
    if evidence is None:
        return NULL_TEXT
    complete = "true" if evidence.complete else "false"
    source = f'"source":{_named(evidence.source)},"fetched_at":{evidence.fetched_at}'
    return f'{{{source},"complete":{complete},"calls":{evidence.calls}}}'


def _ours(text: str | None) -> str:
    """Write a digest or an id of ours, in which nothing has to be escaped."""
    return NULL_TEXT if text is None else f'"{text}"'


@lru_cache(maxsize=NAMES_MAX)
def _named(name: str) -> str:
    """Write a name that many rows say."""
    return codec.written(name)


def _shown_output(known: StepState) -> tuple[str | None, int | None]:
    """Give the output as text, or a preview marked as such, and its size in bytes; a map's only when it is over."""
    if known.map is not None and known.blob is None:
        output, size = _map_output(known)
        return None if output is None else codec.written(output), size
    if known.blob is None and known.output == NULL:
        return None, None
    body = bytes(known.output)
    size = known.blob.size_bytes if known.blob is not None else len(body)
    if known.blob is not None or size > INLINE_BYTES_MAX:
        preview = known.blob.preview if known.blob is not None else body[:PREVIEW_CHARS].decode("utf-8", "replace")
        return codec.written({"preview": preview, "truncated": True, "size_bytes": size}), size
    codec.loads(body)  # what a worker sent stands only if it can be read
    return body.decode(), size


def _map_output(known: StepState) -> tuple[Any, int | None]:
    state = known.map
    assert state is not None, "only a map has items"
    if known.status != StepStatus.SUCCEEDED:
        return None, None
    size = state.size + 1
    if size > INLINE_BYTES_MAX or state.large or state.pieces:
        first = beginning(state) if state.count else ""
        return {"preview": f"[{first}, …]", "truncated": True, "size_bytes": size, "items": state.count}, size
    return [codec.loads(state.settled[index].output) for index in range(state.count)], size


def _artifact(run: Run, step_id: str, number: int, left: Left) -> dict[str, Any]:
    index, attempt_id, at, kept = left
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
