"""The engine of the test kit: what the tour does not show."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace.errors import ConflictError, ForbiddenError, NotFoundError, StepError, ValidationError
from headrace.log.port import Break
from headrace.ports.tool import ToolContext
from headrace.testing import virtual
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from tests.tour.kit import Greet, workflow

EXAMPLES = Path(__file__).parents[2] / "examples"
HELLO = workflow("hello", {"id": "hello", "tool": "greet", "with": {"name": "Ada"}}, outputs="{{ steps.hello.output }}")
WAITS = [{"id": "night", "wait": {"timer": "1d"}}, {"id": "day", "depends_on": ["night"], "transform": {"up": True}}]


async def test_outside_of_virtual_time_the_engine_says_what_to_do() -> None:
    with pytest.raises(ConflictError, match="in_virtual_time"):
        async with Engine():
            pass


@in_virtual_time
async def test_a_workflow_with_a_day_and_an_approval_takes_milliseconds() -> None:
    loop = asyncio.get_running_loop()
    steps: list[dict[str, Any]] = [*WAITS, {"id": "ok", "depends_on": ["day"], "approval": {}}]
    async with Engine() as engine:
        run = await engine.run(workflow("long", *steps))
        await engine.pass_time("2d")
        assert run.waiting_for == "approval"
        await engine.approve(run, "ok")
        await run.result()
    assert loop.time() < 60  # of the loop's own time: the calendar leapt, so that nothing had to happen in between


@in_virtual_time
async def test_time_passes_exactly() -> None:
    async with Engine() as engine:
        before = engine.clock.now_ms()
        run = await engine.run(workflow("late", *WAITS))
        await run.until("waiting")
        due = engine.clock.now_ms()
        await engine.pass_time("1d")
        assert engine.clock.now_ms() == due + 86_400_000
        assert (await run.result(), run.step("day").output) == (None, {"up": True})
        assert due - before < 1_000


@in_virtual_time
async def test_a_tool_that_takes_ten_minutes_is_given_them() -> None:
    @headrace.tool
    async def ponder(context: ToolContext) -> dict[str, int]:
        """Take its time."""
        await asyncio.sleep(600)
        return {"answer": 42}

    step = {"id": "ponder", "tool": "ponder", "timeout": "2h"}
    async with Engine(tools=[ponder]) as engine:
        run = await engine.run(workflow("slow", step, timeout="3h"))
        await engine.pass_time("9m")
        assert run.status == "running"
        await engine.pass_time("2m")
        assert run.step("ponder").output == {"answer": 42}


@in_virtual_time
async def test_a_tool_of_ones_own_stands_in_for_the_installed_one(tmp_path: Path) -> None:
    @headrace.tool(pool="runner")
    def file_read(path: str, context: ToolContext) -> dict[str, str]:
        """Read nothing."""
        return {"contents": f"instead of {path}"}

    async with Engine(tools=[file_read], file_root=tmp_path) as engine:
        run = await engine.run(workflow("read", {"id": "read", "tool": "file_read", "with": {"path": "gone.txt"}}))
        await run.until("succeeded")
        assert run.step("read").output == {"contents": "instead of gone.txt"}


@in_virtual_time
async def test_two_planners_share_the_partitions_and_one_does_without_the_other() -> None:
    async with Engine(tools=[Greet()], planners=2) as engine:
        owners = {part["owner"] for part in await engine.log.partitions() if part["log"] == "runs"}
        assert owners == {owner.id for owner in engine.processes.planners()}
        assert len(owners) == 2
        runs = [await engine.run(HELLO) for _ in range(16)]
        await engine.kill_planner()
        for run in runs:
            assert await run.result() == {"text": "Hello Ada"}
        await engine.start_planner()
        assert len(engine.processes.planners()) == 2
        assert await (await engine.run(HELLO)).result() == {"text": "Hello Ada"}
        assert not [found async for found in engine.log.verify() if isinstance(found, Break)]


@in_virtual_time
async def test_an_output_too_large_for_a_message_is_shown_whole() -> None:
    @headrace.tool
    def fill(count: int, context: ToolContext) -> dict[str, str]:
        """Say much."""
        return {"text": "x" * count}

    big = workflow("big", {"id": "fill", "tool": "fill", "with": {"count": 2_000_000}})
    async with Engine(tools=[fill]) as engine:
        run = await engine.run(big)
        await run.until("succeeded")
        assert len(run.step("fill").output["text"]) == 2_000_000


@in_virtual_time
async def test_a_run_is_cancelled_started_and_met_again_under_its_key() -> None:
    async with Engine(tools=[Greet()]) as engine:
        run = await engine.run(workflow("late", *WAITS), key="k1")
        assert (await engine.run(workflow("late", *WAITS), key="k1")).id == run.id
        await engine.cancel(run, "enough", as_="dan")
        await run.until("cancelled")
        with pytest.raises(StepError, match="enough"):
            await run.result()
        held = await engine.run(workflow("held", *HELLO["spec"]["steps"], automation="human_approval"))
        await held.until("waiting")
        assert held.waiting_for == "start"
        await engine.start(held)
        assert (await held.until()).status == "succeeded"


@in_virtual_time
async def test_refusals_are_those_of_the_api() -> None:
    async with Engine(tools=[Greet()]) as engine:
        with pytest.raises(ForbiddenError, match="eve"):
            await engine.run(HELLO, as_="eve")
        with pytest.raises(NotFoundError, match="ann"):
            await engine.run(HELLO, as_="nobody")
        with pytest.raises(NotFoundError, match="was applied"):
            await engine.run("hello")
        with pytest.raises(ValidationError):
            await engine.apply(workflow("empty"))
        await engine.apply(HELLO)
        assert (await (await engine.run("hello")).until()).steps["hello"].status == "succeeded"


@in_virtual_time
async def test_a_run_that_does_not_come_where_a_test_expects_it_says_how_it_stands() -> None:
    async with Engine(tools=[Greet()]) as engine:
        run = await engine.run(workflow("late", *WAITS))
        with pytest.raises(AssertionError, match="waits for timer; night waiting"):
            await run.until("succeeded")
        with pytest.raises(ValueError, match="no run is ever finished"):
            await run.until("finished")
        failing = await engine.run(workflow("fails", {"id": "read", "tool": "file_read", "with": {"path": "gone"}}))
        with pytest.raises(AssertionError, match="gone"):
            await failing.until("succeeded")
        with pytest.raises((NotFoundError, StepError), match="gone"):
            await failing.result()


def test_a_virtual_loop_passes_a_year_at_once() -> None:
    async def year() -> float:
        await asyncio.sleep(365 * 86_400)
        return asyncio.get_running_loop().time()

    assert virtual.run(year()) >= 365 * 86_400


@in_virtual_time
async def test_the_main_example_runs_whole_with_the_installed_tools_and_gates(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class One:\n    def method(self): ...\n")
    (tmp_path / "two.py").write_text("def two(): ...\n")
    async with Engine(file_root=tmp_path) as engine:
        run = await engine.run((EXAMPLES / "repo-report.yaml").read_text())
        await engine.approve(run, "sign_off")
        assert await run.result() == {"report": "report.md", "files": 2, "symbols": 3}
        assert "2 Python files hold 3 symbols" in (tmp_path / "report.md").read_text()
        assert run.events.count("write.claimed") == 1


@in_virtual_time
async def test_the_example_of_a_tool_plan_copies_once_it_is_authorised(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Read me.")
    (tmp_path / "copies").mkdir()
    document = (EXAMPLES / "tool-plan.yaml").read_text()
    async with Engine(file_root=tmp_path) as engine:
        await engine.authorize(document)
        run = await engine.run(document)
        await engine.approve(run, "copy")  # the step requires a confirmation, too
        await run.until("succeeded")
        assert (tmp_path / "copies" / "README.md").read_text() == "Read me."
        again = await engine.run(document)
        await engine.approve(again, "copy")
        await again.until("failed")  # its precondition: the copy must not be there yet
        assert again.step("copy").error_type == "precondition_failed"
