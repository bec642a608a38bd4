"""Months of the log: which could leave it, what keeps one there, and how one leaves.

A month is open, then `closed` (nothing more gets in, and its positions are written down), `detached` (its table stands
beside the log), `dropped` (only an archive has it), and `restored` when somebody brought it back. Each step is safe to
repeat, so whoever dies in between is followed by somebody who goes on. No step locks more than the month's own table,
and that only for a moment: appends to other months never wait.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import batched
from typing import Any, Final, Literal, Self

import asyncpg
import msgspec

from headrace import ids
from headrace.errors import ConflictError, ValidationError
from headrace.log import rows as projection
from headrace.log.connections import translated
from headrace.log.migrate import CONNECT_S, inspect
from headrace.log.queries import QUERIES
from headrace.log.tables import MAIN, TABLES
from headrace.vocabulary import LOG_APPROVALS, LOG_FLOW, LOG_RUNS, RUN_FINAL, ApprovalStatus

TIMELESS: Final = 197001
"""The month of streams that never end."""
KEEP_S: Final = 3_600.0
"""The longest that one statement of a keeper may take: reading a month whole, or waiting for those who read the log."""
LOCK_MS_MAX: Final = 2_000
PATIENCE_S: Final = 20.0
"""How long a person's command waits for another that moves months."""
STRAGGLERS_MAX: Final = 20
ROWS_A_STEP: Final = 2_000
COLLECTED_AFTER_S: Final = 86_400
"""How long after it was last put a purged run's body may go: by then whoever put it again has said so in an event."""
OVER: Final[dict[str, tuple[str, frozenset[str]]]] = {
    LOG_RUNS: (ids.RUN, frozenset(map(str, RUN_FINAL))),
    LOG_APPROVALS: (ids.APPROVAL, frozenset(str(one) for one in ApprovalStatus) - {str(ApprovalStatus.PENDING)}),
    LOG_FLOW: (ids.FLOW, frozenset()),
}
"""Logs whose streams end: the prefix of their ids, and the statuses in which one is over (keys have none: see `unrested`)."""
SNAPSHOTS: Final = "snapshots"
LINES: Final = "lines"


class Straggler(msgspec.Struct, frozen=True):
    """A stream that holds its month in the log, and its status."""

    month: int
    log: str
    stream_id: str
    status: str | None = None


class Month(msgspec.Struct, frozen=True):
    """A month and where it is. `state` None: open; `stands`: its table is in the database; counts once it was closed."""

    month: int
    state: str | None = None
    at: int | None = None
    streams: int | None = None
    events: int | None = None
    archive: str | None = None
    stands: bool = False
    attached: bool = False
    pending: bool = False


class Away(msgspec.Struct, frozen=True):
    """What became of a stream whose month is away. `fate`: away with it, or purged before; None: nobody can tell."""

    month: Month
    fate: Literal["away", "purged"] | None


def parse(text: str) -> int:
    """Read `2026-01` as 202601; raises ValidationError."""
    year, dash, number = text.partition("-")
    if not (dash and year.isdigit() and len(year) == len("2026") and number.isdigit() and 1 <= int(number) <= 12):  # noqa: PLR2004  (months of a year)
        message = f"{text!r} is no month: give one like 2026-01"
        raise ValidationError(message)
    return int(year) * 100 + int(number)


def before(now_ms: int, months: int) -> int:
    """Give the month that lies so many whole months before the one of a time."""
    at = datetime.fromtimestamp(now_ms / 1000, UTC)
    count = at.year * 12 + at.month - 1 - months
    return count // 12 * 100 + count % 12 + 1


def not_so(known: Month) -> str:
    """Say why a month is not brought back in the way that was asked for, and what does."""
    month = ids.month_text(known.month)
    match known.state:
        case "detached":
            return f"the month {month} was detached and not archived: `headrace db restore {month}` puts it back"
        case "dropped":
            return f"the month {month} was archived: give its file, headrace-{month}.zip unless it was named otherwise"
        case "closed":
            return f"the month {month} is about to leave, and nothing of it is away yet: `headrace db months`"
        case _:
            return f"the month {month} is in the log: there is nothing to bring back"


def start_ms(month: int) -> int:
    """Give when a month begins, in milliseconds since 1970."""
    return int(datetime(month // 100, month % 100, 1, tzinfo=UTC).timestamp() * 1000)


def between(prefix: str, month: int) -> tuple[str, str]:
    """Give the ids between which all of a month lie: from the first to just below the second."""
    first, after = (start_ms(each) << 80 for each in (month, month + (1 if month % 100 < 12 else 89)))  # noqa: PLR2004  (December)
    return ids.text(prefix, first), ids.text(prefix, after)


class Months:
    """The months of one database, over a connection of their own. Make one by `keeping` or `looking`."""

    def __init__(self, connection: asyncpg.Connection, incarnation: str) -> None:
        self.connection = connection
        self.incarnation = incarnation

    @classmethod
    @asynccontextmanager
    async def looking(cls, url: str) -> AsyncIterator[Self]:
        """Only look; raises UnavailableError, DatabaseVersionError."""
        with translated():
            connection = await asyncpg.connect(url, timeout=CONNECT_S, command_timeout=KEEP_S)
            try:
                yield cls(connection, await inspect(connection))
            finally:
                await connection.close()

    @classmethod
    @asynccontextmanager
    async def keeping(cls, url: str, *, wait_s: float = PATIENCE_S) -> AsyncIterator[Self]:
        """Look after months, one process at a time; raises ConflictError when another does for so long, and as `looking`."""
        async with cls.looking(url) as months:
            try:
                await months.set_lock_timeout(max(1, int(wait_s * 1000)))
                await months.connection.execute(QUERIES["keep_alone"])
            except asyncpg.LockNotAvailableError as problem:
                message = "another process moves months of this database now; try again when it is done"
                raise ConflictError(message) from problem
            await months.set_lock_timeout(LOCK_MS_MAX)
            yield months

    async def set_lock_timeout(self, milliseconds: int) -> None:
        """Say how long statements of this connection wait for locks; 0: as long as it takes."""
        await self.connection.execute(QUERIES["keeper_lock_timeout"].format(milliseconds=milliseconds))

    async def all(self) -> list[Month]:
        """Give every month, the oldest first; the timeless one first of all."""
        return [Month(**dict(row)) for row in await self.connection.fetch(QUERIES["months"])]

    async def one(self, month: int) -> Month:
        """Give a month; raises ValidationError when there is none such, or it can never leave."""
        found = next((each for each in await self.all() if each.month == month), None)
        if found is None or month == TIMELESS:
            message = f"the log has no month {ids.month_text(month)} that could leave it"
            raise ValidationError(message)
        return found

    async def now(self) -> int:
        """Give the database's time."""
        return int(await self.connection.fetchval(QUERIES["now"]))

    async def stragglers(self, month: int, limit: int = STRAGGLERS_MAX) -> list[Straggler]:
        """Name streams that hold a month in the log."""
        found: list[Straggler] = []
        for log in [str(row["name"]) for row in await self.connection.fetch(QUERIES["logs"])]:
            if log not in OVER:
                row = await self.connection.fetchrow(QUERIES["endless"].format(month=month), log)
                found += [Straggler(month, log, row["stream_id"])] if row else []
                continue
            prefix, final = OVER[log]
            sql = QUERIES["unfinished" if final else "unrested"].format(table=MAIN[log])
            rows = await self.connection.fetch(sql, *between(prefix, month), *([sorted(final)] if final else []), limit)
            found += [Straggler(month, log, row["stream_id"], row["status"]) for row in rows]
        return found[:limit]

    async def detach(self, month: int) -> list[Straggler]:
        """Take a month out of the log, its table beside it; gives the streams that hold it there, none when it left.

        Its projection rows and snapshots go: what remains is exactly what the events in the log make. What its runs
        printed goes with the table, into the archive.
        """
        known = await self.one(month)
        if known.stands and known.state != "detached":
            held = await self._close(known)
            if held:
                return held
            await self._forget_rows(month)
            await self._part(known)
            await self.connection.execute(QUERIES["month_is"], month, "detached", None)
        return []

    async def reattach(self, month: int) -> None:
        """Put a detached month's table back into the log; its rows are to be rebuilt. Raises ConflictError."""
        known = await self.one(month)
        if await self.lacks_rows(known):
            return  # who put it back died before its rows were made
        if known.state != "detached" or not known.stands or known.attached:
            raise ConflictError(not_so(known))
        async with self.connection.transaction():
            await self.connection.execute(QUERIES["reattach_month"], month)

    async def lacks_rows(self, known: Month) -> bool:
        """Tell whether a month was brought back, but not the rows of its streams."""
        return known.state == "restored" and bool(await self._without_rows(known.month))

    async def _close(self, known: Month) -> list[Straggler]:
        """Close a month if nothing holds it; looked at again once nothing can get in any more, then its places noted."""
        month = known.month
        if known.state == "closed" and known.events:
            return []  # it was looked at, noted, and perhaps some rows are gone
        if known.state != "closed":
            held = await self.stragglers(month)
            if held:
                return held
            await self.connection.execute(QUERIES["uncount_month"], month)
            await self.connection.execute(QUERIES["close_month"], month)
        held = await self.stragglers(month) or await self._without_rows(month)
        if not held:
            await self.connection.execute(QUERIES["note_month"], month)
        elif known.state == "restored" or known.events is not None:  # none were counted, and yet it was closed before
            await self._open_again(known)
        else:
            await self.connection.execute(QUERIES["open_month"], month)
        return held

    async def _open_again(self, known: Month) -> None:
        """Open a month that somebody brought back, and that stays until somebody archives it again."""
        async with self.connection.transaction():
            await self.connection.execute(QUERIES["let_into_month"].format(month=known.month))
            await self.connection.execute(QUERIES["month_is"], known.month, "restored", None)
            await self.connection.execute(QUERIES["count_month"], known.month, known.events, known.streams)

    async def _without_rows(self, month: int) -> list[Straggler]:
        """See that every stream has its row: only of those it is known that they are over."""
        counts = await self.connection.fetch(QUERIES["streams_of_month"].format(month=month))
        for row in counts:
            log = str(row["log"])
            known = await self.connection.fetchval(
                QUERIES["rows_between"].format(table=MAIN[log]), *between(OVER[log][0], month)
            )
            if known != row["streams"]:
                count = abs(row["streams"] - known)
                return [Straggler(month, log, f"{count} streams", "rows do not fit: run `headrace db rebuild`")]
        return []

    async def _part(self, known: Month) -> None:
        """Detach the table, going on with a detaching that was interrupted; appends go on meanwhile.

        It waits for those who read the log right now (a `pg_dump`, say), holding no lock that others wait for.
        """
        await self.set_lock_timeout(0)
        if known.pending:
            await self.connection.execute(QUERIES["finish_detaching"].format(month=known.month))
        elif known.attached:
            await self.connection.execute(QUERIES["detach_month"].format(month=known.month))
        await self.set_lock_timeout(LOCK_MS_MAX)

    async def forget_archived(self) -> None:
        """Drop what the runs of archived months printed: who dropped a month's table may have died before that."""
        for known in await self.all():
            if known.state == "dropped":
                await self.forget_lines(known.month)

    async def forget_lines(self, month: int) -> None:
        """Drop what the runs of a month printed: an archive has it."""
        await self._forget(LINES, "run_id", ids.RUN, month)

    async def _forget_rows(self, month: int) -> None:
        for name, table in TABLES.items():
            if table.log in OVER:
                await self._forget(name, projection.stream_column(name), OVER[table.log][0], month)
        for prefix, _ in OVER.values():
            await self._forget(SNAPSHOTS, "stream_id", prefix, month)

    async def _forget(self, table: str, column: str, prefix: str, month: int) -> None:
        """Drop the rows of streams that were created in a month, some at a time."""
        sql, ends = QUERIES["forget_rows"].format(table=table, stream=column), between(prefix, month)
        while await self._count(sql, *ends, ROWS_A_STEP) == ROWS_A_STEP:
            continue

    async def _count(self, sql: str, *values: Any) -> int:
        """Run a statement and tell how many rows it touched."""
        status = str(await self.connection.execute(sql, *values))
        return int(status.rpartition(" ")[2])

    # bodies

    async def collect(self) -> tuple[int, int]:
        """Collect bodies that are older than every month in the database and that no event names; gives count and bytes.

        Whatever a living run needs was put since its month began, or is named by an event that stands.
        """
        standing = [one for one in await self.all() if one.stands]
        oldest = min((one.month for one in standing if one.month != TIMELESS), default=None)
        if oldest is None:
            return 0, 0
        cutoff = start_ms(oldest)
        await self.connection.execute(QUERIES["clear_suspects"])
        await self.connection.execute(QUERIES["suspect_blobs"], cutoff)
        for one in standing:
            await self._acquit(one.month)
        return await self._collect_suspects(cutoff)

    async def collect_purged(self) -> tuple[int, int]:
        """Collect bodies that purged runs name and that no event of anything else names; gives count and bytes.

        Not their plans, nor what was put within COLLECTED_AFTER_S: somebody may have put it again and not said so yet.
        """
        standing = [one.month for one in await self.all() if one.stands]
        cutoff = await self.now() - COLLECTED_AFTER_S * 1_000
        purged = {month: await self._purged(month) for month in standing}
        await self.connection.execute(QUERIES["clear_suspects"])
        for month, streams in purged.items():
            for some in batched(streams, ROWS_A_STEP):
                await self.connection.execute(QUERIES["suspect_purged"].format(month=month), some, cutoff)
        for month, streams in purged.items():
            for some in batched(streams, ROWS_A_STEP):
                await self.connection.execute(QUERIES["acquit_plans"].format(month=month), some)
            if await self.connection.fetchval(QUERIES["suspects_left"]):
                await self._acquit(month, streams)
        return await self._collect_suspects(cutoff)

    async def _purged(self, month: int) -> list[str]:
        rows = await self.connection.fetch(QUERIES["purged_of_month"].format(month=month))
        return [str(row["stream_id"]) for row in rows]

    async def _collect_suspects(self, cutoff: int) -> tuple[int, int]:
        count = size = 0
        while await self.connection.fetchval(QUERIES["suspects_left"]):
            gone = await self.connection.fetch(QUERIES["collect_blobs"], cutoff, ROWS_A_STEP)
            count, size = count + len(gone), size + sum(row["size"] for row in gone)
        return count, size

    async def _acquit(self, month: int, without: Sequence[str] = ()) -> None:
        """Take the bodies that a month's events name off the list, some events at a time; `without` those of streams."""
        for reach in await self.connection.fetch(QUERIES["reach_of_month"].format(month=month)):
            for first in range(reach["first"], reach["last"] + 1, ROWS_A_STEP):
                last = first + ROWS_A_STEP - 1
                sql = QUERIES["acquit_blobs"].format(month=month)
                await self.connection.execute(sql, reach["log"], reach["partition"], first, last, list(without))


def named(stragglers: Sequence[Straggler]) -> str:
    """Write stragglers as one text."""
    return ", ".join(f"{each.stream_id} ({each.status})" if each.status else each.stream_id for each in stragglers)
