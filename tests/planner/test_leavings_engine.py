"""Maps that leave more than their run remembers, with owners, workers and a log around them."""

import asyncio
from typing import Any

import headrace
from headrace import codec
from headrace.errors import StepError
from headrace.events.runs import StepSucceeded
from headrace.events.steering import StepReused
from headrace.log.rebuild import rebuild
from headrace.ports.tool import ToolContext
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import INLINE_BYTES_MAX
from headrace_planner.runs.bounds import ITEMS_A_PIECE
from tests.tour.kit import workflow


@headrace.tool(pool="one")
async def make(n: int, context: ToolContext) -> dict[str, int]:
    """Leave a file, some a long one."""
    body = "x" * 2 * INLINE_BYTES_MAX if n % 500 == 7 else f"of {n}"
    context.artifact("file", f"f{n}", n, body=body.encode())
    return {"n": n}


@headrace.tool(pool="one")
async def unmake(n: int) -> dict[str, int]:
    """Take something back, which takes a while."""
    await asyncio.sleep(0.1)
    return {"n": n}


@headrace.tool(pool="one")
async def break_off() -> dict[str, int]:
    """Fail."""
    message = "no more"
    raise StepError(message)


ITEMS = ITEMS_A_PIECE + 40
GIVEN = {"items": {"type": "array", "default": list(range(ITEMS))}}
EACH = {"id": "m", "map": "{{ inputs.items }}", "tool": "make", "with": {"n": "{{ item }}"}}


@in_virtual_time
async def test_a_rerun_from_behind_a_map_that_left_much_has_its_artifacts_and_so_has_a_rebuild() -> None:
    last = {"id": "last", "depends_on": ["m"], "transform": {"n": "{{ size(steps.m.artifacts) }}"}}
    async with Engine(tools=[make]) as engine:
        run = await engine.run(workflow("w", EACH, last, inputs=GIVEN, outputs="{{ steps.last.output }}"))
        assert await run.result() == {"n": ITEMS}
        again = await engine.rerun(run, "last")
        third = await engine.rerun(again, "last")
        assert [await each.result() for each in (again, third)] == [{"n": ITEMS}] * 2
        (event,) = [each for each in third.history if isinstance(each, StepReused) and each.step == "m"]
        assert len(event.artifacts) < ITEMS_A_PIECE
        assert len(event.artifact_pieces[0].blobs) == 1  # alike bodies are one
        of_runs = [await _artifacts(engine, each) for each in (run, again, third)]
        assert [len(rows) for rows in of_runs] == [ITEMS] * 3
        first, *others = of_runs
        for rows in others:
            assert {row["item"] for row in rows} == {None}
            assert sorted((row["label"], row["blob"], row["value"]) for row in rows) == sorted(
                (row["label"], row["blob"], row["value"]) for row in first
            )
        await engine.processes.close()
        assert (await rebuild(engine.log)).changed == 0


@in_virtual_time
async def test_much_work_is_undone_the_newest_first_also_when_its_owner_dies_meanwhile() -> None:
    each = {**EACH, "compensate": {"tool": "unmake", "with": {"n": "{{ output.n }}"}}}
    bad = {"id": "bad", "depends_on": ["m"], "tool": "break_off"}
    async with Engine(tools=[make, unmake, break_off]) as engine:
        run = await engine.run(workflow("w", each, bad, inputs=GIVEN))
        await engine.pass_time("60s")
        assert "work.recalled" in run.events
        await engine.kill_planner()
        await run.until("failed", seconds=1_000)
        results = [part for event in run.history for part in event.parts if isinstance(part, StepSucceeded)]
        did = [codec.loads(part.output)["n"] for part in results if part.step == "m" and part.index is not None]
        undid = [
            codec.loads(part.output)["n"] for part in results if part.step == "m.compensate" and part.index is not None
        ]
        assert (len(did), undid) == (ITEMS, did[::-1])
        assert {"work.kept", "work.recalled"} < set(run.events)
        await engine.processes.close()
        assert (await rebuild(engine.log)).changed == 0


async def _artifacts(engine: Engine, run: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := await engine.log.rows(
        "artifacts", {"run_id": run.id}, limit=500, descending=False, after=found[-1]["id"] if found else None
    ):
        found += page
    return found
