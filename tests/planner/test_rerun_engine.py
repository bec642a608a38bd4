"""A rerun in the whole engine: what stands is what it was, whatever the expressions of the new run ask of it."""

from typing import Any

from pydantic import BaseModel

import headrace
from headrace.errors import StepError
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time

HEAD = "apiVersion: headrace/v1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  outputs: '{{ steps.told.output }}'\n  steps:\n"


class Done(BaseModel):
    """Nothing much."""

    n: int
    text: str = ""


@headrace.tool(effect="read", access="auto")
async def odd(n: int, length: int = 0) -> Done:
    """Fail for odd numbers."""
    if n % 2:
        message = f"{n} is odd"
        raise StepError(message, type="tool_error")
    return Done(n=n, text="x" * length)


async def run_and_again(steps: str, times: int = 2) -> tuple[Any, list[Any]]:
    """Give the outputs of a run, and of reruns of it, each of the one before, from the step `told`."""
    async with Engine(tools=[odd]) as engine:
        run = await engine.run(HEAD + steps)
        await run.until("succeeded")
        first, again = run.outputs, []
        for _ in range(times):
            run = await engine.rerun(run, "told")
            await run.until("succeeded", "failed")
            again.append(run.outputs if run.status == "succeeded" else run.error_message)
        return first, again


@in_virtual_time
async def test_which_items_of_a_map_failed_is_known_where_it_stands() -> None:
    told = '    - {id: told, transform: "{{ [steps.m.output, steps.m.failed] }}"}\n'
    maps = '    - {id: m, map: [1, 2, 3], tool: odd, with: {n: "{{ item }}"}, on_item_error: collect}\n'
    first, again = await run_and_again(maps + told)
    assert [each["index"] for each in first[1]] == [0, 2]
    assert again == [first, first]
    first, again = await run_and_again(maps.replace("[1, 2, 3]", "[2, 4]") + told)
    assert first == [[{"n": 2, "text": ""}, {"n": 4, "text": ""}], []]
    assert again == [first, first]


@in_virtual_time
async def test_a_map_of_long_results_of_which_items_failed_stands_in_pieces() -> None:
    maps = '    - {id: m, map: "{{ lists.range(600) }}", tool: odd, with: {n: "{{ item }}", length: 200}, on_item_error: collect}\n'
    told = (
        '    - {id: told, transform: "{{ [size(steps.m.output), size(steps.m.failed), steps.m.failed[0].index] }}"}\n'
    )
    first, again = await run_and_again(maps + told, 1)
    assert first == [600, 300, 1]
    assert again == [first]


@in_virtual_time
async def test_named_outputs_of_a_loops_body_that_stands_are_those_of_its_last_round() -> None:
    steps = """
    - {id: again, loop: {while: "iteration < 3", steps: [x]}}
    - id: x
      transform: {v: "{{ iteration }}"}
      outputs:
        own: "{{ output.v }}"
        round: "{{ iteration }}"
        before: "{{ iteration > 1 ? previous.x.output.v : 0 }}"
        run: "{{ run.attempt }}"
    - {id: told, transform: "{{ steps.x.outputs }}"}
"""
    first, again = await run_and_again(steps)
    assert first == {"own": 3, "round": 3, "before": 2, "run": 1}
    assert again == [first, first]


@in_virtual_time
async def test_a_map_that_failed_in_a_loop_that_went_on_stands_as_failed() -> None:
    steps = """
    - {id: again, loop: {while: "iteration < 2", steps: [m]}}
    - {id: m, map: [2, 3], tool: odd, with: {n: "{{ item }}"}, on_error: continue}
    - {id: told, depends_on: [again], transform: "{{ [steps.m.output, steps.m.status, steps.m.error, steps.m.failed] }}"}
"""
    first, again = await run_and_again(steps)
    assert first[:2] == [None, "failed"]
    assert again == [first, first]
