"""The owner host: nothing leaves before its commit, and everything that was committed leaves."""

import asyncio
from collections.abc import Sequence

import pytest

from headrace import codec, ids
from headrace.errors import UnavailableError
from headrace.log.port import Batch
from headrace.vocabulary import LOG_RUNS, MESSAGE_BYTES_MAX
from tests.shared.host_toy import Add, World, on_virtual_time, until


@on_virtual_time
async def test_a_command_is_decided_committed_and_answered() -> None:
    async with World() as world:
        await world.host()
        answer = await world.ask(Add(amount=3))
        assert answer.status == 201
        assert codec.loads(answer.body) == {"id": answer.stream_id, "total": 3, "todo": 0}
        again = await world.ask(Add(amount=4), stream=answer.stream_id)
        assert again.status == 200
        assert await world.total(str(answer.stream_id)) == 7


@on_virtual_time
async def test_nothing_is_answered_before_its_commit() -> None:
    async with World() as world:
        gate = asyncio.Event()

        async def hold(_: Sequence[Batch]) -> None:
            await gate.wait()

        await world.host()
        world.log.before_commit = hold
        feed: list[bytes] = []
        await world.bus.open_feed(LOG_RUNS, feed.append)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(world.ask(Add()))
            await asyncio.sleep(1)
            assert not asked.done()
            assert feed == []
            gate.set()
        assert asked.result().status == 201
        assert len(feed) == 1


@on_virtual_time
async def test_a_refusal_waits_for_the_commit_it_rests_on() -> None:
    async with World() as world:
        await world.host()
        stream = world.stream(1)
        await world.ask(Add(), stream=stream)
        appends = world.log.appends
        refused = await world.ask(Add(amount=0), stream=stream)
        assert refused.status == 409
        assert refused.error is not None
        assert refused.error.type == "conflict"
        assert world.log.appends == appends + 1  # an empty batch confirmed the epoch


@on_virtual_time
@pytest.mark.parametrize("committed", [True, False])
async def test_an_append_of_unknown_outcome_ends_the_tenure_and_loses_nothing(*, committed: bool) -> None:
    async with World() as world:
        host = await world.host()
        stream = world.stream(1)
        await world.ask(Add(), stream=stream)
        before = {held.place: held.epoch for held in host.tenures}
        world.log.fail_next_append(committed=committed)
        with pytest.raises(UnavailableError):
            await world.ask(Add(), stream=stream, timeout_s=2)
        await until(lambda: host.ready and len(list(host.tenures)) == 2)
        answer = await world.ask(Add(), stream=stream)
        assert answer.status == 200
        assert await world.total(stream) == (3 if committed else 2)
        assert any(held.epoch > before[held.place] for held in host.tenures)


@on_virtual_time
@pytest.mark.parametrize("committed", [True, False])
async def test_an_inbox_message_comes_again_until_it_is_committed(*, committed: bool) -> None:
    async with World() as world:
        await world.host()
        stream = world.stream(1)
        world.log.fail_next_append(committed=committed)
        await world.tell(stream, Add())
        expected = 2 if committed else 1  # the toy counts repeats: a room would not
        await until(lambda: _is(world, stream, expected))


async def _is(world: World, stream: str, total: int) -> bool:
    return await world.total(stream) == total


@on_virtual_time
async def test_a_thousand_creates_cost_fewer_than_two_hundred_appends() -> None:
    async with World(partitions=8) as world:
        await world.host()
        before = world.log.appends
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(world.ask(Add(), partition=n % 8, key=f"k{n}")) for n in range(1_000)]
        assert len({task.result().stream_id for task in asked}) == 1_000
        assert world.log.appends - before < 200


@on_virtual_time
async def test_the_next_batch_is_decided_while_one_commits() -> None:
    async with World() as world:
        await world.host()
        sizes: list[int] = []

        async def slow(batches: Sequence[Batch]) -> None:
            sizes.append(sum(len(batch.events) for batch in batches))
            await asyncio.sleep(0.5)

        world.log.before_commit = slow
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(world.ask(Add(), stream=world.stream(number)))
                await asyncio.sleep(0.01)
        assert sum(sizes) == 20
        assert len(sizes) <= 3


@on_virtual_time
async def test_a_repeat_under_the_same_key_is_the_same_answer() -> None:
    async with World() as world:
        await world.host()
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(world.ask(Add(), key="k")) for _ in range(2)]
        first, second = (task.result() for task in both)
        assert codec.encode(first) == codec.encode(second)
        assert codec.encode(await world.ask(Add(), key="k")) == codec.encode(first)
        assert await world.total(str(first.stream_id)) == 1
        other = await world.ask(Add(amount=2), key="k")
        assert other.status == 422
        elsewhere = await world.ask(Add(), key="k", workspace="other")
        assert elsewhere.stream_id != first.stream_id


@on_virtual_time
async def test_another_workspace_does_not_reach_a_stream() -> None:
    async with World() as world:
        await world.host()
        made = await world.ask(Add())
        foreign = await world.ask(Add(), stream=made.stream_id, workspace="other")
        assert foreign.status == 404


@on_virtual_time
async def test_the_feed_tells_what_was_committed_in_order() -> None:
    async with World() as world:
        await world.host()
        feed: list[bytes] = []
        await world.bus.open_feed(LOG_RUNS, feed.append)
        stream = world.stream(0, partition=0)
        await world.ask(Add(), stream=stream)
        waiting = await world.ask(Add(wait_ms=10_000), stream=stream)
        assert waiting.status == 200
        await until(lambda: len(feed) == 2)
        events = [event for message in feed for event in codec.loads(message)]
        assert [event["id"] for event in events] == ["runs/0/1", "runs/0/2", "runs/0/3"]
        assert [event["type"] for event in events] == ["step.succeeded", "step.succeeded", "timer.started"]
        assert {event["subject"] for event in events} == {stream}
        assert events[0]["source"] == "headrace/memory-1/runs"
        assert events[0]["data"]["step"] == "added"


@on_virtual_time
async def test_each_message_of_the_feed_is_of_one_partition_as_its_description_promises() -> None:
    async with World(partitions=8) as world:
        feed = await _fed_by_one_append(world, Add(spread=3), streams=24)
        assert len(feed) == world.partitions
        await _tells_each_event_once(world, feed)


@on_virtual_time
async def test_what_is_too_large_for_one_message_of_the_feed_is_split_and_nothing_is_missing() -> None:
    async with World(partitions=2) as world:
        feed = await _fed_by_one_append(world, Add(stop="x" * 100_000), streams=24)
        assert len(feed) == 2 * world.partitions
        assert all(len(message) <= MESSAGE_BYTES_MAX for message in feed)
        await _tells_each_event_once(world, feed)


async def _fed_by_one_append(world: World, command: Add, *, streams: int) -> list[bytes]:
    """Give the feed's messages of one append of a command to streams of all partitions."""
    gate = asyncio.Event()

    async def hold(_: Sequence[Batch]) -> None:
        await gate.wait()

    await world.host()
    feed: list[bytes] = []
    async with asyncio.TaskGroup() as group:
        world.log.before_commit = hold
        group.create_task(world.ask(Add(), stream=world.stream(1_000)))
        await asyncio.sleep(1)  # on virtual time: while the first commits, all others gather behind it
        before = world.log.appends
        for number in range(streams):
            group.create_task(world.ask(command, stream=world.stream(number)))
        await asyncio.sleep(1)
        await world.bus.open_feed(LOG_RUNS, feed.append)
        gate.set()
    assert world.log.appends - before == 1
    return feed[1:]  # without that of the first


async def _tells_each_event_once(world: World, feed: Sequence[bytes]) -> None:
    """Check that a message has one partition's events, and each partition's, but the first append's, come once in order."""
    told: dict[int, list[int]] = {}
    for events in map(codec.loads, feed):
        assert len({event["partition"] for event in events}) == 1
        for event in events:
            assert event["id"] == f"runs/{event['partition']}/{event['position']}"
            assert event["partition"] == ids.partition_of(event["subject"])
            told.setdefault(event["partition"], []).append(event["position"])
    assert sorted(told) == list(range(world.partitions))
    for partition, positions in told.items():
        recorded = [each.position for each in await world.log.read(LOG_RUNS, partition, 0, 1_000)]
        assert positions == recorded[-len(positions) :]
        assert len(recorded) - len(positions) == (partition == ids.partition_of(world.stream(1_000)))
