"""The owner host: who asked is told how a stream ended, once that is committed, and nobody else."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
import pytest

from headrace import codec
from headrace.bus.memory import MemoryBus
from headrace.bus.memory_broker import ARRIVES, Fate
from headrace.decider import Laid
from headrace.events.base import Event
from headrace.host.endings import ROWS_MAX
from headrace.host.library import CachedLibrary
from headrace.keys import COMMANDS
from headrace.log.tables import LAYOUT, TABLES
from headrace.messages import Answer, Command, Ended
from headrace.vocabulary import LOG_RUNS
from tests.shared.host_toy import ANNA, KEYS, Add, Counter, Toy, World, on_virtual_time, until

RUNS = TABLES["runs"].columns


class Ending(Toy):
    """A room whose streams are over at three."""

    copies = 1

    def finished(self, state: Counter) -> bool:
        return state.total >= 3

    def rows(self, state: Counter, events: Sequence[Event] | None) -> Iterable[Any]:
        made = super().rows(state, events)[0]  # type: ignore[index]  # the toy gives a list
        values = tuple(made.columns.get(name) for name in RUNS)
        return [Laid("runs", values, RUNS)] * (self.copies if events is None else 1)


async def ask(world: World, amount: int, *, end_to: str, stream: str | None = None) -> Answer:
    body = Command(body=codec.raw(Add(amount=amount)), actor=ANNA, workspace="default", stream_id=stream, end_to=end_to)
    data = KEYS.pack(COMMANDS, codec.encode(body))
    answer = msgspec.json.decode(await world.bus.command(LOG_RUNS, 0, data, timeout_s=30), type=Answer)
    assert answer.error is None, answer
    return answer


async def host(world: World, copies: int = 1) -> list[Ended]:
    """Start a host of the room, and give what is told at the place `here`."""
    told: list[Ended] = []
    await world.bus.open_ends("here", lambda data: told.append(msgspec.json.decode(data, type=Ended)))
    room = Ending(CachedLibrary())
    room.copies = copies
    await world.host(room=room)
    return told


@on_virtual_time
async def test_who_asked_is_told_at_the_end_and_not_before() -> None:
    async with World() as world:
        told = await host(world)
        made = await ask(world, 1, end_to="here.7")
        stream = str(made.stream_id)
        await ask(world, 1, end_to="", stream=stream)
        assert told == []
        await ask(world, 1, end_to="", stream=stream)
        await until(lambda: len(told) == 1)
        (ended,) = told
        assert (ended.to, ended.stream_id, ended.layout) == ("here.7", stream, LAYOUT)
        row = dict(zip(RUNS, ended.rows["runs"][0], strict=True))
        assert row == await world.log.row("runs", {"id": stream})


@on_virtual_time
async def test_who_asked_before_a_tenure_ended_is_told_by_the_next_one_of_the_same_process() -> None:
    async with World(partitions=1) as world:
        told: list[Ended] = []
        await world.bus.open_ends("here", lambda data: told.append(msgspec.json.decode(data, type=Ended)))
        owner = await world.host(room=Ending(CachedLibrary()))
        stream = str((await ask(world, 1, end_to="here.7")).stream_id)
        world.logs["a"].cut = True
        await until(lambda: not list(owner.tenures))
        world.logs["a"].cut = False
        await until(lambda: owner.ready and bool(list(owner.tenures)))
        await ask(world, 2, end_to="", stream=stream)
        await until(lambda: [each.to for each in told] == ["here.7"])


@on_virtual_time
async def test_what_is_told_is_committed_and_told_before_the_feed_speaks_of_it() -> None:
    async with World() as world:
        order: list[str] = []
        await host(world)

        def fate(subject: str, _: bytes) -> Fate:
            order.extend(part for part in ("ends", "feed") if part in subject.split("."))
            return ARRIVES

        world.broker.fate = fate
        made = await ask(world, 3, end_to="here.1")
        assert (await world.total(str(made.stream_id))) == 3
        await until(lambda: "feed" in order)
        assert order == ["ends", "feed"]


@pytest.mark.parametrize("end_to", ["", "here", "a b.1", "here.*", "here.1.2", ">.1"])
@on_virtual_time
async def test_a_place_that_is_none_is_told_nothing(end_to: str) -> None:
    async with World() as world:
        told = await host(world)
        await ask(world, 3, end_to=end_to)
        await ask(world, 3, end_to="here.2")
        await until(lambda: len(told) == 1)
        assert told[0].to == "here.2"


@on_virtual_time
async def test_an_end_of_many_rows_is_left_to_be_read() -> None:
    async with World() as world:
        told = await host(world, copies=ROWS_MAX + 1)
        made = await ask(world, 3, end_to="here.1")
        assert (await world.total(str(made.stream_id))) == 3
        assert told == []


class Pushed(MemoryBus):
    """A bus that notes what goes out, and when it is pushed."""

    out: ClassVar[list[str]] = []

    def publish_end(self, place: str, data: bytes) -> None:
        self.out.append("end")
        super().publish_end(place, data)

    def publish_work(self, pool: str, data: bytes) -> None:
        self.out.append("order")
        super().publish_work(pool, data)

    def publish_feed(self, log: str, data: bytes) -> None:
        self.out.append("feed")
        super().publish_feed(log, data)

    def push(self) -> None:
        self.out.append("push")


@on_virtual_time
async def test_what_somebody_waits_for_goes_out_before_the_feed_is_told() -> None:
    async with World() as world:
        world.make_bus = Pushed
        await host(world)
        Pushed.out.clear()
        await ask(world, 3, end_to="here.1")
        await until(lambda: "feed" in Pushed.out)
        assert Pushed.out == ["end", "push", "feed"]
        Pushed.out.clear()
        answer = await world.ask(Add(amount=1, orders=2))
        assert answer.error is None
        await until(lambda: "feed" in Pushed.out)
        assert Pushed.out == ["order", "order", "push", "feed"]
