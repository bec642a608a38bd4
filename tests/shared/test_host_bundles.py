"""Results of one map that wait together are decided together; what goes wrong among them goes wrong alone."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from headrace import codec, ids
from headrace.decider import Context
from headrace.events.base import Event
from headrace.events.runs import StepsSucceeded, StepSucceeded
from headrace.host.bundles import TOGETHER_BYTES_MAX, TOGETHER_MAX, gathered, released
from headrace.host.items import Item, Origin
from headrace.host.tenure import Held
from headrace.keys import POOL
from headrace.messages import ReportAttempt, Told
from headrace.vocabulary import LOG_RUNS
from tests.shared.host_toy import KEYS, POOL_NAME, Add, Counter, Toy, World, on_virtual_time, until

HELD = Held(LOG_RUNS, 0, 1, 0, 1.0, None)


def word(attempt_id: str, index: int | None = 0, **more: Any) -> ReportAttempt:
    known = {"run_id": "run", "step": "each", "attempt": 1, "status": "succeeded", "worker": "wrk_1", **more}
    return msgspec.convert({"type": "report", "attempt_id": attempt_id, "index": index, **known}, ReportAttempt)


def item(number: int, index: int | None = 0, *, stream: str = "run", body: bytes = b"", **more: Any) -> Item:
    return Item(HELD, Origin.INBOX, stream, word(str(number), index, **more), body=body)


def names(items: list[Item]) -> list[list[str]]:
    return [[one.command.attempt_id for one in (lead, *lead.others)] for lead in items]


def test_results_of_a_map_gather_behind_the_first_and_what_others_say_stays_in_its_place() -> None:
    items = [
        item(1),
        item(2, stream="other"),
        item(3, index=None),
        item(4),
        item(5),
        item(6, stream="other"),
        item(7, status="failed"),
        item(8),
        item(9, step="more"),
        item(10),
    ]
    assert names(gathered(items)) == [["1"], ["2", "6"], ["3"], ["4", "5"], ["7"], ["8", "10"], ["9"]]


def test_a_batch_is_bounded_in_results_and_in_bytes() -> None:
    many = gathered(item(number) for number in range(TOGETHER_MAX + 1))
    assert [1 + len(lead.others) for lead in many] == [TOGETHER_MAX, 1]
    large = gathered(item(number, body=b"x" * (TOGETHER_BYTES_MAX // 2)) for number in range(3))
    assert [1 + len(lead.others) for lead in large] == [2, 1]


def test_what_waits_again_is_gathered_anew_but_not_what_is_decided() -> None:
    lead, other = gathered([item(1), item(2), item(3, index=None)])
    assert names(gathered([lead, item(4), other])) == [["1", "2", "4"], ["3"]]
    lead.decided = True
    assert names(gathered([lead, item(5)])) == [["1", "2", "4"], ["5"]]
    assert [one.command.attempt_id for one in released(lead)] == ["1", "2", "4"]


class Gathering(Toy):
    """A toy that takes results together, but for those of a worker whose results it trips over."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []

    def awaits(self, state: Counter, command: ReportAttempt) -> bool:
        return command.attempt_id in state.under_way

    def decide(self, state: Counter, command: Any, context: Context) -> Any:
        if isinstance(command, ReportAttempt) and command.evidence is not None:
            message = "a mistake about one result"
            raise RuntimeError(message)
        return super().decide(state, command, context)

    def together(
        self, state: Counter, commands: Sequence[ReportAttempt], context: Context
    ) -> tuple[Sequence[Event], int]:
        if any(command.evidence is not None for command in commands):
            message = "a mistake about one of them"
            raise RuntimeError(message)
        good: list[ReportAttempt] = []
        for command in commands:
            if command.attempt_id not in state.under_way or command.attempt_id in {one.attempt_id for one in good}:
                break
            good.append(command)
        self.taken.append(len(good))
        results = tuple(StepSucceeded(step="done", attempt_id=command.attempt_id) for command in good)
        return ((StepsSucceeded(results=results),), len(good)) if len(good) > 1 else ((), 0)

    def evolve(self, state: Counter, event: Event, at: int) -> Counter:
        for part in event.parts:
            state = super().evolve(state, part, at)
        return state


async def send(world: World, stream: str, attempts: list[str], **odd: dict[str, Any]) -> None:
    """Send results in one message; `odd` changes those of some attempts."""
    reports = [word(name, index, **{"run_id": stream, **odd.get(name, {})}) for index, name in enumerate(attempts)]
    told = [Told(stream_id=stream, body=codec.raw(report), workspace="default") for report in reports]
    await world.bus.tell(LOG_RUNS, ids.partition_of(stream), KEYS.pack(POOL + POOL_NAME, codec.dumps(told)))


async def begun(world: World, room: Gathering, orders: int) -> tuple[str, list[str]]:
    await world.host(room=room)
    stream = world.stream(0)
    await world.ask(Add(orders=orders), stream=stream)
    return stream, [ids.derive(ids.ATTEMPT, 0, 0, stream, str(number)) for number in range(orders)]


async def _types(world: World, stream: str) -> list[str]:
    return [event.type for event in await world.log.stream(LOG_RUNS, stream)]


async def _recorded(world: World, stream: str, count: int) -> bool:
    read = await world.log.stream(LOG_RUNS, stream)
    results = [codec.loads(event.data) for event in read if event.type in {"step.succeeded", "steps.succeeded"}]
    done = sum(len(each["results"]) if "results" in each else each["step"] == "done" for each in results)
    return done == count


@on_virtual_time
async def test_results_that_came_together_are_one_event_and_their_message_is_settled() -> None:
    room = Gathering()
    async with World() as world:
        stream, attempts = await begun(world, room, 6)
        await send(world, stream, attempts)
        await until(partial(_recorded, world, stream, 6))
        assert await _types(world, stream) == ["step.succeeded", "steps.succeeded"]
        assert room.taken == [6]
        await send(world, stream, [attempts[2]])  # and the inbox goes on
        assert (await world.ask(Add(), stream=stream)).status == 200


@on_virtual_time
async def test_one_that_is_no_news_is_decided_alone_and_the_rest_together_again() -> None:
    async with World() as world:
        room = Gathering()
        stream, attempts = await begun(world, room, 6)
        await send(world, stream, [*attempts[:2], attempts[0], *attempts[2:]])
        await until(partial(_recorded, world, stream, 6))
        kinds = await _types(world, stream)
        assert kinds.count("steps.succeeded") >= 1
        assert await world.log.parked() == []


@on_virtual_time
async def test_a_mistake_about_one_result_is_parked_and_those_that_came_with_it_stand() -> None:
    async with World() as world:
        stream, attempts = await begun(world, Gathering(), 5)
        odd = {attempts[2]: {"evidence": {"source": "here", "fetched_at": 1}}}
        await send(world, stream, attempts, **odd)
        await until(partial(_recorded, world, stream, 4))
        (parked,) = await world.log.parked()
        assert "a mistake about one result" in parked.error
        assert attempts[2].encode() in parked.body


@on_virtual_time
async def test_results_whose_append_is_lost_come_again_and_count_once() -> None:
    async with World() as world:
        stream, attempts = await begun(world, Gathering(), 6)
        world.kill("a")
        await send(world, stream, attempts)
        await world.host("b", room=Gathering())
        await until(partial(_recorded, world, stream, 6))
        assert (await _types(world, stream)).count("step.succeeded") == 1
