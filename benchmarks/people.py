"""W5: runs that are parked on an approval, and then are all approved by somebody else."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from benchmarks.caller import Caller
from benchmarks.load import FINISHED
from benchmarks.stand import Figures, Stand, workflow
from headrace.codec import digest as digest_of
from headrace.host.cadence import QUICK

RUNS: Final = 2_000
AT_ONCE: Final = 4
BATCH: Final = 250
"""Runs created, and questions decided, in one request."""
LOOK_S: Final = 0.1
SETTLE_S: Final = 3.0
STALLED_S: Final = 120.0
OWNERS: Final = ("planner", "gatekeeper", "api")


async def approved(stand: Stand, scale: int) -> Figures:
    """W5: 2,000 runs parked on an approval, then all approved by a second identity over HTTP, 250 in a request."""
    runs = max(RUNS // scale, 20)
    spec = workflow("asked", [{"id": "ask", "approval": {"prompt": "Go on?"}}])
    plan = (await stand.client.record_plan(spec))["digest"]
    approver = (await stand.client.create_token("approver", ["approver"]))["token"]
    async with Caller(stand.url, stand.token, AT_ONCE) as asker, Caller(stand.url, approver, AT_ONCE) as judge:
        await _park(asker, plan, runs)  # so that the memory measured next is what more of the same adds
        await _decide(stand, judge, await _pending(stand, runs))
        await asyncio.sleep(2 * QUICK.rest_s + SETTLE_S)
        before = {name: stand.memory_mb(name) for name in OWNERS}
        started = time.perf_counter()
        await _park(asker, plan, runs)
        pending = await _pending(stand, runs)
        parked = time.perf_counter()
        await asyncio.sleep(2 * QUICK.rest_s + SETTLE_S)
        after = {name: stand.memory_mb(name) for name in OWNERS}
        took = await _decide(stand, judge, pending)
    return {
        "runs": runs,
        "secs_to_park": parked - started,
        "secs_to_finish": took,
        "kb_a_run": {name: (after[name] - before[name]) * 1_000 / runs for name in OWNERS},
    }


async def _park(asker: Caller, plan: str, runs: int) -> None:
    async def create(some: Sequence[int]) -> None:
        told = await asker.post("/runs/batch", {"runs": [{"plan_digest": plan} for _ in some]})
        assert not told["refused"], told

    await _many(range(runs), create)


async def _pending(stand: Stand, runs: int) -> list[dict[str, Any]]:
    until = time.perf_counter() + STALLED_S
    while time.perf_counter() < until:
        found = [one async for one in stand.client.pages("/approvals", status="pending", limit=100)]
        if len(found) >= runs:
            return found
        await asyncio.sleep(LOOK_S)
    message = "not all approvals were opened"
    raise TimeoutError(message)


async def _decide(stand: Stand, judge: Caller, pending: list[dict[str, Any]]) -> float:
    """Approve all, and give the seconds until the last run has ended."""
    before, began = await stand.metric("planner", FINISHED), time.perf_counter()

    async def decide(some: Sequence[dict[str, Any]]) -> None:
        decisions = [{"approval_id": one["id"], "action": "approve", "digest": digest_of(one["shown"])} for one in some]
        told = await judge.post("/approvals/batch", {"decisions": decisions})
        assert not told["refused"], told

    await _many(pending, decide)
    while await stand.metric("planner", FINISHED) - before < len(pending):
        await asyncio.sleep(LOOK_S)
        assert time.perf_counter() - began < STALLED_S, "not all runs ended"
    return time.perf_counter() - began


async def _many[Given](given: Sequence[Given], call: Callable[[Sequence[Given]], Awaitable[None]]) -> None:
    left = iter(range(0, len(given), BATCH))

    async def some() -> None:
        for first in left:
            await call(given[first : first + BATCH])

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
