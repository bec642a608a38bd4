"""The log in Postgres. Owners write by one function call a batch; readers read in order; nothing polls."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Self

import asyncpg

from headrace import ids
from headrace.clock import Clock
from headrace.errors import DatabaseVersionError, UnavailableError, ValidationError
from headrace.log import rows as projection
from headrace.log.chain import Link
from headrace.log.checks import NEWER, check_digest
from headrace.log.connections import BY_INDEX, STATEMENT_S, Connections
from headrace.log.migrate import check
from headrace.log.months import Away, Month
from headrace.log.port import (
    After,
    Appended,
    Batch,
    Break,
    DataError,
    Due,
    History,
    Holdings,
    KeptAnswer,
    KeptLine,
    Parked,
    Recorded,
    Tenure,
)
from headrace.log.queries import QUERIES
from headrace.log.select import count_query, drop_query, rows_query, standing_query
from headrace.log.session import Session
from headrace.log.tables import MAIN, PURGED
from headrace.log.verify import verify
from headrace.log.wire import Arguments, append_arguments, months_of
from headrace.vocabulary import IDEMPOTENCY_KEPT_S, LEASE_S, LOG_RUNS
from headrace.wire import Line

OWNER_CONNECTIONS: Final = 4
READER_CONNECTIONS: Final = 6
FORGET_ROWS_MAX: Final = 10_000
OWNERS_KEPT_S: Final = 86_400.0
BODY_BYTES_PER_S_MIN: Final = 4 * 1024 * 1024
"""The slowest transfer of a large body that is waited for."""
MAY_BE_GONE: Final = frozenset({ids.RUN, ids.APPROVAL})
"""Prefixes of streams that end, and leave the log with their month."""
STOP_SERVICES: Final = "stop the services of this database, and run this again: it goes on"
logger = logging.getLogger(__name__)


class PostgresLog:
    """A log in Postgres. Make one by `open`."""

    def __init__(self, url: str, clock: Clock, incarnation: str) -> None:
        self.incarnation = incarnation
        self._clock = clock
        self._session = Session(url, settings=BY_INDEX)
        self._owner = Connections(url, OWNER_CONNECTIONS, settings=BY_INDEX)
        self._reader = Connections(url, READER_CONNECTIONS)

    @classmethod
    async def open(cls, url: str, clock: Clock) -> Self:
        """Check the database and open it.

        Raises UnavailableError while it does not answer, and DatabaseVersionError when its schema is missing, older or
        newer than this code, or when it is a copy that nobody adopted.
        """
        return await cls.unchecked(url, clock, await check(url))

    @classmethod
    async def unchecked(cls, url: str, clock: Clock, incarnation: str) -> Self:
        """Open a database whose schema was checked, also a copy that nobody adopted: for the adoption itself."""
        return cls(url, clock, incarnation)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._owner.close()
        await self._reader.close()

    # owners

    async def heartbeat(
        self, owner: str, formats: Mapping[str, int], *, lease_s: float, ended: Callable[[], None] | None = None
    ) -> Holdings:
        """Renew, and claim a fair share; as OwnerLog says. An owner beats on one session, with which it lives."""
        logs = sorted(formats)
        arguments = (owner, logs, [formats[log] for log in logs], int(lease_s * 1000))
        first, *held = await self._session.fetch(QUERIES["heartbeat"], *arguments, ended=ended, timeout_s=LEASE_S)
        if first["incarnation"] != self.incarnation:
            message = f"the database was adopted as {first['incarnation']} since this process opened it; start again"
            raise DatabaseVersionError(message)
        return Holdings(
            tenures=tuple(Tenure(row["log"], row["partition"], row["epoch"], row["last_position"]) for row in held),
            database_now=first["now_ms"],
            owners=first["owners"],
            surplus=tuple((row["log"], row["partition"]) for row in held if row["surplus"]),
        )

    async def release(self, owner: str, partitions: Sequence[tuple[str, int]]) -> None:
        """Give partitions back at once."""
        logs, numbers = [log for log, _ in partitions], [number for _, number in partitions]
        await self._owner.fetch(QUERIES["release"], owner, logs, numbers, timeout_s=LEASE_S)

    async def append_events(self, batches: Sequence[Batch]) -> Appended:
        """Commit all batches in one round trip; as OwnerLog says."""
        arguments = append_arguments(self.incarnation, batches)
        try:
            good = await self._append(arguments)
        except DataError as problem:
            if not isinstance(problem.__cause__, asyncpg.CheckViolationError) or problem.__cause__.constraint_name:
                raise
            for month in months_of(batches):  # a month without a table: restored, or of a stream from long ago
                await self._owner.fetch(QUERIES["attach_month"], month)
            good = await self._append(arguments)
        if None in good:
            kept = await self.answers([(one.log, one.partition, given.key) for one in batches for given in one.answers])
            stale = ((one.log, one.partition) for one, stands in zip(batches, good, strict=True) if stands is False)
            return Appended({}, tuple(stale), kept)
        fits = list(zip(batches, good, strict=True))
        return Appended(
            {(one.log, one.partition): one.expected_position + len(one.events) for one, stands in fits if stands},
            tuple((one.log, one.partition) for one, stands in fits if not stands),
        )

    async def histories(self, log: str, fingerprint: str, stream_ids: Sequence[str]) -> dict[str, History]:
        """Read what makes the state of streams."""
        known = [stream_id for stream_id in stream_ids if _month(stream_id) is not None]
        months = [_month(stream_id) for stream_id in known]
        kept: dict[str, tuple[bytes, int]] = {}
        events: dict[str, list[Recorded]] = {stream_id: [] for stream_id in stream_ids}
        for row in await self._owner.fetch(QUERIES["histories"], log, fingerprint, months, known):
            if row["position"] is None:
                kept[row["stream_id"]] = (row["data"], row["version"])
            else:
                events[row["stream_id"]].append(Recorded(*row))
        return {
            stream_id: History(tuple(found), *kept.get(stream_id, (None, 0))) for stream_id, found in events.items()
        }

    async def uses(self, log: str, addresses: Sequence[str]) -> dict[str, str]:
        """Name the streams of addresses that are not over."""
        rows = await self._owner.fetch(QUERIES["uses"].format(table=MAIN[log]), list(addresses))
        return {row["address"]: row["id"] for row in rows}

    async def answers(self, keys: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int, str], KeptAnswer]:
        """Read what was answered under keys, as far as kept."""
        if not keys:
            return {}
        asked = [(log, partition, projection.storable(key)) for log, partition, key in keys]
        logs, partitions, storable = (list(column) for column in zip(*set(asked), strict=True))
        kept_ms = int(IDEMPOTENCY_KEPT_S * 1000)
        rows = await self._owner.fetch(QUERIES["answers"], logs, partitions, storable, kept_ms)
        found = {(log, partition, key): answer for log, partition, key, *answer in rows}
        return {one: KeptAnswer(one[2], *found[kept]) for one, kept in zip(keys, asked, strict=True) if kept in found}

    async def keep_answer(self, log: str, partition: int, answer: KeptAnswer) -> KeptAnswer | None:
        """Keep an answer unless another is kept; as KeyStore says."""
        place = log, partition, answer.key
        key, about = projection.storable(answer.key), projection.storable(answer.stream_id)
        stored = key, answer.request_digest, about, answer.answer
        kept_ms = int(IDEMPOTENCY_KEPT_S * 1000)
        while not await self._reader.fetch(QUERIES["keep_answer"], log, partition, *stored, kept_ms):
            kept = (await self.answers([place])).get(place)
            if kept is not None:  # else it expired in between
                return kept
        return None

    async def due(
        self, log: str, partitions: Sequence[int], until: int, limit: int, after: Due | None = None
    ) -> list[Due]:
        """Read streams with `wake_at` up to `until`, the earliest first, or those that follow on `after`."""
        sql = QUERIES["due"].format(table=MAIN[log])
        place = (-1, "") if after is None else (after.wake_at, after.stream_id)
        return [Due(*row) for row in await self._owner.fetch(sql, list(partitions), until, limit, *place)]

    async def busy(self, log: str, partition: int) -> list[str]:
        """Read the streams of a partition that have something outstanding."""
        return [row["id"] for row in await self._owner.fetch(QUERIES["busy"].format(table=MAIN[log]), partition)]

    async def keep_snapshots(self, log: str, fingerprint: str, snapshots: Mapping[str, tuple[int, bytes]]) -> None:
        """Write snapshots to the disposable cache."""
        versions = [version for version, _ in snapshots.values()]
        bodies = [body for _, body in snapshots.values()]
        await self._reader.fetch(QUERIES["keep_snapshots"], log, fingerprint, list(snapshots), versions, bodies)

    async def park(self, parked: Parked) -> None:
        """Keep a message that could not be processed."""
        shown = (projection.storable(parked.source), projection.storable(parked.error))
        stream_id = None if parked.stream_id is None else projection.storable(parked.stream_id)
        await self._owner.fetch(QUERIES["park"], *shown, parked.body, parked.at, stream_id)

    # blobs and lines

    async def put_blob(self, digest: str, body: bytes, workspace: str | None = None) -> None:
        """Keep a body; raises ValidationError when the digest is not the body's."""
        check_digest(digest, body)
        timeout_s = STATEMENT_S + len(body) / BODY_BYTES_PER_S_MIN
        owner = None if workspace is None else projection.storable(workspace)
        await self._reader.fetch(QUERIES["put_blob"], digest, body, owner, timeout_s=timeout_s)

    async def blobs_of(self, workspace: str, digests: Sequence[str]) -> set[str]:
        """Tell which of these bodies were put as the workspace's own."""
        rows = await self._reader.fetch(
            QUERIES["blobs_of"], projection.storable(workspace), list(map(projection.storable, digests))
        )
        return {row["digest"] for row in rows}

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Give the bodies that are known."""
        storable = [projection.storable(digest) for digest in digests]  # a digest may be anything that somebody named
        rows = await self._reader.fetch(QUERIES["get_blobs"], storable, timeout_s=STATEMENT_S * 6)
        return {row["digest"]: row["body"] for row in rows}

    async def put_lines(self, lines: Sequence[Line]) -> int:
        """Keep lines, unique by attempt and sequence; tells how many were new."""
        columns = [
            [projection.storable(value) if isinstance(value, str) else value for value in column]
            for column in zip(
                *(
                    (
                        line.run_id,
                        line.attempt_id,
                        line.sequence,
                        line.step,
                        line.at,
                        line.text,
                        line.workspace,
                        line.index,
                        line.stream,
                        line.level,
                    )
                    for line in lines
                ),
                strict=True,
            )
        ]
        return int(await self._reader.value(QUERIES["keep_lines"], *columns)) if columns else 0

    async def read_lines(self, run_id: str, after: int = 0, limit: int = 1_000) -> list[KeptLine]:
        """Read a run's lines after a `KeptLine.id`."""
        rows = await self._reader.fetch(QUERIES["read_lines"], projection.storable(run_id), after, limit)
        return [KeptLine(row["id"], Line(**{name: row[name] for name in row.keys() if name != "id"})) for row in rows]  # noqa: SIM118  (a driver's record iterates over values)

    # readers

    async def read(self, log: str, partition: int, after: int, limit: int) -> list[Recorded]:
        """Read a partition's events after a position."""
        return [Recorded(*row) for row in await self._reader.fetch(QUERIES["read"], log, partition, after, limit)]

    async def links(self, log: str, partition: int, after: int, limit: int) -> list[Link]:
        """Read a partition's links that begin after a position."""
        return [Link(*row) for row in await self._reader.fetch(QUERIES["links"], log, partition, after, limit)]

    async def stream(self, log: str, stream_id: str, after_version: int = 0, limit: int = 1_000) -> list[Recorded]:
        """Read one stream's events after a version."""
        month = _month(stream_id)
        if month is None:
            return []
        arguments = (month, stream_id, after_version, log, limit)
        return [Recorded(*row) for row in await self._reader.fetch(QUERIES["stream"], *arguments)]

    async def gone(self, stream_id: str, workspace: str) -> Recorded | Away | None:
        """Tell why a workspace's run or approval has no row: the event that purged it, or that its month is away.

        None: it never was, as far as is known here.
        """
        month = _month(stream_id) if stream_id.rpartition("_")[0] in MAY_BE_GONE else None
        if month is None:
            return None
        if purged := await self._reader.fetch(QUERIES["purged"], month, stream_id, LOG_RUNS, PURGED):
            return Recorded(*purged[0])
        away = await self._reader.fetch(QUERIES["whereabouts"], month, stream_id, projection.storable(workspace))
        if not away or away[0]["fate"] == "never":
            return None
        told = dict(away[0])
        fate = told.pop("fate")
        return Away(Month(**told), fate)

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
        sql, values = rows_query(table, where, order=order, descending=descending, after=after, limit=limit)
        return [projection.shown(table, tuple(row)) for row in await self._reader.fetch(sql, *values)]

    async def count(self, table: str, where: Mapping[str, Any]) -> int:
        """Count projection rows; as ReadLog says."""
        sql, values = count_query(table, where)
        return int((await self._reader.fetch(sql, *values))[0][0])

    async def partitions(self) -> list[dict[str, Any]]:
        """Read who holds which partition until when."""
        return [dict(row) for row in await self._reader.fetch(QUERIES["partitions"])]

    async def parked(self, limit: int = 100, wanted: Sequence[int] | None = None) -> list[Parked]:
        """Read what was parked, the newest first."""
        rows = await self._reader.fetch(QUERIES["parked"], limit, None if wanted is None else list(wanted))
        return [Parked(**dict(row)) for row in rows]

    async def dismiss_parked(self, parked: Sequence[int]) -> list[int]:
        """Let parked messages go that somebody has seen to."""
        rows = await self._owner.fetch(QUERIES["dismiss_parked"], list(parked))
        return sorted(row["id"] for row in rows)

    def verify(self) -> AsyncIterator[Break | tuple[str, int, int]]:
        """Walk every chain; where a month is away, its leaves in the chain stand for its events."""
        return verify(self, self.archived)

    async def archived(self, log: str, partition: int) -> list[tuple[int, int]]:
        """Give the positions of a partition whose events are away, as ranges in order, both ends included."""
        rows = await self._reader.fetch(QUERIES["archived"], log, partition)
        return [(row["first"], row["last"]) for row in rows]

    # for a rebuild

    async def streams(self, log: str, partition: int) -> list[str]:
        """Name every stream of a partition."""
        rows = await self._reader.fetch(QUERIES["streams"], log, partition, timeout_s=STATEMENT_S * 6)
        return [row["stream_id"] for row in rows]

    async def row_streams(self, table: str) -> list[str]:
        """Name every stream that a table's rows say they are of."""
        sql = QUERIES["row_streams"].format(stream=projection.stream_column(table), table=table)
        return sorted(row[0] for row in await self._reader.fetch(sql, timeout_s=STATEMENT_S * 6))

    async def seize(self, owner: str, log: str, partition: int, format: int, *, lease_s: float) -> Tenure:
        """Take a partition from whoever holds it, for a rebuild; what is being written there is waited for."""
        try:
            rows = await self._owner.fetch(QUERIES["seize"], owner, log, partition, format, int(lease_s * 1000))
        except UnavailableError as problem:
            message = f"{log}/{partition} could not be taken from its owner: {problem.message}; {STOP_SERVICES}"
            raise UnavailableError(message, details=problem.details) from problem
        if not rows:
            raise DatabaseVersionError(NEWER.format(partition=partition, log=log))
        return Tenure(log, partition, *rows[0])

    async def standing(self, table: str, streams: Sequence[str]) -> list[projection.Values]:
        """Read all rows of streams as they are kept."""
        sql, values = standing_query(table, streams)
        return [tuple(row) for row in await self._reader.fetch(sql, *values, timeout_s=STATEMENT_S * 6)]

    async def drop_rows(self, tenure: Tenure, table: str, keys: Sequence[projection.Values]) -> None:
        """Take rows away that no event accounts for, while the tenure stands."""
        if keys:
            sql, columns = drop_query(table, keys)
            await self._owner.fetch(sql, tenure.log, tenure.partition, tenure.epoch, *columns)

    async def keep_house(self) -> None:
        """Attach months ahead, and forget old answers and owners. Beside the heartbeat, which must never wait for it."""
        await self._reader.fetch(QUERIES["attach_months"])
        now = int(await self._reader.value(QUERIES["now"]))
        expired = (now - int(IDEMPOTENCY_KEPT_S * 1000), FORGET_ROWS_MAX)
        while await self._reader.value(QUERIES["forget_answers"], *expired) == FORGET_ROWS_MAX:
            continue
        await self._reader.fetch(QUERIES["forget_owners"], now - int(OWNERS_KEPT_S * 1000))

    # inside

    async def _append(self, arguments: Arguments) -> list[bool | None]:
        timeout_s = STATEMENT_S + arguments.body_bytes / BODY_BYTES_PER_S_MIN
        good = await self._owner.value(QUERIES[arguments.query], *arguments.values, timeout_s=timeout_s)
        return good if isinstance(good, list) else [good]


def _month(stream_id: str) -> int | None:
    """Give the month of a stream; None for what is no id, of which no event can exist."""
    try:
        return ids.month_of(stream_id)
    except ValidationError:
        return None
