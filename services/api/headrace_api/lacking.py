"""The pools that runs wait for now and nobody serves, also those of which this api has never heard a worker."""

from typing import Any, Final

from headrace.plans.model import Plan
from headrace.vocabulary import PAGE_MAX, RUN_FINAL, RunStatus, WaitingFor
from headrace_api import explaining, starting
from headrace_api.asking import Asking

LOOKED_AT_MAX: Final = PAGE_MAX
"""Runs of each status that are looked at, the oldest: what waits for ever is found among them."""
READ_TOGETHER_MAX: Final = 1_000
"""Steps of runs that are read at once."""
STILL: Final = frozenset({WaitingFor.START, WaitingFor.RESUME, WaitingFor.CONCURRENCY})
"""Runs that wait so want nothing of any pool now."""


async def lacking(asked: Asking) -> dict[str, str]:
    """Give each such pool with a run of the workspace that waits for it: with a step, or with what undoes one."""
    desk, served = asked.desk, asked.desk.presence.pools()
    found: dict[str, str] = {}
    for status in (each for each in RunStatus if each not in RUN_FINAL):
        where = {"workspace": asked.workspace, "status": status.value}
        meant: list[tuple[dict[str, Any], Plan]] = []
        for row in await desk.log.rows("runs", where, descending=False, limit=LOOKED_AT_MAX):
            plan = None if row["waiting_for"] in STILL else await desk.plan(row["plan_digest"])
            if plan is not None and not {pin.pool for pin in plan.tools.values()} <= {*served, *found}:
                meant.append((row, plan))
        steps = await steps_of_runs(asked, [row["id"] for row, _ in meant])
        for row, plan in meant:
            for pool in explaining.unserved_pools(row, steps[row["id"]], plan, desk.presence):
                found.setdefault(pool, row["id"])
    return found


async def steps_of_runs(
    asked: Asking, runs: list[str], together: int = READ_TOGETHER_MAX
) -> dict[str, list[dict[str, Any]]]:
    """Read the steps of runs: at most so many `together`, those of the runs that are left one run at a time."""
    found: dict[str, list[dict[str, Any]]] = {run_id: [] for run_id in runs}
    if not runs:
        return found
    read = await asked.desk.log.rows("steps", {"run_id": runs}, order="run_id", descending=False, limit=together)
    for step in read:
        found[step["run_id"]].append(step)
    if len(read) == together:
        for run_id in (each for each in runs if each >= read[-1]["run_id"]):
            found[run_id] = await starting.steps_of(asked, run_id)
    return found
