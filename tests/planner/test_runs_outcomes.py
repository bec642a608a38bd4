"""Writes whose worker was lost: who says what happened, and what follows. And late words of what is over."""

from typing import Any

import pytest

from headrace import codec
from headrace.events.base import Actor
from headrace.messages import CancelRun, ReportAttempt, Wake
from headrace.plans.model import Plan, Retry, ToolPin
from headrace.steering import PauseRun, ResumeRun, SettleOutcome
from tests.planner.runs_kit import ANN, Sim, call, evidence_of

ACTS = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)
NOTIFIES = ToolPin(version="1", digest="sha256:n", effect="notify", access="auto", pool="runner", idempotent=False)
KEYED = ToolPin(version="1", digest="sha256:i", effect="write", access="auto", pool="runner", idempotent=True)
READS = ToolPin(version="1", digest="sha256:r", effect="read", access="auto", pool="runner", idempotent=True)
EVE = Actor(id="tok_eve", name="eve", roles=("viewer",))


def acting(pin: ToolPin = ACTS, *more: Any, **fields: Any) -> Sim:
    steps = (call("w", tool="w", arguments={"to": "ada"}, **fields), *more)
    return Sim(Plan(name="d", kind="Workflow", steps=steps, tools={"w": pin, "read": READS})).create()


def unknown(pin: ToolPin = ACTS, **fields: Any) -> Sim:
    return acting(pin, **fields).claim("w").lose("w")


def settle(sim: Sim, answer: str, output: Any = None, *, by: Actor = ANN, **more: Any) -> Sim:
    return sim.do(SettleOutcome(step="w", answer=answer, output=codec.raw(output), **more), by=by)


@pytest.mark.parametrize("pin", [ACTS, NOTIFIES])
def test_a_lost_write_that_may_not_be_repeated_waits_for_a_person_with_the_evidence(pin: ToolPin) -> None:
    sim = acting(pin)
    order = sim.orders["w"]
    sim.later(5).claim("w")
    claimed_at = sim.now
    assert sim.later(60).lose("w").made() == ["outcome.lost"]
    row = sim.row()
    assert (sim.status, row["waiting_for"], sim.step_status("w")) == ("waiting", "input", "waiting")
    (wait,) = row["detail"]["waiting"]
    assert wait["evidence"] == evidence_of(order, claimed_at)
    (reason,) = sim.room.explain(sim.run)
    assert f"headrace runs settle {sim.id} w --happened" in reason.remedy
    assert sim.room.wake_at(sim.run) is None, "it waits for a person, however long that takes"
    assert sim.lose("w").made() == []
    assert sim.stopped == [], "a worker that lives after all may still say what it did"
    settle(sim, "not_happened")
    assert [each.interrupt.attempt_id for each in sim.stopped] == [order.attempt_id], "who still acts must stop now"


def test_it_happened_ends_the_step_with_the_output_that_was_told() -> None:
    sim = unknown()
    assert settle(sim, "happened", {"id": 7}, reason="I looked").made() == [
        "outcome.settled",
        "step.succeeded",
        "run.succeeded",
    ]
    assert sim.output("w") == {"id": 7}
    settled = sim.run.peek("w").settled
    assert settled is not None
    assert (settled.by, settled.answer, settled.reason) == (ANN, "happened", "I looked")


def test_it_did_not_happen_begins_the_next_attempt_under_the_same_key() -> None:
    sim = unknown()
    first = sim.orders["w"]
    assert settle(sim, "not_happened").made() == ["outcome.settled", "attempt.failed"]
    assert sim.run.peek("w").tried[0].error.message.endswith("; ann says that it did not happen")
    second = sim.orders["w"]
    assert (second.attempt, second.idempotency_key, second.arguments_digest) == (
        2,
        first.idempotency_key,
        first.arguments_digest,
    )
    assert sim.claim("w", nonce="n2").report("w", {}).status == "succeeded"
    (tried,) = sim.row("steps", step="w")["detail"]["attempts"]
    assert (tried["number"], tried["status"], tried["worker"]) == (1, "lost", "wrk_1")


def test_giving_up_fails_the_step_and_says_who_gave_up() -> None:
    sim = unknown()
    assert settle(sim, "give_up", reason="nobody can tell").made() == ["outcome.settled", "step.failed", "run.failed"]
    assert (sim.status, sim.names[-2:]) == ("failed", ["step.failed", "run.failed"])
    assert "ann says that it is given up: nobody can tell" in sim.why()
    assert sim.run.data.error is not None
    assert sim.run.data.error.details["outcome"] == "unknown"


def test_giving_up_goes_on_where_the_plan_says_on_error_continue() -> None:
    sim = unknown(on_error="continue")
    assert settle(sim, "give_up").status == "succeeded"
    assert sim.step_status("w") == "failed"


def test_only_an_operator_settles_and_only_what_is_unknown() -> None:
    sim = acting()
    assert "no outcome of w is unknown: it is queued" in settle(sim, "happened").refused()
    sim.claim("w").lose("w")
    assert "takes the role" in settle(sim, "happened", by=EVE).refused()
    assert "unknown answer 'maybe'" in settle(sim, "maybe").refused()
    assert "goes with 'happened' only" in settle(sim, "give_up", {"x": 1}).refused()
    assert "at most 32768 can be told so" in settle(sim, "happened", "x" * 40_000).refused()
    sim.do(SettleOutcome(step="v", answer="happened"))
    assert "no step 'v'" in sim.refused()
    settle(sim, "not_happened")
    assert "already settled: not_happened by ann" in settle(sim, "happened").refused()


def test_the_lost_workers_own_late_word_settles_it() -> None:
    sim = unknown()
    assert sim.report("w", {"id": 9}).made() == ["outcome.settled", "step.succeeded", "run.succeeded"]
    assert (sim.output("w"), sim.run.peek("w").settled.by) == ({"id": 9}, None)  # type: ignore[union-attr]  # it is set
    assert sim.report("w", {"id": 9}).made() == []


def test_the_lost_workers_own_late_failure_fails_the_step() -> None:
    sim = unknown(retry=Retry(max_attempts=3))
    assert sim.fail("w", "refused by the source").made() == ["outcome.settled", "step.failed", "run.failed"]


def test_a_write_that_failed_is_tried_again_only_where_its_key_makes_that_safe() -> None:
    sim = acting(retry=Retry(max_attempts=3)).claim("w")
    assert sim.fail("w", "the connection broke").made() == ["step.failed", "run.failed"]
    keyed = acting(KEYED, retry=Retry(max_attempts=3)).claim("w")
    assert keyed.fail("w", "the connection broke").made() == ["attempt.failed"]


def test_a_worker_that_was_given_up_for_lost_gets_its_permission_to_act_no_second_time() -> None:
    sim = unknown()
    sim.claim("w")
    assert "w is not to be performed now" in sim.refused()


def test_another_worker_and_a_worker_that_was_stopped_settle_nothing() -> None:
    sim = unknown()
    assert sim.report("w", {}, worker="wrk_2").made() == ["attempt.late"]
    sim = unknown()
    assert sim.report("w", None, status="cancelled").made() == ["attempt.late"]
    assert sim.status == "waiting"


def test_the_word_of_a_lost_worker_after_somebody_gave_up_is_kept_as_late() -> None:
    sim = unknown()
    settle(sim, "give_up")
    assert sim.report("w", {"done": True}).made() == ["attempt.late"]
    assert sim.report("w", {"done": True}).made() == []
    assert sim.status == "failed"


def test_a_lost_item_of_a_map_waits_alone_and_the_others_go_on() -> None:
    sim = acting(ACTS, items=["a", "b"])
    sim.claim("w[0]", nonce="x").claim("w[1]", nonce="y").lose("w[1]")
    assert sim.status == "running"
    sim.report("w[0]", 1)
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "input")
    assert "unknown are those of its items w[1]" in settle(sim, "happened").refused()
    settle(sim, "happened", 2, index=1)
    assert sim.status == "succeeded"
    assert sim.row("steps", step="w")["output"] == [1, 2]


def test_a_write_that_is_idempotent_by_key_is_tried_again_without_a_person() -> None:
    sim = acting(KEYED)
    key = sim.orders["w"].idempotency_key
    sim.claim("w").lose("w")
    assert (sim.status, sim.orders["w"].attempt, sim.orders["w"].idempotency_key) == ("running", 2, key)


def test_an_unknown_outcome_can_be_paused_and_cancelled() -> None:
    sim = unknown().do(PauseRun())
    settle(sim, "not_happened")
    assert sim.run.trial(("w", None)) is not None
    assert sim.do(ResumeRun()).status == "waiting"
    sim = unknown()
    assert sim.do(CancelRun(reason="enough")).made() == ["run.cancelled"]
    assert "is over: cancelled" in settle(sim, "happened").refused()
    assert sim.report("w", {}).made() == ["attempt.late"]


def undoable(*more: Any, pin: ToolPin = ACTS) -> Sim:
    undo = call("w.compensate", tool="w", compensates="w", arguments={"of": "{{ output }}"})
    tools = {"w": pin, "read": READS}
    steps = (call("w", tool="w"), *more)
    return Sim(Plan(name="d", kind="Workflow", steps=steps, tools=tools, compensations=(undo,))).create()


def test_what_may_have_happened_is_undone_only_when_somebody_said_that_it_happened() -> None:
    sim = undoable().claim("w").lose("w").do(CancelRun(reason="enough"))
    assert (sim.status, sim.row()["waiting_for"], "w.compensate" in sim.orders) == ("waiting", "input", False)
    assert sim.later(600).do(Wake()).made() == []
    assert sim.room.wake_at(sim.run) is None
    settle(sim, "happened", {"id": 7})
    assert codec.loads(sim.orders["w.compensate"].arguments) == {"of": {"id": 7}}
    assert sim.claim("w.compensate", nonce="n2").report("w.compensate", {}).status == "cancelled"


@pytest.mark.parametrize("answer", ["not_happened", "give_up"])
def test_what_did_not_happen_is_not_undone(answer: str) -> None:
    sim = undoable(call("r")).claim("w").lose("w").fail("r")
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "input")
    assert settle(sim, answer).status == "failed"
    assert "w.compensate" not in sim.orders
    assert "step 'r' failed" in sim.why()


def test_a_lost_undoing_is_settled_like_any_write() -> None:
    sim = undoable(call("r", "w")).claim("w").report("w", {"id": 7}).fail("r")
    sim.claim("w.compensate", nonce="n2").lose("w.compensate")
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "input")
    sim.do(SettleOutcome(step="w.compensate", answer="not_happened"))
    assert sim.orders["w.compensate"].attempt == 2
    assert sim.claim("w.compensate", nonce="n3").report("w.compensate", {}).status == "failed"


def test_late_results_of_a_cancelled_run_are_kept_also_of_items_and_change_nothing() -> None:
    sim = Sim(
        Plan(name="d", kind="Workflow", steps=(call("m", items=[1, 2, 3]), call("r")), tools={"read": READS})
    ).create()
    sim.report("m[0]", "in time").do(CancelRun())
    sim.fail("m[1]", "stopped", "cancelled", status="cancelled")
    assert sim.later(11).do(Wake()).status == "cancelled"
    assert sim.report("m[2]", "late").made() == ["attempt.late"]
    assert sim.report("m[2]", "late").made() == []
    assert sim.report("r", "late").made() == ["attempt.late"]
    assert sim.report("m[0]", "in time").made() == []
    assert sim.fail("m[1]", "stopped", "cancelled", status="cancelled").made() == []
    assert sim.status == "cancelled"


def test_what_was_stopped_in_its_second_attempt_has_said_nothing_new_the_second_time() -> None:
    steps = (call("m", items=[1, 2]),)
    sim = Sim(Plan(name="d", kind="Workflow", steps=steps, tools={"read": READS})).create()
    sim.lose("m[0]").do(CancelRun()).fail("m[0]", "stopped", "cancelled", status="cancelled")
    assert sim.fail("m[0]", "stopped", "cancelled", status="cancelled").made() == []
    assert sim.report("m[1]", "in time").status == "cancelled"


def test_a_late_word_about_an_earlier_attempt_of_an_item_is_kept_and_its_repeat_is_nothing() -> None:
    sim = Sim(Plan(name="d", kind="Workflow", steps=(call("m", items=[1]),), tools={"read": READS})).create()
    old = sim.orders["m[0]"]
    sim.lose("m[0]").report("m[0]", "second")
    assert sim.status == "succeeded"
    late = ReportAttempt(
        run_id=sim.id, step="m", index=0, attempt=1, attempt_id=old.attempt_id, status="succeeded", worker="wrk_1"
    )
    assert sim.do(late).made() == ["attempt.late"]
    assert sim.do(late).made() == []
    assert sim.report("m[0]", "second").made() == []


# --- cut off midway: by a limit of time, or by a cancel ----------------------------------------------------------


def test_a_write_over_its_steps_time_is_asked_about_and_its_worker_is_stopped() -> None:
    sim = acting(step_timeout_s=30).claim("w").later(31).do(Wake())
    assert sim.made() == ["outcome.lost"]
    assert [each.interrupt.attempt_id for each in sim.stopped] == [sim.orders["w"].attempt_id]
    assert (sim.status, sim.row()["waiting_for"], sim.room.wake_at(sim.run)) == ("waiting", "input", None)
    (reason,) = sim.room.explain(sim.run)
    assert "ran out of time while w acted" in reason.message
    settle(sim, "happened", {"id": 7})
    assert (sim.status, sim.output("w")) == ("succeeded", {"id": 7})


def test_a_write_that_did_not_happen_in_its_steps_time_has_no_time_left() -> None:
    sim = settle(acting(step_timeout_s=30).claim("w").later(31).do(Wake()), "not_happened").do(Wake())
    assert sim.status == "failed"
    assert (
        sim.why()
        == "step 'w' failed: step timeout: step w is not over after 30 s (attempts and the delays between them)"
    )
    assert sim.run.data.doubts == []


def test_giving_up_a_write_that_ran_out_of_time_fails_with_a_timeout_of_unknown_outcome() -> None:
    sim = acting().claim("w").fail("w", "too slow", "timeout", status="timed_out")
    settle(sim, "give_up")
    assert sim.run.data.error is not None
    assert (sim.run.data.error.type, sim.run.data.error.details["outcome"]) == ("timeout", "unknown")
    assert sim.row()["detail"]["unknown_outcomes"] == ["w"]


def test_a_keyed_write_that_ran_out_of_time_is_tried_again_as_its_retry_says() -> None:
    sim = acting(KEYED, retry=Retry(max_attempts=2, initial_s=0)).claim("w")
    assert sim.fail("w", "too slow", "timeout", status="timed_out").made() == ["attempt.failed"]
    assert sim.claim("w", nonce="n2").fail("w", "too slow", "timeout", status="timed_out").status == "failed"
    assert sim.run.data.error is not None
    assert (sim.run.data.error.type, sim.run.data.error.details["outcome"]) == ("timeout", "unknown")
    assert sim.row()["detail"]["unknown_outcomes"] == ["w"]
    unclaimed = acting(KEYED).fail("w", "too slow", "timeout", status="timed_out")
    assert "unknown_outcomes" not in unclaimed.row()["detail"]


def test_a_keyed_write_that_was_lost_for_the_last_time_is_named_as_unknown() -> None:
    sim = acting(KEYED)
    for nonce in ("n1", "n2", "n3"):
        sim.claim("w", nonce=nonce).lose("w")
    assert (sim.status, sim.row()["detail"]["unknown_outcomes"]) == ("failed", ["w"])
    assert [each.status for each in sim.run.peek("w").tried] == ["lost"] * 3


def test_a_keyed_write_that_could_be_undone_is_asked_about_when_its_last_attempt_was_cut_off() -> None:
    sim = undoable(pin=KEYED).claim("w").fail("w", "too slow", "timeout", status="timed_out")
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "input")
    settle(sim, "happened", {"id": 7})
    assert sim.status == "succeeded"
    given_up = settle(undoable(pin=KEYED).claim("w").fail("w", "slow", "timeout", status="timed_out"), "give_up")
    assert (given_up.status, "w.compensate" in given_up.orders) == ("failed", False)


def test_an_undoable_write_that_was_cancelled_midway_is_asked_about_before_it_is_undone_or_not() -> None:
    sim = undoable().claim("w").do(CancelRun(reason="enough"))
    assert sim.report("w", None, status="cancelled").made() == ["outcome.lost", "compensation.started"]
    assert sim.row()["waiting_for"] == "input"
    assert "was stopped while w acted" in sim.row()["detail"]["waiting"][0]["message"]
    settle(sim, "happened", {"id": 7})
    assert sim.claim("w.compensate", nonce="n2").report("w.compensate", {}).status == "cancelled"
    assert settle(_cancelled_midway(), "not_happened").status == "cancelled"


def _cancelled_midway() -> Sim:
    return undoable().claim("w").do(CancelRun(reason="enough")).report("w", None, status="cancelled")


def test_of_a_run_that_is_over_what_may_have_happened_is_named() -> None:
    sim = acting().claim("w").do(CancelRun()).report("w", None, status="cancelled")
    assert (sim.status, sim.row()["detail"]["unknown_outcomes"]) == ("cancelled", ["w"])
    silent = acting().claim("w").do(CancelRun()).later(11).do(Wake())
    assert (silent.status, silent.row()["detail"]["unknown_outcomes"]) == ("cancelled", ["w"])
    late = Sim(Plan(name="d", kind="Workflow", steps=(call("w", tool="w"),), tools={"w": ACTS}, timeout_s=60)).create()
    late.claim("w").later(61).do(Wake())
    assert (late.status, late.row()["detail"]["unknown_outcomes"]) == ("failed", ["w"])
    unclaimed = acting().do(CancelRun()).later(11).do(Wake())
    assert (unclaimed.status, "unknown_outcomes" in unclaimed.row()["detail"]) == ("cancelled", False)
    assert "unknown_outcomes" not in acting().claim("w").report("w", {}).row()["detail"]
    assert "unknown_outcomes" not in acting().do(CancelRun()).report("w", None, status="cancelled").row()["detail"]


def test_the_items_of_a_map_over_its_time_are_named_and_those_that_can_be_undone_are_asked_about() -> None:
    mapped = call("w", tool="w", items=[1, 2, 3], step_timeout_s=30)
    sim = Sim(Plan(name="d", kind="Workflow", steps=(mapped,), tools={"w": ACTS})).create()
    assert sim.claim("w[1]").later(31).do(Wake()).made() == ["step.failed", "run.failed"]
    assert sim.run.data.error is not None
    assert sim.run.data.error.details["unknown"] == ["w[1]"]
    assert sim.row()["detail"]["unknown_outcomes"] == ["w[1]"]


def test_an_item_of_a_map_over_its_time_is_undone_when_somebody_says_that_it_happened() -> None:
    mapped = call("w", tool="w", items=[1, 2, 3], step_timeout_s=30)
    undoes = call("w.compensate", tool="w", compensates="w")
    plan = Plan(name="d", kind="Workflow", steps=(mapped,), compensations=(undoes,), tools={"w": ACTS})
    sim = Sim(plan).create().claim("w[1]").later(31).do(Wake())
    assert sim.made() == ["outcome.lost", "step.failed", "compensation.started"]
    assert sim.row()["waiting_for"] == "input"
    sim.do(SettleOutcome(step="w", index=1, answer="happened", output=codec.raw({"id": 2})))
    name = next(name for name in sim.orders if name.startswith("w.compensate"))
    sim.claim(name, nonce="n2").report(name, {})
    assert (sim.status, sim.run.data.doubts) == ("failed", [])


def test_of_a_map_over_its_time_nobody_is_asked_twice_and_nobody_where_the_run_goes_on() -> None:
    undoes = call("w.compensate", tool="w", compensates="w")

    def mapped(**more: Any) -> Sim:
        steps = (call("w", tool="w", items=[1, 2], step_timeout_s=30, **more),)
        plan = Plan(name="d", kind="Workflow", steps=steps, compensations=(undoes,), tools={"w": ACTS})
        return Sim(plan).create().claim("w[0]").claim("w[1]", nonce="n2")

    sim = mapped().lose("w[0]").later(31).do(Wake())
    assert sim.made() == ["outcome.lost", "step.failed", "compensation.started"]
    assert mapped(on_error="continue").later(31).do(Wake()).made() == ["step.failed", "run.succeeded"]
