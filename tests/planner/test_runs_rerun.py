"""Running again from a step: what stands, what is performed anew, and what is refused."""

from typing import Any

import pytest

from headrace import codec
from headrace.errors import ConflictError, NotFoundError
from headrace.events.base import ArtifactInfo
from headrace.events.steering import StepReused
from headrace.messages import CancelRun, ResolveApproval, StartRun
from headrace.plans.model import (
    ApprovalStep,
    ConditionStep,
    GateStep,
    InputField,
    LoopStep,
    Plan,
    PlanStep,
    ToolPin,
    TransformStep,
)
from headrace_planner.runs.pieces import Results
from headrace_planner.runs.reuse import EVERY, check_inputs, inputs_read, reused_steps
from tests.planner.runs_kit import ANN, BOB, PINS, Sim, call, plan, step


def again(sim: Sim, from_step: str, **more: Any) -> Sim:
    """Run an earlier run again from a step, with its results as the planner's preparer finds them."""
    reused = []
    for step_id in reused_steps(sim.run, from_step):
        known = sim.run.peek(step_id)
        output = Results(known.map, sim.shelf).whole() if known.map else known.output
        reused.append(
            StepReused(
                step=step_id,
                run_id=sim.id,
                status=str(known.status),
                output=output,
                attempt_id=known.attempt_id,
                artifacts=tuple(kept for _, _, _, kept in known.artifacts),
                reason=known.reason,
                error=known.error,
            )
        )
    new = Sim(sim.run.graph.plan)
    return new.create(retry_of=sim.id, rerun_from=from_step, attempt=2, reused=tuple(reused), **more)


def failed(*steps: PlanStep, last: str, **more: Any) -> Sim:
    """Let a plan's steps succeed until one fails."""
    sim = Sim(plan(*steps, **more)).create()
    while last not in sim.orders:
        (name,) = [name for name in sim.orders if sim.run.trial(_instance(name)) is not None]
        sim.report(name, {"of": name})
    return sim.fail(last)


def _instance(name: str) -> tuple[str, int | None]:
    base, bracket, rest = name.partition("[")
    return base, int(rest[:-1]) if bracket else None


def test_what_comes_before_stands_and_what_comes_after_is_performed() -> None:
    sim = failed(call("a"), call("b", "a"), call("c", "b", arguments={"x": "{{ steps.a.output.of }}"}), last="c")
    new = again(sim, "c")
    assert new.names[:3] == ["run.queued", "step.reused", "step.reused"]
    assert list(new.orders) == ["c"]
    assert codec.loads(new.orders["c"].arguments) == {"x": "a"}
    row = new.row("steps", step="a")
    assert (row["status"], row["detail"]["reused_from"], row["output"]) == ("succeeded", sim.id, {"of": "a"})
    assert (new.row()["retry_of"], new.row()["detail"]["rerun_from"], new.row()["steps_done"]) == (sim.id, "c", 2)
    assert new.report("c").status == "succeeded"


def test_what_comes_after_is_performed_anew_also_where_it_had_succeeded_and_what_lies_beside_stands() -> None:
    loop = step("l", LoopStep(condition="iteration < 1", body=("in",)), "b")
    sim = Sim(plan(call("a"), call("b", "a"), loop, call("in", parent="l"), call("end", "l"), call("beside"))).create()
    for name in ("a", "b", "in", "end", "beside"):
        sim.report(name, {"of": name})
    assert sim.status == "succeeded"
    new = again(sim, "b")
    assert list(new.orders) == ["b"]
    assert [new.step_status(name) for name in ("a", "beside", "end")] == ["succeeded", "succeeded", "pending"]
    assert list(new.report("b").orders) == ["b", "in"]
    assert list(new.report("in").orders) == ["b", "in", "end"]
    assert new.report("end").status == "succeeded"


def test_from_a_first_step_nothing_stands() -> None:
    new = again(failed(call("a"), call("b", "a"), last="b"), "a")
    assert (list(new.orders), "step.reused" in new.names) == (["a"], False)


def test_a_map_stands_as_the_list_it_gave_and_artifacts_are_the_new_runs_too() -> None:
    sim = Sim(plan(call("m", items=[1, 2]), call("b", "m", arguments={"x": "{{ steps.m.output }}"}))).create()
    kept = ArtifactInfo(type="file", label="f", value=codec.raw("f.txt"))
    sim.report("m[0]", "x", artifacts=(kept,)).report("m[1]", "y").fail("b")
    new = again(sim, "b")
    assert codec.loads(new.orders["b"].arguments) == {"x": ["x", "y"]}
    assert new.row("artifacts", label="f")["run_id"] == new.id


def test_of_what_the_step_does_not_need_only_what_succeeded_stands() -> None:
    sim = Sim(plan(call("a"), call("b", "a"), call("other"), call("after", "other"))).create()
    sim.report("a").fail("b")
    assert sim.step_status("other") == "cancelled"
    assert sorted(again(sim, "b").orders) == ["b", "other"]


def test_a_condition_stands_with_the_branch_that_it_chose() -> None:
    branches = (step("c", ConditionStep(expression="true", then=("yes",), otherwise=("no",))), call("yes", "c"))
    sim = failed(*branches, call("no", "c"), call("end", "yes", "no"), last="end")
    new = again(sim, "end")
    assert (list(new.orders), new.step_status("no")) == (["end"], "skipped")
    assert "no" not in again(sim, "yes").orders
    assert new.row("steps", step="no")["detail"]["reason"] == "the condition 'c' chose the other branch"


def test_a_loop_stands_whole_and_its_body_alone_cannot_be_run_again() -> None:
    loop = step("l", LoopStep(condition="iteration < 2", body=("in",)))
    sim = failed(loop, call("in", parent="l"), call("end", "l"), last="end")
    new = again(sim, "end")
    assert (list(new.orders), new.step_status("l"), new.step_status("in")) == (["end"], "succeeded", "succeeded")
    assert new.report("end").status == "succeeded"
    with pytest.raises(ConflictError, match="in the body of the loop 'l': run again from 'l'"):
        reused_steps(sim.run, "in")


def test_what_cannot_stand_is_refused_by_name() -> None:
    sim = failed(call("a"), call("b", "a"), call("c", "b"), last="b")
    with pytest.raises(ConflictError, match="step 'b', which 'c' needs, did not succeed") as refused:
        reused_steps(sim.run, "c")
    assert "run again from 'b'" in refused.value.message
    with pytest.raises(NotFoundError, match="no step 'x'; it has: a, b, c"):
        reused_steps(sim.run, "x")
    running = Sim(plan(call("a"))).create()
    with pytest.raises(ConflictError, match="only a run that is over"):
        reused_steps(running.run, "a")


def test_what_was_undone_does_not_stand() -> None:
    pin = ToolPin(version="1", digest="sha256:w", effect="write", access="auto", pool="runner", idempotent=True)
    undo = call("a.compensate", tool="undo", compensates="a")
    steps = (call("a", tool="do"), call("b", "a", tool="do"))
    the_plan = Plan(name="d", kind="Workflow", steps=steps, tools={"do": pin, "undo": pin}, compensations=(undo,))
    sim = Sim(the_plan).create().claim("a").report("a", {}).claim("b", nonce="n2").fail("b")
    sim.claim("a.compensate", nonce="n3").report("a.compensate", {})
    assert sim.status == "failed"
    with pytest.raises(ConflictError, match=r"'a', which 'b' needs, was undone by 'a\.compensate'"):
        reused_steps(sim.run, "b")


def inputs_plan(*steps: PlanStep) -> Plan:
    fields = {"x": InputField(type="any", default=1), "y": InputField(type="any", default=2)}
    variables = {"v": "{{ inputs.y }}", "w": "no input"}
    return Plan(name="d", kind="Workflow", steps=steps, tools=PINS, inputs=fields, variables=variables)


@pytest.mark.parametrize(
    ("made", "read"),
    [
        (call("a", arguments={"q": ["{{ inputs.x }}"]}), {"x"}),
        (call("a", arguments={"q": "{{ variables.v }}"}), {"y"}),
        (call("a", arguments={"q": "{{ variables.w }}"}), set()),
        (call("a", arguments={"q": "{{ inputs }}"}), {EVERY}),
        (call("a", items="{{ inputs.x }}"), {"x"}),
        (call("a", when="inputs.y > 1"), {"y"}),
        (call("a", precondition="file exists {{ inputs.x }}"), {"x"}),
        (step("a", ConditionStep(expression="inputs.x == 1")), {"x"}),
        (step("a", TransformStep(value={"z": "{{ inputs.x }}"})), {"x"}),
        (step("a", GateStep(gate="expression", config={"expression": "inputs.y == 2"}), kind="gate"), {"y"}),
        (step("a", LoopStep(condition="iteration < inputs.x", body=())), {"x"}),
        (call("a", arguments={"q": "inputs.x"}), set()),
    ],
)
def test_which_inputs_a_step_reads_is_told_from_its_expressions(made: PlanStep, read: set[str]) -> None:
    assert inputs_read(Sim(inputs_plan(made)).create().run.graph, "a") == read


def test_an_input_that_a_standing_result_depends_on_may_not_differ() -> None:
    sim = Sim(inputs_plan(call("a", arguments={"q": "{{ inputs.x }}"}), call("b", "a"))).create().report("a").fail("b")
    old = {"x": 1, "y": 2}
    check_inputs(sim.run, ("a",), old, {"x": 1, "y": 3})
    with pytest.raises(ConflictError, match="step 'a' has read the input 'x'") as refused:
        check_inputs(sim.run, ("a",), old, {"x": 5, "y": 2})
    assert refused.value.details == {"step": "a", "inputs": ["x"]}
    assert "run again from 'a'" in refused.value.message
    for before, after in (({"y": 2}, old), (old, {"y": 2})):
        with pytest.raises(ConflictError, match="step 'a' has read the input 'x'"):
            check_inputs(sim.run, ("a",), before, after)


def test_a_rerun_is_authorised_anew_although_an_approval_stands() -> None:
    gated = call("w", "ok", tool="write", covered_by=("ok",))
    sim = Sim(plan(step("ok", ApprovalStep()), gated, call("end", "w"))).create().resolve()
    sim.claim("w").fail("w")
    new = again(sim, "w")
    assert (new.step_status("ok"), new.status, new.row()["waiting_for"]) == ("succeeded", "waiting", "approval")
    (ask,) = new.run.data.asks.values()
    assert [each["step"] for each in codec.loads(ask.shown)["tools"]] == ["w"]
    assert "w" not in new.orders
    new.do(ResolveApproval(approval_id=ask.approval_id, step="", status="approved", digest=ask.digest, by=(BOB,)))
    assert "w" in new.orders


def test_a_rerun_waits_for_its_start_where_the_plan_says_so_and_may_be_cancelled_before() -> None:
    sim = (
        Sim(plan(call("a"), call("b", "a"), automation="human_approval")).create().do(StartRun()).report("a").fail("b")
    )
    new = again(sim, "b")
    assert (new.row()["waiting_for"], list(new.orders)) == ("start", [])
    assert again(sim, "b").do(CancelRun()).status == "cancelled"
    assert list(new.do(StartRun(), by=ANN).orders) == ["b"]
    assert new.report("b").status == "succeeded"


def test_a_step_of_a_loop_that_failed_and_let_the_run_go_on_stands_with_its_error() -> None:
    sim = Sim(
        plan(
            step("again", LoopStep(condition="iteration < 1", body=("inner",))),
            call("inner", parent="again", on_error="continue"),
            call("said", "again", arguments={"why": "{{ steps.inner.error.type }}"}),
            call("last", "said"),
        )
    ).create()
    sim.fail("inner", "no", type="odd").report("said").fail("last")
    new = again(sim, "said")
    assert codec.loads(new.orders["said"].arguments) == {"why": "odd"}
    assert new.row("steps", step="inner")["error_type"] == "odd"
