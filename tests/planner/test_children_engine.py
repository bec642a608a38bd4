"""Sub-workflows on the whole engine: outputs come back, cancels reach down, nothing is lost when a planner dies."""

from typing import Any

import pytest

import headrace
from headrace.errors import HeadraceError, StepError, ValidationError
from headrace.messages import CancelRun, CreateRun
from headrace.ports.tool import ToolContext
from headrace.steering import PauseRun, ResumeRun
from headrace.testing.engine import Engine
from headrace.testing.views import Run
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import LOG_RUNS
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


def slow(name: str = "leaf", wait: Any = "1h") -> dict[str, Any]:
    """Give a workflow that waits before it is done."""
    return workflow(
        name, {"id": "nap", "wait": wait}, {"id": "said", "transform": "{{ inputs.n }}", "depends_on": ["nap"]},
        inputs=NUMBER, outputs={"n": "{{ steps.said.output }}"},
    )  # fmt: skip


@in_virtual_time
async def test_a_map_of_sub_workflows_runs_each_item_as_a_child() -> None:
    async with Engine(tools=[double]) as engine:
        await engine.apply(LEAF)
        each = {
            "id": "each", "map": "{{ inputs.numbers }}", "concurrency": 3,
            "sub_workflow": {"workflow": "leaf", "with": {"n": "{{ item }}"}},
        }  # fmt: skip
        run = await engine.run(
            workflow(
                "many", each, inputs={"numbers": {"type": "array"}}, outputs="{{ steps.each.output.map(one, one.n) }}"
            ),
            {"numbers": list(range(12))},
        )
        assert await run.result() == [number * 2 for number in range(12)]
        assert len(await children(engine, run)) == 12


@in_virtual_time
async def test_a_planner_that_dies_in_the_middle_loses_no_child_and_makes_none_twice() -> None:
    async with Engine(tools=[double], planners=2) as engine:
        await engine.apply(slow(wait="30s"))
        await engine.apply(around("top", "leaf"))
        run = await engine.run("top", {"n": 4})
        await engine.kill_planner()
        await run.until("waiting")
        await engine.pass_time("20s")
        await engine.kill_planner()
        await engine.pass_time("1m")
        assert await run.result() == {"n": 5}
        (child,) = await children(engine, run)
        assert child.events.count("run.queued") == 1
        assert child.events[-1] == "child.ended"


@in_virtual_time
async def test_a_cancel_goes_down_to_the_lowest_child() -> None:
    async with Engine(tools=[double]) as engine:
        await engine.apply(slow())
        await engine.apply(around("middle", "leaf"))
        run = await engine.run(around("top", "middle"), {"n": 1})
        await run.until("waiting")
        await engine.pass_time("5s")
        (middle,) = await children(engine, run)
        (leaf,) = await children(engine, middle)
        assert (run.waiting_for, middle.waiting_for, leaf.waiting_for) == ("children", "children", "timer")
        await engine.ask(LOG_RUNS, CancelRun(reason="enough"), stream=run.id)
        await run.until("cancelled")
        assert (middle.status, leaf.status) == ("cancelled", "cancelled")
        assert middle.error_message == f"ann cancelled its parent run {run.id} (enough)"
        assert leaf.error_message == f"ann cancelled run {run.id} (enough)", "who began it, not the whole way down"


@in_virtual_time
async def test_a_child_that_fails_fails_its_parent_with_its_name() -> None:
    async with Engine(tools=[double]) as engine:
        await engine.apply(LEAF)
        run = await engine.run(around("top", "leaf"), {"n": -3})
        with pytest.raises(HeadraceError, match="-3 is below zero") as problem:
            await run.result()
        (child,) = await children(engine, run)
        assert child.id in problem.value.message
        assert problem.value.type == "upstream_error"


@in_virtual_time
async def test_a_child_runs_the_version_that_its_parents_plan_pins() -> None:
    async with Engine(tools=[double]) as engine:
        await engine.apply(LEAF)
        top = around("top", "leaf")
        digest = await engine.plan(top)
        await engine.apply(slow(wait="1s"))
        known = await engine.ask(LOG_RUNS, CreateRun(plan_digest=digest), as_="ann")
        run = Run(engine, known["id"])
        assert await run.result() == {"n": 3}
        (child,) = await children(engine, run)
        assert child.row["workflow_version"] == 1


@in_virtual_time
async def test_a_paused_parent_holds_its_children_until_it_goes_on() -> None:
    async with Engine(tools=[double]) as engine:
        await engine.apply(slow(wait="5s"))
        run = await engine.run(around("top", "leaf"))
        await run.until("waiting")
        await engine.ask(LOG_RUNS, PauseRun(), stream=run.id)
        await engine.pass_time("1m")
        (child,) = await children(engine, run)
        assert (child.status, child.row["waiting_for"]) == ("waiting", "resume")
        assert "said" not in child.steps, "what was under way has ended, and nothing began"
        await engine.ask(LOG_RUNS, ResumeRun(), stream=run.id)
        assert await run.result() == {"n": 2}
