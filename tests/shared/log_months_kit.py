"""What the suites over months share: runs of a month long ago and of now, and a look at everything."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from headrace.clock import SystemClock
from headrace.log import moving
from headrace.log.months import Months
from headrace.log.port import Break
from headrace.log.postgres import PostgresLog
from headrace.wire import Line
from tests.planner.runs_kit import Sim
from tests.shared.log_runs_kit import run_at, write

CLOCK = SystemClock()
LONG_AGO = 202_601
IN_IT = int(datetime(2026, 1, 15, tzinfo=UTC).timestamp() * 1000)
TABLES = ("events", "chain", "runs", "steps", "artifacts", "approvals", "blobs", "blob_workspaces", "partitions")
EPOCHS = ("epoch", "owner", "lease_until")
DEADLINE_S = 20.0
ALL = "select * from headrace.{}"
CLOSED = "202601 is closed"
PENDING = "select exists(select from pg_inherits where inhdetachpending)"
DETACHING = """
select exists(select from pg_stat_activity
  where query like '%detach partition%' and pid <> pg_backend_pid() and state = 'active')
"""


def done(at: int, number: int, partition: int = 3) -> Sim:
    return run_at(at, partition, number).create().report("one", number).report("two", number)


async def mixed(log: PostgresLog) -> tuple[list[Sim], list[Sim]]:
    """Write finished runs of a month long ago, and of now, by turns into two partitions; two of now begin each."""
    now = CLOCK.now_ms() - 60_000
    first = [done(now - 1_000, 90 + number, 3 + number % 2) for number in range(4)]
    await write(log, *first)
    old = [done(IN_IT + number, number, 3 + number % 2) for number in range(6)]
    new = [done(now + number, 100 + number, 3 + number % 2) for number in range(6)]
    for one, other in zip(old, new, strict=True):
        await write(log, one, other)
    await log.put_lines([
        Line(run_id=old[0].id, attempt_id="att_1", step="one", sequence=n, at=IN_IT, text=f"line {n}", workspace="default")
        for n in range(3)
    ])  # fmt: skip
    return old, [*first, *new]


async def everything(database: asyncpg.Connection) -> dict[str, list[Any]]:
    """Read all there is, but who holds what, and the ids of lines."""
    found = {table: sorted(map(_row, await database.fetch(ALL.format(table)))) for table in TABLES}
    found["lines"] = [
        _row(row) for row in await database.fetch("select attempt_id, sequence, text from headrace.lines order by id")
    ]
    return found


def _row(row: Any) -> str:
    return repr({name: value for name, value in dict(row).items() if name not in EPOCHS})


async def breaks(log: PostgresLog) -> list[Break]:
    return [found async for found in log.verify() if isinstance(found, Break)]


async def archived(url: str, path: Path, month: int = LONG_AGO) -> None:
    async with Months.keeping(url) as months:
        assert await months.detach(month) == []
        await moving.archive(months, month, path)
