"""A load of runs: submitted over HTTP as fast as a window allows, until the planner says that all have ended."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final, Self

from benchmarks.caller import Caller
from benchmarks.stand import Figures, Stand

WINDOW: Final = 500
"""Runs that are created and not over."""
SUBMITTERS: Final = 32
SUBMITTERS_MIN: Final = 4
"""As many requests are under way at once, however many runs each brings."""
LOOK_S: Final = 0.25
STALLED_S: Final = 90.0
FINISHED: Final = "headrace_run_duration_seconds_count"


class Load:
    """Submits runs of one plan, `batch` in a request, and counts their ends from the planner's own metrics."""

    def __init__(self, stand: Stand, spec: dict[str, Any], window: int = WINDOW, *, batch: int = 1) -> None:
        self._stand, self._spec, self._window, self._batch = stand, spec, window, batch
        self._caller = Caller(stand.url, stand.token, SUBMITTERS)
        self._digest = ""
        self._steps = len(spec["spec"]["steps"])
        self._room = asyncio.Event()
        self.created = self.finished = 0
        self.samples: list[tuple[float, int]] = []
        """Runs finished by second since the begin."""

    async def __aenter__(self) -> Self:
        """Record the plan."""
        self._digest = (await self._stand.client.record_plan(self._spec))["digest"]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of connections."""
        await self._caller.__aexit__()

    async def run(self, runs: int) -> Figures:
        """Let runs begin and end; gives what that took of wall time, and of each process's CPU a step."""
        self.created = self.finished = 0
        self.samples = [(0.0, 0)]
        before, cpu = await self._ended(), self._stand.cpu_s()
        began = time.perf_counter()
        left = iter(range(0, runs, self._batch))
        async with asyncio.TaskGroup() as group:
            for _ in range(max(SUBMITTERS // self._batch, SUBMITTERS_MIN)):
                group.create_task(self._submit(left, runs))
            await self._watch(runs, before, began)
        secs, spent = time.perf_counter() - began, self._stand.cpu_s()
        steps = runs * self._steps
        micros = {name: (spent[name] - cpu[name]) / steps * 1e6 for name in spent if name in cpu}
        return {
            "steps_s": steps / secs,
            "runs": runs,
            "secs": secs,
            "us_step": {name: round(value, 1) for name, value in micros.items()},
            "us_step_all": sum(micros.values()),
        }

    async def _submit(self, left: Iterator[int], runs: int) -> None:
        for first in left:
            numbers = range(first, min(first + self._batch, runs))
            while self.created - self.finished >= self._window:
                self._room.clear()
                await self._room.wait()
            self.created += len(numbers)
            bodies = [{"plan_digest": self._digest, "inputs": {"n": number}} for number in numbers]
            if self._batch == 1:
                await self._caller.post("/runs", bodies[0])
            else:
                told = await self._caller.post("/runs/batch", {"runs": bodies})
                assert not told["refused"], told

    async def _watch(self, runs: int, before: float, began: float) -> None:
        moved = time.perf_counter()
        while self.finished < runs:
            await asyncio.sleep(LOOK_S)
            finished = int(await self._ended() - before)
            now = time.perf_counter()
            if finished != self.finished:
                self.finished, moved = finished, now
                self.samples.append((now - began, finished))
                self._room.set()
            assert now - moved < STALLED_S, f"{self.finished} of {runs} runs have ended, and no more do"

    async def _ended(self) -> float:
        return await self._stand.metric("planner", FINISHED)
