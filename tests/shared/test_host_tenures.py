"""The owner host: partitions are shared, move when their owner dies, and a paused owner can do nothing."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from headrace import codec
from headrace.bus.memory import MemoryBus, MemorySubscription
from headrace.clock import Clock
from headrace.decider import Context, Rejection
from headrace.errors import UnavailableError
from headrace.events.base import Event
from headrace.log.memory import MemoryLog
from headrace.log.port import Holdings
from headrace.messages import Wake
from headrace.testing.virtual import VirtualClock
from headrace.vocabulary import LEASE_S, LOG_RUNS
from tests.shared.host_toy import Add, Counter, Toy, ToyCommand, World, on_virtual_time, until


async def _owners(world: World) -> set[str | None]:
    return {part["owner"] for part in await world.log.partitions()}


@on_virtual_time
async def test_two_hosts_share_the_partitions() -> None:
    async with World(partitions=8) as world:
        first = await world.host("a")
        assert len(list(first.tenures)) == 8
        second = await world.host("b")
        await until(lambda: len(list(first.tenures)) == 4 and len(list(second.tenures)) == 4)
        for number in range(8):
            assert (await world.ask(Add(), stream=world.stream(number))).status == 201


@on_virtual_time
async def test_killing_a_host_moves_its_partitions_and_loses_nothing() -> None:
    async with World(partitions=4) as world:
        await world.host("a")
        streams = [world.stream(number) for number in range(4)]
        for stream in streams:
            await world.ask(Add(), stream=stream)
        second = await world.host("b", ready=False)
        await until(lambda: len(list(second.tenures)) == 2 and second.ready)
        world.kill("a")
        await asyncio.sleep(1)
        assert len(list(second.tenures)) == 2  # the leases of the dead still run
        for stream in streams:
            await world.tell(stream, Add(amount=2))  # waits in the inbox, whoever owns it
        await until(lambda: len(list(second.tenures)) == 4, seconds=LEASE_S * 3)
        for stream in streams:
            await until(partial(_total, world, stream, 3))


@on_virtual_time
async def test_a_host_that_leaves_gives_its_partitions_back_at_once() -> None:
    async with World() as world:
        await world.host("a")
        world.tasks.pop("a").cancel()
        await until(lambda: _nobody(world), seconds=1)


@on_virtual_time
async def test_a_host_that_leaves_takes_nothing_from_the_dead_meanwhile() -> None:
    async with World(partitions=4) as world:
        await world.host("a")
        second = await world.host("b")
        await until(lambda: len(list(second.tenures)) == 2)
        append, gate = world.log.append_events, asyncio.Event()

        async def slow(batches: Any) -> Any:
            await gate.wait()
            return await append(batches)

        world.log.append_events = slow  # type: ignore[method-assign]  # this world's alone
        stream = next(
            world.stream(place) for place in range(4) if (LOG_RUNS, place) in {held.place for held in second.tenures}
        )
        await world.tell(stream, Add())
        await asyncio.sleep(1)
        world.tasks.pop("b").cancel()  # it leaves once what it has begun is done
        world.kill("a")
        world.log.end_session("a")
        await asyncio.sleep(3)
        held = [part["owner"] for part in await world.log.partitions() if part["lease_until"] > world.clock.now_ms()]
        assert held.count("b") == 2
        gate.set()
        await until(lambda: _without(world, "b"), seconds=2)
        assert await world.total(stream) == 1, "what it had begun was done"


class Watch(VirtualClock):
    """A monotonic clock that can be pushed ahead, as it is for a process that was stopped and goes on."""

    slept = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.slept


@on_virtual_time
async def test_a_paused_owner_that_wakes_after_its_lease_answers_nothing() -> None:
    async with World() as world:
        watch = Watch()
        clock: Clock = watch
        await world.host("a", clock=clock)
        stream = world.stream(0)
        await world.ask(Add(), stream=stream)

        async def pause(_batches: object) -> None:
            world.log.after_commit = None
            watch.slept += LEASE_S + 1

        world.log.after_commit = pause
        with pytest.raises(UnavailableError):
            await world.ask(Add(), stream=stream, timeout_s=1)
        assert await world.total(stream) == 2  # committed, but not for this owner to say


@on_virtual_time
async def test_an_owner_of_an_older_epoch_is_refused_by_the_fence_and_drops_its_state() -> None:
    async with World() as world:
        host = await world.host("a")
        stream = world.stream(0)
        await world.ask(Add(), stream=stream)
        await world.log.release("a", [("runs", 0), ("runs", 1)])
        taken = await world.log.heartbeat("thief", {"runs": 1}, lease_s=5)
        assert len(taken.tenures) >= 1
        with pytest.raises(UnavailableError):
            await world.ask(Add(), stream=stream, timeout_s=1)
        assert await world.total(stream) == 1
        await until(lambda: _answers(world, stream), seconds=60)
        assert host.ready


@on_virtual_time
async def test_wake_ups_come_at_their_time_also_under_another_owner() -> None:
    async with World() as world:
        await world.host("a")
        stream = world.stream(0)
        await world.ask(Add(wait_ms=60_000), stream=stream)
        world.tasks.pop("a").cancel()
        await asyncio.sleep(1)
        await world.host("b")
        await asyncio.sleep(50)
        assert len(await world.log.stream("runs", stream)) == 2
        await asyncio.sleep(15)
        assert len(await world.log.stream("runs", stream)) == 3


class Woken(Toy):
    """A toy that keeps what it was woken with."""

    def __init__(self) -> None:
        super().__init__()
        self.wakes: list[Wake] = []

    def decide(self, state: Counter, command: ToyCommand, context: Context) -> Sequence[Event] | Rejection:
        if isinstance(command, Wake):
            self.wakes.append(command)
        return super().decide(state, command, context)


@on_virtual_time
async def test_a_new_owner_says_that_it_has_not_heard_the_workers_yet_when_it_wakes_what_is_under_way() -> None:
    async with World(partitions=1) as world:
        await world.host("a")
        for number in range(2):
            await world.ask(Add(orders=1 - number, wait_ms=60_000), stream=world.stream(number))
        world.kill("a")
        await asyncio.sleep(100)  # nobody owns them when their time comes
        room = Woken()
        await world.host("b", room=room)
        await until(lambda: len(room.wakes) == 2)
        assert sorted(wake.unheard for wake in room.wakes) == [False, True], "one of them has an order that may be out"


@on_virtual_time
async def test_a_tell_reaches_the_other_stream() -> None:
    async with World() as world:
        await world.host()
        here, there = world.stream(0), world.stream(1)
        await world.ask(Add(tell=there), stream=here)
        await until(lambda: _total(world, there, 10))


@on_virtual_time
async def test_evicted_states_come_back_from_snapshot_and_log() -> None:
    async with World() as world:
        host = await world.host()
        stream = world.stream(0)
        for _ in range(30):
            await world.ask(Add(), stream=stream)
        host.states._cache._entries_max = 0
        await world.ask(Add(), stream=world.stream(1))
        await world.ask(Add(), stream=world.stream(2))
        await until(lambda: len(world.log._snapshots) > 0)
        answer = await world.ask(Add(), stream=stream)
        assert answer.status == 200
        assert await world.total(stream) == 31


async def _total(world: World, stream: str, total: int) -> bool:
    return await world.total(stream) == total


async def _nobody(world: World) -> bool:
    return await _owners(world) == {None}


async def _without(world: World, owner: str) -> bool:
    return owner not in await _owners(world)


async def _answers(world: World, stream: str) -> bool:
    try:
        return (await world.ask(Add(), stream=stream, timeout_s=1)).status == 200
    except UnavailableError:
        return False


@on_virtual_time
async def test_a_state_that_nothing_happens_to_leaves_memory_and_comes_back_when_it_is_wanted() -> None:
    async with World() as world:
        host = await world.host()
        parked = [str((await world.ask(Add(amount=number))).stream_id) for number in range(50)]
        assert len(host.states) == 50
        await asyncio.sleep(host.cadence.rest_s * 3)
        assert len(host.states) <= 1  # what the newest batch was about stays
        answer = await world.ask(Add(amount=100), stream=parked[7])
        assert codec.loads(answer.body)["total"] == 107


class SlowBus(MemoryBus):
    """A bus on which claims can be served only once somebody lets them."""

    let = asyncio.Event()

    async def serve_claims(
        self, log: str, partition: int, handle: Callable[[bytes, Callable[[bytes], None]], None]
    ) -> MemorySubscription:
        """Receive claims, once it may be."""
        await self.let.wait()
        return await super().serve_claims(log, partition, handle)


class Generous(MemoryLog):
    """A log that says once that a partition is too many, and then that it is not: who was to have it has gone."""

    beats = 0

    async def heartbeat(self, owner: str, formats: Mapping[str, int], **given: Any) -> Holdings:
        """Renew."""
        holdings = await super().heartbeat(owner, formats, **given)
        self.beats += 1
        return msgspec.structs.replace(holdings, surplus=((LOG_RUNS, 0),)) if self.beats == 2 else holdings


@on_virtual_time
async def test_a_partition_that_was_to_be_given_away_while_it_was_opened_is_served_when_it_is_taken_back() -> None:
    async with World(partitions=1) as world:
        log = world.log = Generous(world.clock, partitions={LOG_RUNS: 1})
        world.make_bus, SlowBus.let = SlowBus, asyncio.Event()
        host = await world.host(ready=False)
        await until(lambda: any(held.draining for held in host.tenures))
        SlowBus.let.set()
        await until(lambda: log.beats >= 3 and host.ready)
        (held,) = host.tenures
        assert held.epoch == 1
        assert not held.draining
        assert (await world.ask(Add(), stream=world.stream(0), timeout_s=2)).status == 201


class Cutting(MemoryLog):
    """A log behind something that ends each session as soon as it has been used."""

    beats = 0

    async def heartbeat(self, owner: str, formats: Mapping[str, int], **given: Any) -> Holdings:
        self.beats += 1
        holdings = await super().heartbeat(owner, formats, **given)
        asyncio.get_running_loop().call_soon(given["ended"])
        return holdings


@on_virtual_time
async def test_an_owner_whose_sessions_are_ended_again_and_again_beats_at_once_but_not_without_pause() -> None:
    async with World(partitions=1) as world:
        world.log = log = Cutting(world.clock, partitions={LOG_RUNS: 1})
        host = await world.host("a")
        await asyncio.sleep(60)
        assert 12 <= log.beats <= 60
        assert (await world.ask(Add(), stream=world.stream(0))).status == 201
        assert host.ready
