"""The list of a map, and lists that are too long to be held as values: kept as they are written, read piece by piece (pure)."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.codec import Raw
from headrace.decider import Library
from headrace.expressions.references import Path
from headrace.expressions.scope import STEPS
from headrace.expressions.series import Series
from headrace.expressions.template import Template
from headrace_planner.runs.pieces import Results
from headrace_planner.runs.state import Run

CHUNKS_DECODED_MAX: Final = 2
OUTPUT: Final[Path] = ("output",)

_fields: Final[msgspec.json.Decoder[dict[str, Raw]]] = msgspec.json.Decoder(dict[str, Raw])
_members: Final[msgspec.json.Decoder[list[Raw]]] = msgspec.json.Decoder(list[Raw])


class Chunks:
    """A long list as it is written, in chunks of which the last used are decoded."""

    __slots__ = ("_chunk", "_chunks", "_decoded", "size")

    def __init__(self, items: Sequence[Any], chunk: int) -> None:
        self.size = len(items)
        self._chunk = chunk
        self._decoded: dict[int, list[Any]] = {}
        self._chunks = [
            b"[" + b",".join(bytes(codec.raw(item)) for item in items[first : first + chunk]) + b"]"
            for first in range(0, len(items), chunk)
        ]

    def at(self, index: int) -> Any:
        """Give an item."""
        number, place = divmod(index, self._chunk)
        chunk = self._decoded.get(number)
        if chunk is None:
            while len(self._decoded) >= CHUNKS_DECODED_MAX:
                del self._decoded[next(iter(self._decoded))]
            chunk = self._decoded[number] = codec.loads(self._chunks[number])
        return chunk[place]

    def every(self) -> Iterator[Any]:
        """Give all items in order."""
        for chunk in self._chunks:
            yield from codec.loads(chunk)


def long_list(items: Sequence[Any], chunk: int) -> Series:
    """Give a list that is held as it is written, in chunks of so many."""
    chunks = Chunks(items, chunk)
    return Series(chunks.size, chunks.at, chunks.every)


def listed(run: Run, library: Library, template: Template) -> Series | None:
    """Give a long list that a template names, without its values; None for any other template, and for a short list."""
    path = None if template.whole is None else template.whole.path
    if path is None:
        return None
    results = _results(run, library, path)
    if results is not None:
        return results.series
    body = _body(run, library, path)
    found = None if body is None else _members_of(body)
    chunk = run.bounds.items_a_piece
    return long_list(found, chunk) if found is not None and len(found) > chunk else None


def recorded(run: Run, library: Library, template: Template) -> Raw | None:
    """Give the results of a long map as they are written, if that is what a template asks for."""
    path = None if template.whole is None else template.whole.path
    results = None if path is None else _results(run, library, path)
    return None if results is None else results.whole()


def _results(run: Run, library: Library, path: Path) -> Results | None:
    if path[0] != STEPS or path[2:] != OUTPUT or not run.over(str(path[1])):
        return None
    state = run.peek(str(path[1])).map
    return Results(state, library) if state is not None and state.pieces else None


def _body(run: Run, library: Library, path: Path) -> Raw | None:
    """Give what a path names as it is written; None when it leads nowhere, which an expression says better."""
    if path[0] in {"inputs", "trigger"}:
        value, keys = getattr(run.queued, str(path[0])), path[1:]
    elif path[0] == STEPS and path[2:3] == OUTPUT and run.over(str(path[1])):
        known = run.peek(str(path[1]))
        value, keys = Raw(library.body(known.blob.digest)) if known.blob is not None else known.output, path[3:]
    else:
        return None
    try:
        for key in keys:
            value = _members.decode(value)[key] if isinstance(key, int) else _fields.decode(value)[key]
    except (msgspec.DecodeError, LookupError, UnicodeDecodeError):
        return None
    return Raw(value)


def _members_of(body: Raw) -> list[Raw] | None:
    try:
        return _members.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
