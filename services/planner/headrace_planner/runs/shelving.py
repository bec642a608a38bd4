"""What is over leaves the state of a long run, each time that it is enough to make a piece (pure).

That is results of a map's items, artifacts of a step, and work that may have to be undone.
"""

from collections.abc import Iterable, Iterator
from typing import Final, assert_never

from headrace.events.runs import RunEvent
from headrace.events.steering import ArtifactsKept, ItemsKept, WorkKept, WorkRecalled
from headrace.vocabulary import StepStatus
from headrace_planner.runs import artifacts, pieces, work
from headrace_planner.runs.state import Run

LOOKED: Final = "looked"
"""Where a run keeps how many items of a map were over when it was looked last whether they make a piece."""


def results(run: Run, steps: Iterable[str]) -> Iterator[RunEvent]:
    """Let results that have come of long maps leave."""
    for step_id in steps:
        known = run.data.steps.get(step_id)
        if known is None or known.map is None or known.status != StepStatus.RUNNING:
            continue
        looked = run.decoded.get((LOOKED, step_id), -pieces.LOOKED_AT_EVERY)
        if not pieces.is_due(known.map, looked, run.bounds.items_a_piece):
            continue
        run.decoded[LOOKED, step_id] = known.map.done
        found = pieces.next_piece(known.map, run.bounds.items_a_piece)
        if found is not None:
            piece, body = found
            run.bodies[piece.digest] = body
            yield ItemsKept(step=step_id, piece=piece)


def leavings(run: Run) -> Iterator[RunEvent]:
    """Let what steps have left leave: their artifacts, and their work, unless it is being undone."""
    for name in run.full:
        event: RunEvent
        if name != work.WORK:
            event, body = artifacts.made(name, run.data.steps[name])
        elif run.data.undo is None:
            event, body = work.made(run)
        else:
            continue
        run.bodies[event.piece.digest] = body
        yield event


# --- what a run remembers, for `evolve` alone --------------------------------------------------------------------


def remember(run: Run, event: ItemsKept | ArtifactsKept | WorkKept | WorkRecalled) -> None:
    """Remember as a body what a run need not remember itself any more, or again what is undone next."""
    match event:
        case ItemsKept(step=step, piece=piece):
            state = run.step(step).map
            assert state is not None, "only a map has items"
            pieces.keep(state, piece)
        case ArtifactsKept():
            artifacts.keep(run, event)
        case WorkKept():
            work.keep(run, event)
        case WorkRecalled():
            work.recall(run, event)
        case _:
            assert_never(event)
