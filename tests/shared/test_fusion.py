"""Fusion as a whole: chains between owners and workers, with everything that may happen to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

import headrace
from headrace import codec
from headrace.bus.memory import MemoryBus
from headrace.decider import Dispatch, Unchain
from headrace.errors import StepError
from headrace.events.base import Event
from headrace.host.cadence import QUICK
from headrace.host.dispatch import Dispatcher
from headrace.host.pools import Order
from headrace.host.presence import Presence
from headrace.testing.engine import Engine
from headrace.testing.virtual import VirtualClock, in_virtual_time
from headrace.wire import Beat, EndChain, FusedStep, Holding, WorkOrder
from tests.shared.host_toy import KEYS, POOL_NAME, on_virtual_time, order

STEPS = 8
called: list[int] = []
slow: dict[int, float] = {}
failing: set[int] = set()


@headrace.tool
async def up(n: int) -> dict[str, int]:
    """Give a number plus one; some take their time, some fail once."""
    called.append(n)
    await asyncio.sleep(slow.get(n, 0.0))
    if n in failing:
        failing.discard(n)
        message = f"not {n}"
        raise StepError(message, type="upstream_error")
    return {"n": n + 1}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    called.clear()
    slow.clear()
    failing.clear()


def document(**spec: Any) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {
            "id": f"s{place}",
            "tool": "up",
            "with": {"n": f"{{{{ steps.s{place - 1}.output.n }}}}" if place else 0},
            "retry": {"max_attempts": 2, "backoff": {"initial": "1s"}},
        }
        for place in range(STEPS)
    ]
    body = {"steps": steps, "outputs": f"{{{{ steps.s{STEPS - 1}.output.n }}}}", **spec}
    return {"apiVersion": "headrace/v1", "kind": "Workflow", "metadata": {"name": "chain"}, "spec": body}


def told(event: Event) -> tuple[str, Any, Any, Any]:
    """What does not differ from run to run: no ids, workers, times and digests of plans."""
    known = codec.loads(codec.encode(event))
    return event.type_name(), known.get("step"), known.get("output"), known.get("arguments_digest")


@asynccontextmanager
async def fusing(**more: Any) -> AsyncIterator[Engine]:
    async with Engine(tools=[up], **more) as engine:
        yield engine


@in_virtual_time
async def test_a_chain_of_steps_gives_what_its_steps_give_one_by_one() -> None:
    histories = []
    for fuse in (True, False):
        async with fusing() as engine:
            run = await engine.run(document(fuse=fuse))
            assert await run.result() == STEPS
            histories.append(await engine.events(run))
    fused, single = histories
    assert [event.type_name() for event in fused].count("steps.succeeded") == 1
    assert [told(one) for event in fused for one in event.parts] == [told(event) for event in single]
    assert called == [*range(STEPS), *range(STEPS)]


@in_virtual_time
async def test_a_step_that_fails_is_tried_again_and_the_chain_goes_on_from_there() -> None:
    failing.add(3)
    async with fusing() as engine:
        run = await engine.run(document())
        assert await run.result() == STEPS
    assert called == [0, 1, 2, 3, *range(3, STEPS)]


@in_virtual_time
async def test_a_planner_that_dies_in_the_middle_of_a_chain_lets_no_step_be_performed_twice() -> None:
    slow[4] = 15.0
    async with fusing() as engine:
        run = await engine.run(document())
        await engine.pass_time(1.0)
        assert called[-1] == 4
        await engine.kill_planner()
        assert await run.result() == STEPS
    assert called == list(range(STEPS))


@in_virtual_time
async def test_a_cancel_reaches_the_step_that_a_chain_has_come_to_within_a_second() -> None:
    slow[5] = 60.0
    async with fusing() as engine:
        run = await engine.run(document())
        await engine.pass_time(1.0)
        await engine.cancel(run)
        await engine.pass_time(1.0)
        assert run.status == "cancelled"
    assert called == list(range(6))


@in_virtual_time
async def test_a_pause_lets_the_step_end_that_a_chain_has_come_to_and_begins_no_other() -> None:
    slow[5] = 5.0
    async with fusing() as engine:
        run = await engine.run(document())
        await engine.pass_time(1.0)
        await engine.pause(run)
        await engine.pass_time(30.0)
        assert called == list(range(6))
        assert run.step("s5").status == "succeeded"
        await engine.resume(run)
        assert await run.result() == STEPS
    assert called == list(range(STEPS))


@in_virtual_time
async def test_a_chain_that_takes_long_is_dispatched_anew_and_nothing_is_performed_twice() -> None:
    slow.update(dict.fromkeys(range(STEPS), 0.4))
    async with fusing() as engine:
        run = await engine.run(document())
        assert await run.result() == STEPS
    assert called == list(range(STEPS))


class Desk:
    """A dispatcher by hand, and what it published."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.presence = Presence(self.clock, QUICK)
        self.published: list[WorkOrder] = []
        self.controlled: list[bytes] = []
        bus: Any = MemoryBus(self.clock)
        bus.publish_work = lambda _pool, data: self.published.append(
            msgspec.json.decode(KEYS.unpack(data)[1], type=WorkOrder)
        )
        bus.publish_control = lambda data: self.controlled.append(KEYS.unpack(data)[1])
        self.dispatcher = Dispatcher(bus, self.clock, KEYS, self.presence, lambda _held, _stream, _said: None)

    def offer(self, one: WorkOrder, *, held_by: str = "", pump: bool = True) -> None:
        class Tenure:
            def live(self, _now: float) -> bool:
                return True

        tenure: Any = Tenure()
        self.dispatcher.offer(tenure, Dispatch(one, held_by=held_by), suspect=False)
        if pump:
            self.dispatcher.pump()


def chained(attempt: int) -> WorkOrder:
    link = FusedStep(
        step="next",
        attempt_id="att_next",
        kind="tool",
        tool="t",
        arguments=codec.raw({}),
        manifest_digest="d",
        effect="read",
        idempotency_key="k",
        timeout_s=1.0,
    )
    return msgspec.structs.replace(order("run_x", "w", attempt), chain=(link,))


@on_virtual_time
async def test_an_attempt_that_a_worker_has_come_to_is_looked_after_and_not_published() -> None:
    desk, one, other = Desk(), order("run_x", "w", 1), order("run_x", "w", 2)
    desk.offer(one, held_by="wrk_1")
    held = (Holding(attempt_id=other.attempt_id, tool="t", since=0, begun=True),)
    desk.presence.heard(Beat(worker="wrk_1", service="s", host="h", pools=(POOL_NAME,), slots=4, holding=held))
    desk.offer(other)
    assert desk.published == []
    assert desk.dispatcher.knows(one.attempt_id)
    assert desk.dispatcher.knows(other.attempt_id)


@on_virtual_time
async def test_a_chain_that_is_to_end_leaves_without_its_steps_while_it_waits() -> None:
    desk, one = Desk(), chained(1)
    desk.offer(one, pump=False)
    desk.dispatcher.unchain(Unchain(EndChain(attempt_id=one.attempt_id, reason="paused"), one.pool))
    desk.dispatcher.pump()
    assert [each.chain for each in desk.published] == [()]
    assert desk.controlled == []


@on_virtual_time
async def test_a_chain_that_is_to_end_is_told_so_once_it_has_left() -> None:
    desk, one = Desk(), chained(1)
    desk.offer(one)
    desk.dispatcher.unchain(Unchain(EndChain(attempt_id=one.attempt_id, reason="paused"), one.pool))
    assert [each.chain for each in desk.published] == [one.chain]
    assert msgspec.json.decode(desk.controlled[-1], type=EndChain) == EndChain(
        attempt_id=one.attempt_id, reason="paused"
    )


@on_virtual_time
async def test_a_chain_costs_its_workspace_as_much_as_its_steps() -> None:
    tenure: Any = None
    assert Order(tenure, chained(1), 0).cost == Order(tenure, order("run_x", "w", 1), 0).cost + 1
