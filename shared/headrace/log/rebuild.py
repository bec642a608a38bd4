"""Make all projections again from the log, and say what stood there wrong.

One partition after the other is taken with a new epoch, so that whoever held it can commit nothing meanwhile, and is
given back when it is done; services may go on running. Streams are folded by the very room that wrote them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from headrace import ids
from headrace.decider import Library, MissingError, Room, Row
from headrace.errors import NotFoundError, StaleOwnerError, ValidationError
from headrace.events import registry
from headrace.log import rows as projection
from headrace.log.port import Batch, History, Log, Tenure
from headrace.log.tables import TABLES
from headrace.service import installed, load

REBUILDER: Final = "rebuild"
LEASE_S: Final = 60.0
STREAMS_A_STEP: Final = 64
EXAMPLES_MAX: Final = 10
LIBRARY_BYTES_MAX: Final = 128 * 1024 * 1024
NO_FINGERPRINT: Final = ""
"""Matches no snapshot: a rebuild folds from the first event."""
AnyRoom = Room[Any, Any, Any]
Progress = Callable[[str, int, int, int], None]
"""Called with log, partition, streams done and streams in all."""


class Rebuildable(Log, Protocol):
    """A log whose projections can be taken apart and made again."""

    async def seize(self, owner: str, log: str, partition: int, format: int, *, lease_s: float) -> Tenure:
        """Take a partition from whoever holds it; again by the same owner: keep it longer."""
        ...

    async def streams(self, log: str, partition: int) -> list[str]:
        """Name every stream of a partition."""
        ...

    async def row_streams(self, table: str) -> list[str]:
        """Name every stream that a table's rows say they are of."""
        ...

    async def standing(self, table: str, streams: Sequence[str]) -> list[projection.Values]:
        """Read all rows of streams as they are kept: JSON columns as text."""
        ...

    async def drop_rows(self, tenure: Tenure, table: str, keys: Sequence[projection.Values]) -> None:
        """Take rows away, while the tenure stands."""
        ...


class Report(msgspec.Struct):
    """What a rebuild found: `changed` counts rows that were wrong, missing or too many; none: nothing changed."""

    streams: int = 0
    rows: int = 0
    changed: int = 0
    examples: list[str] = []

    def note(self, example: str) -> None:
        """Count a row that was not right."""
        self.changed += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(example)


class _Bodies:
    """A library that is filled from the log's blobs when a room misses one."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}
        self._bytes = 0

    def body(self, digest: str) -> bytes:
        """Give the bytes of a digest; raises MissingError."""
        if digest not in self._bodies:
            raise MissingError((digest,))
        return self._bodies[digest]

    async def fetch(self, log: Log, digests: Sequence[str]) -> None:
        """Bring bodies in; raises NotFoundError for one that the log does not have."""
        if self._bytes > LIBRARY_BYTES_MAX:
            self._bodies.clear()
            self._bytes = 0
        found = await log.get_blobs(digests)
        for digest in digests:
            if digest not in found:
                message = f"the log has no blob {digest}, which an event of it names"
                raise NotFoundError(message)
        self._bodies |= found
        self._bytes += sum(map(len, found.values()))


def installed_rooms(library: Library) -> list[AnyRoom]:
    """Give the rooms of all installed services that own logs."""
    services = [load(name) for name in sorted(installed())]
    return [room for service in services if hasattr(service, "rooms") for room in service.rooms(library)]


async def rebuild(
    log: Rebuildable,
    rooms: Callable[[Library], Sequence[AnyRoom]] = installed_rooms,
    *,
    progress: Progress | None = None,
) -> Report:
    """Make all rows of the rooms' logs again; `rooms` makes them around the library that the rebuild fills.

    Raises UnavailableError, StaleOwnerError when somebody took a partition meanwhile, DatabaseVersionError for an event
    that this code does not know, NotFoundError for a blob that is gone. Again: finds nothing to change.
    """
    library, report = _Bodies(), Report()
    for room in rooms(library):
        numbers = sorted(row["partition"] for row in await log.partitions() if row["log"] == room.log)
        for partition in numbers:
            await _partition(log, room, library, partition, report, progress)
    return report


async def _partition(
    log: Rebuildable, room: AnyRoom, library: _Bodies, partition: int, report: Report, progress: Progress | None
) -> None:
    tenure = await log.seize(REBUILDER, room.log, partition, room.format, lease_s=LEASE_S)
    streams = await log.streams(room.log, partition)
    for start in range(0, len(streams), STREAMS_A_STEP):
        await log.seize(REBUILDER, room.log, partition, room.format, lease_s=LEASE_S)
        chunk = streams[start : start + STREAMS_A_STEP]
        histories = await log.histories(room.log, NO_FINGERPRINT, chunk)
        rows: list[Row] = []
        for stream_id in chunk:
            rows += await _folded(log, room, library, stream_id, histories[stream_id])
        await _mend(log, tenure, chunk, rows, report)
        report.streams += len(chunk)
        if progress is not None:
            progress(room.log, partition, start + len(chunk), len(streams))
    await _mend(log, tenure, await _strays(log, room.log, partition, set(streams)), [], report)
    await log.release(REBUILDER, [(room.log, partition)])


async def _folded(log: Log, room: AnyRoom, library: _Bodies, stream_id: str, history: History) -> list[Row]:
    state = room.initial(stream_id, history.events[0].workspace)
    for recorded in history.events:
        event = registry.read(recorded)
        while True:
            try:
                state = room.evolve(state, event, recorded.at)
                break
            except MissingError as missing:
                await library.fetch(log, missing.digests)
    while True:
        try:
            return list(room.rows(state, None))
        except MissingError as missing:
            await library.fetch(log, missing.digests)


async def _mend(log: Rebuildable, tenure: Tenure, streams: Sequence[str], rows: Sequence[Row], report: Report) -> None:
    """Hold what stands for streams against what should stand, and put the difference right."""
    wanted: dict[str, dict[projection.Values, tuple[Row, projection.Values]]] = {}
    for row in rows:
        whole = projection.values(row)
        wanted.setdefault(row.table, {})[projection.key_of(row.table, whole)] = (row, whole)
    wrong: list[Row] = []
    for table in (name for name, one in TABLES.items() if one.log == tenure.log):
        standing = {projection.key_of(table, whole): whole for whole in await log.standing(table, streams)}
        should = wanted.get(table, {})
        report.rows += len(should)
        for example, row in _differing(table, should, standing):
            report.note(example)
            wrong.append(row)
        extra = sorted(standing.keys() - should.keys())
        for key in extra:
            report.note(f"{table} {_named(key)}: no event accounts for this row")
        if extra:
            await log.drop_rows(tenure, table, extra)
    batch = Batch(
        log=tenure.log,
        partition=tenure.partition,
        epoch=tenure.epoch,
        expected_position=tenure.last_position,
        rows=wrong,
    )
    if (wrong or streams) and (await log.append_events([batch])).stale:
        message = f"somebody took partition {tenure.partition} of {tenure.log} during the rebuild; run it again"
        raise StaleOwnerError(message)


def _differing(
    table: str,
    should: Mapping[projection.Values, tuple[Row, projection.Values]],
    standing: Mapping[projection.Values, projection.Values],
) -> Iterator[tuple[str, Row]]:
    for key, (row, whole) in should.items():
        found = standing.get(key)
        if found is None:
            yield f"{table} {_named(key)}: was missing", row
        elif found != whole:
            triples = zip(TABLES[table].columns, found, whole, strict=True)
            column, was, now = next(triple for triple in triples if triple[1] != triple[2])
            yield f"{table} {_named(key)}: {column} was {_short(was)}, is {_short(now)}", row


async def _strays(log: Rebuildable, name: str, partition: int, known: set[str]) -> list[str]:
    """Name the streams of this partition that have rows but no event; what is no id counts as of partition 0."""
    found: set[str] = set()
    for table in (table for table, one in TABLES.items() if one.log == name):
        for stream_id in await log.row_streams(table):
            if stream_id not in known and _home(stream_id) == partition:
                found.add(stream_id)
    return sorted(found)


def _home(stream_id: str) -> int:
    try:
        return ids.partition_of(stream_id)
    except ValidationError:
        return 0


def _named(key: projection.Values) -> str:
    return "/".join(map(str, key))


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "…"  # noqa: PLR2004  (enough to recognise it)
