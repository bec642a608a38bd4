"""A restored copy: refused until it is adopted, and then it knows what it cannot know."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from headrace.clock import SystemClock
from headrace.dev.embedded import EmbeddedPostgres
from headrace.errors import ConflictError, DatabaseVersionError, UnavailableError
from headrace.log.adopt import adopt
from headrace.log.port import Batch, Break, Recorded
from headrace.log.postgres import PostgresLog
from headrace.log.queries import QUERIES
from headrace.log.rebuild import rebuild
from headrace.log.wire import append_arguments
from headrace.vocabulary import LOG_RUNS
from tests.planner.runs_kit import Sim
from tests.shared.log_runs_kit import FORMATS, LEASE_S, OWNER, READS, WRITES, events_of, run_at, write

CLOCK = SystemClock()
WAITS_FOR_A_LOCK = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.fixture
async def original(postgres_url: str) -> AsyncIterator[PostgresLog]:
    log = await PostgresLog.open(postgres_url, CLOCK)
    yield log
    await log.close()


async def copied(original: PostgresLog, url: str, server: EmbeddedPostgres) -> str:
    """Close the original and copy its database."""
    await original.close()
    admin = await asyncpg.connect(server.url_of("postgres"))
    name = url.rpartition("/")[2]
    await admin.execute(f"create database {name}_copy template {name}")
    await admin.close()
    return f"{url}_copy"


def claimed(partition: int = 3, number: int = 1) -> Sim:
    now = CLOCK.now_ms() - 5_000
    return run_at(now, partition, number, WRITES).create(authorized=True).report("one", 1).claim("two")


async def history(log: PostgresLog, sim: Sim) -> list[Recorded]:
    return await log.stream(LOG_RUNS, sim.id)


async def test_an_adopted_copy_gives_up_what_its_original_had_permitted_and_leaves_the_rest_as_it_was(
    original: PostgresLog, postgres_url: str, postgres_server: EmbeddedPostgres
) -> None:
    now = CLOCK.now_ms() - 5_000
    writing, reading = claimed(), run_at(now, 3, 2, READS).create().report("one", 1)
    beside = claimed(number=4)
    unclaimed = run_at(now, 4, 3, WRITES).create(authorized=True).report("one", 1)
    await write(original, writing, reading, unclaimed, beside)
    copy = await copied(original, postgres_url, postgres_server)
    with pytest.raises(DatabaseVersionError, match="headrace db adopt"):
        await PostgresLog.open(copy, CLOCK)
    done = await adopt(copy, CLOCK)
    assert done.given_up == {writing.id: 1, beside.id: 1}
    assert done.rebuilt.changed == 0
    assert done.positions == sum(len(sim.history) for sim in (writing, reading, unclaimed, beside))
    assert done.was == original.incarnation != done.incarnation
    log = await PostgresLog.open(copy, CLOCK)
    told = await history(log, writing)
    assert [each.version for each in told] == list(range(1, len(told) + 1))
    first = told[len(writing.history)]
    assert b"unknown" in first.data or first.type == "outcome.lost", "what became of the write is not known"
    assert len(await history(log, reading)) == len(reading.history)
    assert len(await history(log, unclaimed)) == len(unclaimed.history)
    assert [found async for found in log.verify() if isinstance(found, Break)] == []
    assert (await rebuild(log)).changed == 0
    await log.close()
    await original.close()


async def test_what_is_no_copy_is_not_adopted_unless_it_must_be(original: PostgresLog, postgres_url: str) -> None:
    sim = claimed()
    await write(original, sim)
    with pytest.raises(ConflictError, match="no copy"):
        await adopt(postgres_url, CLOCK)
    assert len(await history(original, sim)) == len(sim.history)
    before = {(row["log"], row["partition"]): row["epoch"] for row in await original.partitions()}
    done = await adopt(postgres_url, CLOCK, force=True)
    assert done.given_up == {sim.id: 1}
    for row in await original.partitions():
        assert (row["owner"], row["lease_until"]) == (None, 0)
        assert row["epoch"] > before[row["log"], row["partition"]]
    with pytest.raises(DatabaseVersionError, match="adopted"):
        await original.heartbeat("owner", {"runs": 1}, lease_s=30)
    again = await adopt(postgres_url, CLOCK, force=True)
    assert again.was == done.incarnation
    assert len({done.was, done.incarnation, again.incarnation}) == 3


@pytest.mark.parametrize("partition", [3, 5])
async def test_a_write_that_an_owner_permits_while_the_adoption_begins_is_given_up_too(
    original: PostgresLog, postgres_url: str, partition: int
) -> None:
    await write(original, run_at(CLOCK.now_ms() - 5_000, 3, 2, READS).create().report("one", 1))
    sim = claimed(partition)
    tenures = (await original.heartbeat(OWNER, FORMATS, lease_s=LEASE_S)).tenures
    held = next(one for one in tenures if (one.log, one.partition) == (LOG_RUNS, partition))
    appended = Batch(
        log=LOG_RUNS,
        partition=partition,
        epoch=held.epoch,
        expected_position=held.last_position,
        events=events_of(sim),
        rows=list(sim.room.rows(sim.run, None)),
        blobs=dict(sim.shelf.bodies),
    )
    arguments = append_arguments(original.incarnation, [appended])
    owner, looking = await asyncpg.connect(postgres_url), await asyncpg.connect(postgres_url)
    async with owner.transaction():
        assert await owner.fetchval(QUERIES[arguments.query], *arguments.values) == [True]
        adopting = asyncio.create_task(adopt(postgres_url, CLOCK, force=True))
        async with asyncio.timeout(20):
            while not await looking.fetchval(WAITS_FOR_A_LOCK):  # noqa: ASYNC110  (the server tells when it is asked)
                await asyncio.sleep(0.01)
    assert (await adopting).given_up == {sim.id: 1}
    await owner.close()
    await looking.close()


async def test_a_partition_that_an_owner_does_not_let_go_of_is_named_with_what_to_do(
    original: PostgresLog, postgres_url: str
) -> None:
    owner = await asyncpg.connect(postgres_url)
    async with owner.transaction():
        await owner.execute("select 1 from headrace.partitions where log = 'runs' and partition = 5 for update")
        with pytest.raises(UnavailableError, match=r"runs/5 could not be taken from its owner: .*; stop the services"):
            await adopt(postgres_url, CLOCK, force=True)
    assert (await adopt(postgres_url, CLOCK, force=True)).given_up == {}
    await owner.close()


async def test_an_adoption_that_stopped_half_way_goes_on_and_gives_nothing_up_twice(
    original: PostgresLog, postgres_url: str, postgres_server: EmbeddedPostgres
) -> None:
    sims = [claimed(3, 1), claimed(4, 2)]
    await write(original, *sims)
    copy = await copied(original, postgres_url, postgres_server)
    connection = await asyncpg.connect(copy)
    await connection.execute("alter function headrace.adopt() rename to adopt_away")
    with pytest.raises(DatabaseVersionError):
        await adopt(copy, CLOCK)
    with pytest.raises(DatabaseVersionError, match="headrace db adopt"):
        await PostgresLog.open(copy, CLOCK)
    await connection.execute("alter function headrace.adopt_away() rename to adopt")
    assert (await adopt(copy, CLOCK)).given_up == {}, "the first attempt did that"
    log = await PostgresLog.open(copy, CLOCK)
    for sim in sims:
        added = (await history(log, sim))[len(sim.history) :]
        lost = [each for each in added if each.type in {"step.failed", "outcome.lost"}]
        assert len(lost) == 1
    await log.close()
    await connection.close()


async def test_a_copy_whose_chain_does_not_hold_is_not_adopted(
    original: PostgresLog, postgres_url: str, postgres_server: EmbeddedPostgres
) -> None:
    await write(original, claimed())
    copy = await copied(original, postgres_url, postgres_server)
    connection = await asyncpg.connect(copy)
    for child in await connection.fetch("select inhrelid::regclass::text from pg_inherits"):
        if child[0].startswith("headrace.events_2"):
            await connection.execute(f"alter table {child[0]} disable trigger all")
    await connection.execute("alter table headrace.events disable trigger all")
    await connection.execute("update headrace.events set workspace = 'another' where position = 2")
    with pytest.raises(ConflictError, match=r"runs/3 breaks at position 2"):
        await adopt(copy, CLOCK)
    with pytest.raises(DatabaseVersionError, match="headrace db adopt"):
        await PostgresLog.open(copy, CLOCK)
    await connection.close()
