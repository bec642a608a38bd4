"""Which steps of a plan are dispatched together."""

from typing import Any

import msgspec
import pytest

from headrace.events.base import RateLimit
from headrace.plans import model
from headrace.plans.fusion import following, fused
from headrace.plans.model import (
    ApprovalStep,
    ArtifactSpec,
    CallStep,
    GateStep,
    Plan,
    PlanStep,
    StepBody,
    SubWorkflowStep,
    ToolPin,
    TransformStep,
    WaitStep,
)

READ = ToolPin(version="1", digest="sha256:r", effect="read", access="auto", pool="runner", idempotent=True)
PINS = {
    "read": READ,
    "write": msgspec.structs.replace(READ, effect="write"),
    "elsewhere": msgspec.structs.replace(READ, pool="integrations"),
    "limited": msgspec.structs.replace(READ, rate_limit=RateLimit(limit=3, period_s=1.0)),
    "connected": msgspec.structs.replace(READ, requires_connection="github"),
    "gated": msgspec.structs.replace(READ, access="gated"),
    "gate.expression": READ,
}


def call(step_id: str, *needs: str, tool: str = "read", arguments: Any = None, **more: Any) -> PlanStep:
    return step(step_id, CallStep(tool=tool, arguments=arguments or {}), *needs, **more)


def step(step_id: str, body: StepBody, *needs: str, **more: Any) -> PlanStep:
    return PlanStep(id=step_id, kind="tool", body=body, needs=needs, **more)


def plan(*steps: PlanStep, **more: Any) -> Plan:
    return Plan(name="demo", kind="Workflow", steps=steps, tools=PINS, **more)


def test_calls_that_read_and_need_only_each_other_are_one_chain() -> None:
    made = plan(call("a"), call("b", "a"), call("c", "b"))
    assert fused(made) == (("a", "b", "c"),)
    assert following(made) == {"a": "b", "b": "c"}


def test_the_author_may_switch_it_off_and_only_that_is_part_of_the_plans_digest() -> None:
    made = plan(call("a"), call("b", "a"))
    off = msgspec.structs.replace(made, fuse=False)
    assert fused(off) == ()
    assert model.digest(off) != model.digest(made)
    assert b"fuse" not in model.canonical(made)


def test_a_need_from_before_the_chain_or_within_it_does_not_divide_it() -> None:
    made = plan(call("first", tool="write"), call("a", "first"), call("b", "first", "a"), call("c", "a", "b"))
    assert fused(made) == (("a", "b", "c"),)


def test_a_step_that_waits_for_somebody_else_too_begins_a_chain_of_its_own() -> None:
    made = plan(call("other"), call("a"), call("b", "a"), call("c", "b", "other"), call("d", "c"))
    assert fused(made) == (("a", "b"), ("c", "d"))


def test_nobody_who_could_go_on_waits_for_results_that_are_kept_back() -> None:
    made = plan(call("a"), call("b", "a"), call("beside", "a"), call("c", "b"))
    assert fused(made) == (("b", "c"),)


def test_who_needs_the_whole_chain_may_need_its_beginning_too() -> None:
    made = plan(call("a"), call("b", "a"), step("sum", TransformStep(value=1), "a", "b"))
    assert fused(made) == (("a", "b"),)


@pytest.mark.parametrize(
    "between",
    [
        step("b", TransformStep(value=1), "a"),
        step("b", GateStep(gate="expression", config={"expression": "true"}), "a"),
        step("b", ApprovalStep(), "a"),
        step("b", WaitStep(seconds=1.0), "a"),
        step("b", SubWorkflowStep(workflow="x"), "a"),
        call("b", "a", tool="write"),
        call("b", "a", items=[1, 2]),
    ],
    ids=["transform", "gate", "approval", "wait", "sub_workflow", "write", "map"],
)
def test_only_calls_that_read_are_chained(between: PlanStep) -> None:
    assert fused(plan(call("a"), between, call("c", "b"))) == ()


@pytest.mark.parametrize(
    "more",
    [
        {"tool": "elsewhere"},
        {"tool": "limited"},
        {"tool": "connected"},
        {"tool": "gated"},
        {"when": "true"},
        {"confirm": True},
        {"precondition": "file exists x"},
    ],
    ids=str,
)
def test_what_may_keep_a_step_from_beginning_keeps_it_from_following(more: dict[str, Any]) -> None:
    assert fused(plan(call("a"), call("b", "a", **more), call("c", "b", tool="write"))) == ()


def test_a_condition_or_a_confirmation_may_stand_before_the_first_step_of_a_chain() -> None:
    assert fused(plan(call("a", when="true", confirm=True), call("b", "a"))) == (("a", "b"),)


def test_a_step_whose_artifacts_the_planner_makes_may_only_be_the_last() -> None:
    kept = (ArtifactSpec(type="file", label="x"),)
    assert fused(plan(call("a"), call("b", "a", artifacts=kept), call("c", "b"))) == (("a", "b"),)


def test_what_can_be_undone_is_not_chained() -> None:
    undo = (call("b.compensate", compensates="b"),)
    assert fused(plan(call("a"), call("b", "a"), call("c", "b"), compensations=undo)) == ()


def test_a_loops_body_is_chained_within_itself() -> None:
    made = plan(call("a"), call("b", parent="again"), call("c", "b", parent="again"))
    assert fused(made) == (("b", "c"),)


@pytest.mark.parametrize(
    ("text", "chained"),
    [
        ("{{ steps.a.output.x }}", True),
        ("{{ steps.a.status == 'succeeded' }}", True),
        ("{{ steps.a.artifacts }}", False),
        ("{{ steps.a.outputs.x }}", False),
        ("{{ has(steps.a.output.x) }}", True),
    ],
)
def test_a_template_that_asks_for_more_than_a_worker_knows_divides_the_chain(text: str, chained: bool) -> None:  # noqa: FBT001  (a case)
    assert bool(fused(plan(call("a"), call("b", "a", arguments={"x": text})))) is chained
