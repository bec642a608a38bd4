"""One suite over every log: positions, fences, owners. What Postgres does, its memory twin does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import asyncpg
import msgspec
import pytest

from headrace import ids
from headrace.clock import mint
from headrace.decider import Row
from headrace.log.checks import FUTURE_MS_MAX
from headrace.log.memory import MemoryLog
from headrace.log.port import DataError, Log
from headrace.log.postgres import PostgresLog
from headrace.vocabulary import LOG_PARTITIONS
from tests.contracts.log_kit import CLOCK, DEADLINE_S, LEASE_S, SHORT_S, batch, breaks, claim, event, eventually

PART = "select pg_terminate_backend(pid) from headrace.sessions where owner = 'one'"


class Process:
    """An owner's process, with a log of its own: `die` ends it, `part` breaks its connections and lets it live."""

    def __init__(self, log: Log, part: Callable[[], Awaitable[object]], die: Callable[[], Awaitable[object]]) -> None:
        self.log, self.part, self.die = log, part, die


@pytest.fixture
def log(any_log: Log) -> Log:
    return any_log


@pytest.fixture
async def process(log: Log, any_log_url: str | None) -> AsyncIterator[Process]:
    """Give the process of owner `one`."""
    if any_log_url is None:
        memory = cast("MemoryLog", log)

        async def end() -> None:
            memory.end_session("one")

        yield Process(log, end, end)
        return
    own = await PostgresLog.open(any_log_url, CLOCK)
    outside = await asyncpg.connect(any_log_url)
    yield Process(own, lambda: outside.execute(PART), own.close)
    await own.close()
    await outside.close()


# --- positions, streams, fences ----------------------------------------------------------------------------------


async def test_events_come_back_in_order_with_gap_free_positions_and_the_very_same_bytes(log: Log) -> None:
    tenure = (await claim(log))[3]
    one, other = mint(CLOCK, "run", 3), mint(CLOCK, "run", 3)
    written = [event(one, 1, b'{"a": 1}'), event(other, 1), event(one, 2, b"[ 1,2 ]", "run.started")]
    first = await log.append_events([batch(tenure, *written)])
    second = await log.append_events([batch(tenure, event(one, 3), after=3)])
    assert first.positions == {("runs", 3): 3}
    assert second.positions == {("runs", 3): 4}
    read = await log.read("runs", 3, 0, 10)
    assert [found.position for found in read] == [1, 2, 3, 4]
    assert [found.data for found in read] == [b'{"a": 1}', b"{}", b"[ 1,2 ]", b"{}"]
    assert [found.version for found in await log.stream("runs", one)] == [1, 2, 3]
    assert [found.version for found in await log.stream("runs", one, 1, 1)] == [2]
    assert read[2] == (await log.stream("runs", one, 1, 1))[0]
    assert [found.position for found in await log.read("runs", 3, 2, 1)] == [3]


async def test_nothing_is_read_of_a_stream_that_is_none(log: Log) -> None:
    assert await log.stream("runs", "no-id") == []
    assert await log.stream("runs", mint(CLOCK, "run")) == []


async def test_a_stale_owner_is_refused_by_name_while_the_partitions_of_others_commit(log: Log) -> None:
    tenures = await claim(log)
    stale = msgspec.structs.replace(tenures[0], epoch=tenures[0].epoch - 1)
    lost, kept = mint(CLOCK, "run", 0), mint(CLOCK, "run", 1)
    row = Row("runs", {"id": lost, "partition": 0})
    appended = await log.append_events([batch(stale, event(lost, 1), rows=[row]), batch(tenures[1], event(kept, 1))])
    assert appended.stale == (("runs", 0),)
    assert appended.positions == {("runs", 1): 1}
    assert await log.read("runs", 0, 0, 10) == []
    assert await log.row("runs", {"id": lost}) is None
    assert [found.stream_id for found in await log.read("runs", 1, 0, 10)] == [kept]
    turned = [batch(tenures[2], event(mint(CLOCK, "run", 2), 1)), batch(stale, event(lost, 1))]
    assert (await log.append_events(turned)).stale == (("runs", 0),), "whatever the order"


async def test_a_wrong_expected_position_is_stale_and_so_is_a_partition_that_does_not_exist(log: Log) -> None:
    tenure = (await claim(log))[0]
    nowhere = msgspec.structs.replace(tenure, partition=200)
    appended = await log.append_events(
        [
            batch(tenure, event(mint(CLOCK, "run", 0), 1), after=7),
            batch(nowhere, event(mint(CLOCK, "run", 200), 1)),
        ]
    )
    assert appended.stale == (("runs", 0), ("runs", 200))


async def test_a_batch_without_events_confirms_the_epoch_and_changes_nothing(log: Log) -> None:
    tenure = (await claim(log))[0]
    assert (await log.append_events([batch(tenure)])).positions == {("runs", 0): 0}
    old = msgspec.structs.replace(tenure, epoch=99)
    assert (await log.append_events([batch(old)])).stale == (("runs", 0),)


@pytest.mark.parametrize("rows", [[], [Row("steps", {"run_id": mint(CLOCK, "run", 1), "step": "s"})]])
async def test_what_stands_of_one_partition_confirms_nothing_of_another(log: Log, rows: list[Row]) -> None:
    held = await claim(log)
    await log.append_events([batch(held[0], event(mint(CLOCK, "run", 0), 1))])
    assert (await log.append_events([batch(held[0], after=1, rows=rows[:0])])).stale == ()
    assert (await log.append_events([batch(held[1], after=1, rows=rows)])).stale == (("runs", 1),)
    await log.heartbeat("one", {"approvals": 1}, lease_s=LEASE_S)
    await log.release("one", [("approvals", 2)])
    again = next(
        one for one in (await log.heartbeat("two", {"approvals": 1}, lease_s=LEASE_S)).tenures if one.partition == 2
    )
    assert again.epoch == 2
    assert (await log.append_events([batch(msgspec.structs.replace(held[2], epoch=2), rows=rows)])).stale == (
        ("runs", 2),
    )


async def test_of_two_owners_that_race_for_the_same_position_one_wins(log: Log) -> None:
    tenure = (await claim(log))[0]
    racers = [batch(tenure, event(mint(CLOCK, "run", 0), 1)) for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        outcomes = [group.create_task(log.append_events([racer])) for racer in racers]
    assert sorted(len(outcome.result().stale) for outcome in outcomes) == [0, 1]
    assert len(await log.read("runs", 0, 0, 10)) == 1


async def test_a_paused_owner_wakes_after_a_takeover_and_can_do_nothing(log: Log) -> None:
    before = (await claim(log, "paused", SHORT_S))[0]

    async def taken() -> bool:
        return 0 in await claim(log, "next")

    await eventually(taken)
    after = (await claim(log, "next"))[0]
    assert after.epoch > before.epoch
    run = mint(CLOCK, "run", 0)
    appended = await log.append_events([batch(before, event(run, 1), rows=[Row("runs", {"id": run, "partition": 0})])])
    assert appended.stale == (("runs", 0),)
    assert (await log.append_events([batch(before)])).stale == (("runs", 0),), "it may not even answer"
    assert (await log.append_events([batch(after, event(run, 1))])).positions == {("runs", 0): 1}


async def test_versions_of_a_stream_must_follow(log: Log) -> None:
    tenure = (await claim(log))[0]
    run = mint(CLOCK, "run", 0)
    for versions in ((2,), (1, 3), (1, 1), (0,)):
        with pytest.raises(DataError):
            await log.append_events([batch(tenure, *(event(run, version) for version in versions))])
    await log.append_events([batch(tenure, event(run, 1), event(run, 2))])
    with pytest.raises(DataError):
        await log.append_events([batch(tenure, event(run, 4), after=2)])
    await log.append_events([batch(tenure, event(run, 3), after=2)])
    assert await breaks(log) == []


@pytest.mark.parametrize("wrong", [0, 1])
async def test_versions_are_held_to_in_every_month_that_a_batch_writes_to(log: Log, wrong: int) -> None:
    tenure, now = (await claim(log))[0], CLOCK.now_ms()
    streams = [ids.make("run", now - age_ms, b"0123456789", 0) for age_ms in (90 * 86_400_000, 0)]
    events = [event(stream, 1 + (number == wrong)) for number, stream in enumerate(streams)]
    fresh = [event(mint(CLOCK, "run", 0), 1) for _ in range(2)]
    with pytest.raises(DataError):
        await log.append_events([batch(tenure, *fresh, *events)])
    good = [event(stream, 1) for stream in streams]
    assert (await log.append_events([batch(tenure, *fresh, *good)])).positions == {("runs", 0): 4}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("alone", [True, False])
async def test_no_event_of_a_batch_may_lie_ahead(log: Log, place: int, alone: bool) -> None:  # noqa: FBT001  (a case)
    held = await claim(log)
    events = [event(mint(CLOCK, "run", 0), 1) for _ in range(3)]
    ahead = msgspec.structs.replace(events[place], at=CLOCK.now_ms() + 2 * FUTURE_MS_MAX)
    made = [batch(held[0], *(ahead if number == place else one for number, one in enumerate(events)))]
    with pytest.raises(DataError, match="future"):
        await log.append_events(made if alone else [*made, batch(held[1], event(mint(CLOCK, "run", 1), 1))])
    assert (await log.append_events([batch(held[0], *events)])).positions == {("runs", 0): 3}


async def test_a_reader_that_tails_while_four_writers_append_never_misses_and_never_repeats(log: Log) -> None:
    tenures, rounds, size = await claim(log), 25, 4
    seen: dict[int, list[int]] = {partition: [] for partition in range(4)}

    async def write(partition: int) -> None:
        for at in range(rounds):
            events = [event(mint(CLOCK, "run", partition), 1) for _ in range(size)]
            await log.append_events([batch(tenures[partition], *events, after=at * size)])
            await asyncio.sleep(0)

    async def tail() -> None:
        while any(len(found) < rounds * size for found in seen.values()):
            for partition, found in seen.items():
                found += [one.position for one in await log.read("runs", partition, len(found), 7)]
            await asyncio.sleep(0)

    async with asyncio.timeout(DEADLINE_S * 2), asyncio.TaskGroup() as group:
        group.create_task(tail())
        for partition in seen:
            group.create_task(write(partition))
    assert all(found == list(range(1, rounds * size + 1)) for found in seen.values())


# --- owners ------------------------------------------------------------------------------------------------------


async def test_partitions_are_shared_evenly_and_a_surplus_is_named_and_given_back(log: Log) -> None:
    alone = await log.heartbeat("one", {"runs": 1, "catalogue": 1}, lease_s=LEASE_S)
    assert len(alone.tenures) == 9
    assert alone.surplus == ()
    joined = await log.heartbeat("two", {"runs": 1, "catalogue": 1}, lease_s=LEASE_S)
    assert joined.tenures == ()
    assert joined.owners == 2
    again = await log.heartbeat("one", {"runs": 1, "catalogue": 1}, lease_s=LEASE_S)
    assert again.surplus == tuple(("runs", partition) for partition in (4, 5, 6, 7))
    assert again.tenures == alone.tenures, "a renewal changes no epoch"
    await log.release("one", again.surplus)
    moved = await log.heartbeat("two", {"runs": 1, "catalogue": 1}, lease_s=LEASE_S)
    assert [(one.log, one.partition, one.epoch) for one in moved.tenures] == [("runs", n, 2) for n in (4, 5, 6, 7)]
    assert (await log.heartbeat("one", {"runs": 1, "catalogue": 1}, lease_s=LEASE_S)).surplus == ()


async def test_nobody_releases_what_another_holds(log: Log) -> None:
    await claim(log, "one")
    await log.release("two", [("runs", 0)])
    assert len(await claim(log, "one")) == 8


async def test_who_gives_back_a_partition_of_one_log_keeps_that_of_the_same_number_of_another(log: Log) -> None:
    both = {"runs": 1, "approvals": 1}
    held = {(one.log, one.partition): one for one in (await log.heartbeat("one", both, lease_s=LEASE_S)).tenures}
    await log.heartbeat("two", both, lease_s=LEASE_S)
    await log.release("one", [("runs", 0), ("runs", 1)])
    kept = [(row["log"], row["partition"]) for row in await log.partitions() if row["owner"] == "one"]
    assert kept == sorted(held.keys() - {("runs", 0), ("runs", 1)})
    taken = await log.heartbeat("two", both, lease_s=LEASE_S)
    assert {(one.log, one.partition) for one in taken.tenures} == {("runs", 0), ("runs", 1)}, "nothing else is free"
    assert (await log.append_events([batch(held["approvals", 0], event(mint(CLOCK, "apr", 0), 1))])).stale == ()


async def test_shares_of_each_log_come_out_by_themselves(log: Log) -> None:
    """Who holds many of one log has its full share of another all the same."""
    assert len((await log.heartbeat("one", {"runs": 1}, lease_s=LEASE_S)).tenures) == LOG_PARTITIONS["runs"]
    both = await log.heartbeat("one", {"approvals": 1, "runs": 1}, lease_s=LEASE_S)
    assert len(both.tenures) == LOG_PARTITIONS["runs"] + LOG_PARTITIONS["approvals"]
    assert both.owners == 1
    assert abs(both.database_now - CLOCK.now_ms()) < FUTURE_MS_MAX
    other = await log.heartbeat("two", {"approvals": 1}, lease_s=LEASE_S)
    assert other.owners == 2
    assert abs(other.database_now - CLOCK.now_ms()) < FUTURE_MS_MAX
    assert (await log.heartbeat("three", {"catalogue": 1}, lease_s=LEASE_S)).owners == 1, "of its own logs"


async def test_an_owner_that_leaves_hands_all_partitions_to_the_other_at_once(log: Log) -> None:
    await log.release("one", [("runs", partition) for partition in await claim(log, "one")])
    assert len(await claim(log, "two")) == 8


async def test_a_lapsed_lease_lets_the_next_owner_claim_with_the_next_epoch(log: Log) -> None:
    assert {tenure.epoch for tenure in (await claim(log, "one", SHORT_S)).values()} == {1}

    async def taken() -> bool:
        return len(await claim(log, "two")) == 8

    await eventually(taken)
    again = await log.heartbeat("two", {"runs": 1}, lease_s=LEASE_S)
    assert {tenure.epoch for tenure in again.tenures} == {2}
    assert again.owners == 1, "who is gone counts no more"
    assert await claim(log, "one") == {}


async def test_an_owner_whose_session_has_ended_is_gone_for_whoever_beats_next_whatever_its_lease_says(
    log: Log, process: Process
) -> None:
    assert {tenure.epoch for tenure in (await claim(process.log, "one", LEASE_S)).values()} == {1}
    assert await claim(log, "two") == {}
    await process.die()

    async def taken() -> bool:  # all of it: who is gone counts for nothing in what is fair
        return len(await claim(log, "two")) == 8

    await eventually(taken)
    assert {tenure.epoch for tenure in (await claim(log, "two")).values()} == {2}
    assert (await log.heartbeat("two", {"runs": 1}, lease_s=LEASE_S)).owners == 1


async def test_an_owner_that_died_soon_after_it_took_over_is_gone_as_well(log: Log, process: Process) -> None:
    await log.release("two", [("runs", partition) for partition in await claim(log, "two")])
    await claim(process.log, "one", LEASE_S)
    await process.die()

    async def taken() -> bool:
        return len(await claim(log, "three")) == 8

    await eventually(taken)


async def test_an_owner_whose_session_broke_hears_of_it_and_keeps_what_it_holds_by_beating_again(
    log: Log, process: Process
) -> None:
    ended = asyncio.Event()
    first = await process.log.heartbeat("one", {"runs": 1}, lease_s=LEASE_S, ended=ended.set)
    await process.part()
    async with asyncio.timeout(DEADLINE_S):
        await ended.wait()
    again = await process.log.heartbeat("one", {"runs": 1}, lease_s=LEASE_S, ended=ended.set)
    assert again.tenures == first.tenures, "no epoch was raised"
    assert await claim(log, "two") == {}
    assert (await process.log.heartbeat("one", {"runs": 1}, lease_s=LEASE_S)).tenures == first.tenures


async def test_an_owner_that_only_says_nothing_keeps_what_it_holds_until_its_lease_is_over(
    log: Log, process: Process
) -> None:
    await claim(process.log, "one", LEASE_S)
    for _ in range(3):
        assert await claim(log, "two") == {}


async def test_older_code_does_not_claim_what_newer_code_wrote(log: Log) -> None:
    newer = await log.heartbeat("newer", {"runs": 2}, lease_s=LEASE_S)
    await log.release("newer", [(one.log, one.partition) for one in newer.tenures])
    assert (await log.heartbeat("older", {"runs": 1}, lease_s=LEASE_S)).tenures == ()
    assert len((await log.heartbeat("newest", {"runs": 3}, lease_s=LEASE_S)).tenures) == 8


async def test_what_is_free_goes_to_newer_code_while_there_is_some(log: Log) -> None:
    await log.heartbeat("older", {"runs": 1}, lease_s=LEASE_S)
    await log.heartbeat("newer", {"runs": 2}, lease_s=LEASE_S)
    held = await log.heartbeat("older", {"runs": 1}, lease_s=LEASE_S)
    await log.release("older", held.surplus)
    assert len((await log.heartbeat("newer", {"runs": 2}, lease_s=LEASE_S)).tenures) == 4
    await log.release("older", [("runs", 0), ("runs", 1)])
    kept = await log.heartbeat("older", {"runs": 1}, lease_s=LEASE_S)
    assert [one.partition for one in kept.tenures] == [2, 3], "it keeps what it holds, and claims nothing"
    assert kept.surplus == ()
    taken = await log.heartbeat("newer", {"runs": 2}, lease_s=LEASE_S)
    assert [one.partition for one in taken.tenures] == [0, 1, 4, 5, 6, 7]


async def test_older_code_alone_claims_what_newer_code_did_not_write(log: Log) -> None:
    await log.heartbeat("older", {"runs": 1}, lease_s=LEASE_S)
    await log.heartbeat("newer", {"runs": 2}, lease_s=LEASE_S)
    held = await log.heartbeat("older", {"runs": 1}, lease_s=LEASE_S)
    await log.release("older", held.surplus)
    assert len((await log.heartbeat("newer", {"runs": 2}, lease_s=SHORT_S)).tenures) == 4
    await log.release("older", [("runs", partition) for partition in range(4)])

    async def taken() -> bool:
        mine = (await log.heartbeat("older", {"runs": 1}, lease_s=LEASE_S)).tenures
        return [one.partition for one in mine] == [0, 1, 2, 3]

    await eventually(taken)


async def test_partitions_name_their_owner_epoch_and_last_position(log: Log) -> None:
    tenure = (await claim(log, "one"))[2]
    await log.append_events([batch(tenure, event(mint(CLOCK, "run", 2), 1))])
    rows = {(row["log"], row["partition"]): row for row in await log.partitions()}
    assert len(rows) == sum(LOG_PARTITIONS.values())
    assert rows["runs", 2]["owner"] == "one"
    assert rows["runs", 2]["epoch"] == 1
    assert rows["runs", 2]["last_position"] == 1
    assert rows["approvals", 0]["owner"] is None
    again = await claim(log, "one")
    assert [(one.epoch, one.last_position) for one in again.values()] == [
        (1, int(partition == 2)) for partition in again
    ]
