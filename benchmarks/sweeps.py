"""Two sweeps for plots: throughput by how much travels together, and cost by how many runs are stored."""

import asyncio
import os
import time
from typing import Final

from benchmarks.caller import Caller
from benchmarks.chains import BATCH, STEPS, WAIT_S, WARM_UP
from benchmarks.load import Load
from benchmarks.stand import Figures, Stand, chain
from benchmarks.stored import fill

WINDOWS: Final = (1, 4, 16, 64, 256)
"""Runs under way at once: the more there are, the more events one append carries."""
RUNS_A_WINDOW: Final = 12
RUNS_MIN: Final = 30
RUNS_MAX: Final = 1_200
STORED: Final = (0, 10_000, 100_000, 1_000_000)
STORED_MAX: Final = "BENCH_STORED_MAX"
"""The fullest store of the sweep, in the environment."""
RUNS: Final = 600
APPENDS: Final = "headrace_append_events_count"
EVENTS: Final = "headrace_append_events_sum"


async def batches(stand: Stand, scale: int) -> Figures:
    """Measure W1a with few and with many runs at once: steps/s, and how many events one append carried."""
    points = []
    digest = (await stand.client.record_plan(chain(STEPS)))["digest"]
    for window in WINDOWS:
        async with Caller(stand.url, stand.token, window) as caller:
            await _kept_full(caller, digest, window, window)
            before = [await stand.metric("planner", name) for name in (EVENTS, APPENDS)]
            cpu, began = stand.cpu_s(), time.perf_counter()
            runs = max(min(window * RUNS_A_WINDOW, RUNS_MAX) // scale, RUNS_MIN)
            await _kept_full(caller, digest, window, runs)
            secs, spent = time.perf_counter() - began, stand.cpu_s()
            after = [await stand.metric("planner", name) for name in (EVENTS, APPENDS)]
        events, appends = (later - earlier for later, earlier in zip(after, before, strict=True))
        micros = {name: (spent[name] - cpu[name]) / runs / STEPS * 1e6 for name in spent}
        points.append(
            {
                "window": window,
                "steps_s": runs * STEPS / secs,
                "us_step": sum(micros.values()),
                "us_step_of": micros,
                "events_append": events / max(appends, 1.0),
            }
        )
    return {"points": points}


async def fullness(stand: Stand, scale: int) -> Figures:
    """Measure W1a over and over while the store is filled: what a step costs, by how many runs are stored."""
    most = int(os.environ.get(STORED_MAX, STORED[-1]))
    points, stored = [], 0
    for wanted in (each for each in STORED if each <= most):
        if wanted > stored:
            await fill(stand, wanted - stored, (wanted - stored) // 10)
            stored = wanted
        async with Load(stand, chain(STEPS), batch=BATCH) as load:
            await load.run(WARM_UP)
            figures = await load.run(max(RUNS // scale, RUNS_MIN))
        points.append({"stored": stored, "steps_s": figures["steps_s"], "us_step": figures["us_step_all"]})
    return {"points": points}


async def _kept_full(caller: Caller, digest: str, window: int, runs: int) -> None:
    """Let so many runs end, with `window` of them under way all the time."""
    left = iter(range(runs))

    async def some() -> None:
        for number in left:
            run = await caller.post("/runs", {"plan_digest": digest, "inputs": {"n": number}}, wait_s=WAIT_S)
            assert run["status"] == "succeeded", run

    async with asyncio.TaskGroup() as group:
        for _ in range(window):
            group.create_task(some())
