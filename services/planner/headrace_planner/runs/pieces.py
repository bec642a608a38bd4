"""What a map keeps of items that are over: the last results themselves, earlier ones as bodies by digest (pure).

A map may have 100,000 items, and what a run remembers must not grow with them. So results that have come are put into a
piece, a body that the event `items.kept` names, as soon as they are many; the state keeps the piece's digest and which
items are in it. Small maps have no pieces.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.codec import NULL, Raw
from headrace.decider import Library, MissingError
from headrace.events.base import BlobRef, ErrorInfo
from headrace.events.runs import StepFailed, StepSucceeded
from headrace.events.steering import FailedItem, ItemsPiece, ItemsRange, ReusedItems
from headrace.expressions.series import Series
from headrace.vocabulary import PREVIEW_CHARS
from headrace_planner.runs.kept import MapState, Settled

PIECE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of results that make a piece, however few they are (else Bounds.items_a_piece)."""
LOOKED_AT_EVERY: Final = 16
"""Results after which it is looked again whether enough of them are next to each other."""
BODIES_DECODED_MAX: Final = 2
FAILED_ITEMS_SHOWN_MAX: Final = 20


class PieceBody(msgspec.Struct, omit_defaults=True):
    """The body of a piece: outputs in the order of the items, and by item what only some have."""

    outputs: list[Raw]
    blobs: dict[int, BlobRef] = {}
    errors: dict[int, ErrorInfo] = {}
    attempts: dict[int, int] = {}


_outputs: Final[msgspec.json.Decoder[list[Raw]]] = msgspec.json.Decoder(list[Raw])
_bodies: Final[msgspec.json.Decoder[PieceBody]] = msgspec.json.Decoder(PieceBody)


def settle(state: MapState, event: StepSucceeded | StepFailed) -> None:
    """Remember how an item ended."""
    assert event.index is not None, "only an item is settled"
    if isinstance(event, StepSucceeded):
        output = event.output.copy()  # the message that brought it may be much larger
        item = Settled(output=output, blob=event.blob, attempt=event.attempt)
    else:
        item = Settled(error=event.error, attempt=event.attempt)
        state.failures += 1
        if len(state.failed_first) < FAILED_ITEMS_SHOWN_MAX:
            state.failed_first[event.index] = event.error.message
    state.settled[event.index] = item
    state.done += 1
    state.size += 1 + _size(item)
    state.weight += _weight(item)
    state.large = state.large or item.blob is not None


def keep(state: MapState, piece: ItemsPiece) -> None:
    """Remember results as a piece."""
    state.pieces.append(piece)
    for index in indexes(piece):
        item = state.settled.pop(index)
        state.weight -= _weight(item)
        if index == 0:
            state.first = _preview(item)


def whole_map(items: ReusedItems) -> MapState:
    """Give a map of which all is in pieces: that of an earlier run, whose results stand."""
    return MapState(
        count=items.count,
        next=items.count,
        done=items.count,
        failures=items.failures,
        size=items.size_bytes,
        large=items.large,
        first=items.first,
        pieces=list(items.pieces),
    )


def short_map(output: Raw, failed: Iterable[FailedItem]) -> MapState:
    """Give a short map of an earlier run, whose results stand, and of which items failed."""
    outputs, errors = _outputs.decode(output), {each.index: each.error for each in failed}
    state = MapState(count=len(outputs), next=len(outputs))
    for index, one in enumerate(outputs):
        error = errors.get(index)
        settle(
            state,
            StepSucceeded(step="", index=index, output=one)
            if error is None
            else StepFailed(step="", index=index, error=error),
        )
    return state


def failed_items(state: MapState) -> tuple[FailedItem, ...]:
    """Give the items of a short map that failed."""
    settled = sorted(state.settled.items())
    return tuple(FailedItem(index=index, error=item.error) for index, item in settled if item.error is not None)


def reused_items(state: MapState, pieces: Sequence[ItemsPiece]) -> ReusedItems:
    """Say what of a map that is over stands for another run's, its results being in pieces."""
    return ReusedItems(
        count=state.count,
        failures=state.failures,
        size_bytes=state.size,
        large=state.large,
        first=beginning(state),
        pieces=tuple(pieces),
    )


def beginning(state: MapState) -> str:
    """Give how the first item's result begins."""
    item = state.settled.get(0)
    return state.first if item is None else _preview(item)


def _size(item: Settled) -> int:
    return len(bytes(item.output)) + (item.blob.size_bytes if item.blob else 0)


def _weight(item: Settled) -> int:
    weight = len(bytes(item.output))
    weight += len(item.blob.preview) if item.blob else 0
    return weight + (len(item.error.message) if item.error else 0)


def _preview(item: Settled) -> str:
    if item.blob is not None:
        return item.blob.preview
    return bytes(item.output)[:PREVIEW_CHARS].decode("utf-8", "replace")


def indexes(piece: ItemsPiece) -> Iterator[int]:
    """Give the items of a piece, in order."""
    return chain.from_iterable(range(each.first, each.last + 1) for each in piece.ranges)


def is_due(state: MapState, looked: int, piece: int) -> bool:
    """Tell whether there may be enough for a piece; `looked` is how many items were over when it was looked last."""
    if state.done == state.count or 0 <= state.done - looked < min(LOOKED_AT_EVERY, piece):
        return False
    return len(state.settled) >= piece + len(state.open) or state.weight >= PIECE_BYTES_MAX


def next_piece(state: MapState, piece: int) -> tuple[ItemsPiece, bytes] | None:
    """Give a piece of what is settled, with its body, when that is enough to make one: `piece` results, or many bytes."""
    chosen = _chosen(state, piece)
    return made(state, chosen) if chosen else None


def _chosen(state: MapState, piece: int) -> list[int]:
    """Choose what lies before everything that is under way; or all, when something has been under way for long."""
    count = len(state.settled)
    lowest = min(state.open, default=state.next)
    before = sorted(index for index in state.settled if index < lowest)
    weight = sum(_weight(state.settled[index]) for index in before)
    if len(before) >= piece or weight >= PIECE_BYTES_MAX:
        return before
    late = count >= 2 * piece or state.weight >= 2 * PIECE_BYTES_MAX
    return sorted(state.settled) if late else []


def made(state: MapState, chosen: list[int]) -> tuple[ItemsPiece, bytes]:
    """Make a piece of items that are settled, with its body."""
    items = {index: state.settled[index] for index in chosen}
    body = codec.encode(
        PieceBody(
            outputs=[item.output for item in items.values()],
            blobs={index: item.blob for index, item in items.items() if item.blob is not None},
            errors={index: item.error for index, item in items.items() if item.error is not None},
            attempts={index: item.attempt for index, item in items.items() if item.attempt != 1},
        )
    )
    return ItemsPiece(digest=codec.sha256(body), size_bytes=len(body), ranges=_ranges(chosen)), body


def _ranges(chosen: list[int]) -> tuple[ItemsRange, ...]:
    found: list[ItemsRange] = []
    first = last = chosen[0]
    for index in chosen[1:]:
        if index != last + 1:
            found.append(ItemsRange(first=first, last=last))
            first = index
        last = index
    return (*found, ItemsRange(first=first, last=last))


def read(body: bytes) -> PieceBody:
    """Read the body of a piece."""
    return _bodies.decode(body)


def demand(library: Library, digests: Iterable[str]) -> None:
    """See to it that bodies are at hand; raises MissingError that names all that are not."""
    missing: list[str] = []
    for digest in digests:
        try:
            library.body(digest)
        except MissingError as problem:
            missing += problem.digests
    if missing:
        raise MissingError(missing)


class Results:
    """The results of a map, read when they are asked for; a body that is not at hand raises MissingError."""

    __slots__ = ("_decoded", "_library", "_segments", "_state")

    def __init__(self, state: MapState, library: Library) -> None:
        self._state = state
        self._library = library
        self._segments: list[tuple[int, int, int, int]] = []
        self._decoded: dict[int, PieceBody] = {}
        for number, piece in enumerate(state.pieces):
            offset = 0
            for each in piece.ranges:
                self._segments.append((each.first, each.last, number, offset))
                offset += each.last - each.first + 1
        self._segments.sort()

    @property
    def series(self) -> Series:
        """Give the outputs as a list that is not in memory; null stands for an item without one."""
        return Series(self._state.count, self._value, self._values)

    @property
    def failed(self) -> Series:
        """Give the items that failed, each with its error, as expressions see them."""
        return Series(self._state.failures, lambda place: list(self._failures())[place], self._failures)

    def settled(self, index: int) -> Settled | None:
        """Give how an item ended; None for one that did not."""
        here = self._state.settled.get(index)
        place = bisect_right(self._segments, (index, self._state.count, 0, 0)) - 1
        if here is not None or place < 0:
            return here
        first, last, number, offset = self._segments[place]
        if index > last:
            return None
        body = self.piece(number)
        return Settled(
            output=body.outputs[offset + index - first],
            blob=body.blobs.get(index),
            error=body.errors.get(index),
            attempt=body.attempts.get(index, 1),
        )

    def written(self) -> Iterator[bytes]:
        """Give every output in order, as it is written; raises MissingError that names all that is missing."""
        demand(self._library, (piece.digest for piece in self._state.pieces))
        blobs = [item.blob.digest for item in self._state.settled.values() if item.blob is not None]
        if self._state.large:
            for number in range(len(self._state.pieces)):
                blobs += [blob.digest for blob in self.piece(number).blobs.values()]
        demand(self._library, blobs)
        here, begin = self._state.settled, 0
        for first, last, number, offset in self._segments:
            yield from (self._written(here.get(index)) for index in range(begin, first))
            body = self.piece(number)
            for index in range(first, last + 1):
                blob = body.blobs.get(index)
                yield bytes(body.outputs[offset + index - first]) if blob is None else self._library.body(blob.digest)
            begin = last + 1
        yield from (self._written(here.get(index)) for index in range(begin, self._state.count))

    def whole(self) -> Raw:
        """Give the list of outputs as it is written."""
        return Raw(b"[" + b",".join(self.written()) + b"]")

    def _written(self, item: Settled | None) -> bytes:
        if item is None:
            return bytes(NULL)
        return self._library.body(item.blob.digest) if item.blob is not None else bytes(item.output)

    def _value(self, index: int) -> Any:
        return codec.loads(self._written(self.settled(index)))

    def _values(self) -> Iterator[Any]:
        return map(codec.loads, self.written())

    def _failures(self) -> Iterator[dict[str, Any]]:
        found = {index: item.error for index, item in self._state.settled.items() if item.error is not None}
        if len(found) < self._state.failures:
            demand(self._library, (piece.digest for piece in self._state.pieces))
            for number in range(len(self._state.pieces)):
                found |= self.piece(number).errors
        for index in sorted(found):
            error = found[index]
            yield {"index": index, "error": {"type": error.type, "message": error.message}}

    def piece(self, number: int) -> PieceBody:
        """Give what is in a piece."""
        known = self._decoded.get(number)
        if known is None:
            known = read(self._library.body(self._state.pieces[number].digest))
            while len(self._decoded) >= BODIES_DECODED_MAX:
                del self._decoded[next(iter(self._decoded))]
            self._decoded[number] = known
        return known
