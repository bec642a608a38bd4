"""The tour goes on: loops, collected failures, and taking back what was done. Read test_tour.py first."""

from pathlib import Path

import headrace
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from tests.tour.kit import workflow


@in_virtual_time
async def test_30_a_loop_tries_until_it_is_good_enough() -> None:
    @headrace.tool
    def polish(grain: int) -> dict[str, int]:
        """Halve the grain."""
        return {"grain": grain // 2}

    async with Engine(tools=[polish]) as engine:
        # The body's steps are written beside the loop. `iteration` counts its rounds.
        run = await engine.run("""
            apiVersion: headrace/v1
            kind: Workflow
            metadata: {name: polish}
            spec:
              steps:
                - id: smooth
                  loop: {while: "iteration == 0 || steps.rub.output.grain > 10", steps: [grain, rub]}
                - id: grain
                  transform: "{{ iteration == 1 ? 100 : previous.rub.output.grain }}"
                - id: rub
                  tool: polish
                  with: {grain: "{{ steps.grain.output }}"}
              outputs: {rounds: "{{ steps.smooth.output.iterations }}", grain: "{{ steps.rub.output.grain }}"}
            """)
        # Every round begins anew; `previous` holds what the one before gave.
        assert await run.result() == {"rounds": 4, "grain": 6}


@in_virtual_time
async def test_31_a_loop_waits_between_its_rounds() -> None:
    tries: list[str] = []

    @headrace.tool
    def healthy() -> bool:
        """Say whether the service has come up: at the third look it has."""
        tries.append("look")
        return len(tries) == 3

    async with Engine(tools=[healthy]) as engine:
        run = await engine.run(
            workflow(
                "rollout",
                {
                    "id": "until_up",
                    "loop": {"while": "iteration == 0 || !steps.look.output.result", "steps": ["nap", "look"]},
                },
                {"id": "nap", "wait": "1h"},
                {"id": "look", "tool": "healthy", "depends_on": ["nap"]},
                outputs="{{ steps.until_up.output.iterations }}",
            )
        )
        # Three hours pass in no time.
        await engine.pass_time("4h")
        assert await run.result() == 3


@in_virtual_time
async def test_32_some_items_may_fail() -> None:
    @headrace.tool
    def invert(n: int) -> float:
        """Give 1/n."""
        return 1 / n

    async with Engine(tools=[invert]) as engine:
        run = await engine.run(
            workflow(
                "inverses",
                {
                    "id": "each",
                    "map": [1, 0, 4],
                    "tool": "invert",
                    "with": {"n": "{{ item }}"},
                    "on_item_error": "collect",
                },
                {"id": "failed", "transform": "{{ steps.each.failed.map(f, f.index) }}"},
                outputs={"good": "{{ steps.each.output }}", "failed": "{{ steps.failed.output }}"},
            )
        )
        assert await run.result() == {"good": [{"result": 1.0}, None, {"result": 0.25}], "failed": [1]}


@in_virtual_time
async def test_33_what_was_done_is_taken_back_when_the_rest_fails(tmp_path: Path) -> None:
    async with Engine(file_root=tmp_path) as engine:
        run = await engine.run(
            workflow(
                "journey",
                {"id": "ask", "approval": {}},
                {
                    "id": "train",
                    "depends_on": ["ask"],
                    "tool": "file_create",
                    "with": {"path": "train", "contents": "booked"},
                    "compensate": {
                        "tool": "file_write",
                        "with": {"path": "{{ output.path }}", "contents": "cancelled"},
                    },
                },
                {
                    "id": "hotel",
                    "depends_on": ["train"],
                    "tool": "file_read",
                    "with": {"path": "no-such-hotel"},
                },
            )
        )
        await engine.approve(run, "ask", as_="bob")
        failed = await run.until("failed")
        assert (tmp_path / "train").read_text() == "cancelled"
        # What takes back is a step like any other, under the approval that covered what it takes back.
        assert run.step("train.compensate").status == "succeeded"
        assert (
            failed.events[-3:] == ["compensation.started", "write.claimed", "run.failed"]
            or failed.events[-1] == "run.failed"
        )
