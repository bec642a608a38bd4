"""W5: runs that are parked on an approval, and then are all approved by somebody else."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from benchmarks.caller import Caller
from benchmarks.load import FINISHED
from benchmarks.stand import Figures, Stand, workflow
from headrace.codec import digest as digest_of
from headrace.host.cadence import QUICK

RUNS: Final = 2_000
AT_ONCE: Final = 64
LOOK_S: Final = 0.1
SETTLE_S: Final = 3.0
STALLED_S: Final = 120.0
OWNERS: Final = ("planner", "gatekeeper", "api")


async def approved(stand: Stand, scale: int) -> Figures:
    """W5: 2,000 runs parked on an approval, then all approved by a second identity over HTTP."""
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
    await _many(range(runs), lambda _: asker.post("/runs", {"plan_digest": plan}))


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

    def decide(one: dict[str, Any]) -> Awaitable[Any]:
        return judge.post(f"/approvals/{one['id']}", {"action": "approve", "digest": digest_of(one["shown"])})

    await _many(pending, decide)
    while await stand.metric("planner", FINISHED) - before < len(pending):
        await asyncio.sleep(LOOK_S)
        assert time.perf_counter() - began < STALLED_S, "not all runs ended"
    return time.perf_counter() - began


async def _many[Given](given: Iterable[Given], call: Callable[[Given], Awaitable[Any]]) -> None:
    left = iter(given)

    async def some() -> None:
        for one in left:
            await call(one)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
