"""W8: W1a against a store that is full of finished and parked runs; W9: what an idle installation costs."""

import asyncio
import os
import time
from pathlib import Path
from typing import Final

import asyncpg

from benchmarks.caller import Caller
from benchmarks.chains import STEPS, many_chains
from benchmarks.stand import Figures, Stand, chain, workflow

FINISHED: Final = 100_000
PARKED: Final = 10_000
SIZE: Final = "BENCH_STORED"
"""How many finished runs, in the environment; a tenth as many are parked. The goal is stated for 1,000,000."""
HISTORY: Final = Path(__file__).with_name("history.sql")
TEMPLATES: Final = 100
IDLE_S: Final = 60.0
IDLE_MIN_S: Final = 20.0
REST_S: Final = 40.0
"""States, connections and credit have left by then: what follows is rest."""


async def full_store(stand: Stand, scale: int) -> Figures:
    """W8: the same load before and after the store was filled; `ratio` is what is left of the rate."""
    empty = await many_chains(stand, scale)
    finished = int(os.environ.get(SIZE, FINISHED)) // scale
    stored = await fill(stand, finished, max(finished // 10, 1))
    full = await many_chains(stand, scale)
    return {
        "steps_s": full["steps_s"],
        "steps_s_empty": empty["steps_s"],
        "ratio": full["steps_s"] / empty["steps_s"],
        "ratio_us_step": full["us_step_all"] / empty["us_step_all"],
        "us_step": full["us_step"],
        **stored,
    }


async def fill(stand: Stand, finished: int, parked: int) -> Figures:
    """Let the product make some runs of both kinds, and copy their rows and events under other ids."""
    began = time.perf_counter()
    async with Caller(stand.url, stand.token) as caller:
        done = (await stand.client.record_plan(chain(STEPS)))["digest"]
        ask = (await stand.client.record_plan(workflow("asked", [{"id": "ask", "approval": {"prompt": "?"}}])))[
            "digest"
        ]
        over = [(await caller.post("/runs", {"plan_digest": done}, wait_s=60))["id"] for _ in range(TEMPLATES)]
        waiting = [(await caller.post("/runs", {"plan_digest": ask}))["id"] for _ in range(TEMPLATES)]
    await asyncio.sleep(2.0)
    connection = await asyncpg.connect(stand.stack.database_url)
    try:
        for templates, runs in ((over, finished), (waiting, parked)):
            copies = -(-runs // TEMPLATES)
            for statement in HISTORY.read_text().split(";\n"):
                if statement.strip():
                    await connection.execute(statement, templates, copies)
        await connection.execute("analyze")
        size = await connection.fetchval("select pg_database_size(current_database())")
        rows = await connection.fetchval("select count(*) from headrace.runs")
    finally:
        await connection.close()
    return {"stored_runs": rows, "stored_mb": size / 1e6, "fill_secs": time.perf_counter() - began}


async def idle(stand: Stand, scale: int) -> Figures:
    """W9: an installation that has worked and rests: CPU of all processes, and statements."""
    async with Caller(stand.url, stand.token) as caller:
        digest = (await stand.client.record_plan(chain(STEPS)))["digest"]
        await caller.post("/runs", {"plan_digest": digest}, wait_s=60)
    await asyncio.sleep(REST_S)
    before, cpu, began = await stand.statements(), stand.cpu_s(), time.perf_counter()
    await asyncio.sleep(max(IDLE_S / scale, IDLE_MIN_S))
    spent, secs = stand.cpu_s(), time.perf_counter() - began
    after = await stand.statements()
    used = {name: (spent[name] - cpu[name]) / secs * 100 for name in spent}
    return {
        "core_percent": sum(used.values()),
        "core_percent_of": {name: round(value, 2) for name, value in used.items()},
        "statements_s": max(after - before - 2, 0) / secs,
        "secs": secs,
    }
