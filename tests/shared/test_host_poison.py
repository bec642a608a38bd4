"""The owner host: what cannot be processed is parked, and holds up nobody else; long streams let others pass."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from headrace import codec
from headrace.decider import Dispatch, Effect
from headrace.events.base import Event
from headrace.host.tenure import Progress
from headrace.keys import POOL, Keys
from headrace.log.memory import MemoryLog
from headrace.log.port import DataError, History
from headrace.messages import Told
from headrace.vocabulary import LOG_RUNS
from tests.shared.host_toy import KEYS, Add, Counter, Toy, World, on_virtual_time, until


@on_virtual_time
@pytest.mark.parametrize("where", ["decide", "evolve"])
async def test_a_mistake_in_a_room_is_parked_and_its_neighbours_go_on(where: str) -> None:
    async with World() as world:
        await world.host()
        streams = [world.stream(number) for number in range(5)]
        for stream in streams:
            await world.ask(Add(), stream=stream)
        for number, stream in enumerate(streams):
            await world.tell(stream, Add(boom=where if number == 2 else ""))
        good = [stream for number, stream in enumerate(streams) if number != 2]
        for stream in good:
            await until(partial(_total, world, stream, 2))
        await until(lambda: _parked(world, 1))
        (parked,) = await world.log.parked()
        assert "a mistake" in parked.error
        assert parked.stream_id == streams[2]
        assert await world.total(streams[2]) == 1
        after = await world.ask(Add(), stream=streams[2])
        assert after.status == 200  # the stream itself is as it was


@on_virtual_time
async def test_data_that_the_store_refuses_is_found_parked_and_answered_with_an_error() -> None:
    async with World() as world:
        await world.host()
        good, bad = world.stream(0), world.stream(1)
        async with asyncio.TaskGroup() as group:
            answers = [
                group.create_task(world.ask(Add(), stream=good)),
                group.create_task(world.ask(Add(nul=True), stream=bad)),
                group.create_task(world.ask(Add(amount=5), stream=good)),
            ]
        first, refused, last = (task.result() for task in answers)
        assert (first.status, last.status) == (201, 200)
        assert refused.status == 500
        assert refused.error is not None
        assert await world.total(good) == 6
        assert len(await world.log.parked()) == 1


@on_virtual_time
async def test_a_message_that_cannot_be_read_is_parked_and_the_inbox_goes_on() -> None:
    async with World() as world:
        host = await world.host()
        stream = world.stream(0, partition=0)
        await world.bus.tell("runs", 0, KEYS.pack("owners", b"{broken"))
        await world.tell(stream, Add())
        await until(lambda: _total(world, stream, 1))
        await until(lambda: _parked(world, 1))
        held = next(held for held in host.tenures if held.partition == 0)
        await until(lambda: held.progress.arrived(2) is False)


@on_virtual_time
async def test_of_several_in_one_message_each_goes_its_way_and_a_bad_one_is_parked_alone() -> None:
    async with World() as world:
        await world.host()
        streams = [world.stream(number, partition=0) for number in range(4)]
        for stream in streams:
            await world.ask(Add(), stream=stream)
        away = world.stream(4, partition=1)
        bundle = [
            _told(streams[0]),
            _told(streams[1], boom="decide"),
            b'{"stream_id": 7}',
            _told(away),
            _told(streams[3]),
        ]
        await world.bus.tell("runs", 0, KEYS.pack("owners", b"[" + b",".join(bundle) + b"]"))
        for stream in (streams[0], streams[3]):
            await until(partial(_total, world, stream, 2))
        await until(lambda: _parked(world, 3))
        assert await world.total(streams[1]) == await world.total(streams[2]) == 1


def test_a_message_of_several_parts_is_settled_when_all_are_done_and_not_before_older_ones() -> None:
    progress = Progress()
    for sequence in (1, 2, 3):
        assert progress.arrived(sequence)
    progress.parted(2, 3)
    assert progress.done(1) == 1
    assert progress.done(2) is None
    assert progress.done(3) is None
    assert progress.done(2) is None
    assert progress.done(2) == 3
    assert not progress.arrived(2)


@on_virtual_time
async def test_an_empty_array_is_settled_and_a_torn_one_is_parked() -> None:
    async with World() as world:
        await world.host()
        stream = world.stream(0, partition=0)
        await world.bus.tell("runs", 0, KEYS.pack("owners", b"[]"))
        await world.bus.tell("runs", 0, KEYS.pack("owners", b"[" + _told(stream)))
        await world.tell(stream, Add())
        await until(partial(_total, world, stream, 1))
        await until(lambda: _parked(world, 1))


@on_virtual_time
async def test_a_forged_message_is_reported_and_not_acted_upon() -> None:
    async with World() as world:
        await world.host()
        stream = world.stream(0)
        await world.tell(stream, Add(), keys=Keys(master=b"x" * 32))
        await world.tell(stream, Add(), label=POOL + "runner")  # a worker may not send this
        await world.tell(stream, Add(amount=7))
        await until(lambda: _total(world, stream, 7))
        assert await world.log.parked() == []


@on_virtual_time
async def test_a_body_that_is_missing_is_fetched_and_the_message_decided_again() -> None:
    async with World() as world:
        host = await world.host()
        body = b"the plan"
        digest = codec.sha256(body)
        await world.log.put_blob(digest, body)
        answer = await world.ask(Add(body=digest))
        assert answer.status == 201
        assert host.library.body(digest) == body


@on_virtual_time
async def test_a_body_that_is_in_no_store_is_an_error_and_a_parked_message() -> None:
    async with World() as world:
        await world.host()
        stream, nowhere = world.stream(0), codec.sha256(b"nowhere")
        answer = await world.ask(Add(body=nowhere), stream=stream)
        assert answer.status == 404
        await world.tell(stream, Add(body=nowhere))
        await world.tell(stream, Add())
        await until(lambda: _total(world, stream, 1))
        await until(lambda: _parked(world, 1))


@on_virtual_time
async def test_a_long_stream_goes_on_behind_others() -> None:
    async with World(partitions=1) as world:
        await world.host()
        long, short = world.stream(0), world.stream(1)
        sizes: list[int] = []

        async def note(batches: object) -> None:
            sizes.extend(len(batch.events) for batch in batches)  # type: ignore[attr-defined]  # batches of the port

        world.log.before_commit = note
        spread = await world.ask(Add(spread=3_000), stream=long)
        assert codec.loads(spread.body)["todo"] > 0  # answered before all of it was done
        answer = await world.ask(Add(), stream=short)
        assert answer.status == 201
        await until(lambda: _events(world, long, 3_002))
        assert max(sizes) <= 700


def _told(stream: str, **more: Any) -> bytes:
    return codec.encode(Told(stream_id=stream, body=codec.raw(Add(**more)), workspace="default"))


async def _total(world: World, stream: str, total: int) -> bool:
    return await world.total(stream) == total


async def _parked(world: World, count: int) -> bool:
    return len(await world.log.parked()) == count


async def _events(world: World, stream: str, count: int) -> bool:
    return len(await world.log.stream("runs", stream, limit=10_000)) == count


class Placed(Toy):
    """A toy whose orders are for a pool that no bus can have a queue for."""

    def react(self, state: Counter, event: Event) -> Iterable[Effect]:
        for effect in super().react(state, event):
            if isinstance(effect, Dispatch):
                yield Dispatch(msgspec.structs.replace(effect.order, pool="gpu.large"))


async def _over(world: World, stream: str) -> bool:
    """Tell whether an order was given and has come to its end."""
    return [event.type for event in await world.log.stream(LOG_RUNS, stream)] == ["step.succeeded", "step.succeeded"]


@on_virtual_time
async def test_an_order_for_a_pool_that_can_have_no_queue_fails_alone() -> None:
    async with World(partitions=1) as world:
        await world.host("a", room=Placed())
        stream = world.stream(0)
        await world.ask(Add(orders=1), stream=stream)
        await until(lambda: _over(world, stream))
        assert (await world.ask(Add(amount=2), stream=world.stream(1))).status == 201, "and its owner lives on"


class Refusing(MemoryLog):
    """A log that refuses to look for some streams."""

    refused = ""

    async def histories(self, log: str, fingerprint: str, stream_ids: Sequence[str]) -> dict[str, History]:
        if self.refused in stream_ids:
            message = "no such thing can be asked"
            raise DataError(message)
        return await super().histories(log, fingerprint, stream_ids)


@on_virtual_time
async def test_a_message_about_which_the_store_refuses_to_be_asked_is_parked_alone() -> None:
    async with World(partitions=1) as world:
        world.log = log = Refusing(world.clock, partitions={LOG_RUNS: 1})
        await world.host()
        log.refused = world.stream(1)
        asked = [world.group.create_task(world.ask(Add(), stream=world.stream(number))) for number in range(3)]
        answers = [await task for task in asked]
        assert [answer.status for answer in answers] == [201, 500, 201]
        (parked,) = await world.log.parked()
        assert parked.stream_id == log.refused
