"""How long runs and steps took, counted once their ends are committed: from the events and the rows made of them."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from headrace import telemetry
from headrace.events.runs import RunCancelled, RunFailed, RunSucceeded, StepFailed, StepSucceeded
from headrace.host import metrics
from headrace.host.draft import Part
from headrace.log.rows import values
from headrace.log.tables import TABLES
from headrace.vocabulary import LOG_RUNS, STEP_FINAL

RUN_ENDS = (RunSucceeded, RunFailed, RunCancelled)
STEP_ENDS = (StepSucceeded, StepFailed)
ENDS = frozenset({*RUN_ENDS, *STEP_ENDS})


def _columns(table: str, *names: str) -> Callable[[tuple[Any, ...]], Any]:
    places = list(TABLES[table].columns)
    return itemgetter(*(places.index(name) for name in names))


_run_of = _columns("runs", "id", "status", "created_at", "started_at", "finished_at")
_step_of = _columns("steps", "run_id", "step", "kind", "status", "started_at", "finished_at")


def measure(part: Part) -> None:
    """Count the runs and steps that ended in a committed part; a map is one step, its items are none."""
    if part.accepted:
        metrics.decided(part.held.log, "accepted", part.accepted)
    if part.held.log != LOG_RUNS or not part.changed:
        return
    over: set[str] = set()
    ends: dict[tuple[str, str], StepSucceeded | StepFailed] = {}
    for stream_id, (_, events) in part.changed.items():
        for event in events:
            for one in event.parts:
                if type(one) not in ENDS:
                    continue
                if isinstance(one, STEP_ENDS):
                    ends[stream_id, one.step] = one
                else:
                    over.add(stream_id)
    if not over and not ends:
        return
    for row in part.rows:
        if row.table == "runs":
            if not over:
                continue
            name, status, created, began, finished = _run_of(values(row))
            if name in over:
                telemetry.run_finished(status, max(finished - (began or created), 0) / 1000)
        elif row.table == "steps" and ends:
            run_id, step, kind, status, began, finished = _step_of(values(row))
            if (run_id, step) in ends:
                _step(kind, status, began, finished, ends[run_id, step])


def _step(kind: str, status: str, began: int | None, ended: int | None, event: StepSucceeded | StepFailed) -> None:
    """Count a step, or the last round of a loop's; a map whose items are not all over has not ended."""
    if event.index is not None and status not in STEP_FINAL:
        return
    if event.index is None and status not in STEP_FINAL:
        status = event.status if isinstance(event, StepFailed) else "succeeded"  # the next round has begun
    if event.index is None and event.started_at is not None and event.finished_at is not None:
        began, ended = event.started_at, event.finished_at
    took_ms = ended - began if began is not None and ended is not None else 0
    telemetry.step_finished(kind, status, max(took_ms, 0) / 1000)
