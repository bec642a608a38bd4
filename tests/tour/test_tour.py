"""A tour of headrace in eight short tests: read from top to bottom."""

import pytest

from headrace.errors import DigestMismatchError, ForbiddenError, HeadraceError
from headrace.events.runs import RunQueued, RunSucceeded
from headrace.testing.engine import OPERATOR, Engine
from tests.tour.kit import Flaky, Greet, Send, in_virtual_time, workflow

GREETING = workflow(
    "greeting",
    {"id": "hello", "tool": "greet", "with": {"name": "{{ inputs.who }}"}},
    inputs={"who": {"type": "string", "default": "world"}},
    outputs={"text": "{{ steps.hello.output.text }}"},
)


@in_virtual_time
async def test_1_a_document_becomes_a_plan_and_the_plan_runs() -> None:
    async with Engine(tools=[Greet()]) as engine:
        run = await engine.run(GREETING, {"who": "Ada"})
        assert run.id.startswith("run_")
        done = await engine.wait(run, "succeeded")
        assert done.outputs == {"text": "Hello Ada"}
        events = await engine.events(run)
        assert isinstance(events[0], RunQueued)
        assert isinstance(events[-1], RunSucceeded)


@in_virtual_time
async def test_2_an_applied_workflow_runs_by_its_name() -> None:
    async with Engine(tools=[Greet()]) as engine:
        await engine.apply(GREETING)
        run = await engine.run("greeting")
        assert (await engine.wait(run, "succeeded")).steps["hello"].output == {"text": "Hello world"}


@in_virtual_time
async def test_3_a_map_performs_a_step_for_each_item_of_a_list() -> None:
    names = [f"guest {number}" for number in range(50)]
    party = workflow(
        "party",
        {"id": "hello", "map": "{{ inputs.names }}", "tool": "greet", "with": {"name": "{{ item }}"}},
        {"id": "count", "transform": {"greeted": "{{ size(steps.hello.output) }}"}},
        inputs={"names": {"type": "array"}},
        outputs="{{ steps.count.output }}",
    )
    async with Engine(tools=[Greet()]) as engine:
        done = await engine.wait(await engine.run(party, {"names": names}), "succeeded")
        assert done.outputs == {"greeted": 50}


@in_virtual_time
async def test_4_a_day_passes_in_no_time() -> None:
    late = workflow(
        "late",
        {"id": "night", "wait": {"duration": "24h"}},
        {"id": "hello", "depends_on": ["night"], "tool": "greet", "with": {"name": "early bird"}},
        timeout="48h",
    )
    async with Engine(tools=[Greet()]) as engine:
        run = await engine.wait(await engine.run(late), "waiting")
        assert run.waiting_for == "timer"
        await engine.advance(23 * 3_600)
        assert (await engine.view(run.id)).status == "waiting"
        await engine.advance(3_601)
        await engine.wait(run, "succeeded")


@in_virtual_time
async def test_5_a_gated_tool_waits_for_somebody_else_to_agree() -> None:
    send = Send()
    sending = workflow(
        "sending",
        {"id": "sign_off", "approval": {"roles": ["approver"], "prompt": "Send it?"}},
        {"id": "send", "depends_on": ["sign_off"], "tool": "send", "with": {"name": "everybody"}},
    )
    async with Engine(tools=[send]) as engine:
        run = await engine.wait(await engine.run(sending), "waiting")
        assert run.waiting_for == "approval"
        with pytest.raises(ForbiddenError):
            await engine.approve(run, actor=OPERATOR)  # the one who asked
        with pytest.raises(DigestMismatchError):
            await engine.approve(run, digest="sha256:" + "0" * 64)  # not what was shown
        assert send.sent == []
        await engine.approve(run)
        await engine.wait(run, "succeeded")
        assert send.sent == ["everybody"]


@in_virtual_time
async def test_6_a_step_that_fails_is_tried_again_as_often_as_it_asks() -> None:
    flaky = Flaky(failures=2)
    patient = workflow(
        "patient",
        {"id": "hello", "tool": "flaky", "with": {"name": "you"}, "retry": {"max_attempts": 3, "backoff": "10s"}},
    )
    async with Engine(tools=[flaky]) as engine:
        run = await engine.run(patient)
        done = await engine.wait(run, "succeeded")
        assert flaky.calls == 3
        assert done.steps["hello"].attempt == 3


@in_virtual_time
async def test_7_what_cannot_run_is_refused_before_it_exists() -> None:
    async with Engine(tools=[Greet()]) as engine:
        with pytest.raises(HeadraceError, match="gret"):
            await engine.run(workflow("typo", {"id": "hello", "tool": "gret", "with": {"name": "x"}}))


@in_virtual_time
async def test_8_the_planner_dies_and_the_run_goes_on() -> None:
    steps = [{"id": "s0", "wait": {"duration": "60s"}}]
    steps += [
        {"id": f"s{number}", "depends_on": [f"s{number - 1}"], "tool": "greet", "with": {"name": f"{number}"}}
        for number in range(1, 6)
    ]
    async with Engine(tools=[Greet()]) as engine:
        run = await engine.run(workflow("chain", *steps))
        await engine.kill_planner()
        done = await engine.wait(run, "succeeded")
        assert [step.status for step in done.steps.values()] == ["succeeded"] * 6
