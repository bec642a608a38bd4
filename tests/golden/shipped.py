"""What a version shipped with: `python -m tests.golden.shipped 1.2.0` freezes it when the version is tagged.

`tests/golden/<version>/` then holds that version's golden events and histories for ever, and `shipped.json`: the digest
of each file, how each history ended, and for each log the format that its room had and the shape of its events. Logs of
users hold what that version wrote, so every later one reads it, and raises a log's format when it writes anything else:
older code then claims no partition that it could not read.
"""

import hashlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace import codec, service
from headrace.errors import DatabaseVersionError
from headrace.events.registry import EVENTS, decode
from headrace.testing.given import BodiesLibrary
from tests.architecture import golden
from tests.golden import histories

ROOT = Path(__file__).parent
LIST = "shipped.json"
FOLDERS = ("events", "histories")


class Log(msgspec.Struct, frozen=True):
    """A log as a version wrote it: its room's format, and the digest of what its events look like."""

    format: int
    shape: str


class Ended(msgspec.Struct, frozen=True):
    """How a history ended: whether its stream is over, and the status that its row shows."""

    finished: bool
    status: str | None


class Shipped(msgspec.Struct, frozen=True):
    """What a version shipped with."""

    version: str
    logs: dict[str, Log]
    ended: dict[str, Ended]
    files: dict[str, str]


def versions(root: Path = ROOT) -> list[str]:
    """Name the versions that were frozen, the oldest first."""
    found = [file.parent.name for file in root.glob(f"*/{LIST}")]
    return sorted(found, key=lambda name: [int(part) for part in name.split(".")])


def logs() -> dict[str, Log]:
    """Give the logs as this code writes them."""
    rooms = [
        room
        for name in service.installed()
        for one in [service.load(name)]
        if hasattr(one, "rooms")
        for room in one.rooms(BodiesLibrary())
    ]
    shapes = {
        log: {kind.type_name(): [kind.SCHEMA, codec.encode(golden.sample(kind)).decode()] for kind in kinds}
        for log, kinds in EVENTS.items()
    }
    return {room.log: Log(room.format, codec.sha256(codec.dumps(sorted(shapes[room.log].items())))) for room in rooms}


def ended(name: str, folder: Path) -> Ended:
    """Fold a history, and tell how it ended."""
    room, state = histories.fold(histories.read(name, folder))
    rows = [row.columns for row in room.rows(state, None)]
    return Ended(room.finished(state), rows[0].get("status") if rows else None)


def freeze(version: str, root: Path = ROOT) -> Path:
    """Freeze what the working tree has as a version; raises FileExistsError when that was done."""
    target = root / version
    target.mkdir()
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("*.state.json"))
    kept = sorted(file for folder in FOLDERS for file in (target / folder).iterdir())
    shipped = Shipped(
        version=version,
        logs=logs(),
        ended={name: ended(name, target / "histories") for name in histories.names(target / "histories")},
        files={str(file.relative_to(target)): hashlib.sha256(file.read_bytes()).hexdigest() for file in kept},
    )
    (target / LIST).write_bytes(msgspec.json.format(msgspec.json.encode(shipped), indent=1) + b"\n")
    return target


def problems(version: str, root: Path = ROOT, now: Mapping[str, Log] | None = None) -> list[str]:
    """Say what of a shipped version is no longer true: changed files, events or histories that read otherwise.

    `now` are the logs as this code writes them; given, each one's format is held against the version's.
    """
    folder = root / version
    shipped = msgspec.json.decode((folder / LIST).read_bytes(), type=Shipped)
    found = list(_changed(folder, shipped))
    for file in sorted((folder / "events").glob("*.json")):
        name, schema = golden.read_name(file)
        try:
            decode(name, file.read_bytes(), schema)
        except (DatabaseVersionError, msgspec.ValidationError) as problem:
            found.append(f"event {file.stem} is not read any more: {problem}")
    for name, was in shipped.ended.items():
        try:
            is_now: Any = ended(name, folder / "histories")
        except (DatabaseVersionError, msgspec.ValidationError) as problem:
            is_now = str(problem)
        if is_now != was:
            found.append(f"history {name} ended as {was}, now {is_now}")
    return found + [_format(log, was, now[log]) for log, was in shipped.logs.items() if now and _stale(was, now[log])]


def _changed(folder: Path, shipped: Shipped) -> list[str]:
    there = {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for name in FOLDERS
        for file in (folder / name).iterdir()
    }
    names = sorted(name for name in there.keys() | shipped.files.keys() if there.get(name) != shipped.files.get(name))
    return [f"{name} was frozen and is another file now" for name in names]


def _stale(was: Log, now: Log) -> bool:
    return now.format < was.format or (now.shape != was.shape and now.format == was.format)


def _format(log: str, was: Log, now: Log) -> str:
    return f"log {log} is written in another shape than shipped, so its room's format must be over {was.format}: it is {now.format}"


def main(arguments: list[str]) -> int:
    """Freeze a version and name its folder."""
    sys.stdout.write(f"frozen: {freeze(arguments[0])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
