"""W1, W2, W6 and W7: chains of no-op steps, each step dispatched on its own, or (W1b, W6b) fused."""

import asyncio
import statistics
import time
from typing import Any, Final

from benchmarks.caller import Caller
from benchmarks.load import Load
from benchmarks.stand import Figures, Stand, chain

STEPS: Final = 10
RUNS: Final = 1_500
WARM_UP: Final = 150
ROUNDS: Final = 3
ONE_BY_ONE: Final = 200
LONG: Final = 40
LONG_RUNS: Final = 20
RATE_S: Final = 100
RATED_S: Final = 10
WAIT_S: Final = 60
BATCH: Final = 25
"""Runs that a load creates in one request, as a client that has many does."""
PLAN: Final = "plan_digest"


async def many_chains(stand: Stand, scale: int) -> Figures:
    """W1a: chains of 10 steps, many at once. `steps_s` is the median of three rounds, each from first submit to last end."""
    return await _many(stand, scale, fuse=False)


async def many_fused(stand: Stand, scale: int) -> Figures:
    """W1b: the same, fused: a worker performs the steps of a run one after the other, and sends results together."""
    return await _many(stand, scale, fuse=True)


async def _many(stand: Stand, scale: int, *, fuse: bool) -> Figures:
    async with Load(stand, chain(STEPS, fuse=fuse), batch=BATCH) as load:
        await load.run(WARM_UP)
        rounds = [await load.run(max(RUNS // scale, 20)) for _ in range(ROUNDS)]
    best = sorted(rounds, key=lambda one: one["steps_s"])[len(rounds) // 2]
    return {**best, "steps": STEPS, "rounds": [round(one["steps_s"]) for one in rounds]}


async def one_by_one(stand: Stand, scale: int) -> Figures:
    """W2: one run of one step at a time on an idle system, from submit to answer, over HTTP with `Prefer: wait`."""
    runs = max(ONE_BY_ONE // scale, 10)
    taken = await _in_turn(stand, chain(1), runs + 20)
    return _spread(taken[20:])


async def long_chain(stand: Stand, scale: int) -> Figures:
    """W6: one run of 40 steps in a chain at a time, unfused."""
    return await _long(stand, scale, fuse=False)


async def long_fused(stand: Stand, scale: int) -> Figures:
    """W6b: the same, fused."""
    return await _long(stand, scale, fuse=True)


async def _long(stand: Stand, scale: int, *, fuse: bool) -> Figures:
    taken = await _in_turn(stand, chain(LONG, fuse=fuse), max(LONG_RUNS // scale, 5) + 2)
    figures = _spread(taken[2:])
    return {"secs": figures["p50_ms"] / 1_000, "ms_step": figures["p50_ms"] / LONG, "steps": LONG, **figures}


async def steady(stand: Stand, scale: int) -> Figures:
    """W7: 100 runs/s of 10 steps for a while: what a step adds, from one step's end to the next one's."""
    secs = max(RATED_S / scale, 1.0)
    async with Caller(stand.url, stand.token, 64) as caller:
        plan = await stand.client.record_plan(chain(STEPS))
        await caller.post("/runs", {PLAN: plan["digest"]}, wait_s=WAIT_S)
        began, taken = time.perf_counter(), list[float]()

        async def one(at: float) -> None:
            await asyncio.sleep(max(at - time.perf_counter(), 0.0))
            run = await caller.post("/runs", {PLAN: plan["digest"]}, wait_s=WAIT_S)
            assert run["status"] == "succeeded", run
            taken.append(time.perf_counter() - at)

        async with asyncio.TaskGroup() as group:
            for number in range(int(secs * RATE_S)):
                group.create_task(one(began + number / RATE_S))
        spent = time.perf_counter() - began
    return {
        **{f"{name}_step": value for name, value in _spread([each / STEPS for each in taken]).items()},
        "runs_s": len(taken) / spent,
    }


async def _in_turn(stand: Stand, spec: dict[str, Any], runs: int) -> list[float]:
    taken = []
    async with Caller(stand.url, stand.token, 1) as caller:
        plan = await stand.client.record_plan(spec)
        for number in range(runs):
            began = time.perf_counter()
            run = await caller.post("/runs", {PLAN: plan["digest"], "inputs": {"n": number}}, wait_s=WAIT_S)
            taken.append(time.perf_counter() - began)
            assert run["status"] == "succeeded", run
    return taken


def _spread(taken: list[float]) -> Figures:
    cut = statistics.quantiles(taken, n=100, method="inclusive")
    return {
        "p50_ms": cut[49] * 1_000,
        "p90_ms": cut[89] * 1_000,
        "p99_ms": cut[98] * 1_000,
        "best_ms": min(taken) * 1_000,
        "samples": len(taken),
    }
