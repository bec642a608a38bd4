"""Golden histories: whole streams as they were once recorded, and the state that they fold to.

`python -m tests.golden.record` tells the stories below to the engine and adds the histories that are missing; a history
is never written again, however the deciders change, since real logs hold such histories too. What it folds to stands
beside it, and is written again: look at the difference before you commit it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from headrace import codec, service
from headrace.decider import Row
from headrace.events.base import Event
from headrace.events.registry import decode
from headrace.testing.given import BodiesLibrary

HISTORIES = Path(__file__).parent / "histories"
OWNERS = ("planner", "gatekeeper")


class Happened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event of a recorded stream; `at` is milliseconds since 1970, `data` its bytes as JSON, written under `schema`."""

    at: int
    type: str
    data: msgspec.Raw
    schema: int = 1

    def event(self) -> Event:
        """Read it as the newest class."""
        return decode(self.type, bytes(self.data), self.schema)


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a history: which stream it is, and the bodies of the plans that it names."""

    log: str
    stream_id: str
    workspace: str
    bodies: dict[str, str] = {}


class History(msgspec.Struct, frozen=True):
    """A recorded stream."""

    about: About
    events: list[Happened]


def names(folder: Path = HISTORIES) -> list[str]:
    """Name all histories of a folder."""
    return sorted(file.stem for file in folder.glob("*.jsonl"))


def state_file(name: str) -> Path:
    """Give the file of what a history folds to."""
    return HISTORIES / f"{name}.state.json"


def read(name: str, folder: Path = HISTORIES) -> History:
    """Read a history."""
    first, *rest = (folder / f"{name}.jsonl").read_bytes().splitlines()
    return History(msgspec.json.decode(first, type=About), [msgspec.json.decode(line, type=Happened) for line in rest])


def write(name: str, history: History) -> None:
    """Write a history, one event a line."""
    lines = [codec.encode(history.about), *map(codec.encode, history.events)]
    (HISTORIES / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")


def folded(history: History) -> str:
    """Fold a history from its first event, and write what is then known as people can compare it."""
    room, state = fold(history)
    known = {
        "finished": room.finished(state),
        "wake_at": room.wake_at(state),
        "state": codec.loads(room.snapshot(state)),
        "rows": list(map(_row, room.rows(state, None))),
    }
    return json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def fold(history: History) -> tuple[Any, Any]:
    """Give the room of a history and the state after its last event."""
    about = history.about
    library = BodiesLibrary({digest: body.encode() for digest, body in about.bodies.items()})
    room = next(room for room in _rooms(library) if room.log == about.log)
    state = room.initial(about.stream_id, about.workspace)
    for happened in history.events:
        state = room.evolve(state, happened.event(), happened.at)
    return room, state


def _rooms(library: BodiesLibrary) -> Iterator[Any]:
    for name in OWNERS:
        yield from service.load(name).rooms(library)


def _row(row: Row) -> dict[str, Any]:
    columns: dict[str, Any] = codec.loads(codec.dumps(row.columns))
    return {"table": row.table, **columns}
