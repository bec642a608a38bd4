"""Months leave the log on their own: nothing waits for it, and what holds one is named."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from headrace import codec, ids
from headrace.errors import ConflictError, ValidationError
from headrace.ids import month_text
from headrace.log import moving
from headrace.log.months import Months, before, between, parse
from headrace.log.port import Batch, DataError, NewEvent
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import rebuild
from headrace.log.retention import Keeper, held
from headrace.vocabulary import LOG_RUNS
from tests.shared.log_months_kit import (
    CLOCK,
    CLOSED,
    DEADLINE_S,
    DETACHING,
    IN_IT,
    LONG_AGO,
    PENDING,
    archived,
    breaks,
    done,
    everything,
    mixed,
)
from tests.shared.log_runs_kit import FORMATS, META, OWNER, WRITES, run_at, write


# --- what holds one ----------------------------------------------------------------------------------------------------
async def test_a_stream_that_is_not_over_holds_its_month_and_is_named(log: PostgresLog, postgres_url: str) -> None:
    going = run_at(IN_IT, 3, 1).create().report("one", 1)
    await write(log, done(IN_IT, 2), going)
    async with Months.keeping(postgres_url) as months:
        (straggler,) = await months.detach(LONG_AGO)
    assert (straggler.stream_id, straggler.status) == (going.id, "running")
    assert [each.stream_id for each in await held(postgres_url, 3)] == [going.id]
    assert await held(postgres_url, 0) == []
    assert await Keeper(postgres_url, CLOCK, 3).look() == []
    assert len(await log.stream(LOG_RUNS, going.id)) == len(going.history)
    late = NewEvent(going.id, len(going.history) + 1, "run.started", 1, "default", CLOCK.now_ms(), b"{}", META)
    assert not (await log.append_events([await batch(log, late)])).stale, "the month is open as it was"


async def test_a_purged_run_holds_no_month(log: PostgresLog, postgres_url: str, database: asyncpg.Connection) -> None:
    kept, purged = done(IN_IT, 1), done(IN_IT, 2)
    await write(log, kept, purged)
    last = NewEvent(purged.id, len(purged.history) + 1, "run.purged", 1, "default", CLOCK.now_ms(), b"{}", META)
    await log.append_events([await batch(log, last)])
    await database.execute("delete from headrace.runs where id = $1", purged.id)
    async with Months.keeping(postgres_url) as months:
        assert await months.detach(LONG_AGO) == []


async def test_a_stream_without_its_row_holds_its_month(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection
) -> None:
    sim = done(IN_IT, 1)
    await write(log, sim)
    await database.execute("delete from headrace.runs")
    async with Months.keeping(postgres_url) as months:
        (said,) = await months.detach(LONG_AGO)
        assert (await months.one(LONG_AGO)).state is None, "it was closed for the last look, and is open again"
    assert "db rebuild" in str(said.status)
    late = NewEvent(sim.id, len(sim.history) + 1, "attempt.late", 1, "default", CLOCK.now_ms(), b"{}", META)
    assert not (await log.append_events([await batch(log, late)])).stale


async def test_a_stream_of_which_nobody_can_tell_when_it_is_over_holds_its_month(
    log: PostgresLog, postgres_url: str
) -> None:
    await write(log, done(IN_IT, 1))
    held_by = next(one for one in (await log.heartbeat(OWNER, FORMATS, lease_s=60)).tenures if one.log == "catalogue")
    stream_id = ids.make("wfl", IN_IT, b"0123456789", 0)
    event = NewEvent(stream_id, 1, "workflow.applied", 1, "default", CLOCK.now_ms(), b"{}", META)
    await log.append_events(
        [Batch(log="catalogue", partition=0, epoch=held_by.epoch, expected_position=0, events=[event])]
    )
    async with Months.keeping(postgres_url) as months:
        assert [each.stream_id for each in await months.detach(LONG_AGO)] == [stream_id]


async def test_as_many_whole_months_are_kept_as_was_said(log: PostgresLog, postgres_url: str) -> None:
    await write(log, done(IN_IT, 1))
    now = datetime.fromtimestamp(CLOCK.now_ms() / 1000, UTC)
    whole = (now.year - 2026) * 12 + now.month - 1
    assert await Keeper(postgres_url, CLOCK, whole).look() == []
    assert await Keeper(postgres_url, CLOCK, whole - 1).look() == [LONG_AGO]


async def batch(log: PostgresLog, event: NewEvent) -> Batch:
    holdings = await log.heartbeat(OWNER, FORMATS, lease_s=60)
    at = next(one for one in holdings.tenures if (one.log, one.partition) == (LOG_RUNS, 3))
    return Batch(log=LOG_RUNS, partition=3, epoch=at.epoch, expected_position=at.last_position, events=[event])


async def test_nothing_more_gets_into_a_month_that_left(log: PostgresLog, postgres_url: str, tmp_path: Path) -> None:
    sim = done(IN_IT, 1)
    await write(log, sim)
    late = NewEvent(sim.id, len(sim.history) + 1, "attempt.late", 1, "default", CLOCK.now_ms(), b"{}", META)
    anew = NewEvent(
        ids.make("run", IN_IT, b"0123456789", 3), 1, "run.queued", 1, "default", CLOCK.now_ms(), b"{}", META
    )
    async with Months.keeping(postgres_url) as months:
        await months.connection.execute("select headrace.close_month(202601)")
        for event in (late, anew):
            with pytest.raises(DataError, match=CLOSED):
                await log.append_events([await batch(log, event)])
        assert await months.detach(LONG_AGO) == []
        for event in (late, anew):
            with pytest.raises(DataError, match=CLOSED):
                await log.append_events([await batch(log, event)])
        await moving.archive(months, LONG_AGO, tmp_path / "january.zip")
        for event in (late, anew):
            with pytest.raises(DataError, match=CLOSED):
                await log.append_events([await batch(log, event)])
    await write(log, done(CLOCK.now_ms() - 1_000, 2))
    assert await breaks(log) == []


async def test_neither_this_month_nor_that_of_streams_that_never_end_leaves(
    log: PostgresLog, postgres_url: str
) -> None:
    async with Months.keeping(postgres_url) as months:
        with pytest.raises(ValidationError, match="could leave"):
            await months.detach(197001)
        current = before(await months.now(), 0)
    await write(log, done(CLOCK.now_ms() - 1_000, 1))
    assert await Keeper(postgres_url, CLOCK, 1).look() == []
    assert current in {one.month async for one in standing(postgres_url)}


async def standing(url: str) -> AsyncIterator[Any]:
    async with Months.looking(url) as months:
        for one in await months.all():
            if one.attached:
                yield one


async def seen(database: asyncpg.Connection, query: str, *, there: bool = True) -> None:
    """Look until something is seen in the database, or is gone."""
    async with asyncio.timeout(DEADLINE_S):
        while await database.fetchval(query) is not there:  # noqa: ASYNC110  (a database has no event to wait for)
            await asyncio.sleep(0.02)


# --- while others work -------------------------------------------------------------------------------------------------


async def test_appends_go_on_while_a_detaching_waits_for_a_long_reader(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection
) -> None:
    await mixed(log)
    reader = await asyncpg.connect(postgres_url)
    await reader.execute("begin isolation level repeatable read")
    await reader.fetch("select count(*) from headrace.events")  # as pg_dump, it holds every month
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        keeping = group.create_task(Keeper(postgres_url, CLOCK, 3).look())
        await seen(database, PENDING)
        for number in range(5):
            await write(log, done(CLOCK.now_ms() - 1_000 + number, 200 + number))
        assert await breaks(log) == []
        assert not keeping.done()
        await reader.execute("commit")
        assert await keeping == [LONG_AGO]
    await reader.close()
    assert await breaks(log) == []


async def test_a_detaching_that_was_cut_off_is_finished_by_the_next(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection, tmp_path: Path
) -> None:
    await mixed(log)
    before_it = await everything(database)
    reader = await asyncpg.connect(postgres_url)
    await reader.execute("begin isolation level repeatable read")
    await reader.fetch("select count(*) from headrace.events")
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        keeping = group.create_task(Keeper(postgres_url, CLOCK, 3).look())
        await seen(database, PENDING)
        keeping.cancel()
    assert await breaks(log) == []
    await reader.execute("rollback")
    await reader.close()
    await seen(database, DETACHING, there=False)
    assert await Keeper(postgres_url, CLOCK, 3).look() == [LONG_AGO]
    async with Months.keeping(postgres_url) as months:
        await moving.archive(months, LONG_AGO, tmp_path / "january.zip")
        await moving.restore(months, tmp_path / "january.zip")
    await rebuild(log, month=LONG_AGO)
    assert await everything(database) == before_it


async def test_a_month_ahead_is_attached_again_and_no_heartbeat_waits_for_that(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection
) -> None:
    ahead = f"headrace.events_{before(CLOCK.now_ms(), -2)}"
    await database.execute(f"drop table {ahead}")
    analyst = await asyncpg.connect(postgres_url)
    await analyst.execute("begin")
    await analyst.execute("lock table headrace.events in share update exclusive mode")  # as `analyze` does
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        house = group.create_task(log.keep_house())
        await seen(database, "select exists(select from pg_locks where not granted)")
        assert (await log.heartbeat(OWNER, FORMATS, lease_s=60)).tenures
        assert not house.done()
        await analyst.execute("rollback")
    await analyst.close()
    assert await database.fetchval("select to_regclass($1) is not null", ahead)


async def test_one_process_at_a_time_moves_months_and_one_brought_back_stays(
    log: PostgresLog, postgres_url: str
) -> None:
    await mixed(log)
    keeper = Keeper(postgres_url, CLOCK, 3)
    async with Months.keeping(postgres_url):
        with pytest.raises(ConflictError, match="another process"):
            await keeper.look()
    for wait_s in (0.0, 20.0):
        async with Months.keeping(postgres_url, wait_s=wait_s) as months:
            assert await months.connection.fetchval("show lock_timeout") == "2s", "appends wait behind it no longer"
    assert await Keeper(postgres_url, CLOCK, 0).look() == [], "0 keeps all"
    assert await keeper.look() == [LONG_AGO]
    assert await keeper.look() == []
    async with Months.keeping(postgres_url) as months:
        await months.reattach(LONG_AGO)
    assert await keeper.look() == [], "somebody wants it here"


@pytest.mark.parametrize("died", [False, True])
async def test_a_month_that_was_brought_back_and_is_held_is_still_one_that_was_brought_back(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection, tmp_path: Path, *, died: bool
) -> None:
    await mixed(log)
    file = tmp_path / "january.zip"
    await archived(postgres_url, file)
    async with Months.keeping(postgres_url) as months:
        await moving.restore(months, file)
        before_it = await months.one(LONG_AGO)
        if died:  # who closed it died before the second look
            await database.execute("update headrace.months set events = 0, streams = 0 where month = $1", LONG_AGO)
            await database.execute("select headrace.close_month($1)", LONG_AGO)
        (said,) = await months.detach(LONG_AGO)
        assert "db rebuild" in str(said.status)
        known = await months.one(LONG_AGO)
        assert (known.state, known.archive) == ("restored", before_it.archive)
        assert died or (known.events, known.streams) == (before_it.events, before_it.streams)
        assert await months.lacks_rows(known), "so that restoring it once more makes its rows"
    assert await Keeper(postgres_url, CLOCK, 3).look() == [], "somebody wants it here"
    await rebuild(log, month=LONG_AGO)
    async with Months.keeping(postgres_url) as months:
        assert await months.detach(LONG_AGO) == [], "nothing holds it any more"


async def test_bodies_go_when_nothing_names_them_any_more_and_come_back_with_their_month(
    log: PostgresLog, postgres_url: str, database: asyncpg.Connection, tmp_path: Path
) -> None:
    old = run_at(IN_IT, 3, 1, WRITES).create(authorized=True).report("one", 1).claim("two").report("two", 2)
    await write(log, old, done(CLOCK.now_ms() - 60_000, 2), done(IN_IT, 3))
    await log.put_blob(codec.sha256(b"stray"), b"stray", "default")
    await log.put_blob(codec.sha256(b"put again"), b"put again", "default")
    await log.put_blob(codec.sha256(b"new"), b"new", "default")
    await database.execute("update headrace.blobs set at = $1 where body <> 'new'", IN_IT)
    await log.put_blob(codec.sha256(b"put again"), b"put again", "default")
    await archived(postgres_url, tmp_path / "january.zip")
    async with Months.keeping(postgres_url) as months:
        count, _ = await months.collect()
    kept = {row[0] for row in await database.fetch("select digest from headrace.blobs")}
    reads = done(IN_IT, 9).digest
    assert kept == {reads, codec.sha256(b"put again"), codec.sha256(b"new")}, "what a run of now names, and what is new"
    assert count == 2
    async with Months.keeping(postgres_url) as months:
        await moving.restore(months, tmp_path / "january.zip")
    assert set(await log.get_blobs([old.digest])) == {old.digest}
    assert (await rebuild(log, month=LONG_AGO)).rows > 0
    assert (await rebuild(log)).changed == 0


# --- words -------------------------------------------------------------------------------------------------------------


def test_months_are_counted_over_the_turn_of_the_year() -> None:
    november = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1000)
    assert [before(november, count) for count in (0, 10, 11, 12, 23)] == [202611, 202601, 202512, 202511, 202412]
    assert parse(month_text(202512)) == 202512
    for wrong in ("2026", "2026-13", "2026-00", "26-01", "january"):
        with pytest.raises(ValidationError):
            parse(wrong)
    first, after = between("run", 202512)
    inside = [ids.make("run", at, b"0123456789", 3) for at in (1_764_547_200_000, 1_767_225_599_999)]
    assert all(first <= each < after for each in inside)
    assert not first <= ids.make("run", 1_767_225_600_000, b"0123456789", 3) < after
