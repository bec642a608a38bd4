"""Make all projections again from the log, and say what stood there wrong.

One partition after the other is taken with a new epoch, so that whoever held it can commit nothing meanwhile, and is
given back when it is done; services may go on running. Streams are folded by the very room that wrote them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from headrace import ids
from headrace.decider import AnyRow
from headrace.errors import StaleOwnerError, ValidationError
from headrace.log import rows as projection
from headrace.log.folding import NO_FINGERPRINT, AnyRoom, Folder, MakeRooms, installed_rooms
from headrace.log.port import Batch, Log, Tenure
from headrace.log.tables import TABLES

REBUILDER: Final = "rebuild"
LEASE_S: Final = 60.0
STREAMS_A_STEP: Final = 64
EXAMPLES_MAX: Final = 10
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


async def rebuild(
    log: Rebuildable,
    rooms: MakeRooms = installed_rooms,
    *,
    progress: Progress | None = None,
    month: int | None = None,
) -> Report:
    """Make all rows of the rooms' logs again; `rooms` makes them around the library that the rebuild fills.

    With a `month` (yyyymm) only those of streams created in it.

    Raises UnavailableError, StaleOwnerError when somebody took a partition meanwhile, DatabaseVersionError for an event
    that this code does not know, NotFoundError for a blob that is gone. Again: finds nothing to change.
    """
    folder, report = Folder(log), Report()
    for room in rooms(folder):
        numbers = sorted(row["partition"] for row in await log.partitions() if row["log"] == room.log)
        for partition in numbers:
            tenure = await log.seize(REBUILDER, room.log, partition, room.format, lease_s=LEASE_S)
            every = await log.streams(room.log, partition)
            wanted = every if month is None else [each for each in every if ids.month_of(each) == month]
            await _streams(log, room, folder, tenure, wanted, report, progress)
            if month is None:
                await _mend(log, tenure, await _strays(log, room.log, partition, set(every)), [], report)
            await log.release(REBUILDER, [(room.log, partition)])
    return report


async def _streams(
    log: Rebuildable,
    room: AnyRoom,
    folder: Folder,
    tenure: Tenure,
    streams: Sequence[str],
    report: Report,
    progress: Progress | None,
) -> None:
    for start in range(0, len(streams), STREAMS_A_STEP):
        await log.seize(REBUILDER, room.log, tenure.partition, room.format, lease_s=LEASE_S)
        chunk = streams[start : start + STREAMS_A_STEP]
        histories = await log.histories(room.log, NO_FINGERPRINT, chunk)
        rows: list[AnyRow] = []
        for stream_id in chunk:
            state = await folder.state(room, stream_id, histories[stream_id])
            rows += await folder.rows(room, state)
        await _mend(log, tenure, chunk, rows, report)
        report.streams += len(chunk)
        if progress is not None:
            progress(room.log, tenure.partition, start + len(chunk), len(streams))


async def _mend(
    log: Rebuildable, tenure: Tenure, streams: Sequence[str], rows: Sequence[AnyRow], report: Report
) -> None:
    """Hold what stands for streams against what should stand, and put the difference right."""
    wanted: dict[str, dict[projection.Values, tuple[AnyRow, projection.Values]]] = {}
    for row in rows:
        whole = projection.values(row)
        wanted.setdefault(row.table, {})[projection.key_of(row.table, whole)] = (row, whole)
    wrong: list[AnyRow] = []
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
    should: Mapping[projection.Values, tuple[AnyRow, projection.Values]],
    standing: Mapping[projection.Values, projection.Values],
) -> Iterator[tuple[str, AnyRow]]:
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
