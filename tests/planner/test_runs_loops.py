"""Loops: the body begins anew every round, ends with its condition, and is capped; pauses hold what would begin."""

from typing import Any

import msgspec

from headrace import codec
from headrace.events.runs import StepSucceeded
from headrace.events.steering import LoopIterated
from headrace.messages import CancelRun, Wake
from headrace.plans.model import ApprovalStep, ConditionStep, LoopStep, PlanStep, Retry, TransformStep, WaitStep
from headrace.steering import PauseRun, ResumeRun
from tests.planner.runs_kit import Sim, call, plan, step


def loop(
    step_id: str, condition: str, *body: str, needs: tuple[str, ...] = (), cap: int = 100, **more: Any
) -> PlanStep:
    return step(step_id, LoopStep(condition=condition, body=body, cap=cap), *needs, **more)


def rounds(sim: Sim) -> list[tuple[str, int]]:
    return [(event.step, event.iteration) for event, _ in sim.history if isinstance(event, StepSucceeded)]


def test_a_loop_performs_its_body_while_its_condition_holds() -> None:
    sim = Sim(
        plan(
            loop("again", "iteration == 0 || steps.check.output.errors > 0", "fix", "check"),
            call("fix", parent="again", arguments={"round": "{{ iteration }}"}),
            call("check", "fix", parent="again"),
            call("after", "again", arguments={"last": "{{ steps.check.output.errors }}"}),
            outputs="{{ steps.again.output.iterations }}",
        )
    ).create()
    for number, errors in enumerate((2, 1, 0), 1):
        order = sim.orders["fix"]
        assert codec.loads(order.arguments) == {"round": number}
        assert order.idempotency_key.endswith(f":fix#{number}")
        assert "after" not in sim.orders
        sim.report("fix").report("check", {"errors": errors})
    assert codec.loads(sim.orders["after"].arguments) == {"last": 0}
    sim.report("after")
    assert (sim.status, codec.loads(sim.run.data.outputs)) == ("succeeded", 3)
    assert rounds(sim)[:6] == [("fix", 1), ("check", 1), ("fix", 2), ("check", 2), ("fix", 3), ("check", 3)]
    assert len({event.attempt_id for event, _ in sim.history if isinstance(event, StepSucceeded)}) == 8


def test_a_loop_whose_condition_never_held_skips_its_body() -> None:
    sim = Sim(plan(loop("again", "false", "inner"), call("inner", parent="again"), call("after", "again"))).create()
    assert sim.row("steps", step="inner")["status"] == "skipped"
    assert "inner" not in sim.orders
    assert sim.report("after").status == "succeeded"


def test_a_loop_that_does_not_end_is_capped_and_says_so() -> None:
    sim = Sim(
        plan(loop("again", "true", "inner", cap=3), step("inner", TransformStep(value=1), parent="again"))
    ).create()
    assert sim.status == "failed"
    assert sim.names.count("loop.iterated") == 3
    assert "after 3 rounds" in sim.row()["error_message"]


def test_a_capped_loop_may_be_gone_on_from() -> None:
    sim = Sim(
        plan(
            loop("again", "true", "inner", cap=2, on_error="continue"),
            step("inner", TransformStep(value="{{ iteration }}"), parent="again"),
            step("after", TransformStep(value="{{ steps.again.error.type }} {{ steps.inner.output }}"), "again"),
            outputs="{{ steps.after.output }}",
        )
    ).create()
    assert (sim.status, codec.loads(sim.run.data.outputs)) == ("succeeded", "execution_error 2")


def test_a_word_of_an_earlier_round_is_late_and_changes_nothing() -> None:
    sim = Sim(plan(loop("again", "iteration < 2", "inner"), call("inner", parent="again"))).create()
    first = sim.orders["inner"]
    sim.report("inner", 1)
    second = sim.orders["inner"]
    assert first.attempt_id != second.attempt_id
    sim.orders["inner"] = first
    sim.report("inner", 7)
    assert sim.made() in ([], ["attempt.late"])
    sim.orders["inner"] = second
    assert sim.report("inner", 2).status == "succeeded"
    assert codec.loads(sim.run.peek("inner").output) == 2


def test_loops_hold_loops_and_rounds_are_numbered_through() -> None:
    sim = Sim(
        plan(
            loop("outer", "iteration < 2", "inner"),
            loop("inner", "iteration < 2", "leaf", parent="outer"),
            step("leaf", TransformStep(value="{{ iteration }}"), parent="inner"),
        )
    ).create()
    assert sim.status == "succeeded"
    assert [pair for pair in rounds(sim) if pair[0] == "leaf"] == [("leaf", 1), ("leaf", 2), ("leaf", 3), ("leaf", 4)]
    assert [pair for pair in rounds(sim) if pair[0] == "inner"] == [("inner", 1), ("inner", 2)]


def test_a_body_may_branch_and_map_and_retry() -> None:
    sim = Sim(
        plan(
            loop("again", "iteration < 2", "choose", "left", "right", "each"),
            step(
                "choose",
                ConditionStep(expression="iteration == 1", then=("left",), otherwise=("right",)),
                parent="again",
            ),
            call("left", "choose", parent="again", retry=Retry(max_attempts=2, initial_s=5)),
            call("right", "choose", parent="again"),
            call("each", "left", "right", parent="again", items=[1, 2]),
        )
    ).create()
    sim.fail("left").later(60).do(Wake()).report("left")
    assert "right" not in sim.orders
    sim.report("each[0]").report("each[1]")
    sim.report("right").report("each[0]").report("each[1]")
    assert sim.status == "succeeded"
    assert ("each", 2) in rounds(sim)


def test_each_round_asks_anew_for_its_approval() -> None:
    sim = Sim(
        plan(
            loop("again", "iteration < 2", "ask", "act"),
            step("ask", ApprovalStep(), parent="again"),
            call("act", "ask", parent="again", tool="write", covered_by=("ask",)),
        )
    ).create()
    sim.resolve(step="ask").claim("act").report("act")
    assert sim.status == "waiting"
    assert len(sim.run.data.asks) == 2
    sim.resolve(step="ask").claim("act", nonce="n2").report("act")
    assert sim.status == "succeeded"


def test_a_failing_step_of_a_body_fails_the_run() -> None:
    sim = Sim(plan(loop("again", "true", "inner"), call("inner", parent="again"))).create()
    sim.report("inner").fail("inner")
    assert sim.status == "failed"
    assert "'inner'" in sim.row()["error_message"]


def test_a_loop_with_timers_may_be_cancelled_between() -> None:
    sim = Sim(plan(loop("again", "true", "nap"), step("nap", WaitStep(seconds=60), parent="again"))).create()
    sim.later(60).do(Wake())
    assert sim.row("steps", step="nap")["detail"]["due_at"] == sim.now + 60_000
    assert sim.do(CancelRun(reason="enough")).status == "cancelled"


def test_a_paused_run_ends_what_is_under_way_and_begins_nothing() -> None:
    sim = Sim(plan(call("a"), call("b", "a"))).create().do(PauseRun(reason="lunch"))
    assert sim.status == "running"
    sim.report("a")
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "resume")
    assert "b" not in sim.orders
    (reason,) = sim.room.explain(sim.run)
    assert "Paused by ann (lunch)" in reason.message
    assert sim.do(PauseRun()).made() == []
    sim.do(ResumeRun())
    assert (sim.status, "b" in sim.orders) == ("running", True)
    assert sim.report("b").status == "succeeded"


def test_a_map_that_is_paused_goes_on_with_its_next_items() -> None:
    sim = Sim(plan(call("m", items=[1, 2, 3, 4], concurrency=2))).create()
    assert sorted(sim.orders) == ["m[0]", "m[1]"]
    sim.do(PauseRun()).report("m[0]").report("m[1]")
    assert sorted(sim.orders) == ["m[0]", "m[1]"]
    sim.do(ResumeRun())
    assert sorted(sim.orders) == ["m[0]", "m[1]", "m[2]", "m[3]"]
    assert sim.report("m[2]").report("m[3]").status == "succeeded"


def test_a_pause_before_anything_began_holds_the_first_step() -> None:
    sim = Sim(plan(step("nap", WaitStep(seconds=5)), call("a", "nap"), automation="human_approval")).create()
    sim.do(PauseRun())
    assert sim.status == "waiting"
    assert sim.do(CancelRun()).status == "cancelled"


def test_a_retry_that_is_due_waits_for_the_end_of_the_pause() -> None:
    sim = Sim(plan(call("a", retry=Retry(max_attempts=2, initial_s=5)))).create()
    sim.fail("a").do(PauseRun()).later(60).do(Wake())
    assert sim.run.data.steps["a"].open is not None
    assert sim.names.count("step.retried") == 0
    assert sim.room.wake_at(sim.run) is None or sim.room.wake_at(sim.run) > sim.now  # type: ignore[operator]  # checked
    sim.do(ResumeRun()).do(Wake())
    assert sim.report("a").status == "succeeded"


def test_what_is_over_is_neither_paused_nor_resumed() -> None:
    sim = Sim(plan(step("a", TransformStep(value=1)))).create()
    assert "cannot be paused: it is succeeded" in sim.do(PauseRun()).refused()
    assert "is over" in sim.do(ResumeRun()).refused()


def test_a_round_reads_what_the_one_before_gave() -> None:
    sim = Sim(
        plan(
            loop("again", "iteration < 3", "total", "one"),
            call("one", parent="again"),
            step(
                "total",
                TransformStep(value="{{ iteration == 1 ? 0 : previous.total.output + previous.one.output }}"),
                parent="again",
            ),
            outputs="{{ steps.total.output + steps.one.output }}",
        )
    ).create()
    for number in (1, 10, 100):
        sim.report("one", number)
    assert (sim.status, codec.loads(sim.run.data.outputs)) == ("succeeded", 111)


def test_the_body_of_a_loop_within_a_loop_waits_for_its_own_condition_in_every_round() -> None:
    inner = (loop("low", "false", "never"), call("never", parent="low"))
    steps = (loop("top", "iteration < 2", "low", "work"), *(msgspec.structs.replace(inner[0], parent="top"), inner[1]))
    sim = Sim(plan(*steps, call("work", "low", parent="top"))).create()
    started = sim.now
    sim.later(5).report("work").later(5).report("work")
    assert (sim.status, "never" in sim.orders, sim.step_status("never")) == ("succeeded", False, "skipped")
    assert sim.row("steps", step="top")["started_at"] == started


def test_a_condition_that_cannot_be_evaluated_after_a_round_fails_the_loop_alone_where_the_run_goes_on() -> None:
    condition = "iteration == 0 || steps.work.output.left > 0"
    steps = (loop("top", condition, "work", on_error="continue"), call("work", parent="top"), call("after", "top"))
    sim = Sim(plan(*steps)).create().report("work", {})
    assert (sim.step_status("top"), "after" in sim.orders) == ("failed", True)
    assert sim.report("after").status == "succeeded"
    other = Sim(plan(loop("top", condition, "work"), call("work", parent="top"))).create().report("work", {})
    assert (other.status, other.row()["error_type"]) == ("failed", "expression_error")


def test_named_outputs_of_a_round_are_those_of_its_round() -> None:
    named = {"at": "{{ iteration }}", "sum": "{{ output + iteration }}"}
    sim = Sim(
        plan(
            loop("again", "iteration < 3", "one", "two"),
            call("one", parent="again", outputs=named),
            step(
                "two", TransformStep(value="{{ iteration > 1 ? previous.one.outputs : null }}"), "one", parent="again"
            ),
            outputs="{{ [steps.one.outputs, steps.two.output] }}",
        )
    ).create()
    for output in (10, 20, 30):
        sim.report("one", output)
    assert codec.loads(sim.run.data.outputs) == [{"at": 3, "sum": 33}, {"at": 2, "sum": 22}]


def test_named_outputs_of_the_round_before_say_what_stood_in_it() -> None:
    sums = {
        "sum": "{{ output + (iteration > 1 ? previous.one.outputs.sum : 0) }}",
        "beside": "{{ steps.first.output }}",
    }
    read = TransformStep(value="{{ iteration > 1 ? [previous.one.outputs.sum, previous.one.outputs.beside] : null }}")
    sim = Sim(
        plan(
            loop("again", "iteration < 4", "first", "one", "two"),
            step("first", TransformStep(value="{{ iteration * 100 }}"), parent="again"),
            call("one", "first", parent="again", outputs=sums),
            step("two", read, "first", parent="again"),
            outputs="{{ [steps.one.outputs.sum, steps.two.output] }}",
        )
    ).create()
    for output in (1, 2, 3, 4):
        sim.report("one", output)
    assert codec.loads(sim.run.data.outputs) == [10, [6, 300]], "the sum of three rounds, and what stood in the third"


def test_named_outputs_that_could_not_be_made_in_their_round_fail_only_who_asks_for_them() -> None:
    named = {"ratio": "{{ output / steps.first.output }}"}

    def played(asks: str) -> Sim:
        sim = Sim(
            plan(
                loop("again", "iteration < 2", "first", "one", "two"),
                step("first", TransformStep(value="{{ iteration - 1 }}"), parent="again"),
                call("one", "first", parent="again", outputs=named),
                step("two", TransformStep(value=f"{{{{ iteration > 1 ? {asks} : 0 }}}}"), "one", parent="again"),
            )
        ).create()
        return sim.report("one", 5).report("one", 6)

    assert played("previous.one.output").status == "succeeded"
    failed = played("previous.one.outputs.ratio")
    assert failed.status == "failed"
    assert "output / steps.first.output" in failed.why(), "it is said why, and nothing else is given instead"


def test_named_outputs_that_speak_of_nothing_that_passes_are_not_written_twice() -> None:
    def begun(outputs: dict[str, str], asks: str) -> list[LoopIterated]:
        body = TransformStep(value=f"{{{{ iteration > 1 ? {asks} : 0 }}}}")
        steps = (loop("again", "iteration < 2", "one"), step("one", body, parent="again", outputs=outputs))
        return [event for event, _ in Sim(plan(*steps)).create().history if isinstance(event, LoopIterated)]

    assert not any(each.outputs for each in begun({"x": "{{ output + iteration }}"}, "previous.one.outputs.x"))
    assert not any(each.outputs for each in begun({"x": "{{ run.attempt }}"}, "0"))
    speaking = {"x": "{{ iteration > 1 ? previous.one.output : 0 }}"}
    assert not any(each.outputs for each in begun({"x": "{{ output }}"}, "0"))
    assert [each.outputs for each in begun(speaking, "previous.one.outputs.x")] == [{}, {"one": codec.raw({"x": 0})}]
