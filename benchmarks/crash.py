"""W4: the worker, and apart from it the planner, is killed with SIGKILL in the middle of W1a; and nobody, to compare."""

import asyncio
import collections
import time
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from benchmarks.caller import Caller
from benchmarks.counts import Counts, Line
from benchmarks.stand import COUNTS, Figures, Stand, chain

RUNS: Final = 3_000
STEPS: Final = 10
SUBMITTERS: Final = 32
WINDOW: Final = 300
LOOK_S: Final = 0.5
RATE_OVER_S: Final = 1.0
FULL: Final = 0.8
"""The share of the rate before the kill from which it counts as full again."""
KILL_AFTER: Final = 0.4
FIFTHS: Final = 5
OVER_S: Final = 90.0
LAST: Final = f"s{STEPS - 1}"


async def worker_killed(stand: Stand, scale: int) -> Figures:
    """W4a: the worker is killed and another one started."""
    return await _killed(stand, scale, "worker")


async def planner_killed(stand: Stand, scale: int) -> Figures:
    """W4b: the planner is killed; its supervisor starts it again."""
    return await _killed(stand, scale, "planner")


async def nobody_killed(stand: Stand, scale: int) -> Figures:
    """W4c: the same load without a kill. Its rate stays level from beginning to end, or the others say nothing."""
    return await _killed(stand, scale, "nobody")


async def _killed(stand: Stand, scale: int, whom: str) -> Figures:
    runs = max(RUNS // scale, 100)
    counts = Counts(stand.stack.home.folder / COUNTS.removeprefix("BENCH_").lower(), LAST)
    digest = (await stand.client.record_plan(chain(STEPS, "plus_one_counted")))["digest"]
    created: list[str] = []
    async with Caller(stand.url, stand.token, SUBMITTERS) as caller, asyncio.TaskGroup() as group:
        watching = group.create_task(counts.watch())
        left = iter(range(runs))
        for _ in range(SUBMITTERS):
            group.create_task(_submit(caller, digest, left, created, counts))
        await counts.until(int(runs * STEPS * KILL_AFTER))
        killed_at = time.time()
        if whom == "worker":
            await asyncio.to_thread(stand.kill_worker)
        elif whom == "planner":
            stand.stack.supervisor.kill(whom)
        await counts.until(runs * STEPS)
        watching.cancel()
    lost = await _unfinished(stand, created)
    lines = sorted(counts.lines)
    found = {"killed": whom, "runs": runs, "lost": lost, **_twice(lines)}
    return found | (_fifths(lines) if whom == "nobody" else _judged(lines, killed_at))


async def _submit(caller: Caller, digest: str, left: Iterator[int], created: list[str], counts: Counts) -> None:
    for number in left:
        while len(created) - len(counts.over) >= WINDOW:
            await counts.grown()
        run = await caller.post("/runs", {"plan_digest": digest, "inputs": {"n": number}})
        created.append(run["id"])


async def _unfinished(stand: Stand, created: list[str]) -> int:
    """Wait until no run is under way; gives how many did not succeed."""
    until = time.perf_counter() + OVER_S
    query = {"status": "queued,running,waiting", "limit": 100}
    while (await stand.client.get("/runs", **query))["items"] and time.perf_counter() < until:  # noqa: ASYNC110  (a benchmark looks on)
        await asyncio.sleep(LOOK_S)
    succeeded = {run["id"] async for run in stand.client.pages("/runs", status="succeeded", limit=100)}
    return len(set(created) - succeeded)


def _twice(lines: list[Line]) -> Figures:
    times = collections.Counter((run, step) for _, run, step in lines)
    return {"twice": sum(count - 1 for count in times.values())}


def _fifths(lines: list[Line]) -> Figures:
    """Give the rate in each fifth of the steps; the first and the last one have the load's beginning and end in them."""
    ends = [lines[(len(lines) - 1) * part // FIFTHS][0] for part in range(FIFTHS + 1)]
    rates = [len(lines) / FIFTHS / max(end - begin, 1e-3) for begin, end in pairwise(ends)]
    inner = rates[1:-1]
    return {"steps_s": rates, "level": min(inner) / max(inner)}


def _judged(lines: list[Line], killed_at: float) -> Figures:
    before = sum(1 for at, _, _ in lines if killed_at - RATE_OVER_S * 2 <= at < killed_at) / (RATE_OVER_S * 2)
    starts = [at for at, _, _ in lines if at > killed_at]
    end = max(starts) - RATE_OVER_S
    full = next((at for at in starts if at <= end and _rate(starts, at) >= FULL * before), None)
    last_before = {run: at for at, run, _ in lines if at <= killed_at}
    over = {run for at, run, step in lines if at <= killed_at and step == LAST}
    first_after: dict[str, float] = {}
    for at, run, _ in lines:
        if at > killed_at:
            first_after.setdefault(run, at)
    gaps = [first_after[run] - killed_at for run in last_before if run not in over and run in first_after]
    return {
        "steps_s_before": before,
        "secs_to_first_step": min(starts) - killed_at,
        "secs_to_full_rate": None if full is None else full - killed_at,
        "secs_taken_up": max(gaps, default=0.0),
    }


def _rate(starts: list[float], at: float) -> float:
    return (bisect_left(starts, at + RATE_OVER_S) - bisect_left(starts, at)) / RATE_OVER_S
