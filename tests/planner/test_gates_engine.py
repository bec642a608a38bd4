"""What a gate's expression may speak of: the real planner gathers it, the real gatekeeper judges by it."""

from typing import Any

import headrace
from headrace.ports.tool import ToolContext
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import INLINE_BYTES_MAX
from tests.tour.kit import workflow


@in_virtual_time
async def test_a_gate_in_a_loop_judges_by_its_round_and_by_what_the_one_before_gave() -> None:
    grows = "iteration == 1 || (previous.count.output == (iteration - 1) * 10 && previous.grows.status == 'succeeded')"
    steps: list[dict[str, Any]] = [
        {"id": "again", "loop": {"while": "iteration < 3", "steps": ["count", "grows"]}},
        {"id": "count", "transform": "{{ iteration * 10 }}"},
        {
            "id": "grows",
            "gate": {"type": "expression", "expression": f"steps.count.output == iteration * 10 && ({grows})"},
        },
    ]
    async with Engine() as engine:
        run = await engine.run(workflow("w", *steps, outputs="{{ steps.again.output.iterations }}"))
        assert await run.result() == 3


@in_virtual_time
async def test_a_gate_is_given_what_it_names_so_that_nothing_else_can_fail_it() -> None:
    steps: list[dict[str, Any]] = [
        {"id": "count", "transform": {"n": 1}, "outputs": {"odd": "{{ run.labels.nope }}"}},
        {"id": "ended", "gate": {"type": "expression", "expression": "steps.count.status == 'succeeded'"}},
        {"id": "some", "gate": {"type": "expression", "expression": "steps.count.output.n > 0"}},
    ]
    async with Engine() as engine:
        run = await engine.run(workflow("w", *steps, outputs="{{ steps.some.output.outcome }}"))
        assert await run.result() == "passed"


@in_virtual_time
async def test_named_outputs_that_cannot_be_made_fail_only_the_gate_that_needs_them_and_it_says_why() -> None:
    def judged(expression: str) -> dict[str, Any]:
        steps: list[dict[str, Any]] = [
            {"id": "count", "transform": {"n": 1}, "outputs": {"odd": "{{ run.labels.nope }}"}},
            {"id": "some", "gate": {"type": "expression", "expression": expression}},
        ]
        return workflow("w", *steps, outputs="{{ steps.some.output.outcome }}")

    async with Engine() as engine:
        run = await engine.run(judged("steps.count.output.n > 0 || steps.count.outputs.odd == 1"))
        assert await run.result() == "passed"
        run = await (await engine.run(judged("steps.count.outputs.odd == 1"))).until("failed")
        assert run.error_type == "precondition_failed"
        assert "(count.outputs: expression 'run.labels.nope'" in str(run.error_message)


@headrace.tool
async def letter(lines: int, context: ToolContext) -> int:
    """Write a letter of so many lines, and keep it."""
    context.artifact("file", "letter", "letter.md", body=b"# Summary\n" + b"and so on\n" * lines)
    return lines


@in_virtual_time
async def test_a_file_is_checked_whether_its_text_goes_with_the_order_or_is_kept_apart() -> None:
    for lines in (1, INLINE_BYTES_MAX):
        async with Engine(tools=[letter]) as engine:
            run = await engine.run(checked(lines, "Summary"))
            assert await run.result() == "passed"
            run = await (await engine.run(checked(lines, "End"))).until("failed")
            assert "letter.md has no section End" in str(run.error_message), lines


def checked(lines: int, section: str) -> dict[str, Any]:
    gate = {"type": "content_check", "file": "letter.md", "required_sections": [section]}
    steps = (
        {"id": "letter", "tool": "letter", "with": {"lines": lines}},
        {"id": "whole", "depends_on": ["letter"], "gate": gate},
    )
    return workflow("w", *steps, outputs="{{ steps.whole.output.outcome }}")
