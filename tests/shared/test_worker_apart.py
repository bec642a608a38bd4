"""A worker on a real NATS whose tools block its event loop: it is heard all the same, and says what holds it up."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace.bus.jetstream import JetStreamBus
from headrace.clock import SystemClock
from headrace.config import Config
from headrace.errors import UnavailableError
from headrace.ports.tool import ToolContext
from headrace.wire import Beat, BeatNow, Drain, Interrupt
from headrace.worker.decorator import tool
from headrace.worker.registry import Registry
from headrace.worker.service import make_worker
from headrace.worker.twins import MemoryBlobs
from tests.shared.worker_kit import KEYS, Owner, until

BLOCKED_AFTER_S = 0.3
STANDS_S = 10.0
release = threading.Event()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    release.clear()


@tool(pool="test")
async def sleeper() -> dict[str, str]:
    """Block the event loop, as a mistaken `time.sleep` in an asynchronous tool does."""
    while not release.is_set():
        time.sleep(0.02)  # noqa: ASYNC251  (the mistake that is to be noticed)
    return {"said": "slept"}


@tool(pool="test")
async def counter() -> dict[str, int]:
    """Block the event loop by computing in a task of the tool's own."""
    count = 0

    async def spin() -> None:
        nonlocal count
        while not release.is_set():
            count += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(spin())
    return {"count": 1}


@tool(pool="test")
async def heeding(context: ToolContext) -> dict[str, bool]:
    """Block the event loop, but look whether it should stop."""
    while not context.cancelled and not release.is_set():
        time.sleep(0.02)  # noqa: ASYNC251  (the mistake that is to be noticed)
    return {"cancelled": context.cancelled}


@contextlib.asynccontextmanager
async def worker_apart(url: str, root: Path, *tools: Any, incarnation: str) -> AsyncIterator[Owner]:
    """Run a worker on a loop and a thread of its own, and the owner it works for on the test's loop."""
    clock = SystemClock()
    registry = Registry(tools)
    ended = threading.Event()
    stop: list[Any] = []

    async def work() -> None:
        bus = await JetStreamBus.connect(url, incarnation, clock)
        worker = make_worker(
            service="test",
            bus=bus,
            clock=clock,
            config=Config(keys=KEYS, file_root=root, slots=2),
            registry=registry,
            blobs=MemoryBlobs(),
            blocked_after_s=BLOCKED_AFTER_S,
        )
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(worker.run())
            stop.append(lambda: loop.call_soon_threadsafe(task.cancel))
        await bus.close()

    def live() -> None:
        try:
            asyncio.run(work())
        finally:
            ended.set()

    bus = await JetStreamBus.connect(url, incarnation, clock)
    owner = Owner(bus, registry)
    await owner.open()
    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        await until(lambda: owner.announced and owner.beats)
        async with asyncio.timeout(STANDS_S):
            while not await stands(bus):  # noqa: ASYNC110  (nothing tells when a stream is made)
                await asyncio.sleep(0.02)
        yield owner
    finally:
        release.set()
        await until(lambda: stop or ended.is_set())
        stop[0]()
        await until(ended.is_set)
        await bus.close()


async def stands(bus: JetStreamBus) -> bool:
    """Tell whether the pool has its stream: an order published before would be lost."""
    try:
        await bus.passed("test")
    except UnavailableError:
        return False
    return True


def last(owner: Owner) -> Beat:
    return owner.beats[-1]


@pytest.mark.parametrize("name", ["sleeper", "counter"])
async def test_a_tool_that_blocks_the_loop_is_named_and_its_worker_goes_on_beating(
    nats_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, "headrace.worker")
    async with worker_apart(nats_url, tmp_path, sleeper, counter, incarnation=f"blocked-{name}") as owner:
        order = owner.send(owner.order(name))
        await until(lambda: owner.beats and last(owner).blocked)
        blocked = last(owner).blocked
        assert blocked is not None
        assert (blocked.tool, blocked.attempt_id) == (name, order.attempt_id)
        heard = len(owner.beats)
        owner.control(BeatNow(worker=last(owner).worker, nonce="are you there"))
        await until(lambda: any(beat.answers == "are you there" for beat in owner.beats[heard:]))
        assert owner.held() == {order.attempt_id}
        assert owner.reports == []
        assert f"held up by the tool {name}" in caplog.text
        assert Path(__file__).name in caplog.text  # the stack, down to the tool's own line
        release.set()
        report = await owner.report_of(order)
        await until(lambda: last(owner).blocked is None)
    assert report.status == "succeeded", report.error
    assert "answers again" in caplog.text
    assert last(owner).leaving


async def test_a_blocking_tool_that_looks_is_stopped_although_its_loop_is_blocked(
    nats_url: str, tmp_path: Path
) -> None:
    async with worker_apart(nats_url, tmp_path, heeding, incarnation="heeding") as owner:
        order = owner.send(owner.order("heeding"))
        await until(lambda: owner.beats and last(owner).blocked)
        async with asyncio.timeout(1):
            owner.control(Interrupt(attempt_id=order.attempt_id, reason="the run was cancelled"))
            await owner.report_of(order)


async def test_a_worker_that_waits_is_not_called_blocked(nats_url: str, tmp_path: Path) -> None:
    @tool(pool="test")
    async def patient() -> dict[str, str]:
        """Wait as one should."""
        await asyncio.sleep(BLOCKED_AFTER_S * 4)
        return {"said": "done"}

    async with worker_apart(nats_url, tmp_path, patient, incarnation="patient") as owner:
        assert (await owner.report_of(owner.send(owner.order("patient")))).status == "succeeded"
        assert not any(beat.blocked for beat in owner.beats)


async def test_a_paused_worker_takes_nothing_until_it_is_resumed(nats_url: str, tmp_path: Path) -> None:
    @tool(pool="test")
    async def quick() -> dict[str, str]:
        """Do it at once."""
        return {"said": "done"}

    async with worker_apart(nats_url, tmp_path, quick, incarnation="paused") as owner:
        await owner.report_of(owner.send(owner.order("quick", attempt="before")))
        worker = last(owner).worker
        owner.control(Drain(worker=worker))
        await until(lambda: last(owner).draining)
        late = owner.send(owner.order("quick", attempt="late"))
        owner.control(BeatNow(worker=worker, nonce="and now"))
        await until(lambda: any(beat.answers == "and now" for beat in owner.beats))
        assert len(owner.reports) == 1
        owner.control(Drain(worker=worker, resume=True))
        assert (await owner.report_of(late)).status == "succeeded"
        assert not last(owner).leaving
