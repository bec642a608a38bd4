"""Streams of keys that runs share: they begin anew under the same address, end, and leave the log with their months."""

from collections.abc import Sequence
from pathlib import Path

from headrace import codec, ids
from headrace.events.base import Event
from headrace.events.flow import KeyEnded, PermitAsked, PermitGiven, PermitReturned
from headrace.log import moving
from headrace.log.months import Months
from headrace.log.port import Batch, Log, NewEvent
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import rebuild
from headrace.vocabulary import LOG_FLOW
from headrace_planner.flow.room import FlowRoom
from tests.shared.log_months_kit import CLOCK, IN_IT, LONG_AGO, breaks
from tests.shared.log_runs_kit import LEASE_S, META, OWNER

ROOM = FlowRoom()
KEY = ids.flow_key("default", "concurrency", "deploy")
OTHER = ids.flow_key("default", "concurrency", "other")
ASKED = PermitAsked(permit_id="p1", run_id="run_1", kind="concurrency", key="deploy", limit=1)
USED = (ASKED, PermitGiven(permit_id="p1"), PermitReturned(permit_id="p1"))


async def write(log: Log, stream_id: str, events: Sequence[Event], at: int) -> str:
    """Append a whole stream with its row."""
    holdings = await log.heartbeat(OWNER, {LOG_FLOW: ROOM.format}, lease_s=LEASE_S)
    partition = ids.partition_of(stream_id)
    held = next(one for one in holdings.tenures if one.partition == partition)
    state = ROOM.initial(stream_id, "default")
    for event in events:
        state = ROOM.evolve(state, event, at)  # type: ignore[arg-type]  # events of this log
    batch = Batch(
        log=LOG_FLOW,
        partition=partition,
        epoch=held.epoch,
        expected_position=held.last_position,
        events=[
            NewEvent(stream_id, version, event.type_name(), event.SCHEMA, "default", at, codec.encode(event), META)
            for version, event in enumerate(events, 1)
        ],
        rows=list(ROOM.rows(state, None)),
    )
    assert not (await log.append_events([batch])).stale
    return stream_id


async def test_an_address_leads_to_the_newest_stream_that_is_not_over(any_log: Log) -> None:
    now = CLOCK.now_ms() - 10_000
    assert await any_log.uses(LOG_FLOW, [KEY, OTHER]) == {}
    await write(any_log, ids.use(KEY, now - 2), (*USED, KeyEnded()), now)
    assert await any_log.uses(LOG_FLOW, [KEY, OTHER]) == {}
    newest = await write(any_log, ids.use(KEY, now - 1), USED, now)
    assert await any_log.uses(LOG_FLOW, [KEY, OTHER]) == {KEY: newest}
    timeless = await write(any_log, OTHER, USED, now)  # as streams of keys were before they began anew
    assert await any_log.uses(LOG_FLOW, [KEY, OTHER]) == {KEY: newest, OTHER: timeless}
    assert ids.address(newest) == KEY
    assert (await any_log.histories(LOG_FLOW, "", [newest]))[newest].events[0].stream_id == newest


async def test_a_month_leaves_with_the_streams_of_keys_that_are_over_and_comes_back(
    log: PostgresLog, postgres_url: str, tmp_path: Path
) -> None:
    over = await write(log, ids.use(KEY, IN_IT), (*USED, KeyEnded()), IN_IT)
    going = await write(log, ids.use(OTHER, IN_IT), (*USED, KeyEnded(goes_on=True)), IN_IT)
    now = await write(log, ids.use(KEY, CLOCK.now_ms() - 10_000), USED, CLOCK.now_ms() - 10_000)
    before = await log.rows("flows", {})
    async with Months.keeping(postgres_url) as months:
        assert await months.detach(LONG_AGO) == []
        assert [row["id"] for row in await log.rows("flows", {})] == [now]
        await moving.archive(months, LONG_AGO, tmp_path / "month.zip")
    assert await log.uses(LOG_FLOW, [KEY, OTHER]) == {KEY: now}
    assert (await rebuild(log)).changed == 0
    assert await breaks(log) == []
    async with Months.keeping(postgres_url) as months:
        await moving.restore(months, tmp_path / "month.zip")
    await rebuild(log)
    assert await log.rows("flows", {}) == before
    assert await log.uses(LOG_FLOW, [KEY, OTHER]) == {KEY: now}, "what came back is over"
    assert len({over, going, now}) == len(before)


async def test_a_key_that_is_in_use_holds_its_month_and_is_named(log: PostgresLog, postgres_url: str) -> None:
    await write(log, ids.use(OTHER, IN_IT), (*USED, KeyEnded()), IN_IT)
    held = await write(log, ids.use(KEY, IN_IT), USED[:2], IN_IT)
    async with Months.keeping(postgres_url) as months:
        (straggler,) = await months.detach(LONG_AGO)
    assert (straggler.log, straggler.stream_id) == (LOG_FLOW, held)
