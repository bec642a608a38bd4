"""Whole runs over a bus that loses, repeats and delays, with failing appends and a planner that dies: seeded schedules."""

import asyncio
import random
from collections import Counter

import pytest

from headrace.bus.memory_broker import ARRIVES, LOST, TWICE, Fate, late
from headrace.events.runs import StepSucceeded
from headrace.log.port import Break
from headrace.steering import PurgeRun
from headrace.testing import virtual
from headrace.testing.engine import Engine
from headrace.vocabulary import LOG_FLOW, LOG_PARTITIONS, LOG_RUNS
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


CALLED = workflow("called", {"id": "hello", "tool": "greet", "with": {"name": "child"}})
ALL = workflow(
    "all",
    {"id": "hello", "map": "{{ inputs.names }}", "tool": "greet", "with": {"name": "{{ item }}"}},
    {"id": "child", "depends_on": ["hello"], "sub_workflow": {"workflow": "called"}},
    {"id": "sign_off", "depends_on": ["child"], "approval": {"roles": ["approver"], "prompt": "Well?"}},
    {"id": "note", "depends_on": ["sign_off"], "tool": "note", "with": {"name": "all"}},
    inputs={"names": {"type": "array"}},
    concurrency={"key": "one", "limit": 1},
)


class Note(Greet):
    """A tool that acts."""

    name, effect, access = "note", "write", "gated"


def test_all_that_inboxes_ever_brought_changes_nothing_when_it_comes_again_to_new_owners() -> None:
    """After NATS and all owners were killed together, settled messages that were not deleted yet come again."""
    virtual.run(_again())


async def _again() -> None:
    async with Engine(tools=[Greet(), Note()]) as engine:
        told: list[tuple[str, bytes]] = []

        def fate(subject: str, data: bytes) -> Fate:
            if ".inbox." in subject:
                told.append((subject, data))
            return ARRIVES

        engine.broker.fate = fate
        await engine.apply(CALLED)
        done, over = [await engine.run(ALL, {"names": ["a", "b", "c"]}) for _ in range(2)]
        await engine.approve(await engine.wait(done, "waiting"))
        await engine.wait(done, "succeeded")
        await engine.cancel(await engine.wait(over, "waiting"))
        await engine.wait(over, "cancelled")
        await engine.ask(LOG_RUNS, PurgeRun(), stream=over.id, as_="root")
        await asyncio.sleep(120)  # everybody has been told all there is to tell
        before = await _told(engine)
        again = list(told)
        assert {subject.split(".")[-2] for subject, _ in again} == {"runs", "flow", "catalogue", "approvals"}
        await engine.kill_planner()
        for subject, data in again + again:
            engine.broker.inbox(subject).add(data, 0)
        await asyncio.sleep(120)
        assert all(not engine.broker.inbox(subject).messages for subject, _ in again), "all of them are settled"
        assert await _told(engine) == before
        keys = await engine.log.rows("flows", {})
        assert [(key["held"], key["queued"], key["busy"]) for key in keys] == [(0, 0, False)] * len(keys)
        assert len(keys) <= 3, "a key that was asked again has begun anew, and ends, as often as it was asked"


async def _told(engine: Engine) -> list[tuple[str, int, str]]:
    """Give every event but those of keys."""
    return [
        (event.stream_id, event.version, event.type)
        for log, partitions in LOG_PARTITIONS.items()
        if log != LOG_FLOW
        for partition in range(partitions)
        for event in await engine.log.read(log, partition, 0, 10_000)
    ]
