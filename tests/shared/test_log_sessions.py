"""An owner lives as long as the session that it beats on, where that can be told; else as long as its lease."""

import asyncio

import asyncpg
import pytest

from headrace.clock import SystemClock
from headrace.log.postgres import PostgresLog

RUNS = {"runs": 1}
LEASE_S = 30.0
DEADLINE_S = 20.0
POOLED = "select * from headrace.heartbeat('one', array['runs'], array[1], 30000, $1::int, true)"
OLDER = "select * from headrace.heartbeat('one', array['runs'], array[1], 30000)"
SESSIONS = "select owner from headrace.sessions order by 1"


async def ended(database: asyncpg.Connection, pid: int) -> None:
    """End a session and wait until it has."""
    await database.execute("select pg_terminate_backend($1)", pid)
    async with asyncio.timeout(DEADLINE_S):
        while await database.fetchval("select count(*) from pg_stat_activity where pid = $1", pid):  # noqa: ASYNC110  (no event tells of a backend's end)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("beat", [POOLED, OLDER])
async def test_of_a_pooler_s_sessions_and_of_older_processes_nothing_is_known_so_their_leases_run_out(
    log: PostgresLog, database: asyncpg.Connection, postgres_url: str, beat: str
) -> None:
    before = await PostgresLog.open(postgres_url, SystemClock())
    await before.heartbeat("one", RUNS, lease_s=LEASE_S)
    noted = await database.fetchval("select pid from headrace.sessions")
    other = await asyncpg.connect(postgres_url)
    pid = other.get_server_pid()
    assert len(await other.fetch(beat, *([pid + 1] if beat == POOLED else []))) == 1 + 8
    await ended(database, pid)
    await ended(database, noted)
    assert (await log.heartbeat("two", RUNS, lease_s=LEASE_S)).tenures == (), "nor of the session that it had before"
    await before.close()
    assert [row["owner"] for row in await database.fetch(SESSIONS)] == ["two"]


async def test_sessions_of_before_the_server_was_restarted_say_nothing(
    log: PostgresLog, database: asyncpg.Connection, postgres_url: str
) -> None:
    process = await PostgresLog.open(postgres_url, SystemClock())
    await process.heartbeat("one", RUNS, lease_s=LEASE_S)
    await database.execute("update headrace.sessions set server = server - interval '1 hour'")
    pid = await database.fetchval("select pid from headrace.sessions where owner = 'one'")
    await ended(database, pid)
    assert (await log.heartbeat("two", RUNS, lease_s=LEASE_S)).tenures == ()
    kept = "select relpersistence::text from pg_class where oid = 'headrace.sessions'::regclass"
    assert await database.fetchval(kept) == "u", "a crash of the server empties it"
    await process.close()


async def test_another_s_session_under_the_same_process_number_is_not_taken_for_one_s_own(
    log: PostgresLog, database: asyncpg.Connection
) -> None:
    await log.heartbeat("one", RUNS, lease_s=LEASE_S)
    await database.execute("update headrace.sessions set began = began - interval '1 second' where owner = 'one'")
    taken = await database.fetch(
        "select * from headrace.heartbeat('two', array['runs'], array[1], 30000, $1::int, true)",
        database.get_server_pid(),
    )
    assert len(taken) == 1 + 8


async def test_an_owner_that_leaves_takes_its_session_along(log: PostgresLog, database: asyncpg.Connection) -> None:
    held = (await log.heartbeat("one", RUNS, lease_s=LEASE_S)).tenures
    assert [row["owner"] for row in await database.fetch(SESSIONS)] == ["one"]
    await log.release("one", [(one.log, one.partition) for one in held])
    assert await database.fetch(SESSIONS) == []
    await log.heartbeat("one", RUNS, lease_s=LEASE_S)
    assert [row["owner"] for row in await database.fetch(SESSIONS)] == ["one"], "on the session that it had"


async def test_a_heartbeat_writes_no_row_of_a_partition_that_is_held_already(
    log: PostgresLog, database: asyncpg.Connection
) -> None:
    rows = "select log, partition, xmin::text, ctid::text from headrace.partitions order by 1, 2"
    await log.heartbeat("one", RUNS, lease_s=LEASE_S)
    before = await database.fetch(rows)
    await log.heartbeat("one", RUNS, lease_s=LEASE_S)
    assert await database.fetch(rows) == before


async def test_owners_are_forgotten_a_day_after_their_leases_ended_and_no_sooner(
    log: PostgresLog, database: asyncpg.Connection
) -> None:
    day_ms = 86_400_000
    for owner, ago_ms in (("gone", day_ms + 60_000), ("late", day_ms - 60_000), ("here", 0)):
        await log.heartbeat(owner, RUNS, lease_s=LEASE_S)
        await database.execute(
            "update headrace.owners set lease_until = lease_until - $2::int where owner = $1", owner, ago_ms
        )
    await log.keep_house()
    assert [row["owner"] for row in await database.fetch("select owner from headrace.owners order by 1")] == [
        "here",
        "late",
    ]
    assert [row["owner"] for row in await database.fetch(SESSIONS)] == ["here", "late"]
