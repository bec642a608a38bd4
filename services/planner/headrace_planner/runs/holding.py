"""A paused run holds its children: they are paused with it, down to the lowest, and go on with it (pure).

The parent tells each child that is on record `HoldChild`, again and again until the child has confirmed the newest turn.
Turns are numbered by the parent's version, so that a late word of an earlier one changes nothing. A child has two
reasons to rest, its own pause and its parent's: it goes on when both are over.
"""

from collections.abc import Iterator, Sequence

from headrace.decider import Context, Rejection, Tell
from headrace.errors import ForbiddenError
from headrace.events.base import SYSTEM
from headrace.events.runs import RunEvent
from headrace.events.steering import ChildHeld, RunPaused, RunResumed
from headrace.messages import RunCommand
from headrace.steering import HoldChild, NoteChildHeld, NoteChildStarted
from headrace.vocabulary import LOG_RUNS
from headrace_planner.runs.children import needed
from headrace_planner.runs.kept import Child
from headrace_planner.runs.state import Run

# --- as the parent -----------------------------------------------------------------------------------------------


def unheard(run: Run) -> Iterator[tuple[str, Child]]:
    """Give the children that have not confirmed the newest turn.

    Also when it brings back what was so before: a child may have heard of the turn between, and its word be lost.
    """
    hold = run.data.hold
    if run.final or hold is None:
        return
    for child_id, child in run.data.children.items():
        if child.started and child.turn != hold.turned and needed(run, child_id):
            yield child_id, child


def again(run: Run) -> Iterator[Tell]:
    """Tell children to rest, or to go on, that have not confirmed it."""
    for child_id, _ in unheard(run):
        yield _tell(run, child_id)


def spread(run: Run, event: RunEvent) -> Iterator[Tell]:
    """Tell the children of a pause, and of its end."""
    if isinstance(event, RunPaused | RunResumed):
        yield from again(run)


def _tell(run: Run, child_id: str) -> Tell:
    hold, paused = run.data.hold, run.data.paused
    assert hold is not None, "the caller sees to it"
    by, reason = (paused.by, paused.reason) if paused is not None else (hold.by or SYSTEM, "")
    said = HoldChild(parent_id=run.data.id, held=paused is not None, turn=hold.turned, by=by, reason=reason)
    return Tell(LOG_RUNS, child_id, said, run.data.workspace)


def confirmed(run: Run, command: NoteChildHeld) -> Sequence[RunEvent]:
    """Take a child's word that it rests, or goes on. Again, and of an earlier turn: nothing."""
    child, hold = run.data.children.get(command.child_id), run.data.hold
    if child is None or hold is None or command.turn != hold.turned or child.turn == hold.turned:
        return ()
    return (ChildHeld(step=child.step, child_id=command.child_id, held=command.held),)


def remember(run: Run, event: ChildHeld) -> None:
    """Remember what a child has confirmed: for `evolve` alone."""
    child, hold = run.data.children.get(event.child_id), run.data.hold
    if child is not None and hold is not None:
        child.turn = hold.turned


# --- as the child ------------------------------------------------------------------------------------------------


def hold(run: Run, command: HoldChild, context: Context) -> Sequence[RunEvent] | Rejection:
    """Rest with the parent, or go on with it. Again, and of an earlier turn: nothing; so it is when the run is ending."""
    parent = run.queued.parent
    if context.actor.id != SYSTEM.id or parent is None or parent.run_id != command.parent_id:
        return Rejection(ForbiddenError("a run is held by its parent alone"))
    known = run.data.hold
    ending = run.final or run.data.cancel is not None or run.data.undo is not None
    if ending or (known is not None and command.turn <= known.turn):
        return ()
    if command.held:
        return (RunPaused(by=command.by, reason=command.reason, parent_id=command.parent_id, turn=command.turn),)
    return (RunResumed(by=command.by, parent_id=command.parent_id, turn=command.turn),)


def receipts(run: Run, command: RunCommand) -> Iterator[Tell]:
    """Confirm a parent's word; and tell a child that begins while its parent rests."""
    if isinstance(command, HoldChild):
        known = NoteChildHeld(child_id=run.data.id, held=command.held, turn=command.turn)
        yield Tell(LOG_RUNS, command.parent_id, known, run.data.workspace)
    elif (
        isinstance(command, NoteChildStarted)
        and run.exists
        and any(each == command.child_id for each, _ in unheard(run))
    ):
        yield _tell(run, command.child_id)
