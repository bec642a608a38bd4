"""A whole log in memory: the twin of the one in Postgres, for tests, simulation and `headrace simulate`.

It lives on the given clock. Failures that a database can show are asked for by its `before_commit`, `after_commit` and
`down`, and by `fail_next_append`.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from headrace import codec, ids
from headrace.clock import Clock
from headrace.errors import UnavailableError
from headrace.log import rows as projection
from headrace.log.bodies import MemoryBodies
from headrace.log.chain import Link, link
from headrace.log.checks import FUTURE_MS_MAX, check_digest, check_event
from headrace.log.owners import MemoryOwners
from headrace.log.port import (
    After,
    Appended,
    Batch,
    Break,
    DataError,
    Due,
    History,
    KeptLine,
    Parked,
    Recorded,
    Tenure,
)
from headrace.log.tables import MAIN, PURGED, TABLES
from headrace.log.verify import verify
from headrace.vocabulary import LOG_PARTITIONS
from headrace.wire import Line

Hook = Callable[[Sequence[Batch]], Awaitable[None]]


class MemoryLog(MemoryBodies, MemoryOwners):
    """A log in memory. What it holds is open to tests: `_parts`, `_streams`, `_rows` and the rest."""

    def __init__(self, clock: Clock, *, partitions: Mapping[str, int] = LOG_PARTITIONS) -> None:
        MemoryBodies.__init__(self)
        MemoryOwners.__init__(self, partitions)
        self.incarnation = "memory-1"
        self.before_commit: Hook | None = None
        """Awaited before an append takes hold; what it raises is the append's outcome."""
        self.after_commit: Hook | None = None
        """Awaited after an append took hold; what it raises is the append's outcome."""
        self.down = False
        """While true, every call raises UnavailableError."""
        self.appends = 0
        self._clock = clock
        self._streams: dict[tuple[str, str], list[Recorded]] = {}
        self._rows: dict[str, dict[tuple[Any, ...], projection.Values]] = {name: {} for name in TABLES}
        self._snapshots: dict[tuple[str, str], tuple[str, int, bytes]] = {}
        self._parked: list[Parked] = []
        self._parked_total = 0
        self._lines: dict[tuple[str, int], KeptLine] = {}
        self._lines_ever = 0
        self._failing: list[bool] = []

    def fail_next_append(self, *, committed: bool) -> None:
        """Let one coming append raise UnavailableError, its data written or not."""
        self._failing.append(committed)

    async def close(self) -> None:
        """Nothing to let go of."""

    # owners

    async def append_events(self, batches: Sequence[Batch]) -> Appended:
        """Commit all batches that are not stale; as OwnerLog says."""
        self._up()
        self.appends += 1
        if self.before_commit is not None:
            await self.before_commit(batches)
        committed = self._failing.pop(0) if self._failing else None
        if committed is False:
            message = "the append failed before it was written, as asked for"
            raise UnavailableError(message)
        good = [batch for batch in batches if self._stands(batch)]
        stale = tuple((batch.log, batch.partition) for batch in batches if batch not in good)
        if kept := self._repeated(good):
            return Appended({}, stale, kept)
        for batch in good:
            self._check(batch)
        prepared = [(batch, projection.newest(batch.rows)) for batch in good]
        for batch, tables in prepared:
            self._commit(batch, tables)
        if self.after_commit is not None:
            await self.after_commit(batches)
        if committed:
            message = "the append was written, but its answer got lost, as asked for"
            raise UnavailableError(message)
        positions = {(batch.log, batch.partition): batch.expected_position + len(batch.events) for batch in good}
        return Appended(positions, stale)

    async def histories(self, log: str, fingerprint: str, stream_ids: Sequence[str]) -> dict[str, History]:
        """Read what makes the state of streams."""
        self._up()
        found: dict[str, History] = {}
        for stream_id in stream_ids:
            events = self._streams.get((log, stream_id), [])
            kept = self._snapshots.get((log, stream_id))
            if kept is not None and kept[0] == fingerprint:
                found[stream_id] = History(tuple(e for e in events if e.version > kept[1]), kept[2], kept[1])
            else:
                found[stream_id] = History(tuple(events))
        return found

    async def uses(self, log: str, addresses: Sequence[str]) -> dict[str, str]:
        """Name the streams of addresses that are not over."""
        rows = self._columns(MAIN[log], ("id", "busy"))
        found = {
            ids.address(row["id"]): row["id"] for row in sorted(rows, key=itemgetter("id")) if row["busy"] is not None
        }
        return {address: found[address] for address in addresses if address in found}

    async def due(
        self, log: str, partitions: Sequence[int], until: int, limit: int, after: Due | None = None
    ) -> list[Due]:
        """Read streams with `wake_at` up to `until`, the earliest first, or those that follow on `after`."""
        due = [
            Due(values["id"], values["wake_at"])
            for values in self._columns(MAIN[log], ("id", "partition", "wake_at"))
            if values["partition"] in partitions and values["wake_at"] is not None and values["wake_at"] <= until
        ]
        place = (-1, "") if after is None else (after.wake_at, after.stream_id)
        follow = [one for one in due if (one.wake_at, one.stream_id) > place]
        return sorted(follow, key=lambda one: (one.wake_at, one.stream_id))[:limit]

    async def busy(self, log: str, partition: int) -> list[str]:
        """Read the streams of a partition that have something outstanding."""
        found = self._columns(MAIN[log], ("id", "partition", "busy"))
        return sorted(values["id"] for values in found if values["partition"] == partition and values["busy"])

    async def keep_snapshots(self, log: str, fingerprint: str, snapshots: Mapping[str, tuple[int, bytes]]) -> None:
        """Write snapshots to the disposable cache."""
        self._up()
        for stream_id, (version, body) in snapshots.items():
            self._snapshots[log, stream_id] = (fingerprint, version, body)

    async def park(self, parked: Parked) -> None:
        """Keep a message that could not be processed."""
        self._up()
        source, error = projection.storable(parked.source), projection.storable(parked.error)
        self._parked_total += 1
        self._parked.append(msgspec.structs.replace(parked, id=self._parked_total, source=source, error=error))

    # lines (bodies: MemoryBodies)

    async def put_lines(self, lines: Sequence[Line]) -> int:
        """Keep lines, unique by attempt and sequence; tells how many were new."""
        self._up()
        before = self._lines_ever
        for line in lines:
            if (line.attempt_id, line.sequence) not in self._lines:
                self._lines_ever += 1
                shown = msgspec.structs.replace(line, text=projection.storable(line.text))
                self._lines[line.attempt_id, line.sequence] = KeptLine(self._lines_ever, shown)
        return self._lines_ever - before

    async def read_lines(self, run_id: str, after: int = 0, limit: int = 1_000) -> list[KeptLine]:
        """Read a run's lines after a `KeptLine.id`."""
        self._up()
        return [kept for kept in self._lines.values() if kept.line.run_id == run_id and kept.id > after][:limit]

    # readers

    async def read(self, log: str, partition: int, after: int, limit: int) -> list[Recorded]:
        """Read a partition's events after a position."""
        self._up()
        return self._parts[log, partition].events[max(after, 0) : max(after, 0) + limit]

    async def links(self, log: str, partition: int, after: int, limit: int) -> list[Link]:
        """Read a partition's links that begin after a position."""
        self._up()
        return [one for one in self._parts[log, partition].links if one.first > after][:limit]

    async def stream(self, log: str, stream_id: str, after_version: int = 0, limit: int = 1_000) -> list[Recorded]:
        """Read one stream's events after a version."""
        self._up()
        return [e for e in self._streams.get((log, stream_id), []) if e.version > after_version][:limit]

    async def row(self, table: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Read one projection row by its key."""
        found = await self.rows(table, key, order=projection.table_of(table).key[-1], limit=1)
        return found[0] if found else None

    async def rows(
        self,
        table: str,
        where: Mapping[str, Any],
        *,
        order: str = "id",
        descending: bool = True,
        after: str | After | None = None,
        limit: int = 20,
    ) -> list[dict[str, Any]]:
        """Read projection rows; as ReadLog says."""
        tail = projection.filtered(table, where, order).key[-1]
        seen = projection.place_after(table, where, order, after)
        self._up()
        names = list(projection.table_of(table).columns)
        at, last = names.index(order), names.index(tail)
        found: Iterable[projection.Values] = self._rows[table].values()
        for name, one in where.items():
            found = _fitting(found, names.index(name), one)
        places = [(projection.place(row[at], row[last]), row) for row in found]
        if seen is not None:
            places = [each for each in places if (each[0] < seen if descending else each[0] > seen)]
        places.sort(key=itemgetter(0), reverse=descending)
        return [self._shown(table, row) for _, row in places[:limit]]

    async def count(self, table: str, where: Mapping[str, Any]) -> int:
        """Count projection rows; as ReadLog says."""
        return len(await self.rows(table, where, order=projection.table_of(table).key[-1], limit=sys.maxsize))

    async def streams(self, log: str, partition: int) -> list[str]:
        """Name every stream of a partition."""
        self._up()
        return sorted({event.stream_id for event in self._parts[log, partition].events})

    async def row_streams(self, table: str) -> list[str]:
        """Name every stream that a table's rows say they are of."""
        self._up()
        at = list(TABLES[table].columns).index(projection.stream_column(table))
        return sorted({row[at] for row in self._rows[table].values()})

    async def standing(self, table: str, streams: Sequence[str]) -> list[projection.Values]:
        """Read all rows of streams as they are kept."""
        self._up()
        at = list(TABLES[table].columns).index(projection.stream_column(table))
        return [row for row in self._rows[table].values() if row[at] in streams]

    async def drop_rows(self, tenure: Tenure, table: str, keys: Sequence[projection.Values]) -> None:
        """Take rows away that no event accounts for, while the tenure stands."""
        self._up()
        if self._parts[tenure.log, tenure.partition].epoch == tenure.epoch:
            for key in keys:
                self._rows[table].pop(tuple(key), None)

    async def parked(self, limit: int = 100, wanted: Sequence[int] | None = None) -> list[Parked]:
        """Read what was parked, the newest first."""
        self._up()
        return [each for each in self._parked[::-1] if wanted is None or each.id in wanted][:limit]

    async def dismiss_parked(self, parked: Sequence[int]) -> list[int]:
        """Let parked messages go that somebody has seen to."""
        self._up()
        gone = [each.id for each in self._parked if each.id in set(parked)]
        self._parked = [each for each in self._parked if each.id not in gone]
        return gone

    def verify(self) -> AsyncIterator[Break | tuple[str, int, int]]:
        """Walk every chain."""
        return verify(self)

    # inside

    def _shown(self, table: str, row: projection.Values) -> dict[str, Any]:
        return projection.shown(table, row)

    def _up(self) -> int:
        if self.down:
            message = "the log does not answer (it was taken down)"
            raise UnavailableError(message)
        return self._clock.now_ms()

    def _columns(self, table: str, names: Sequence[str]) -> list[dict[str, Any]]:
        self._up()
        columns = list(TABLES[table].columns)
        places = [(name, columns.index(name)) for name in names]
        return [{name: row[at] for name, at in places} for row in self._rows[table].values()]

    def _stands(self, batch: Batch) -> bool:
        part = self._parts.get((batch.log, batch.partition))
        return part is not None and part.epoch == batch.epoch and part.last == batch.expected_position

    def _check(self, batch: Batch) -> None:
        versions: dict[str, int] = {}
        latest = self._clock.now_ms() + FUTURE_MS_MAX
        for event in batch.events:
            check_event(batch.partition, event, latest)
            known = versions.get(event.stream_id)
            before = len(self._streams.get((batch.log, event.stream_id), [])) if known is None else known
            if event.version != before + 1:
                message = f"version {event.version} of {event.stream_id} does not follow {before}"
                raise DataError(message)
            versions[event.stream_id] = event.version
        for digest, body in batch.blobs.items():
            check_digest(digest, body)
        projection.check_laid(batch.rows)

    def _commit(self, batch: Batch, tables: dict[str, dict[tuple[Any, ...], projection.Values]]) -> None:
        part = self._parts[batch.log, batch.partition]
        if batch.events:
            part.links.append(link(part.hash, part.last, batch.events))
        for event in batch.events:
            known = Recorded(batch.log, batch.partition, part.last + 1, *msgspec.structs.astuple(event))
            part.events.append(known)
            self._streams.setdefault((batch.log, event.stream_id), []).append(known)
            if event.type == PURGED:
                projection.purge(self._rows, event.stream_id)
                self._lines = {key: one for key, one in self._lines.items() if one.line.run_id != event.stream_id}
        for name, rows in tables.items():
            self._rows[name].update(rows)
        now = self._clock.now_ms()
        for answer in batch.answers:
            self._answers[batch.log, batch.partition, projection.storable(answer.key)] = (answer, now)
        for digest, body in batch.blobs.items():
            self._blobs.setdefault(digest, bytes(body))


def _fitting(rows: Iterable[projection.Values], n: int, wanted: Any) -> list[projection.Values]:
    """Give the rows whose nth value is what is wanted, or one of several, or holds what a mapping holds."""
    if isinstance(wanted, Mapping):
        members = wanted.items()
        kept = ((row, codec.loads(row[n]) if row[n] is not None else {}) for row in rows)
        return [row for row, held in kept if all(held.get(name) == text for name, text in members)]
    several = wanted if isinstance(wanted, list | tuple | set | frozenset) else (wanted,)
    these = tuple(projection.storable(one) if isinstance(one, str) else one for one in several)
    return [row for row in rows if row[n] in these]
