"""The row of a run, from its state alone (pure). What never changes of it is laid out once."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from headrace import codec, ids
from headrace.codec import NULL, Raw, storable
from headrace.decider import Laid
from headrace.events.steering import RunPaused
from headrace.log.tables import TABLES
from headrace.vocabulary import INLINE_BYTES_MAX, RunStatus, StepStatus, WaitingFor
from headrace_planner.runs import children, holding, parents, permits, settling, undo, waits, watches
from headrace_planner.runs.explain import handed_back
from headrace_planner.runs.state import Instance, Run, StepState
from headrace_planner.runs.times import next_retry, wake_at

INPUTS_SHOWN_BYTES_MAX: Final = 4_096
OPEN_SHOWN_MAX: Final = 20
KINDS: Final = TABLES["runs"].columns
NOTHING: Final = "null"
NO_CONNECTIONS: Final = (Raw(b"{}"), NULL)


class Constant(msgspec.Struct, frozen=True):
    """What never changes of a run's row: columns in their order, and the beginning of its `detail` as text."""

    place: tuple[Any, ...]
    what: tuple[Any, ...]
    whose: tuple[Any, ...]
    detail: str


def run_row(run: Run, *, stands: bool) -> Laid:
    """Give the run's row; `stands`: an append before has kept one."""
    if run.shown is None:
        run.shown = _constant(run)
    same: Constant = run.shown
    data, error = run.data, run.data.error
    going = run.under_way()
    waiting = [] if run.final else _waiting(run, going)
    values = (
        *same.place,
        data.version,
        *same.what,
        str(data.status),
        waiting[0]["for"] if waiting and data.status == RunStatus.WAITING else None,
        storable(error.type) if error else None,
        storable(error.message) if error else None,
        *same.whose,
        data.cancel is not None and not run.final,
        run.queued.workers_active,
        data.created_at,
        data.started_at,
        data.finished_at,
        len(run.graph.plan.steps),
        data.steps_done,
        _detail(run, same.detail, waiting, going),
        wake_at(run),
        busy(run),
    )
    return Laid("runs", values, KINDS, stands)


def _detail(run: Run, same: str, waiting: list[dict[str, Any]], going: list[Instance]) -> str:
    labels = [run.label(instance) for instance in going[:OPEN_SHOWN_MAX]]
    shown = f'"waiting":{codec.written(waiting) if waiting else "[]"},"open":{codec.texts(labels) if labels else "[]"}'
    if (waiting or run.halted) and not run.final:
        shown += _at_workers(run, going)
    until = None if run.data.undo is None else undo.deadline(run)
    if until is not None and not run.final:
        shown += f',"undoing_until":{until}'
    if run.data.doubts:
        shown += f',"unknown_outcomes":{codec.written(run.data.doubts[:OPEN_SHOWN_MAX])}'
    return f'{same},"outputs":{_outputs(run.data.outputs)},"error":{_error(run)},{shown}}}'


def _at_workers(run: Run, going: list[Instance]) -> str:
    """Count, for each map, the attempts that are handed to workers: the others of it wait, or have not begun."""
    out = {step_id: 0 for step_id, known in run.going() if known.map is not None and known.status == StepStatus.RUNNING}
    if not out:
        return ""
    for instance in going:
        if instance[0] in out and (trial := run.trial(instance)) is not None and not trial.idle:
            out[instance[0]] += 1
    return f',"at_workers":{codec.written(out)}'


def _constant(run: Run) -> Constant:
    data, queued = run.data, run.queued
    connections = connections_of(queued.connections)
    detail = f'{{"inputs":{_if_small(queued.inputs)},"trigger":{_if_small(queued.trigger)}'
    detail += f',"connections":{codec.written(connections) if connections else "[]"}'
    if queued.rerun_from:
        detail += f',"rerun_from":{codec.written(queued.rerun_from)}'
    if queued.parent:
        detail += f',"parent":{codec.written(msgspec.to_builtins(queued.parent))}'
    return Constant(
        place=(data.id, storable(data.workspace), ids.partition_of(data.id)),
        what=(
            storable(queued.kind),
            storable(run.graph.plan.name),
            _text(queued.workflow),
            queued.workflow_version,
            queued.plan_digest,
            queued.inputs_digest,
        ),
        whose=(
            queued.attempt,
            _text(queued.retry_of),
            storable(queued.requester.id),
            storable(queued.requester.name),
            _text(queued.subject),
            _text(queued.stage),
            codec.written(queued.labels) if queued.labels else "{}",
        ),
        detail=detail,
    )


def connections_of(connections: Raw) -> list[str]:
    """Name the connections that a run was given."""
    return [] if connections in NO_CONNECTIONS else sorted(codec.loads(connections) or {})


def _text(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _if_small(value: Raw) -> str:
    body = bytes(value)
    return body.decode() if len(body) <= INPUTS_SHOWN_BYTES_MAX else NOTHING


def _outputs(outputs: Raw) -> str:
    body = bytes(outputs)
    return body.decode() if len(body) <= INLINE_BYTES_MAX else NOTHING


def _error(run: Run) -> str:
    error = run.data.error
    if error is None:
        return NOTHING
    about = {"type": error.type, "message": error.message, "details": error.details, "plugin": error.plugin}
    return codec.written(about)


def busy(run: Run) -> bool:
    """Tell whether a new owner has something to look after: attempts, or what others have not confirmed."""
    if run.data.asks and any(run.final or not ask.received for ask in run.asked()):
        return True
    if not run.apart:
        if permits.unheard(run) or parents.unheard(run):
            return True
        if run.data.children and any(True for _ in (*children.unheard(run), *holding.unheard(run))):
            return True
        if (run.data.watches or run.graph.waits) and any(True for _ in watches.unheard(run)):
            return True
    return not run.final and run.data.active > 0


def _waiting(run: Run, going: list[Instance]) -> list[dict[str, Any]]:
    """Give what a run waits for that is not over, the most telling first; `going` is what is under way.

    One that comes to its end waits for nothing any more that would let it go on.
    """
    found = [] if run.data.begun else [_wait(WaitingFor.START, "a person's start")]
    if run.data.paused is not None and not run.halted:
        found.append(_paused(run.data.paused))
    for ask in () if run.halted else run.asked():
        message = f"{ask.quorum} of {' or '.join(ask.roles)}"
        wait = _wait(WaitingFor.APPROVAL, message, ask.step or None, ask.expires_at, ask.approval_id)
        found.append({**wait, "quorum": ask.quorum, "roles": list(ask.roles)})
    if going:
        found.extend(_unknown_outcomes(run, going))
    if not run.apart:
        found.extend(permits.waits(run))
        found.extend(waits.shown(run) if run.graph.waits and not run.halted else ())
        found.extend(children.waits(run) if run.data.children else ())
    for step_id, known in run.going():
        if known.due_at is not None or known.open is not None or known.map is not None:
            found.extend(_times(run, step_id, known))
    return found


def _times(run: Run, step_id: str, known: StepState) -> Iterator[dict[str, Any]]:
    """Give the times that a step waits for: its timer, and the next try of it or of a map's items."""
    if known.due_at is not None and not run.halted:
        yield _wait(WaitingFor.TIMER, "a timer", step_id, known.due_at)
    if known.open is not None and known.open.retry_at is not None:
        yield _wait(
            WaitingFor.RETRY, f"attempt {known.open.attempt}{handed_back(known.open)}", step_id, known.open.retry_at
        )
    elif known.map is not None and next_retry(run) is not None:  # else none of its items need be looked at
        again = [trial.retry_at for trial in known.map.open.values() if trial.retry_at is not None]
        if again:
            count = len(again)
            message = "1 item" if count == 1 else f"{count} items"
            yield {**_wait(WaitingFor.RETRY, message, step_id, min(again)), "items": count}


def _unknown_outcomes(run: Run, going: list[Instance]) -> Iterator[dict[str, Any]]:
    """Give the writes of which a person must say what happened, with all that is known of them."""
    waiting = (trial for instance in going if (trial := run.trial(instance)) and trial.unknown)
    for trial in islice(waiting, OPEN_SHOWN_MAX):
        assert trial.unknown is not None, "that was just asked"
        wait = _wait(WaitingFor.INPUT, settling.question(run, trial.unknown), trial.unknown.step)
        yield {**wait, "evidence": settling.evidence(run, trial.unknown)}


def _paused(paused: RunPaused) -> dict[str, Any]:
    why = f" ({paused.reason})" if paused.reason else ""
    if paused.parent_id is None:
        return _wait(WaitingFor.RESUME, f"paused by {paused.by.name}{why}")
    message = f"paused by parent {paused.parent_id}, which {paused.by.name} paused{why}"
    return {**_wait(WaitingFor.RESUME, message), "parent_id": paused.parent_id}


def _wait(
    reason: WaitingFor, message: str, step: str | None = None, until: int | None = None, approval_id: str | None = None
) -> dict[str, Any]:
    return {"step": step, "for": str(reason), "until": until, "approval_id": approval_id, "message": message}
