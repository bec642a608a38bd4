"""How a run moves: chains, joins, conditions, maps, timers, and its end."""

from typing import Any

import msgspec
import pytest

from headrace import codec
from headrace.decider import Rejection
from headrace.errors import MissingArgumentError, ValidationError
from headrace.messages import CancelRun, CreateRun, StartRun, Wake
from headrace.plans.model import ConditionStep, InputField, TransformStep, WaitStep
from tests.planner.runs_kit import ANN, BOB, Sim, call, plan, step


def test_a_created_run_is_queued_as_attempt_one_with_an_id_of_a_run() -> None:
    """Row 1."""
    sim = Sim(plan(call("a"))).create(subject="card-1", stage="build")
    answer: Any = sim.room.answer(sim.run, CreateRun(plan_digest=sim.digest))
    assert answer.id.startswith("run_")
    assert (answer.status, answer.attempt) == ("queued", 1)
    assert (sim.row()["subject"], sim.row()["stage"]) == ("card-1", "build")
    assert sim.row()["created_at"] == sim.now


def test_who_asks_for_a_run_is_its_requester_whatever_the_command_says() -> None:
    sim = Sim(plan(call("a"))).create(requester=BOB)
    assert sim.run.queued.requester == ANN, "else somebody could approve what they asked for themselves"


def test_a_run_of_no_plan_is_refused() -> None:
    sim = Sim(plan(call("a")))
    assert "there is no plan" in sim.do(CreateRun(plan_digest="")).refused()


def test_create_delivered_twice_changes_nothing() -> None:
    sim = Sim(plan(call("a"))).create()
    before = sim.names
    assert sim.create().made() == []
    assert sim.names == before


def test_without_a_worker_the_run_stays_queued_until_one_reports() -> None:
    """Row 4, and the half of row 17 that the decider holds."""
    sim = Sim(plan(call("a"), call("b", "a"))).create(workers_active=False)
    assert (sim.status, "a" in sim.orders) == ("queued", True)
    sim.later(60).report("a", {"n": 1})
    assert sim.status == "running"
    assert sim.row()["started_at"] == sim.now


def test_a_chain_hands_outputs_on_and_ends_with_its_outputs() -> None:
    sim = Sim(
        plan(
            call("a", arguments={"path": "{{ inputs.root }}/x"}),
            call("b", "a", arguments={"size": "{{ steps.a.output.size }}"}),
            inputs={"root": InputField(type="string", default="src", required=False)},
            outputs={"total": "{{ steps.b.output.n + 1 }}"},
        )
    ).create()
    assert codec.loads(sim.orders["a"].arguments) == {"path": "src/x"}
    assert "b" not in sim.orders
    sim.report("a", {"size": 7})
    assert codec.loads(sim.orders["b"].arguments) == {"size": 7}
    sim.report("b", {"n": 41})
    assert sim.status == "succeeded"
    assert codec.loads(sim.run.data.outputs) == {"total": 42}
    assert sim.names == ["run.queued", "run.started", "step.succeeded", "step.succeeded", "run.succeeded"]


def test_a_step_began_and_ended_when_its_worker_says_so_and_one_that_acts_when_it_was_permitted_to() -> None:
    sim = Sim(plan(call("a"), call("w", "a", tool="write"))).create(authorized=True)
    began = sim.now
    sim.later(5).do(msgspec.structs.replace(sim.word("a", started_at=began + 1_000), finished_at=began + 3_000))
    row = sim.row("steps", step="a")
    assert (row["started_at"], row["finished_at"]) == (began + 1_000, began + 3_000)
    sim.later(5).claim("w")
    claimed_at = sim.now
    row = sim.later(5).row("steps", step="w")
    assert (row["status"], row["started_at"], row["finished_at"]) == ("running", claimed_at, None)


def test_a_run_that_ends_well_is_succeeded_and_says_when() -> None:
    """Row 6."""
    sim = Sim(plan(call("a"))).create().later(5).report("a")
    assert (sim.row()["status"], sim.row()["finished_at"]) == ("succeeded", sim.now)


def test_steps_without_needs_are_under_way_together_and_a_join_waits_for_all() -> None:
    sim = Sim(plan(call("a"), call("b"), call("c", "a", "b"))).create()
    assert set(sim.orders) == {"a", "b"}
    sim.report("b")
    assert "c" not in sim.orders
    sim.report("a")
    assert "c" in sim.orders


def test_inputs_are_checked_and_every_problem_is_named() -> None:
    the_plan = plan(
        call("a"), inputs={"root": InputField(type="string"), "depth": InputField(type="integer", default=1)}
    )
    sim = Sim(the_plan)
    sim.create({"rot": "x", "depth": "deep"})
    assert "did you mean root?" in sim.refused()
    assert "'depth' must be of type integer, not string" in sim.refused()
    assert "'root' is required" in sim.refused()
    assert isinstance(sim.last, Rejection)
    assert isinstance(sim.last.error, ValidationError)
    assert not isinstance(sim.last.error, MissingArgumentError)
    sim.create({})
    assert isinstance(sim.last, Rejection)
    assert isinstance(sim.last.error, MissingArgumentError)


def test_an_input_that_may_be_left_out_is_still_of_its_type_when_it_is_given() -> None:
    optional = plan(call("a"), inputs={"depth": InputField(type="integer", required=False)})
    assert "'depth' must be of type integer, not string" in Sim(optional).create({"depth": "deep"}).refused()
    for given in ({}, {"depth": None}, {"depth": 3}):
        assert codec.loads(Sim(optional).create(given).run.queued.inputs) == {"depth": given.get("depth")}
    wanted = plan(call("a"), inputs={"depth": InputField(type="integer")})
    assert "not null" in Sim(wanted).create({"depth": None}).refused()


def test_a_failed_step_fails_the_run_and_its_message_is_shown() -> None:
    """Row 7 and row 73: results of the first two, the third never started."""
    sim = Sim(plan(call("a"), call("b", "a"), call("c", "b"))).create()
    sim.report("a").fail("b", "API rate limit exceeded", "upstream_error")
    assert sim.status == "failed"
    assert "API rate limit exceeded" in str(sim.row()["error_message"])
    assert "c" not in sim.orders
    assert sim.step_status("c") == "cancelled"
    assert sim.row("steps", step="a")["status"] == "succeeded"


def test_a_failure_that_may_continue_lets_the_next_step_read_the_error() -> None:
    sim = Sim(
        plan(
            call("a", on_error="continue"),
            step("b", TransformStep(value="{{ steps.a.error.message }}"), "a"),
        )
    ).create()
    sim.fail("a", "no such file")
    assert sim.status == "succeeded"
    assert sim.output("b") == "no such file"


def test_siblings_of_a_failed_step_are_stopped() -> None:
    sim = Sim(plan(call("a"), call("b"))).create()
    sim.fail("a")
    assert [stop.interrupt.attempt_id for stop in sim.stopped] == [sim.orders["b"].attempt_id]
    sim.report("b")
    assert sim.made() == ["attempt.late"]
    assert sim.status == "failed"


def test_a_condition_runs_the_chosen_branch_and_marks_the_other_skipped() -> None:
    sim = Sim(
        plan(
            call("probe"),
            step(
                "which",
                ConditionStep(expression="steps.probe.output.n > 3", then=("big",), otherwise=("small",)),
                "probe",
            ),
            call("big", "which"),
            call("small", "which"),
            call("after_small", "small"),
            call("join", "big", "small"),
        )
    ).create()
    sim.report("probe", {"n": 5})
    assert set(sim.orders) == {"probe", "big"}
    assert (sim.step_status("small"), sim.step_status("after_small")) == ("skipped", "skipped")
    sim.report("big")
    assert "join" in sim.orders
    sim.report("join")
    assert sim.status == "succeeded"


def test_a_step_whose_condition_is_false_is_skipped_and_says_so() -> None:
    sim = Sim(plan(call("a", when="inputs.go", arguments={}), inputs={"go": InputField(type="boolean")})).create(
        {"go": False}
    )
    assert sim.status == "succeeded"
    assert "inputs.go" in str(sim.row("steps", step="a")["detail"]["reason"])
    again = Sim(plan(call("a", when="inputs.go"), inputs={"go": InputField(type="boolean")})).create({"go": True})
    assert "a" in again.orders


def test_a_broken_expression_fails_the_step_by_name_not_the_engine() -> None:
    """Row 69: a type error names its expression."""
    sim = Sim(plan(call("a"), call("b", "a", arguments={"n": "{{ steps.a.output + 1 }}"}))).create()
    sim.report("a", "text")
    assert sim.status == "failed"
    assert sim.run.data.error is not None
    assert sim.run.data.error.type == "expression_error"
    assert "steps.a.output + 1" in sim.why()


def test_named_outputs_of_a_step_that_gave_nothing_are_null_and_keep_nobody_from_asking_how_it_ended() -> None:
    named = {"n": "{{ output.n }}"}
    sim = Sim(
        plan(
            call("failed", on_error="continue", outputs=named),
            call("skipped", when="false", outputs=named),
            call("done", outputs=named),
            outputs="{{ [steps.failed.status, steps.failed.outputs, steps.skipped.outputs, steps.done.outputs.n] }}",
        )
    ).create()
    sim.fail("failed", "tool_error").report("done", {"n": 7})
    assert codec.loads(sim.run.data.outputs) == ["failed", None, None, 7]


def test_named_outputs_that_cannot_be_made_fail_only_who_asks_for_them() -> None:
    odd = call("odd", outputs={"n": "{{ output.nope }}"})
    asks = step("asks", TransformStep(value="{{ steps.odd.outputs.n }}"), "odd", on_error="continue")
    sim = Sim(plan(odd, asks, outputs="{{ [steps.odd.output.n, steps.asks.error.type] }}")).create()
    sim.report("odd", {"n": 7})
    assert codec.loads(sim.run.data.outputs) == [7, "expression_error"]


def test_a_condition_that_is_no_truth_value_fails_its_step_and_outputs_that_cannot_be_made_fail_the_run() -> None:
    sim = Sim(plan(call("a"), call("b", "a", when="steps.a.output.go"))).create().report("a", {"go": "yes"})
    assert (sim.status, "b" in sim.orders) == ("failed", False)
    assert sim.row("steps", step="b")["error_type"] == "expression_error"
    broken = Sim(plan(call("a"), outputs={"n": "{{ steps.a.output.n }}"})).create().report("a", {})
    assert (broken.status, broken.row()["error_type"]) == ("failed", "expression_error")


def test_a_transform_may_be_mapped_and_sees_each_item_in_its_place() -> None:
    mapped = step("t", TransformStep(value="{{ item * 10 + index }}"), items=[1, 2, 3])
    sim = Sim(plan(mapped, outputs="{{ steps.t.output }}")).create()
    assert (sim.status, codec.loads(sim.run.data.outputs)) == ("succeeded", [10, 21, 32])


def test_a_map_performs_its_body_once_an_item_and_gives_the_list() -> None:
    sim = Sim(
        plan(
            call("files"),
            call(
                "each",
                "files",
                items="{{ steps.files.output.paths }}",
                arguments={"path": "{{ item }}", "n": "{{ index }}"},
            ),
            step("total", TransformStep(value="{{ steps.each.output.map(x, x.size).sum() }}"), "each"),
        )
    ).create()
    sim.report("files", {"paths": ["a", "b", "c"]})
    assert codec.loads(sim.orders["each[1]"].arguments) == {"path": "b", "n": 1}
    for place in (2, 0, 1):
        sim.report(f"each[{place}]", {"size": place + 1})
    assert sim.status == "succeeded"
    assert sim.output("total") == 6
    assert sim.row("steps", step="each")["items_done"] == 3
    assert [row.columns["step"] for row in sim.room.rows(sim.run, None) if row.table == "steps"] == [
        "files",
        "each",
        "total",
    ]


def test_a_map_over_nothing_succeeds_and_a_map_over_no_list_fails() -> None:
    sim = Sim(plan(call("a"), call("each", "a", items="{{ steps.a.output }}"))).create()
    assert sim.report("a", []).status == "succeeded"
    other = Sim(plan(call("a"), call("each", "a", items="{{ steps.a.output }}"))).create()
    other.report("a", {"no": "list"})
    assert "must give a list" in other.why()


def test_a_long_map_keeps_a_bounded_number_of_items_under_way() -> None:
    sim = Sim(plan(call("a"), call("each", "a", items="{{ steps.a.output }}"))).create()
    sim.report("a", list(range(1000)))
    assert len(sim.orders) == 257
    sim.report("each[0]")
    assert len(sim.orders) == 258


def test_an_item_that_fails_for_good_fails_the_run() -> None:
    sim = Sim(plan(call("a"), call("each", "a", items="{{ steps.a.output }}"))).create()
    sim.report("a", [1, 2]).fail("each[1]", "bad item")
    assert sim.status == "failed"
    assert "bad item" in sim.why()


def test_a_timer_of_a_day_waits_without_counting_as_work() -> None:
    sim = Sim(plan(call("a"), step("night", WaitStep(seconds=86_400), "a"), call("b", "night"), timeout_s=60)).create()
    sim.report("a")
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "timer")
    assert sim.room.wake_at(sim.run) == sim.now + 86_400_000
    assert sim.later(3600).do(Wake()).made() == []
    assert sim.later(86_400).do(Wake()).made()[:1] == ["step.succeeded"]
    assert sim.status == "running"
    assert sim.do(Wake()).made() == []


def test_a_run_over_its_own_time_fails_with_timeout() -> None:
    sim = Sim(plan(call("a"), timeout_s=60)).create()
    assert sim.room.wake_at(sim.run) == sim.now + 60_000
    sim.later(61).do(Wake())
    assert sim.run.data.error is not None
    assert (sim.status, sim.run.data.error.type) == ("failed", "timeout")
    assert sim.stopped


def test_a_queued_run_is_cancelled_at_once_and_shows_the_reason() -> None:
    """Row 10."""
    sim = Sim(plan(call("a"), automation="human_approval")).create()
    sim.do(CancelRun(reason="not needed"))
    assert (sim.status, sim.why()) == ("cancelled", "not needed")
    assert sim.do(CancelRun()).made() == []


def test_cancel_reaches_what_is_under_way_and_then_is_final() -> None:
    sim = Sim(plan(call("a"), call("b", "a"))).create()
    sim.do(CancelRun(reason="stop"))
    assert (sim.status, sim.row()["cancel_requested"]) == ("running", True)
    assert [stop.interrupt.attempt_id for stop in sim.stopped] == [sim.orders["a"].attempt_id]
    sim.report("a", status="cancelled")
    assert (sim.status, "b" in sim.orders) == ("cancelled", False)
    assert sim.row()["cancel_requested"] is False


def test_cancel_does_not_wait_for_ever_for_a_silent_worker() -> None:
    sim = Sim(plan(call("a"))).create()
    sim.do(CancelRun(reason="stop"))
    assert sim.later(11).do(Wake()).status == "cancelled"


def test_cancel_of_a_finished_run_is_refused_with_its_status() -> None:
    sim = Sim(plan(call("a"))).create().report("a")
    sim.do(CancelRun())
    assert "already completed: it succeeded" in sim.refused()


def test_human_approval_waits_for_start() -> None:
    sim = Sim(plan(call("a"), automation="human_approval")).create()
    assert (sim.status, sim.row()["waiting_for"], sim.orders) == ("waiting", "start", {})
    assert sim.room.explain(sim.run)[0].waiting_for == "start"
    sim.do(StartRun())
    assert (sim.status, "a" in sim.orders) == ("running", True)
    assert sim.do(StartRun()).made() == []


def test_manual_refuses_triggers_but_not_people() -> None:
    sim = Sim(plan(call("a"), automation="manual"))
    sim.create(trigger=codec.raw({"source": "event"}))
    assert "started by people only" in sim.refused()
    assert sim.create().status == "running"


def test_a_viewer_may_not_run() -> None:
    sim = Sim(plan(call("a")))
    viewer = type(ANN)(id="tok_v", name="vera", roles=("viewer",))
    sim.do(CreateRun(plan_digest=sim.digest), by=viewer)
    assert "takes the role" in sim.refused()


@pytest.mark.parametrize("output", ["NUL \x00", "lone \ud800", float("inf"), 2**70, {"deep": [[[[1]]]]}])
def test_odd_outputs_pass_through_and_are_kept(output: object) -> None:
    sim = Sim(plan(call("a"), step("b", TransformStep(value="{{ steps.a.output }}"), "a"))).create()
    sim.report("a", output)
    assert sim.status == "succeeded"
    assert bytes(sim.run.peek("a").output) == codec.dumps(output)


def test_failed_items_of_a_map_are_collected_when_it_says_so() -> None:
    sim = Sim(
        plan(
            call("m", items=[1, 2, 3], on_item_error="collect"),
            step("t", TransformStep(value="{{ steps.m.failed }}"), "m"),
            outputs={"failed": "{{ steps.t.output }}", "got": "{{ steps.m.output }}"},
        )
    ).create()
    sim.report("m[0]", "a").fail("m[1]", "no").report("m[2]", "c")
    assert sim.status == "succeeded"
    failed = [{"index": 1, "error": {"type": "tool_error", "message": "no"}}]
    assert codec.loads(sim.run.data.outputs) == {"failed": failed, "got": ["a", None, "c"]}
    assert sim.row("steps", step="m")["items_failed"] == 1


def test_the_first_failed_item_ends_a_map_unless_it_says_else() -> None:
    sim = Sim(plan(call("m", items=[1, 2, 3], concurrency=1))).create()
    sim.report("m[0]").fail("m[1]", "no")
    assert (sim.status, "m[2]" in sim.orders) == ("failed", False)
    assert (sim.row("steps", step="m")["status"], sim.row("steps", step="m")["error_message"]) == ("failed", "no")


def test_a_map_that_failed_gave_nothing_whichever_of_its_items_came_first() -> None:
    mapped = call("m", items=[1, 2, 3], on_error="continue")
    sim = Sim(plan(mapped, outputs="{{ [steps.m.output, steps.m.status, size(steps.m.failed)] }}")).create()
    sim.report("m[2]", "done").fail("m[0]", retryable=False)
    assert codec.loads(sim.run.data.outputs) == [None, "failed", 1]
    assert sim.row("steps", step="m")["output"] is None
