"""Artifacts that a run's steps have left: the last ones themselves, earlier ones of many as bodies by digest (pure).

As with the results of a long map (`pieces`): the event `artifacts.kept` names such a body, and the state keeps its digest
and how many artifacts are in it. Few artifacts have no pieces.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.codec import NULL
from headrace.decider import Library
from headrace.events.base import ArtifactInfo, Event
from headrace.events.runs import StepFailed, StepSucceeded
from headrace.events.steering import ArtifactsKept, ArtifactsPiece
from headrace.expressions.series import Series
from headrace_planner.runs.kept import Left
from headrace_planner.runs.pieces import demand
from headrace_planner.runs.state import Run, StepState


class ArtifactsBody(msgspec.Struct, frozen=True):
    """The body of a piece: artifacts in the order in which they came, each with its item, its attempt, and when."""

    artifacts: list[Left]


_bodies: Final[msgspec.json.Decoder[ArtifactsBody]] = msgspec.json.Decoder(ArtifactsBody)


def made(step_id: str, known: StepState) -> tuple[ArtifactsKept, bytes]:
    """Give the event that lets a step's artifacts leave the state, and their body."""
    body = codec.encode(ArtifactsBody(known.artifacts))
    large = any(kept.blob is not None for _, _, _, kept in known.artifacts)
    piece = ArtifactsPiece(digest=codec.sha256(body), size_bytes=len(body), count=len(known.artifacts), large=large)
    return ArtifactsKept(step=step_id, piece=piece), body


def blobs_in(body: bytes) -> tuple[str, ...]:
    """Name the bodies of their own that artifacts in a piece have."""
    named = {kept.blob.digest for _, _, _, kept in _bodies.decode(body).artifacts if kept.blob is not None}
    return tuple(sorted(named))


def count(known: StepState) -> int:
    """Count a step's artifacts."""
    return sum(piece.count for piece in known.artifact_pieces) + len(known.artifacts)


def brought(event: Event) -> int:
    """Count the artifacts that an event brings its step."""
    pieces: tuple[ArtifactsPiece, ...] = getattr(event, "artifact_pieces", ())
    return len(getattr(event, "artifacts", ())) + sum(piece.count for piece in pieces)


def fetch(known: Iterable[StepState], library: Library) -> None:
    """See to it that the artifacts of steps can be read; raises MissingError that names all that is missing."""
    demand(library, (piece.digest for each in known for piece in each.artifact_pieces))


def read(known: StepState, library: Library, first: int = 0) -> Iterator[Left]:
    """Give a step's artifacts in their order, from a number on; raises MissingError that names all that is missing."""
    wanted, begin = [], 0
    for piece in known.artifact_pieces:
        if begin + piece.count > first:
            wanted.append((piece, max(0, first - begin)))
        begin += piece.count
    demand(library, (piece.digest for piece, _ in wanted))
    for piece, skipped in wanted:
        yield from islice(_piece(known, piece, library), skipped, None)
    yield from islice(known.artifacts, max(0, first - begin), None)


def _piece(known: StepState, piece: ArtifactsPiece, library: Library) -> list[Left]:
    """Give what is in a piece; what stands for another run's is as old as that run's word, and of no item."""
    found = _bodies.decode(library.body(piece.digest)).artifacts
    if known.reused_from is None:
        return found
    return [(None, known.attempt_id, known.finished_at or 0, kept) for _, _, _, kept in found]


def shown(known: StepState, library: Library) -> list[dict[str, Any]] | Series:
    """Give a step's artifacts as expressions see them; many are not held as values."""
    if not known.artifact_pieces:
        return [_view(kept) for _, _, _, kept in known.artifacts]
    return Series(
        count(known),
        _Place(known, library).view,
        lambda: (_view(kept) for _, _, _, kept in read(known, library)),
    )


class _Place:
    """Gives one artifact after the other, whichever is asked for; the piece that was read last is kept."""

    __slots__ = ("_first", "_known", "_library", "_read")

    def __init__(self, known: StepState, library: Library) -> None:
        self._known, self._library = known, library
        self._first, self._read = 0, list[Left]()

    def view(self, place: int) -> dict[str, Any]:
        """Give an artifact as expressions see it."""
        if not self._first <= place < self._first + len(self._read):
            self._first, self._read = self._around(place)
        return _view(self._read[place - self._first][3])

    def _around(self, place: int) -> tuple[int, list[Left]]:
        first = 0
        for piece in self._known.artifact_pieces:
            if place < first + piece.count:
                return first, _piece(self._known, piece, self._library)
            first += piece.count
        return first, self._known.artifacts


def _view(kept: ArtifactInfo) -> dict[str, Any]:
    return {"type": kept.type, "label": kept.label, "value": codec.loads(kept.value)}


# --- what a run remembers, for `evolve` alone --------------------------------------------------------------------


def leave(run: Run, event: StepSucceeded | StepFailed, at: int) -> None:
    """Remember what an attempt has left."""
    known = run.step(event.step)
    weight = 0
    for each in event.artifacts:
        kept = _own(each)
        known.artifacts.append((event.index, event.attempt_id, at, kept))
        weight += len(kept.label) + len(bytes(kept.value)) + len(bytes(kept.body))
        weight += len(kept.blob.preview) if kept.blob is not None else 0
    run.laden(event.step, len(known.artifacts), weight)


def _own(kept: ArtifactInfo) -> ArtifactInfo:
    """Give an artifact without the message that brought it, which may be much larger."""
    if kept.value is NULL and kept.body is NULL:
        return kept
    return msgspec.structs.replace(kept, value=kept.value.copy(), body=kept.body.copy())


def keep(run: Run, event: ArtifactsKept) -> None:
    """Remember a step's first artifacts as a piece."""
    known = run.step(event.step)
    known.artifact_pieces.append(event.piece)
    del known.artifacts[: event.piece.count]
    run.unladen(event.step)
