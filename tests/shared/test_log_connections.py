"""Connections to Postgres are shared, kept, and replaced when they break."""

import asyncio

import asyncpg
import pytest

from headrace.errors import UnavailableError
from headrace.log.connections import CONNECT_S, STATEMENTS_KEPT_MAX, Connections
from headrace.log.port import DataError

PID = "select pg_backend_pid()"
COUNT = "select count(*) from pg_stat_activity where application_name = 'headrace' and datname = current_database()"


async def has(database: asyncpg.Connection, count: int) -> None:
    """Wait until the database has so many of our connections."""
    async with asyncio.timeout(20):
        while await database.fetchval(COUNT) != count:  # noqa: ASYNC110  (a database's backends have no event to wait for)
            await asyncio.sleep(0.02)


async def test_statements_one_after_the_other_share_a_connection_and_more_at_once_wait_for_one(
    postgres_url: str, database: asyncpg.Connection
) -> None:
    connections = Connections(postgres_url, 2)
    assert len({await connections.value(PID) for _ in range(5)}) == 1
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(connections.value("select pg_backend_pid() from pg_sleep(0.02)")) for _ in range(9)]
    assert len({task.result() for task in asked}) == 2
    await has(database, 2)
    await connections.close()
    await has(database, 0)


async def test_what_the_database_refuses_costs_no_connection(postgres_url: str) -> None:
    connections = Connections(postgres_url, 1)
    pid = await connections.value(PID)
    with pytest.raises(DataError):
        await connections.value("select 1 / 0")
    with pytest.raises(DataError):
        await connections.value("select $1::int", "no number")
    assert await connections.value(PID) == pid
    await connections.close()


async def test_a_statement_that_was_given_up_keeps_nobody_waiting(postgres_url: str) -> None:
    connections = Connections(postgres_url, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await connections.value("select pg_sleep(9)")
    async with asyncio.timeout(5):
        assert await connections.value("select 1") == 1
    with pytest.raises(UnavailableError):
        await connections.value("select pg_sleep(9)", timeout_s=0.1)
    async with asyncio.timeout(5):
        assert await connections.value("select 1") == 1
    await connections.close()


async def test_a_connection_that_died_is_replaced(postgres_url: str, database: asyncpg.Connection) -> None:
    connections = Connections(postgres_url, 1)
    pid = await connections.value(PID)
    await database.fetchval("select pg_terminate_backend($1)", pid)
    await has(database, 0)
    found = None
    for _ in range(2):  # whoever meets the corpse first is told
        try:
            found = await connections.value(PID)
        except UnavailableError:
            continue
    assert found not in {None, pid}
    await connections.close()


async def test_a_statement_goes_on_when_a_migration_changes_what_it_gives(
    postgres_url: str, database: asyncpg.Connection
) -> None:
    connections = Connections(postgres_url, 1)
    pid = await connections.value(PID)
    assert await connections.fetch("select * from headrace.logs where name = $1", "nowhere") == []
    await database.execute("alter table headrace.logs add column more int default 7")
    rows = await connections.fetch("select * from headrace.logs where name = $1", "runs")
    assert [row["more"] for row in rows] == [7]
    assert await connections.value(PID) == pid
    await connections.close()


async def test_no_more_statements_stay_prepared_than_a_hundred(postgres_url: str) -> None:
    connections = Connections(postgres_url, 1)
    for number in range(STATEMENTS_KEPT_MAX + 20):
        assert await connections.value(f"select {number}") == number
    assert await connections.value("select count(*) from pg_prepared_statements") <= STATEMENTS_KEPT_MAX
    await connections.close()


async def test_what_is_long_unused_is_closed_and_opened_again(postgres_url: str, database: asyncpg.Connection) -> None:
    connections = Connections(postgres_url, 3, idle_s=0.1)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(connections.value("select pg_sleep(0.02)"))
    await has(database, 0)
    assert await connections.value("select 1") == 1
    await connections.close()


async def test_nothing_is_asked_any_more_once_they_are_closed(postgres_url: str) -> None:
    connections = Connections(postgres_url, 1)
    await connections.value("select 1")
    await connections.close()
    with pytest.raises(UnavailableError):
        await connections.value("select 1")
    async with asyncio.timeout(CONNECT_S / 2):
        await connections.close()  # again: there is nothing to wait for
