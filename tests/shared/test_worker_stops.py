"""Stopping what a worker does: what is told to stop, what does not heed it, and what goes back to its pool."""

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.bus.memory import MemoryBus, MemoryWork
from headrace.bus.port import Delivery
from headrace.clock import SystemClock
from headrace.codec import encode
from headrace.keys import POOL
from headrace.ports.tool import ToolContext
from headrace.wire import Drain, Interrupt
from headrace.worker.decorator import tool
from headrace.worker.processes import LINE_BYTES_MAX, OUTPUT_BYTES_MAX, READ_BYTES, run_process
from headrace.worker.twins import Bench
from tests.shared.worker_kit import KEYS, until, working

calls: list[str] = []
gate = threading.Event()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    calls.clear()
    gate.clear()


@tool(pool="test")
def note(text: str) -> dict[str, str]:
    """Note that it was called."""
    calls.append(text)
    return {"text": text}


@tool(pool="test")
def hang_in_thread(context: ToolContext) -> dict[str, str]:
    """Never end by itself, in a thread."""
    calls.append(context.attempt_id)
    gate.wait(30)
    return {}


@tool(pool="other")
def elsewhere(text: str) -> dict[str, str]:
    """Do something for another pool."""
    calls.append(text)
    return {"text": text}


@tool(pool="test")
async def deaf(context: ToolContext) -> dict[str, str]:
    """Never heed that it should stop."""
    calls.append(context.attempt_id)
    while not gate.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)
    return {}


async def test_what_a_draining_worker_has_not_begun_goes_back_to_its_pool_as_it_came(tmp_path: Path) -> None:
    async with working(tmp_path, hang_in_thread, elsewhere, slots=1) as (owner, worker):
        order = owner.send(owner.order("hang_in_thread"))
        await until(lambda: calls)
        waiting = owner.send(owner.order("elsewhere", {"text": "never here"}, attempt="waiting"))
        await until(lambda: len(worker.beat().holding) == 2)
        assert {held.attempt_id: held.begun for held in worker.beat().holding} == {
            order.attempt_id: True,
            waiting.attempt_id: False,
        }
        owner.control(Drain(worker=worker.beat().worker))
        await until(lambda: len(worker.beat().holding) == 1)
        taken: list[Delivery] = []
        other = await owner.bus.open_work("other", taken.append)
        other.want(1)
        await until(lambda: taken)
        assert KEYS.unpack(taken[0].data) == (POOL + "other", encode(waiting))
        gate.set()
        assert (await owner.report_of(order)).status == "succeeded"
        assert not [report for report in owner.reports if report.attempt_id == waiting.attempt_id]
    assert "never here" not in calls


class SlowToShut(MemoryBus):
    """A bus whose pools are closed only once the test lets them."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.closing, self.shut = asyncio.Event(), asyncio.Event()

    async def open_work(self, pool: str, deliver: Callable[[Delivery], None]) -> MemoryWork:
        source = await super().open_work(pool, deliver)
        close = source.close

        async def slowly() -> None:
            self.closing.set()
            await self.shut.wait()
            await close()

        source.close = slowly  # type: ignore[method-assign]  # this source alone
        return source


async def test_nothing_begins_once_a_worker_says_that_it_drains_and_what_comes_still_goes_back(tmp_path: Path) -> None:
    bus = SlowToShut()
    async with working(tmp_path, hang_in_thread, note, slots=2, bus=bus) as (owner, worker):
        first = owner.send(owner.order("hang_in_thread"))
        await until(lambda: calls)
        owner.control(Drain(worker=worker.beat().worker))
        await until(lambda: owner.beats[-1].draining)
        await bus.closing.wait()
        late = owner.send(owner.order("note", {"text": "late"}, attempt="late"))
        await until(lambda: late.attempt_id in {held.attempt_id for held in worker.beat().holding})
        gate.set()
        assert (await owner.report_of(first)).status == "succeeded"
        assert [(held.attempt_id, held.begun) for held in worker.beat().holding] == [(late.attempt_id, False)]
        bus.shut.set()
        await until(lambda: not worker.beat().holding)
        assert "late" not in calls
        owner.control(Drain(worker=worker.beat().worker, resume=True))
        assert (await owner.report_of(late)).status == "succeeded"


async def test_a_tool_that_does_not_heed_its_cancel_is_reported_without_it_and_frees_its_slot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(tmp_path, deaf, note, slots=1) as (owner, _):
        order = owner.send(owner.order("deaf"))
        await until(lambda: calls)
        owner.control(Interrupt(attempt_id=order.attempt_id, reason="enough"))
        assert (await owner.report_of(order)).status == "cancelled"
        after = owner.send(owner.order("note", {"text": "after"}, attempt="after"))
        assert (await owner.report_of(after)).status == "succeeded"
        gate.set()
    assert "goes on although it was stopped" in caplog.text
    assert sum(report.attempt_id == order.attempt_id for report in owner.reports) == 1


async def test_a_thread_that_goes_on_after_its_attempt_was_stopped_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(tmp_path, hang_in_thread) as (owner, worker):
        order = owner.send(owner.order("hang_in_thread"))
        await until(lambda: calls)
        owner.control(Interrupt(attempt_id=order.attempt_id, reason="enough"))
        await owner.report_of(order)
        await until(lambda: worker.beat().abandoned)
        assert worker.beat().abandoned == (f"tool hang_in_thread {order.attempt_id}",)
        assert worker.beat().abandoned[0] in caplog.text
        gate.set()
        await until(lambda: not worker.beat().abandoned)


async def test_a_program_ends_with_its_group_also_when_it_is_told_to_stop_twice(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stubborn)
    performance = bench.runner.begin(bench.order("stubborn"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.runner.run(performance))
        await until(lambda: bench.lines.texts)
        grandchild = Path("/proc") / bench.lines.texts[0]
        task.cancel()
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait({task})
    await asyncio.sleep(0)
    gc.collect()  # an open pipe would be a warning, and so an error
    await until(lambda: not grandchild.exists() or "State:\tZ" in (grandchild / "status").read_text())


@tool(pool="test")
async def stubborn(context: ToolContext) -> dict[str, int]:
    """Run a program that does not heed SIGTERM, nor does its child."""
    script = "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 1000; done"
    return {"exit_code": (await run_process(context, ["/bin/sh", "-c", script], cwd=context.root)).exit_code}


@tool(pool="test")
async def endless(context: ToolContext) -> dict[str, int]:
    """Run a program that prints much and ends no line."""
    ended = await run_process(context, ["/bin/sh", "-c", "head -c 8000000 /dev/zero"], cwd=context.root)
    return {"kept": len(ended.stdout)}


async def test_a_program_that_ends_no_line_is_streamed_in_pieces(tmp_path: Path) -> None:
    bench = Bench(tmp_path, endless)
    report = await bench.perform("endless")
    assert bench.output(report) == {"kept": OUTPUT_BYTES_MAX}
    assert len(bench.lines.lines) > 8_000_000 // (LINE_BYTES_MAX + READ_BYTES) - 2, "none waits for an end of its line"
