"""The owner's pipeline: what is taken back leaves no trace, and nobody is left waiting for it."""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
import pytest

from headrace import codec
from headrace.decider import Context, Rejection, Row
from headrace.errors import ConflictError, UnavailableError
from headrace.events.base import Event
from headrace.events.runs import MapStarted, StepSucceeded
from headrace.host.cadence import QUICK
from headrace.host.draft import DRAFT_ITEMS_MAX
from headrace.host.loading import SNAPSHOT_EVENTS
from headrace.log.memory import MemoryLog
from headrace.log.port import Batch, DataError, History, Parked
from headrace.vocabulary import LOG_RUNS, MESSAGE_BYTES_MAX
from tests.shared.host_toy import Add, Counter, Toy, ToyCommand, Worker, World, on_virtual_time, until

ODD = 13
"""An amount whose row cannot be made, and a spread that cannot be folded."""


class Fragile(Toy):
    """A room with mistakes: in the rows of one amount, and in the second event of a command with one spread."""

    broken = True

    def rows(self, state: Counter, events: Sequence[Event] | None) -> Iterable[Row]:
        if self.broken and any(_amount(event) == ODD for event in events or ()):
            message = "a mistake in rows"
            raise RuntimeError(message)
        return super().rows(state, events)

    def evolve(self, state: Counter, event: Event, at: int) -> Counter:
        if self.broken and isinstance(event, MapStarted) and event.count == ODD:
            message = "a mistake in evolve"
            raise RuntimeError(message)
        return super().evolve(state, event, at)


class Flaky(MemoryLog):
    """A log that refuses to read when it is asked to, and to park what names `unparked`."""

    silent: asyncio.Event | None = None
    unparked = ""

    async def histories(self, log: str, fingerprint: str, stream_ids: Sequence[str]) -> dict[str, History]:
        if self.silent is not None and len(stream_ids) > 1:
            self.silent.set()
            self.silent = None
            message = "the log does not answer, as asked for"
            raise UnavailableError(message)
        return await super().histories(log, fingerprint, stream_ids)

    async def park(self, parked: Parked) -> None:
        if self.unparked and self.unparked == parked.stream_id:
            message = "the log refuses it, as asked for"
            raise DataError(message)
        await super().park(parked)


class Gate:
    """Holds the next append until it is opened."""

    def __init__(self, log: MemoryLog) -> None:
        self.begun, self._open, self._log = asyncio.Event(), asyncio.Event(), log
        log.before_commit = self._hold

    async def _hold(self, _batches: Sequence[Batch]) -> None:
        self._log.before_commit = None
        self.begun.set()
        await self._open.wait()

    def open(self) -> None:
        """Let it go on."""
        self._open.set()


def _amount(event: Event) -> int:
    return int(codec.loads(event.output).get("amount", 1)) if isinstance(event, StepSucceeded) and event.output else 0


def _flaky(world: World) -> Flaky:
    log = world.log = Flaky(world.clock, partitions={LOG_RUNS: world.partitions})
    return log


@on_virtual_time
async def test_what_was_poison_under_a_key_is_not_answered_as_if_it_had_been_done() -> None:
    async with World(partitions=1) as world:
        room = Fragile()
        await world.host(room=room)
        stream = world.stream(0)
        await world.ask(Add(), stream=stream)
        for _ in range(2):
            assert (await world.ask(Add(amount=ODD), stream=stream, key="k")).status == 500
        room.broken = False
        assert (await world.ask(Add(amount=ODD), stream=stream, key="k")).status == 200
        assert await world.total(stream) == 1 + ODD


@on_virtual_time
async def test_who_waits_behind_a_batch_that_could_not_be_read_is_served_without_another_message() -> None:
    async with World(partitions=2) as world:
        log = _flaky(world)
        host = await world.host()
        await Worker(world).begin()
        await until(lambda: bool(host.presence.workers()))
        failed = log.silent = asyncio.Event()
        many = [world.stream(number, partition=1) for number in range(DRAFT_ITEMS_MAX)]
        async with asyncio.TaskGroup() as group:
            for stream in many:
                group.create_task(_in_vain(world, stream))
            few = [group.create_task(world.ask(Add(), stream=world.stream(n, partition=0))) for n in range(5)]
        assert failed.is_set()
        assert {task.result().status for task in few} == {201}


async def _in_vain(world: World, stream: str) -> None:
    with pytest.raises(UnavailableError):
        await world.ask(Add(), stream=stream, timeout_s=2)


@on_virtual_time
async def test_an_answer_says_where_it_stands_after_a_mistake_was_taken_back_beside_a_commit() -> None:
    async with World(partitions=1) as world:
        await world.host()
        good, bad = world.stream(0), world.stream(1)
        await world.ask(Add(), stream=good)
        gate = Gate(world.log)
        async with asyncio.TaskGroup() as group:
            group.create_task(world.ask(Add(), stream=good))
            await gate.begun.wait()
            beside = group.create_task(world.ask(Add(), stream=good))
            group.create_task(world.ask(Add(boom="evolve"), stream=bad))
            await asyncio.sleep(1)
            gate.open()
        assert beside.result().position == len(await world.log.read(LOG_RUNS, 0, 0, 100)) == 3


@on_virtual_time
async def test_a_state_that_was_spoilt_half_way_is_never_kept() -> None:
    async with World(partitions=1) as world:
        await world.host(room=Fragile())
        stream = world.stream(0)
        for _ in range(SNAPSHOT_EVENTS - 1):
            await world.ask(Add(), stream=stream)
        gate = Gate(world.log)
        async with asyncio.TaskGroup() as group:
            group.create_task(world.ask(Add(), stream=stream))
            await gate.begun.wait()
            group.create_task(world.ask(Add(amount=1_000, spread=ODD), stream=stream))
            await asyncio.sleep(1)
            gate.open()
        for _ in range(SNAPSHOT_EVENTS):
            await world.ask(Add(), stream=stream)
        kept = [(version, body) for _, version, body in world.log._snapshots.values()]
        assert kept
        for version, body in kept:
            assert msgspec.json.decode(body.partition(b"\n")[2], type=Counter).total == version


@on_virtual_time
async def test_a_partition_is_not_settled_while_a_message_of_it_waits_to_be_decided_alone() -> None:
    async with World(partitions=2) as world:
        host = await world.host()
        good, bad, first = world.stream(0, partition=0), world.stream(1, partition=1), world.stream(3, partition=1)
        (held,) = (one for one in host.tenures if one.partition == 0)
        before = Gate(world.log)
        async with asyncio.TaskGroup() as group:
            group.create_task(world.ask(Add(), stream=first))
            await before.begun.wait()
            group.create_task(world.ask(Add(boom="evolve"), stream=bad))
            group.create_task(world.ask(Add(), stream=good))
            await asyncio.sleep(1)
            assert not host._pipeline.settled(held)
            before.open()
        assert host._pipeline.settled(held)


class Wordy(Toy):
    """A room that refuses at length."""

    def decide(self, state: Counter, command: ToyCommand, context: Context) -> Sequence[Event] | Rejection:
        if isinstance(command, Add) and command.amount == ODD:
            return Rejection(ConflictError("no", details={"problems": ["x" * 1_000] * (MESSAGE_BYTES_MAX // 1_000)}))
        return super().decide(state, command, context)


@on_virtual_time
async def test_a_refusal_that_no_message_carries_is_answered_without_its_details() -> None:
    async with World(partitions=1) as world:
        await world.host(room=Wordy())
        refused = await world.ask(Add(amount=ODD), timeout_s=2)
        assert refused.error is not None
        assert (refused.status, refused.error.message) == (409, "no")
        assert refused.error.details["left_out_bytes"] > MESSAGE_BYTES_MAX
        assert (await world.ask(Add())).status == 201


class Unwritten(Toy):
    """A room whose states cannot be written down."""

    def snapshot(self, state: Counter) -> bytes:
        message = "a mistake in snapshot"
        raise RuntimeError(message)


@on_virtual_time
async def test_a_state_that_cannot_be_written_down_is_kept_by_its_events_alone() -> None:
    async with World(partitions=1) as world:
        await world.host(room=Unwritten())
        stream = world.stream(0)
        for _ in range(SNAPSHOT_EVENTS + 2):
            assert (await world.ask(Add(), stream=stream, timeout_s=2)).status in {200, 201}
        assert await world.total(stream) == SNAPSHOT_EVENTS + 2
        await asyncio.sleep(3 * QUICK.rest_s)  # it leaves memory
        assert (await world.ask(Add(), stream=stream, timeout_s=2)).status == 200


@on_virtual_time
async def test_a_message_that_cannot_even_be_parked_takes_no_other_with_it() -> None:
    async with World(partitions=1) as world:
        log = _flaky(world)
        await world.host()
        first, second = sorted((world.stream(0), world.stream(1)))
        log.unparked = first
        gate = Gate(log)
        await world.tell(world.stream(2), Add())
        await gate.begun.wait()
        for stream in (first, second):
            await world.tell(stream, Add(boom="decide"))
        gate.open()
        await until(lambda: _parked(world) == {second})


def _parked(world: World) -> set[str | None]:
    return {one.stream_id for one in world.log._parked}
