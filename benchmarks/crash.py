"""W4: the worker, and apart from it the planner, is killed with SIGKILL in the middle of W1a."""

import asyncio
import collections
import time
from pathlib import Path
from typing import Final

from benchmarks.caller import Caller
from benchmarks.stand import COUNTS, Figures, Stand, chain

RUNS: Final = 1_500
STEPS: Final = 10
SUBMITTERS: Final = 32
WINDOW: Final = 300
LOOK_S: Final = 0.1
RATE_OVER_S: Final = 1.0
FULL: Final = 0.8
"""The share of the rate before the kill from which it counts as full again."""
KILL_AFTER: Final = 0.4
STALLED_S: Final = 90.0

Line = tuple[float, str, str]


async def worker_killed(stand: Stand, scale: int) -> Figures:
    """W4a: the worker is killed and another one started."""
    return await _killed(stand, scale, "worker")


async def planner_killed(stand: Stand, scale: int) -> Figures:
    """W4b: the planner is killed; its supervisor starts it again."""
    return await _killed(stand, scale, "planner")


async def _killed(stand: Stand, scale: int, whom: str) -> Figures:
    runs = max(RUNS // scale, 100)
    counts = stand.stack.home.folder / COUNTS.removeprefix("BENCH_").lower()
    digest = (await stand.client.record_plan(chain(STEPS, "plus_one_counted")))["digest"]
    created: list[str] = []
    async with Caller(stand.url, stand.token, SUBMITTERS) as caller, asyncio.TaskGroup() as group:
        left = iter(range(runs))
        for _ in range(SUBMITTERS):
            group.create_task(_submit(caller, digest, left, created, counts))
        await _until(counts, int(runs * STEPS * KILL_AFTER))
        killed_at = time.time()
        if whom == "worker":
            await asyncio.to_thread(stand.kill_worker)
        else:
            stand.stack.supervisor.kill(whom)
        await _until(counts, runs * STEPS)
    lost = await _unfinished(stand, created)
    return {"killed": whom, "runs": runs, "lost": lost, **_judged(_lines(counts), killed_at)}


async def _submit(caller: Caller, digest: str, left: object, created: list[str], counts: Path) -> None:
    for number in left:  # type: ignore[attr-defined]  # an iterator that all submitters share
        while len(created) - _last_steps(counts) >= WINDOW:  # noqa: ASYNC110  (steps are counted in a file)
            await asyncio.sleep(LOOK_S)
        run = await caller.post("/runs", {"plan_digest": digest, "inputs": {"n": number}})
        created.append(run["id"])


async def _until(counts: Path, steps: int) -> None:
    done, moved = 0, time.perf_counter()
    while done < steps:
        await asyncio.sleep(LOOK_S)
        now = len({line[1:] for line in _lines(counts)})
        if now > done:
            done, moved = now, time.perf_counter()
        assert time.perf_counter() - moved < STALLED_S, f"{done} of {steps} steps were performed, and no more are"


async def _unfinished(stand: Stand, created: list[str]) -> int:
    """Wait until no run is under way; gives how many did not succeed."""
    until = time.perf_counter() + STALLED_S
    query = {"status": "queued,running,waiting", "limit": 100}
    while (await stand.client.get("/runs", **query))["items"] and time.perf_counter() < until:  # noqa: ASYNC110  (a benchmark looks on)
        await asyncio.sleep(LOOK_S * 5)
    succeeded = {run["id"] async for run in stand.client.pages("/runs", status="succeeded", limit=100)}
    return len(set(created) - succeeded)


def _judged(lines: list[Line], killed_at: float) -> Figures:
    times = collections.Counter((run, step) for _, run, step in lines)
    before = sum(1 for at, _, _ in lines if killed_at - RATE_OVER_S * 2 <= at < killed_at) / (RATE_OVER_S * 2)
    starts = [at for at, _, _ in lines if at > killed_at]
    end = max(starts) - RATE_OVER_S
    full = next((at for at in starts if at <= end and _rate(starts, at) >= FULL * before), None)
    last_before = {run: at for at, run, _ in lines if at <= killed_at}
    over = {run for at, run, step in lines if at <= killed_at and step == f"s{STEPS - 1}"}
    first_after: dict[str, float] = {}
    for at, run, _ in lines:
        if at > killed_at:
            first_after.setdefault(run, at)
    gaps = [first_after[run] - killed_at for run in last_before if run not in over and run in first_after]
    return {
        "steps_s_before": before,
        "twice": sum(count - 1 for count in times.values()),
        "secs_to_first_step": min(starts) - killed_at,
        "secs_to_full_rate": None if full is None else full - killed_at,
        "secs_taken_up": max(gaps, default=0.0),
    }


def _rate(starts: list[float], at: float) -> float:
    return sum(1 for one in starts if at <= one < at + RATE_OVER_S) / RATE_OVER_S


def _lines(counts: Path) -> list[Line]:
    if not counts.is_file():
        return []
    split = (line.split() for line in counts.read_text().splitlines())
    return sorted((float(part[0]), part[1], part[2]) for part in split if len(part) == 3)


def _last_steps(counts: Path) -> int:
    return len({run for _, run, step in _lines(counts) if step == f"s{STEPS - 1}"})
