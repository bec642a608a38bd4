"""Work that may have to be undone: what was done last itself, earlier work of much as bodies by digest (pure).

A map may have 100,000 items, each of which may have to be undone. So what a run did first is put into a body, which the
event `work.kept` names, as soon as it is much; the state keeps how much of it each step has done. Undoing goes the other
way: where it comes to such a body, the event `work.recalled` says again what was done, in its order, and the outputs are
read from the body when they are needed. So one body is looked at after the other, and none twice.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Final

import msgspec

from headrace import codec, ids
from headrace.decider import Library
from headrace.events.runs import StepSucceeded
from headrace.events.steering import WorkGroup, WorkKept, WorkPiece, WorkRecalled
from headrace_planner.runs.kept import Done
from headrace_planner.runs.state import Run

WORK: Final = ""
"""What stands for the work to be undone where a step's id stands for its artifacts."""
BODY: Final = ("work", "")
"""Where a run keeps the body that it read last, decoded."""


class WorkBody(msgspec.Struct, frozen=True):
    """The body of a piece: work in the order in which it was done."""

    done: list[Done]


_bodies: Final[msgspec.json.Decoder[WorkBody]] = msgspec.json.Decoder(WorkBody)


def made(run: Run) -> tuple[WorkKept, bytes]:
    """Give the event that lets work leave the state, and its body."""
    done = run.data.done
    body = codec.encode(WorkBody(done))
    steps = dict(Counter(each.step for each in done))
    return WorkKept(piece=WorkPiece(digest=codec.sha256(body), size_bytes=len(body), steps=steps)), body


def recalled(run: Run, library: Library) -> WorkRecalled:
    """Give the event by which undoing goes on with the newest work that is kept; raises MissingError."""
    piece = run.data.work[-1]
    groups = groupby(_read(run, library, piece.digest), key=lambda done: (done.step, done.iteration))
    named = (
        WorkGroup(step=step, iteration=iteration, indexes=tuple(done.index for done in group))
        for (step, iteration), group in groups
    )
    return WorkRecalled(digest=piece.digest, done=tuple(named))


def in_hand(run: Run, library: Library) -> Done | None:
    """Give the work that is undone now, with its output and its item; raises MissingError while they must be fetched."""
    undo = run.data.undo
    item = undo.item if undo is not None else None
    if undo is None or item is None or item.place is None:
        return item
    return _read(run, library, undo.recalled)[item.place]


def left(run: Run) -> dict[str, int]:
    """Count the work of each step that is left to be undone, once."""
    if run.undone is None:
        found = Counter(done.step for done in run.data.done)
        for piece in run.data.work:
            found.update(piece.steps)
        run.undone = dict(found)
    return run.undone


def count(run: Run) -> int:
    """Count all work that is left to be undone."""
    return sum(left(run).values())


def several(run: Run) -> set[str]:
    """Name the steps that do their work more than once: what undoes them has items."""
    index = run.graph.index
    kept = {step for piece in run.data.work for step in piece.steps if index[step].is_map or index[step].parent}
    return kept | {done.step for done in run.data.done if done.index is not None or done.iteration}


def names(run: Run, library: Library) -> Iterator[str]:
    """Name what is not undone, the newest first; raises MissingError."""
    undo = run.data.undo
    if undo is not None and undo.item is not None:
        yield _name(undo.item)
    yield from map(_name, reversed(run.data.done))
    for piece in reversed(run.data.work):
        yield from map(_name, reversed(_read(run, library, piece.digest)))


def _name(done: Done) -> str:
    return ids.instance(done.step, done.index, done.iteration)


def _read(run: Run, library: Library, digest: str) -> list[Done]:
    known = run.decoded.get(BODY)
    if known is None or known[0] != digest:
        known = run.decoded[BODY] = (digest, _bodies.decode(library.body(digest)).done)
    found: list[Done] = known[1]
    return found


# --- what a run remembers, for `evolve` alone --------------------------------------------------------------------


def remember(run: Run, event: StepSucceeded) -> None:
    """Remember work that may have to be undone."""
    known = run.peek(event.step)
    if event.step not in run.graph.undo or (known.map is not None and event.index is None):
        return
    run.undone = None
    done = Done(
        step=event.step,
        index=event.index,
        output=event.output.copy(),  # the message that brought it may be much larger
        blob=event.blob,
        iteration=event.iteration,
        item=event.item.copy(),
    )
    run.data.done.append(done)
    weight = len(bytes(done.output)) + len(bytes(done.item)) + (len(done.blob.preview) if done.blob else 0)
    run.laden(WORK, len(run.data.done), weight)


def keep(run: Run, event: WorkKept) -> None:
    """Remember what was done first as a piece."""
    run.data.work.append(event.piece)
    del run.data.done[: sum(event.piece.steps.values())]
    run.unladen(WORK)


def recall(run: Run, event: WorkRecalled) -> None:
    """Remember again what is in the newest piece, in its order; outputs stay where they are."""
    undo = run.data.undo
    assert undo is not None, "only what is undone is recalled"
    undo.recalled = event.digest
    run.data.work.pop()
    said = [(group.step, index, group.iteration) for group in event.done for index in group.indexes]
    run.data.done = [
        Done(step=step, index=index, iteration=iteration, place=place)
        for place, (step, index, iteration) in enumerate(said)
    ]
