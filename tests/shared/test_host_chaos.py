"""Whole runs over a bus that loses, repeats and delays, with failing appends and a planner that dies: seeded schedules."""

import asyncio
import random
from collections import Counter

import pytest

from headrace.bus.memory_broker import ARRIVES, LOST, TWICE, Fate, late
from headrace.events.runs import StepSucceeded
from headrace.log.port import Break
from headrace.testing import virtual
from headrace.testing.engine import Engine
from tests.tour.kit import Greet, workflow

PARTY = workflow(
    "party",
    {"id": "hello", "map": "{{ inputs.names }}", "tool": "greet", "with": {"name": "{{ item }}"}},
    {"id": "sign_off", "depends_on": ["hello"], "approval": {"roles": ["approver"], "prompt": "Well?"}},
    {"id": "bye", "depends_on": ["sign_off"], "tool": "greet", "with": {"name": "all"}},
    inputs={"names": {"type": "array"}},
    timeout="10h",
)
GUESTS = 40


@pytest.mark.parametrize("seed", range(8))
def test_a_run_ends_well_and_once_whatever_the_bus_does(seed: int) -> None:
    virtual.run(_story(random.Random(seed)))  # noqa: S311  (a schedule that repeats, no secret)


async def _story(chance: random.Random) -> None:
    async with Engine(tools=[Greet()]) as engine:

        def fate(_subject: str, _data: bytes) -> Fate:
            drawn = chance.random()
            if drawn < 0.10:
                return LOST
            if drawn < 0.20:
                return TWICE
            return late(chance.random() * 3) if drawn < 0.40 else ARRIVES

        engine.broker.fate = fate
        run = await engine.run(PARTY, {"names": [f"guest {number}" for number in range(GUESTS)]})
        await asyncio.sleep(chance.random() * 2)
        engine.log.fail_next_append(committed=chance.random() < 0.5)
        await asyncio.sleep(chance.random() * 5)
        if chance.random() < 0.5:
            await engine.kill_planner()
        if chance.random() < 0.3:
            engine.broker.wipe()
        await engine.approve(await engine.wait(run, "waiting", "succeeded", seconds=3_600))
        done = await engine.wait(run, "succeeded", seconds=3_600)
        assert {step.status for step in done.steps.values()} == {"succeeded"}
        events = await engine.events(run)
        parts = [part for one in events for part in one.parts]
        ended = Counter((one.step, one.index) for one in parts if isinstance(one, StepSucceeded))
        assert sum(1 for step, index in ended if step == "hello" and index is not None) == GUESTS
        assert set(ended.values()) == {1}
        assert not [found async for found in engine.log.verify() if isinstance(found, Break)]
        assert await engine.log.parked() == []
