"""What one long run, and many parked ones, cost."""

import asyncio
import time
from typing import Any, Final

from benchmarks.stand import TOOL, Figures, Stand, workflow
from headrace.client.client import Client
from headrace.host.cadence import QUICK

ITEMS: Final = 100_000
FEW: Final = 1_000
PARKED: Final = 10_000
LOTS: Final = 4
AT_ONCE: Final = 64
SETTLE_S: Final = 3.0
RUN_TIMEOUT: Final = "1h"


async def map_of_items(stand: Stand, scale: int) -> Figures:
    """W10: one run with a map of 100,000 items, against one of 1,000: time an item, memory of the owner."""
    items = ITEMS // scale
    digest = (await stand.client.record_plan(_mapped()))["digest"]
    await _map(stand, digest, FEW)
    few, _ = await _map(stand, digest, FEW)
    before = stand.memory_mb("planner")
    secs, peak = await _map(stand, digest, items)
    await asyncio.sleep(SETTLE_S)
    return {
        "items": items,
        "secs": secs,
        "us_item": secs / items * 1e6,
        "us_item_of_1000": few / FEW * 1e6,
        "planner_mb_before": before,
        "planner_mb_peak": peak,
        "planner_mb_after": stand.memory_mb("planner"),
    }


def _mapped() -> dict[str, Any]:
    each = {"id": "each", "map": "{{ inputs.items }}", "tool": TOOL, "with": {"n": "{{ item }}"}}
    count = {"id": "count", "transform": "{{ size(steps.each.output) }}"}
    inputs = {"items": {"type": "array"}}
    return workflow("mapped", [each, count], inputs=inputs, outputs="{{ steps.count.output }}", timeout=RUN_TIMEOUT)


async def _map(stand: Stand, digest: str, items: int) -> tuple[float, float]:
    began = time.perf_counter()
    run = await stand.client.create_run(plan_digest=digest, inputs={"items": list(range(items))})
    peak = 0.0
    over = asyncio.ensure_future(stand.client.until_over(run.id))
    while not over.done():
        peak = max(peak, stand.memory_mb("planner"))
        await asyncio.wait([over], timeout=0.2)
    ended = over.result()
    assert ended.status == "succeeded", ended
    assert (await stand.client.result(run.id))["outputs"] == items
    return time.perf_counter() - began, peak


async def parked(stand: Stand, scale: int) -> Figures:
    """10,000 runs parked on an approval, four times: what they cost each owner, and how long they take to begin.

    The first lot is what an allocator keeps once it had it; the others show what parked runs cost: `mb_after` each lot,
    left alone until its states have left memory, `kb_a_run` from the first to the last.
    """
    count, secs = PARKED // scale, 0.0
    spec = workflow("parked", [{"id": "ask", "approval": {"prompt": "Go on?"}}])
    digest = (await stand.client.record_plan(spec))["digest"]
    mb: dict[str, list[float]] = {name: [stand.memory_mb(name)] for name in ("planner", "gatekeeper", "api")}
    for _ in range(LOTS):
        began = time.perf_counter()
        await _park(stand.client, digest, count)
        secs = time.perf_counter() - began
        await asyncio.sleep(2 * QUICK.rest_s + SETTLE_S)
        for name, seen in mb.items():
            seen.append(stand.memory_mb(name))
    added = (LOTS - 1) * count
    return {
        "runs": LOTS * count,
        "secs": secs,
        "runs_s": count / secs,
        "mb_before": {name: seen[0] for name, seen in mb.items()},
        "mb_after": {name: [round(each, 1) for each in seen[1:]] for name, seen in mb.items()},
        "kb_a_run": {name: (seen[-1] - seen[1]) * 1000 / added for name, seen in mb.items()},
    }


async def _park(client: Client, digest: str, count: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            await client.create_run(plan_digest=digest)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
