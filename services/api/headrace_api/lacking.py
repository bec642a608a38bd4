"""The pools that runs wait for now and nobody serves, also those of which this api has never heard a worker."""

from typing import Final

from headrace.vocabulary import PAGE_MAX, RUN_FINAL, RunStatus, WaitingFor
from headrace_api import explaining, starting
from headrace_api.asking import Asking

LOOKED_AT_MAX: Final = PAGE_MAX
"""Runs of each status that are looked at, the oldest: what waits for ever is found among them."""
STILL: Final = frozenset({WaitingFor.START, WaitingFor.RESUME, WaitingFor.CONCURRENCY})
"""Runs that wait so want nothing of any pool now."""


async def lacking(asked: Asking) -> dict[str, str]:
    """Give each such pool with a run of the workspace that waits for it: with a step, or with what undoes one."""
    desk, served = asked.desk, asked.desk.presence.pools()
    found: dict[str, str] = {}
    for status in (each for each in RunStatus if each not in RUN_FINAL):
        where = {"workspace": asked.workspace, "status": status.value}
        for row in await desk.log.rows("runs", where, descending=False, limit=LOOKED_AT_MAX):
            plan = None if row["waiting_for"] in STILL else await desk.plan(row["plan_digest"])
            if plan is None or {pin.pool for pin in plan.tools.values()} <= {*served, *found}:
                continue
            steps = await starting.steps_of(asked, row["id"])
            for pool in explaining.unserved_pools(row, steps, plan, desk.presence):
                found.setdefault(pool, row["id"])
    return found
