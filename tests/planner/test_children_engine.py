"""Sub-workflows on the whole engine: outputs come back, cancels reach down, nothing is lost when a planner dies."""

from typing import Any

import pytest

import headrace
from headrace.errors import StepError, ValidationError
from headrace.ports.tool import ToolContext
from headrace.testing.engine import Engine
from headrace.testing.views import Run
from headrace.testing.virtual import in_virtual_time
from tests.tour.kit import workflow


@headrace.tool(pool="nursery")
async def double(number: int, context: ToolContext) -> dict[str, int]:
    """Double a number; no number below zero."""
    if number < 0:
        message = f"{number} is below zero"
        raise StepError(message, type="upstream_error")
    return {"number": number * 2}


NUMBER = {"n": {"type": "integer", "default": 1}}
LEAF = workflow(
    "leaf",
    {"id": "work", "tool": "double", "with": {"number": "{{ inputs.n }}"}},
    inputs=NUMBER,
    outputs={"n": "{{ steps.work.output.number }}"},
)


def around(name: str, inner: str, **more: Any) -> dict[str, Any]:
    """Give a workflow that runs another one."""
    step = {"id": "inner", "sub_workflow": {"workflow": inner, "with": {"n": "{{ inputs.n }}"}}, **more}
    return workflow(name, step, inputs=NUMBER, outputs={"n": "{{ steps.inner.output.n + 1 }}"})


async def children(engine: Engine, run: Run | str) -> list[Run]:
    """Give the children of a run, the oldest first."""
    parent = run if isinstance(run, str) else run.id
    rows = await engine.log.rows("children", {"parent_id": parent}, descending=False, limit=1_000)
    return [Run(engine, row["id"]) for row in rows]


@in_virtual_time
async def test_row_56_five_levels_of_sub_workflows_run_and_the_outputs_come_back() -> None:
    async with Engine(tools=[double]) as engine:
        await engine.apply(LEAF)
        below = "leaf"
        for level in range(1, 6):
            await engine.apply(around(f"level{level}", below))
            below = f"level{level}"
        with pytest.raises(ValidationError, match="depth"):
            await engine.apply(around("level6", "level5"))
        run = await engine.run("level5", {"n": 20})
        assert await run.result() == {"n": 45}
        found, depths = run, []
        for _ in range(5):
            (found,) = await children(engine, found)
            assert found.status == "succeeded"
            row = await engine.log.row("children", {"id": found.id})
            assert row is not None
            depths.append(row["depth"])
        assert depths == [1, 2, 3, 4, 5]
        assert found.steps["work"].status == "succeeded"
        assert found.row["requester_name"] == run.row["requester_name"]
