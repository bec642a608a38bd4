"""Beats of workers that hold very much: said in several messages, and whole again where they are heard."""

import asyncio

import msgspec
import pytest

from headrace import beats, ids
from headrace.bus.memory import MemoryBus
from headrace.clock import SystemClock
from headrace.codec import raw
from headrace.errors import MESSAGE_CHARS_MAX
from headrace.host.cadence import QUICK
from headrace.host.dispatch import Dispatcher
from headrace.host.listening import Listening
from headrace.host.presence import Presence as Heard
from headrace.keys import POOL
from headrace.vocabulary import MESSAGE_BYTES_MAX
from headrace.wire import Beat, Holding
from headrace.worker.decorator import FunctionTool, tool
from headrace.worker.registry import Registry
from headrace_api.presence import Presence as Shown
from tests.shared.host_toy import KEYS, POOL_NAME, until

MANY = 6_000


def attempt(number: int) -> str:
    return ids.derive(ids.ATTEMPT, 0, 0, "beats", str(number))


def beat(count: int, *, at: int = 1) -> Beat:
    holding = tuple(
        Holding(
            attempt_id=attempt(number), tool="look", since=1, run_id="run_1", step="s", message="m" * 200, begun=True
        )
        for number in range(count)
    )
    return Beat(
        worker="wrk_1", service="w", host="h", pools=(POOL_NAME,), slots=64, holding=holding, at=at, done_total=7
    )


def test_what_many_tools_failed_with_fits_into_a_beat() -> None:
    registry = Registry([named(f"tool_{number}") for number in range(400)])
    for record in registry.records():
        record.started(1)
        record.ended(1.0, error="x" * MESSAGE_CHARS_MAX)
    registry.refuse("missing", ValueError("x" * MESSAGE_BYTES_MAX))
    told = beats.messages(msgspec.structs.replace(beat(1), tools=registry.told()))
    assert max(map(len, told)) < MESSAGE_BYTES_MAX
    assert all(shown["reason"].endswith("x") for shown in registry.show())


def test_very_many_tools_are_told_in_several_messages_and_whole_where_they_are_heard() -> None:
    tools = tuple(raw({"name": f"tool_{number}", "state": "failed", "reason": "x" * 400}) for number in range(5_000))
    told = beats.messages(msgspec.structs.replace(beat(MANY), tools=tools))
    assert max(map(len, told)) < MESSAGE_BYTES_MAX
    gathered = beats.Gathered()
    *others, whole = [gathered.take(msgspec.json.decode(body, type=Beat)) for body in told]
    assert others == [None] * len(others)
    assert whole is not None
    assert whole.tools == tools
    assert len(whole.holding) == MANY


def named(name: str) -> FunctionTool:
    """Make a tool."""

    def perform(text: str) -> dict[str, str]:
        """Give it back."""
        return {"text": text}

    return tool(name=name, pool=POOL_NAME)(perform)


def parts(told: Beat) -> list[Beat]:
    return [msgspec.json.decode(body, type=Beat) for body in beats.messages(told)]


def test_what_fits_a_message_is_one_message() -> None:
    assert [len(beats.messages(beat(count))) for count in (0, 1, 500)] == [1, 1, 1]
    assert beats.Gathered().take(beat(3)) == beat(3)


def test_a_beat_that_holds_very_much_comes_in_messages_that_fit_and_is_whole_again() -> None:
    bodies = beats.messages(beat(MANY))
    assert len(bodies) > 1
    assert max(map(len, bodies)) < MESSAGE_BYTES_MAX
    gathered = beats.Gathered()
    *early, last = [gathered.take(part) for part in parts(beat(MANY))]
    assert early == [None] * (len(bodies) - 1)
    assert last == beat(MANY)


@pytest.mark.parametrize("lost", [0, 1, -1])
def test_a_beat_that_lacks_a_part_is_none_and_the_next_one_is_whole(lost: int) -> None:
    gathered, told = beats.Gathered(), parts(beat(MANY))
    del told[lost]
    assert [gathered.take(part) for part in told] == [None] * len(told)
    after = [gathered.take(part) for part in parts(beat(MANY - 1, at=2))]
    assert after[-1] == beat(MANY - 1, at=2)


def test_parts_of_two_beats_are_never_mixed() -> None:
    gathered, before, after = beats.Gathered(), parts(beat(MANY)), parts(beat(MANY, at=2))
    mixed = [before[0], *after[1:]]
    assert [gathered.take(part) for part in mixed] == [None] * len(mixed)


async def test_owners_and_the_api_know_every_attempt_of_a_worker_that_holds_very_much() -> None:
    clock = SystemClock()
    bus = MemoryBus(clock)
    heard, shown = Heard(clock), Shown(clock, KEYS)
    dispatcher = Dispatcher(bus, clock, KEYS, heard, lambda *_: None)
    listening = Listening(
        bus, clock=clock, keys=KEYS, owner_id="own_1", presence=heard, dispatcher=dispatcher, cadence=QUICK
    )
    await bus.open_presence(shown.deliver)

    def said() -> bool:
        for body in beats.messages(beat(MANY)):
            bus.publish_presence(KEYS.pack(POOL + POOL_NAME, body))
        return heard.holder(attempt(0)) is not None

    async with asyncio.TaskGroup() as group:
        task = group.create_task(listening.run())
        await until(said)
        assert [heard.holder(attempt(number)) for number in (MANY // 2, MANY - 1)] == ["wrk_1"] * 2
        assert len(shown.held_for("run_1")) == MANY
        task.cancel()
