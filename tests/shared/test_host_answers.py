"""The owner host: what was answered under idempotency keys is left to the append to find, and read when that pays."""

import asyncio
from collections.abc import Mapping, Sequence

from headrace import codec
from headrace.clock import Clock
from headrace.decider import Context, Rejection
from headrace.errors import ConflictError, UnavailableError
from headrace.events.base import Event
from headrace.host import metrics
from headrace.host.cadence import Cadence
from headrace.log.memory import MemoryLog
from headrace.log.port import Appended, Batch, KeptAnswer
from headrace.messages import Answer
from headrace.vocabulary import LOG_RUNS
from tests.shared.host_toy import Add, Counter, Toy, ToyCommand, World, on_virtual_time, until

FORGETFUL = Cadence(answers_kept_s=0.0, wary_s=0.0)
"""A host that remembers no answer, and learns nothing from one that was kept."""


class Asked(MemoryLog):
    """A log that knows what it was asked, and which appends it refused, call by call."""

    def __init__(self, clock: Clock, *, partitions: Mapping[str, int]) -> None:
        super().__init__(clock, partitions=partitions)
        self.asked: list[set[int]] = []
        self.refused = 0

    async def answers(self, keys: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int, str], KeptAnswer]:
        self.asked.append({partition for _, partition, _ in keys})
        return await super().answers(keys)

    async def append_events(self, batches: Sequence[Batch]) -> Appended:
        appended = await super().append_events(batches)
        self.refused += appended.kept is not None
        return appended


class Once(Toy):
    """A room whose streams can be added to once."""

    def decide(self, state: Counter, command: ToyCommand, context: Context) -> Sequence[Event] | Rejection:
        if isinstance(command, Add) and state.total > 0:
            return Rejection(ConflictError("it was added to already"))
        return super().decide(state, command, context)


def watched(world: World, partitions: int) -> Asked:
    world.log = log = Asked(world.clock, partitions={LOG_RUNS: partitions})
    return log


async def asked(world: World, count: int) -> list[Answer]:
    """Ask under many keys of all partitions at once."""
    async with asyncio.TaskGroup() as group:
        told = [group.create_task(world.ask(Add(), partition=n % 8, key=f"k{n}")) for n in range(count)]
    return [task.result() for task in told]


@on_virtual_time
async def test_fresh_keys_are_not_read_and_those_of_a_moment_ago_are_remembered() -> None:
    async with World(partitions=8) as world:
        log = watched(world, 8)
        await world.host()
        first = await asked(world, 80)
        again = await asked(world, 80)
        assert [one.stream_id for one in again] == [one.stream_id for one in first]
        assert [one.body for one in again] == [one.body for one in first]
        assert (log.asked, log.refused) == ([], 0)


@on_virtual_time
async def test_keys_of_long_ago_are_found_by_the_append_and_then_read_beforehand_all_partitions_at_once() -> None:
    async with World(partitions=8) as world:
        log = watched(world, 8)
        await world.host(cadence=Cadence(answers_kept_s=5.0, wary_s=30.0))
        first = await asked(world, 80)
        await asyncio.sleep(10)
        for _ in range(2):
            again = await asked(world, 80)
            assert [one.stream_id for one in again] == [one.stream_id for one in first]
            await asyncio.sleep(10)
        assert log.refused == 1, "the first that comes again tells that others may"
        assert set(range(8)) in log.asked
        assert len(log.asked) < 8
        for one in first:
            assert await world.total(str(one.stream_id)) == 1
        for partition in range(8):
            assert len(await log.read(LOG_RUNS, partition, 0, 1_000)) == 10


@on_virtual_time
async def test_a_key_that_is_kept_with_another_request_is_refused_however_it_is_found() -> None:
    async with World(partitions=1) as world:
        log = watched(world, 1)
        await world.host(cadence=FORGETFUL)
        first = await world.ask(Add(), key="k")
        other = await world.ask(Add(amount=2), key="k")
        assert (other.status, other.error.type if other.error else "") == (422, "validation_error")
        same = await world.ask(Add(), key="k")
        assert (same.stream_id, same.body) == (first.stream_id, first.body)
        assert log.refused == 2
        assert len(await log.read(LOG_RUNS, 0, 0, 10)) == 1


@on_virtual_time
async def test_what_was_answered_is_said_again_where_the_command_would_be_refused_by_now() -> None:
    async with World(partitions=1) as world:
        log = watched(world, 1)
        await world.host(cadence=FORGETFUL, room=Once())
        stream = world.stream(1)
        first = await world.ask(Add(), stream=stream, key="k")
        assert first.status == 201
        again = await world.ask(Add(), stream=stream, key="k")
        assert (again.status, again.body) == (201, first.body)
        refused = await world.ask(Add(), stream=stream, key="another")
        assert refused.status == 409
        assert (len(log.asked), log.refused) == (2, 0), "a refusal keeps nothing that an append could meet"


@on_virtual_time
async def test_what_was_decided_behind_a_refused_append_is_decided_again_in_its_order() -> None:
    async with World(partitions=2) as world:
        log = watched(world, 2)
        await world.host(cadence=FORGETFUL)
        known = await world.ask(Add(), partition=0, key="k")
        streams = [world.stream(number) for number in range(4)]
        held, open_gate = [0], asyncio.Event()

        async def hold(_: Sequence[Batch]) -> None:
            held[0] += 1
            await open_gate.wait()

        log.before_commit = hold
        async with asyncio.TaskGroup() as group:
            again = group.create_task(world.ask(Add(), partition=0, key="k"))
            before = [group.create_task(world.ask(Add(amount=2), stream=stream)) for stream in streams]
            await until(lambda: held[0] == 1)
            behind = [group.create_task(world.ask(Add(amount=3), stream=stream)) for stream in streams]
            fresh = group.create_task(world.ask(Add(), partition=1, key="new"))
            await asyncio.sleep(1)
            open_gate.set()
        assert again.result().stream_id == known.stream_id
        assert log.refused == 1
        assert [codec.loads(one.result().body)["total"] for one in before] == [2] * 4
        assert [codec.loads(one.result().body)["total"] for one in behind] == [5] * 4
        assert [await world.total(stream) for stream in streams] == [5] * 4
        assert await world.total(str(fresh.result().stream_id)) == 1
        assert await world.total(str(known.stream_id)) == 1


@on_virtual_time
async def test_a_draft_that_still_reads_when_the_append_before_it_is_refused_does_nothing_twice() -> None:
    async with World(partitions=1) as world:
        log = watched(world, 1)
        await world.host(cadence=FORGETFUL)
        cold = world.stream(7)
        await world.ask(Add(), partition=0, key="k")
        held, open_gate = [0], asyncio.Event()

        async def hold(_: Sequence[Batch]) -> None:
            held[0] += 1
            await open_gate.wait()

        log.before_commit = hold
        histories, reading, read = log.histories, asyncio.Event(), asyncio.Event()

        async def slow(log_name: str, fingerprint: str, stream_ids: Sequence[str]) -> object:
            if cold in stream_ids and not reading.is_set():
                reading.set()
                await read.wait()
            return await histories(log_name, fingerprint, stream_ids)

        log.histories = slow  # type: ignore[method-assign,assignment]  # one read that takes its time
        async with asyncio.TaskGroup() as group:
            again = group.create_task(world.ask(Add(), partition=0, key="k"))
            await until(lambda: held[0] == 1)
            late = group.create_task(world.ask(Add(amount=3, orders=1), stream=cold))
            await reading.wait()
            open_gate.set()
            await until(again.done)
            read.set()
        assert late.result().status == 201
        assert await world.total(cold) == 3
        assert [one.version for one in await log.stream(LOG_RUNS, cold)] == [1]


@on_virtual_time
async def test_a_message_that_is_decided_alone_asks_before() -> None:
    async with World(partitions=1) as world:
        watched(world, 1)
        await world.host(cadence=FORGETFUL)
        first = await world.ask(Add(), key="k")
        isolated = metrics.COUNTS["isolated"]
        async with asyncio.TaskGroup() as group:
            group.create_task(world.ask(Add(nul=True), partition=0))
            again = group.create_task(world.ask(Add(), key="k"))
            other = group.create_task(world.ask(Add(amount=4)))
        assert metrics.COUNTS["isolated"] > isolated
        assert again.result().stream_id == first.stream_id
        assert await world.total(str(first.stream_id)) == 1
        assert await world.total(str(other.result().stream_id)) == 4


@on_virtual_time
async def test_a_command_whose_append_had_no_answer_is_done_once_under_its_key() -> None:
    async with World(partitions=1) as world:
        log = watched(world, 1)
        await world.host(cadence=FORGETFUL)
        for committed in (True, False):
            log.fail_next_append(committed=committed)
            key = f"k {committed}"
            answer = await persistently(world, key)
            again = await persistently(world, key)
            assert answer.stream_id == again.stream_id
        assert len(await log.read(LOG_RUNS, 0, 0, 10)) == 2


async def persistently(world: World, key: str) -> Answer:
    """Ask as the api does: again until there is an answer."""
    while True:
        try:
            answer = await world.ask(Add(), key=key, timeout_s=2)
        except UnavailableError:
            continue
        if answer.status != UnavailableError.status:
            return answer
