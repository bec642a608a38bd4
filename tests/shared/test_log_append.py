"""The append of the database itself: its arguments, processes of before, and that it stays on its indexes."""

from itertools import pairwise
from typing import Any

import asyncpg

from headrace.clock import SystemClock, mint
from headrace.decider import AnyRow, Laid
from headrace.log.port import Batch, KeptAnswer, NewEvent
from headrace.log.postgres import PostgresLog
from headrace.log.tables import TABLES
from headrace.log.wire import SELDOM, many_arguments

CLOCK = SystemClock()
RUNS = TABLES["runs"]
ATTRIBUTES = """
select attname from pg_attribute where attrelid = ('headrace.' || $1)::regclass and attnum > 0 order by attnum
"""
SCANS = """
select relname, seq_scan, n_tup_upd, n_tup_hot_upd from pg_stat_user_tables
  where relname in ('runs', 'partitions', 'chain') or relname ~ '^events_\\d'
"""

BEFORE_KEYS = f"select headrace.append({', '.join(f'${n}' for n in range(1, 13))})"
"""The call that processes made that knew no refusal for a key."""


def run_row(run: str, version: int) -> Laid:
    columns = {"id": run, "workspace": "default", "status": "running", "version": version, "detail": "{}"}
    return Laid("runs", tuple(columns.get(name) for name in RUNS.columns), RUNS.columns, stands=version > 1)


def moves(runs: list[str], version: int) -> Batch:
    """Give the append in which each run has its event of a version."""
    events = [NewEvent(run, version, "run.queued", 1, "default", CLOCK.now_ms(), b"{}", b"{}") for run in runs]
    before = (version - 1) * len(runs)
    rows: list[AnyRow] = [run_row(run, version) for run in runs]
    return Batch(log="runs", partition=0, epoch=1, expected_position=before, events=events, rows=rows)


async def test_what_is_sent_of_a_run_that_stands_is_what_its_table_says_moves(database: asyncpg.Connection) -> None:
    names = [row[0] for row in await database.fetch(ATTRIBUTES, "moved_run")]
    assert names == ["batch", *RUNS.key, *RUNS.moving]


async def test_appends_stay_on_their_indexes_and_runs_on_their_pages(
    postgres_url: str, database: asyncpg.Connection
) -> None:
    """Plans are made while tables are empty and kept: none may read a table that has grown since from end to end."""
    log = await PostgresLog.open(postgres_url, CLOCK)
    await log.heartbeat("owner", {"runs": 1}, lease_s=30)
    before = {row["relname"]: row for row in await database.fetch(SCANS)}
    runs = [mint(CLOCK, "run", 0) for _ in range(20)]
    for version in range(1, 13):
        await log.append_events([moves(runs, version)])
    await log.close()  # what a connection counted is known when it has ended
    assert await ended(database)
    after = {row["relname"]: row for row in await database.fetch(SCANS)}
    scans = {name: row["seq_scan"] - before[name]["seq_scan"] for name, row in after.items() if name != "partitions"}
    assert not any(scans.values()), scans
    assert after["runs"]["n_tup_upd"] == 11 * len(runs)
    assert after["runs"]["n_tup_hot_upd"] > 0.8 * after["runs"]["n_tup_upd"]


async def ended(database: asyncpg.Connection) -> bool:
    """Wait until the database has no client but this one."""
    others = "select pg_stat_clear_snapshot(), count(*) from pg_stat_activity where datname = current_database()"
    for _ in range(1_000):
        if (await database.fetchrow(others))[1] == 1:
            return True
    return False


async def test_a_process_of_before_appends_as_it_did(postgres_url: str, database: asyncpg.Connection) -> None:
    log = await PostgresLog.open(postgres_url, CLOCK)
    await log.heartbeat("owner", {"runs": 1}, lease_s=30)
    runs = [mint(CLOCK, "run", 0) for _ in range(2)]
    sent = [moves(runs, version) for version in (1, 2)]
    for one in sent:
        assert await database.fetchval(old_append(), *old_arguments(log.incarnation, one)) == [True]
    assert await database.fetchval(old_append(), *old_arguments(log.incarnation, sent[0])) == [False], "it is stale"
    recorded = await log.read("runs", 0, 0, 10)
    assert [(one.stream_id, one.version) for one in recorded] == [(run, version) for version in (1, 2) for run in runs]
    assert all(one.position + 1 == other.position for one, other in pairwise(recorded))
    assert (await log.row("runs", {"id": runs[0]}) or {})["version"] == 2
    assert ("runs", 0, 4) in [found async for found in log.verify()], "the chain holds"
    await log.close()


async def test_a_process_that_reads_keys_first_writes_over_what_is_kept_as_it_did(
    postgres_url: str, database: asyncpg.Connection
) -> None:
    log = await PostgresLog.open(postgres_url, CLOCK)
    await log.heartbeat("owner", {"runs": 1}, lease_s=30)
    for position, digest in enumerate(("sha256:1", "sha256:2")):
        run = mint(CLOCK, "run", 0)
        one = moves([run], 1)
        one.expected_position, one.answers = position, [KeptAnswer("k", digest, run, b"{}")]
        assert await database.fetchval(BEFORE_KEYS, *many_arguments(log.incarnation, [one]).values[:-1]) == [True]
        assert await log.answers([("runs", 0, "k")]) == {("runs", 0, "k"): one.answers[0]}
    await log.close()


def old_append() -> str:
    """Give the call that processes made before: an array a column of events, and two arrays a table."""
    return f"select headrace.append({', '.join(f'${n}' for n in range(1, 28 + 2 * len(SELDOM)))})"


def old_arguments(incarnation: str, one: Batch) -> list[Any]:
    most = many_arguments(incarnation, [one]).values
    rows = [row.values for row in one.rows if isinstance(row, Laid)]
    events = [list(column) for column in zip(*most[5], strict=True)]
    empty: list[Any] = []
    kinds = [[1] * len(rows), rows, empty, empty, *([empty, empty] * len(SELDOM))]
    return [*most[:5], *events, *([empty] * 5), empty, empty, *kinds]
