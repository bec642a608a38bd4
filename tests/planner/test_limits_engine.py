"""Limits of time in the whole engine: what is given up is not performed any more."""

import asyncio

import pytest
from pydantic import BaseModel

import headrace
from headrace.ports.tool import ToolContext
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time

HEAD = "apiVersion: headrace/v1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  steps:\n"
NAP = "    - {id: nap, wait: 1h, depends_on: [m]}\n"
STEPS = {
    "map": "    - {id: m, map: [1, 2, 3], tool: quick, with: {n: '{{ item }}'}, on_item_error: collect, timeout: {queue: 20s}}\n",
    "alone": "    - {id: m, tool: quick, with: {n: 1}, on_error: continue, timeout: {queue: 20s}}\n",
}


class Done(BaseModel):
    """Nothing much."""

    n: int = 1


@pytest.mark.parametrize("kind", STEPS)
def test_what_stood_too_long_in_its_queue_is_not_performed_when_its_worker_is_free(kind: str) -> None:
    _stands_too_long(STEPS[kind])


@in_virtual_time
async def _stands_too_long(steps: str) -> None:
    performed: list[int] = []

    @headrace.tool(effect="read", access="auto")
    async def lasts(context: ToolContext) -> Done:
        """Take the only slot for a while."""
        await asyncio.sleep(200)
        return Done()

    @headrace.tool(effect="read", access="auto")
    async def quick(n: int) -> Done:
        """Be done at once."""
        performed.append(n)
        return Done()

    async with Engine(tools=[lasts, quick], slots=1) as engine:
        first = await engine.run(f"{HEAD}    - {{id: one, tool: lasts, timeout: 10m}}\n")
        await engine.pass_time("3s")
        run = await engine.run(HEAD + steps + NAP)
        await engine.pass_time("60s")
        assert "step.failed" in run.events
        await first.until("succeeded", seconds=300)
        await engine.pass_time("30s")
        assert (run.status, performed) == ("waiting", [])
