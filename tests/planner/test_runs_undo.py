"""Compensation: what was done is undone in reverse order when a run fails or is cancelled, as steps of their own."""

from typing import Any

import msgspec

from headrace import codec
from headrace.events.runs import StepFailed, StepSucceeded
from headrace.messages import CancelRun, Wake
from headrace.plans.model import ApprovalStep, CallStep, LoopStep, Plan, PlanStep, Retry, ToolPin, TransformStep
from headrace.steering import DropAttempt, PauseRun, ResumeRun, SettleOutcome
from headrace.vocabulary import COMPENSATION_TIMEOUT_S
from tests.planner.runs_kit import READ, WRITE, Sim, call, plan, step


def undoing(step_id: str, tool: str = "read", *, arguments: dict[str, Any] | None = None, **more: Any) -> PlanStep:
    body = CallStep(tool=tool, arguments=arguments or {"undo": "{{ output }}"})
    return PlanStep(id=f"{step_id}.compensate", kind="tool", body=body, compensates=step_id, **more)


def saga(*steps: PlanStep, undo: tuple[PlanStep, ...], **more: Any) -> Sim:
    made: Plan = plan(*steps, compensations=undo, **more)
    return Sim(made).create()


def performed(sim: Sim) -> list[str]:
    return [
        event.step if event.index is None else f"{event.step}[{event.index}]"
        for event, _ in sim.history
        if isinstance(event, StepSucceeded)
    ]


def test_a_failed_run_undoes_its_steps_in_reverse_order_and_then_fails() -> None:
    sim = saga(call("a"), call("b", "a"), call("c", "b"), undo=(undoing("a"), undoing("b"), undoing("c")))
    sim.report("a", "A").report("b", "B").fail("c", "no room")
    assert sim.status == "running"
    assert codec.loads(sim.orders["b.compensate"].arguments) == {"undo": "B"}
    assert "a.compensate" not in sim.orders
    sim.report("b.compensate")
    assert codec.loads(sim.orders["a.compensate"].arguments) == {"undo": "A"}
    sim.report("a.compensate")
    assert sim.status == "failed"
    assert "c.compensate" not in sim.orders
    row = sim.row()
    assert "step 'c' failed: no room" in row["error_message"]
    assert row["detail"]["error"]["details"]["compensation"] == {"undone": 2, "failed": []}
    assert sim.row("steps", step="b.compensate")["status"] == "succeeded"
    assert performed(sim) == ["a", "b", "b.compensate", "a.compensate"]
    assert sim.names.count("run.failed") == 1


def test_a_run_that_did_nothing_to_undo_just_fails() -> None:
    sim = saga(call("a"), call("b", "a"), undo=(undoing("b"),)).report("a").fail("b")
    assert sim.status == "failed"
    assert "compensation.started" not in sim.names


def test_a_run_that_succeeds_undoes_nothing() -> None:
    sim = saga(call("a"), undo=(undoing("a"),)).report("a")
    assert (sim.status, sim.row()["steps_total"], sim.row()["steps_done"]) == ("succeeded", 1, 1)
    assert "a.compensate" not in sim.orders


def test_a_cancelled_run_is_undone_and_then_cancelled() -> None:
    sim = saga(call("a"), call("b", "a"), undo=(undoing("a"),)).report("a")
    sim.do(CancelRun(reason="enough"))
    assert [stop.interrupt.attempt_id for stop in sim.stopped] == [sim.orders["b"].attempt_id]
    assert "a.compensate" not in sim.orders
    sim.report("b", status="cancelled")
    assert sim.status == "running"
    assert sim.do(CancelRun()).made() == []
    assert any("a is being undone" in reason.message for reason in sim.room.explain(sim.run))
    sim.report("a.compensate")
    assert (sim.status, sim.row()["error_message"]) == ("cancelled", "enough")


def test_siblings_are_stopped_first_and_what_they_did_meanwhile_is_undone_too() -> None:
    sim = saga(call("a"), call("b"), undo=(undoing("a"), undoing("b"))).fail("a")
    assert len(sim.stopped) == 1
    assert sim.orders.keys() == {"a", "b"}
    sim.report("b", "late but done")
    assert codec.loads(sim.orders["b.compensate"].arguments) == {"undo": "late but done"}
    assert sim.report("b.compensate").status == "failed"


def test_a_sibling_that_does_not_stop_is_given_up_after_a_while() -> None:
    sim = saga(call("a"), call("b"), call("c", "a"), undo=(undoing("a"),)).report("a").fail("c")
    assert sim.room.wake_at(sim.run) == sim.now + 10_000
    assert sim.later(9).do(Wake()).made() == []
    sim.later(1).do(Wake())
    assert sim.row("steps", step="b")["status"] == "cancelled"
    assert sim.report("a.compensate").status == "failed"


def test_what_undoes_is_retried_and_a_failure_keeps_nothing_else_from_being_undone() -> None:
    undo = (undoing("a"), undoing("b", retry=Retry(max_attempts=2, initial_s=5)))
    sim = saga(call("a"), call("b", "a"), call("c", "b"), undo=undo).report("a").report("b").fail("c")
    assert "is over but for what undoes" in sim.do(CancelRun()).refused()
    sim.fail("b.compensate", "not now")
    assert sim.status in {"running", "waiting"}
    sim.later(60).do(Wake()).fail("b.compensate", "not ever")
    sim.report("a.compensate")
    assert sim.status == "failed"
    assert sim.row()["error_message"].endswith("not undone: b.compensate")
    assert sim.row()["detail"]["error"]["details"]["compensation"] == {"undone": 1, "failed": ["b.compensate"]}


def test_a_write_that_undoes_is_claimed_like_any_other() -> None:
    sim = saga(
        step("ask", ApprovalStep()),
        call("a", "ask", tool="write", covered_by=("ask",)),
        call("b", "a"),
        undo=(undoing("a", "write", covered_by=("ask",)),),
    )
    sim.resolve(step="ask").claim("a").report("a", {"id": 7}).fail("b")
    sim.claim("a.compensate", nonce="n2").report("a.compensate")
    assert sim.status == "failed"
    assert sim.row()["detail"]["error"]["details"]["compensation"]["undone"] == 1


def test_a_run_that_is_being_undone_is_neither_paused_nor_resumed() -> None:
    """A resume that was answered as if it were done would promise what no event bears out (seed 1644)."""
    sim = saga(call("a"), call("b", "a"), undo=(undoing("a"),)).report("a").fail("b")
    assert "over but for what undoes" in sim.do(PauseRun()).refused()
    assert "over but for what undoes" in sim.do(ResumeRun()).refused()
    assert sim.report("a.compensate").status == "failed"


def test_each_item_of_a_map_is_undone_the_newest_first() -> None:
    undo = undoing("m", arguments={"item": "{{ item }}", "got": "{{ output }}"})
    sim = saga(call("m", items=["x", "y", "z"]), undo=(undo,))
    sim.report("m[2]", 2).report("m[0]", 0).fail("m[1]")
    seen = []
    for number in (1, 0):
        order = sim.orders[f"m.compensate[{number}]"]
        seen.append(codec.loads(order.arguments))
        sim.report(f"m.compensate[{number}]")
    assert seen == [{"item": "x", "got": 0}, {"item": "z", "got": 2}]
    assert (sim.status, sim.row("steps", step="m.compensate")["items_done"]) == ("failed", 2)


def test_each_round_of_a_loop_is_undone() -> None:
    sim = saga(
        step("again", LoopStep(condition="iteration < 2", body=("a",))),
        call("a", parent="again"),
        call("b", "again"),
        undo=(undoing("a"),),
    )
    sim.report("a", 1).report("a", 2).fail("b")
    assert codec.loads(sim.orders["a.compensate[1]"].arguments) == {"undo": 2}
    sim.report("a.compensate[1]").report("a.compensate[0]")
    assert sim.status == "failed"


def test_a_run_whose_time_is_over_is_undone_without_a_limit_of_its_own() -> None:
    sim = saga(call("a"), call("b", "a"), undo=(undoing("a"),), timeout_s=60.0).report("a").later(61).do(Wake())
    assert "compensation.started" in sim.names
    sim.report("b", status="cancelled").later(600).do(Wake())
    assert sim.status == "running"
    assert sim.report("a.compensate").status == "failed"
    assert "timed out" in sim.row()["error_message"] or "timeout" in sim.row()["error_message"]


def test_what_undoes_but_cannot_be_resolved_is_recorded_as_failed() -> None:
    undo = undoing("a", arguments={"id": "{{ output.id.deep }}"})
    sim = (
        saga(call("a"), call("b", "a"), step("t", TransformStep(value=1)), undo=(undo,))
        .report("a", {"id": 1})
        .fail("b")
    )
    assert sim.status == "failed"
    failed = [event.step for event, _ in sim.history if isinstance(event, StepFailed)]
    assert failed == ["b", "a.compensate"]


def test_a_rejected_approval_undoes_what_came_before_it() -> None:
    sim = (
        saga(call("a"), step("ask", ApprovalStep(), "a"), undo=(undoing("a"),))
        .report("a")
        .resolve("rejected", step="ask")
    )
    assert sim.report("a.compensate").status == "failed"


def test_what_only_waits_to_be_tried_again_does_not_keep_the_rest_from_being_undone() -> None:
    again = Retry(max_attempts=3, initial_s=60, jitter=0)
    sim = saga(call("a"), call("b", retry=again), call("c"), undo=(undoing("a"), undoing("b"))).report("a").fail("b")
    assert "a.compensate" in sim.fail("c").orders
    assert sim.report("a.compensate").status == "failed"


def test_of_what_does_not_stop_only_what_was_permitted_to_act_may_have_happened() -> None:
    acts = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)
    steps = (call("a", tool="w"), call("b", tool="w"), call("c", tool="w"), call("d", tool="w"))
    undo = (undoing("a", "w"), undoing("b", "w"))
    sim = Sim(Plan(name="d", kind="Workflow", steps=steps, compensations=undo, tools={"w": acts})).create()
    sim.claim("b", nonce="n1").claim("c", nonce="n2").fail("d").later(10).do(Wake())
    assert sorted(sim.made()) == ["outcome.lost", "step.failed", "step.failed"]
    assert sim.run.data.doubts == ["c"]
    assert (sim.step_status("a"), sim.row()["waiting_for"]) == ("cancelled", "input")
    sim.do(SettleOutcome(step="b", answer="happened"))
    assert sim.claim("b.compensate", nonce="n3").report("b.compensate").status == "failed"


# --- the time of the whole undoing -------------------------------------------------------------------------------


def _undoing_two() -> Sim:
    steps = (call("a"), call("b", "a"), call("c", "b"))
    return saga(*steps, undo=(undoing("a"), undoing("b"))).report("a", "A").report("b", "B")


def test_an_undoing_without_end_is_given_up_and_the_run_fails_naming_what_was_not_undone() -> None:
    sim = _undoing_two().fail("c", "no room")
    until = sim.now + int(COMPENSATION_TIMEOUT_S * 1000)
    assert sim.room.wake_at(sim.run) == until
    assert next((each.until, each.step) for each in sim.room.explain(sim.run)) == (until, "b.compensate")
    assert sim.row()["detail"]["undoing_until"] == until
    sim.later(COMPENSATION_TIMEOUT_S - 1).do(Wake())
    assert sim.status == "running"
    sim.later(1).do(Wake())
    assert sim.status == "failed"
    assert sim.why() == (
        "step 'c' failed: no room; compensation timeout: what it did was not undone within 3600 s; not undone: b, a"
    )
    assert sim.run.data.error is not None
    assert sim.run.data.error.details["compensation"]["left"] == ["b", "a"]
    assert [each.interrupt.attempt_id for each in sim.stopped] == [sim.orders["b.compensate"].attempt_id]
    assert sim.room.wake_at(sim.run) is None
    assert (sim.step_status("b.compensate"), sim.step_status("a.compensate")) == ("cancelled", "pending")
    assert sim.run.under_way() == []


def test_a_cancelled_run_whose_undoing_takes_too_long_fails() -> None:
    sim = _undoing_two().do(CancelRun()).report("c", status="cancelled").report("b.compensate")
    sim.later(COMPENSATION_TIMEOUT_S).do(Wake())
    assert sim.status == "failed"
    assert sim.run.data.error is not None
    assert sim.run.data.error.type == "timeout"
    assert "ann cancelled the run, and what it did was not undone within 3600 s; not undone: a" in sim.why()


def test_the_time_in_which_only_a_person_is_waited_for_does_not_count_against_the_undoing() -> None:
    acts = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)
    steps, undo = (call("w", tool="w"), call("c", tool="w")), (call("w.compensate", tool="w", compensates="w"),)
    sim = Sim(Plan(name="d", kind="Workflow", steps=steps, compensations=undo, tools={"w": acts})).create()
    sim.claim("w").report("w", 1).claim("c", nonce="n2").fail("c")
    sim.later(600).claim("w.compensate", nonce="n3").lose("w.compensate")
    assert (sim.row()["waiting_for"], sim.room.wake_at(sim.run)) == ("input", None)
    sim.later(86_400).do(SettleOutcome(step="w.compensate", answer="not_happened"))
    assert sim.room.wake_at(sim.run) == sim.now + int((COMPENSATION_TIMEOUT_S - 600) * 1000)
    assert sim.claim("w.compensate", nonce="n4").report("w.compensate").status == "failed"


def test_what_nobody_holds_when_a_run_fails_is_undone_without_waiting() -> None:
    sim = saga(call("a"), call("b"), call("c"), undo=(undoing("a"),))
    sim.report("a").fail("b")
    (stop,) = sim.stopped
    assert (stop.interrupt.attempt_id, stop.confirm) == (sim.orders["c"].attempt_id, True)
    order = sim.orders["c"]
    sim.do(DropAttempt(step=order.step, attempt=order.attempt, attempt_id=order.attempt_id))
    assert "a.compensate" in sim.orders
    assert sim.step_status("c") == "cancelled"


def test_a_write_that_nobody_claimed_before_its_run_failed_is_not_said_to_have_happened() -> None:
    notes = {"write": msgspec.structs.replace(WRITE, access="auto"), "read": READ}
    steps = (call("a"), call("b"), call("c", tool="write"), call("d", tool="write"))
    sim = Sim(Plan(name="w", kind="Workflow", steps=steps, tools=notes, compensations=(undoing("a"),))).create()
    sim.claim("d").report("a").fail("b").later(11)
    sim.do(Wake())
    said = {event.step: event.error.message for event, _ in sim.history if isinstance(event, StepFailed)}
    assert said["c"] == "it did not stop within 10 s: no worker had claimed this attempt, so it did not act"
    assert said["d"].startswith("it did not stop within 10 s: whether it happened is unknown")
    assert sim.run.data.doubts == ["d"]
