"""Time limits in layers, delays between attempts, and questions that are repeated until somebody confirms them."""

from typing import Any

import pytest

from headrace import codec
from headrace.events.runs import StepFailed
from headrace.messages import CancelRun, NoteApprovalReceived, OpenApproval, SupersedeApproval, Wake
from headrace.plans.model import ApprovalStep, Plan, Retry, ToolPin, WaitStep
from headrace.steering import DropAttempt, OverdueAttempt, PauseRun, ResumeRun, SettleOutcome
from headrace.vocabulary import ATTEMPTS_KEPT_MAX
from tests.planner.runs_kit import Sim, call, plan, step

ACTS = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)
KEYED = ToolPin(version="1", digest="sha256:i", effect="write", access="auto", pool="runner", idempotent=True)
THRICE = Retry(max_attempts=3, initial_s=10, factor=1, jitter=0)


def writing(pin: ToolPin, **fields: Any) -> Sim:
    return Sim(Plan(name="d", kind="Workflow", steps=(call("w", tool="w", **fields),), tools={"w": pin})).create()


def drop(sim: Sim, instance: str) -> Sim:
    order = sim.orders[instance]
    return sim.do(DropAttempt(step=order.step, attempt=order.attempt, attempt_id=order.attempt_id, index=order.index))


def overdue(sim: Sim, instance: str) -> Sim:
    order = sim.orders[instance]
    return sim.do(
        OverdueAttempt(
            step=order.step, attempt=order.attempt, attempt_id=order.attempt_id, index=order.index, worker="wrk_1"
        )
    )


def limit_of(sim: Sim, step_id: str) -> tuple[str, float, str]:
    error = sim.run.peek(step_id).error
    assert error is not None
    assert error.type == "timeout"
    assert error.message.startswith(f"{error.details['timeout']} timeout: ")
    return error.details["timeout"], error.details["timeout_s"], error.details["step"]


def test_an_attempt_that_no_worker_takes_in_time_ends_the_step_and_is_not_tried_again() -> None:
    sim = Sim(plan(call("a", queue_timeout_s=30, retry=THRICE))).create()
    assert drop(sim.later(29), "a").made() == [], "its time is not over"
    assert drop(sim.later(1), "a").made() == ["step.failed", "run.failed"]
    assert limit_of(sim, "a") == ("queue", 30, "a")
    assert "'a'" in sim.why()
    assert "pool 'runner'" in sim.why()


def test_the_queue_clock_begins_anew_with_each_attempt_and_is_told_to_the_dispatcher() -> None:
    sim = Sim(plan(call("a", queue_timeout_s=30, retry=THRICE))).create()
    assert sim.dispatched[-1].queue_until == sim.now + 30_000
    sim.later(25).fail("a").later(10).do(Wake())
    assert sim.dispatched[-1].queue_until == sim.now + 30_000
    again = list(sim.room.outstanding(sim.room.restore(sim.room.snapshot(sim.run)), sim.now))
    assert again[0].queue_until == sim.now + 30_000  # type: ignore[union-attr]  # a Dispatch
    assert drop(sim.later(29), "a").made() == []


def test_what_is_claimed_has_been_taken() -> None:
    sim = writing(ACTS, queue_timeout_s=30).claim("w")
    assert drop(sim.later(60), "w").made() == []


def test_without_a_limit_an_attempt_waits_for_a_worker_for_ever() -> None:
    sim = Sim(plan(call("a"))).create()
    assert sim.dispatched[-1].queue_until is None
    assert drop(sim.later(86_400), "a").made() == []


def test_a_worker_that_lives_and_says_nothing_beyond_the_attempts_time_is_not_waited_for() -> None:
    sim = Sim(plan(call("a", timeout_s=60, retry=Retry(max_attempts=2, initial_s=10, jitter=0)))).create()
    first = sim.orders["a"]
    assert overdue(sim, "a").made() == ["attempt.failed"]
    assert [each.interrupt.attempt_id for each in sim.stopped] == [first.attempt_id]
    assert overdue(sim, "a").made() == []
    sim.later(10).do(Wake())
    overdue(sim, "a")
    assert limit_of(sim, "a") == ("attempt", 60, "a")
    tried = sim.row("steps", step="a")["detail"]["attempts"]
    assert [(each["number"], each["status"], each["worker"]) for each in tried] == [
        (1, "timed_out", "wrk_1"),
        (2, "timed_out", "wrk_1"),
    ]


def test_a_write_that_is_overdue_may_have_happened() -> None:
    assert overdue(writing(ACTS).claim("w"), "w").made() == ["outcome.lost"]
    keyed = writing(KEYED, retry=THRICE).claim("w")
    assert overdue(keyed, "w").made() == ["attempt.failed"]


def test_a_write_whose_worker_gave_up_in_time_may_have_happened() -> None:
    sim = writing(ACTS, retry=THRICE).claim("w").fail("w", "took too long", "timeout", status="timed_out")
    assert (sim.made(), sim.row()["waiting_for"]) == (["outcome.lost"], "input")
    keyed = writing(KEYED, retry=THRICE).claim("w").fail("w", "took too long", "timeout", status="timed_out")
    assert keyed.made() == ["attempt.failed"]


def test_a_steps_time_counts_its_attempts_and_the_delays_between_them() -> None:
    sim = Sim(plan(call("a", step_timeout_s=25, retry=THRICE))).create()
    assert sim.room.wake_at(sim.run) == sim.now + 25_000
    sim.later(5).fail("a").later(10).do(Wake())
    assert sim.orders["a"].attempt == 2
    assert sim.room.wake_at(sim.run) == sim.now + 10_000
    out = sim.orders["a"].attempt_id
    assert sim.later(10).do(Wake()).made() == ["step.failed", "run.failed"]
    assert limit_of(sim, "a") == ("step", 25, "a")
    assert out in {each.interrupt.attempt_id for each in sim.stopped}
    assert sim.row("steps", step="a")["attempt"] == 2
    assert sim.report("a", 1).made() == ["attempt.late"]


def test_a_steps_time_that_ends_while_a_worker_acts_names_that_worker() -> None:
    sim = writing(KEYED, step_timeout_s=30).claim("w").later(30).do(Wake())
    assert limit_of(sim, "w") == ("step", 30, "w")
    assert sim.row("steps", step="w")["worker"] == "wrk_1"


def test_an_item_over_its_time_is_stopped_as_a_step_is_that_stands_alone() -> None:
    sim = Sim(plan(call("m", items=[1, 2, 3], queue_timeout_s=30, on_item_error="collect"))).create()
    first, second = (sim.orders[f"m[{place}]"].attempt_id for place in (0, 1))
    assert drop(sim.later(30), "m[0]").made() == ["step.failed"]
    assert overdue(sim, "m[1]").made() == ["step.failed"]
    assert [each.interrupt.attempt_id for each in sim.stopped] == [first, second]
    sim.fail("m[2]", retryable=False)
    assert len(sim.stopped) == 2, "the word of a worker stops nothing"


def test_a_step_over_its_time_is_not_tried_again_at_that_moment() -> None:
    sim = Sim(plan(call("a", step_timeout_s=10, retry=THRICE, on_error="continue"))).create().fail("a")
    assert sim.later(10).do(Wake()).made() == ["step.failed", "run.succeeded"]


def test_a_steps_time_bounds_a_whole_map_and_stops_its_items() -> None:
    sim = Sim(plan(call("m", items=[1, 2, 3], step_timeout_s=60, on_error="continue"), call("b", "m"))).create()
    sim.report("m[0]", 1).later(60).do(Wake())
    assert limit_of(sim, "m") == ("step", 60, "m")
    assert "1 of 3 items" in sim.run.peek("m").error.message  # type: ignore[union-attr]  # it is set
    assert {each.interrupt.attempt_id for each in sim.stopped} == {sim.orders[f"m[{n}]"].attempt_id for n in (1, 2)}
    assert "b" in sim.orders
    assert sim.report("m[1]", 2).made() == ["attempt.late"]
    assert sim.report("m[0]", 1).made() == []


def test_waits_approvals_and_pauses_do_not_count_against_a_steps_time() -> None:
    sim = Sim(plan(call("a", step_timeout_s=25, retry=THRICE, confirm=True))).create()
    sim.later(86_400).resolve()
    sim.later(20).do(PauseRun()).later(900).do(ResumeRun())
    assert sim.room.wake_at(sim.run) == sim.now + 5_000
    assert sim.later(4).do(Wake()).made() == []
    assert sim.report("a", 1).status == "succeeded"


def test_while_nobody_knows_what_happened_a_steps_clock_stands_still() -> None:
    sim = writing(ACTS, step_timeout_s=25).claim("w").later(20).lose("w")
    assert sim.room.wake_at(sim.run) is None
    sim.later(86_400).do(SettleOutcome(step="w", answer="not_happened"))
    assert sim.room.wake_at(sim.run) == sim.now + 5_000


def test_a_maps_clock_runs_while_one_item_works_although_nobody_knows_of_another() -> None:
    mapped = call("w", tool="w", items=[1, 2], step_timeout_s=25)
    sim = Sim(Plan(name="d", kind="Workflow", steps=(mapped,), tools={"w": ACTS})).create()
    sim.claim("w[0]").claim("w[1]", nonce="n2").later(20).lose("w[0]")
    assert sim.room.wake_at(sim.run) == sim.now + 5_000
    assert sim.do(PauseRun()).later(900).room.wake_at(sim.run) is None or sim.run.peek("w").timed_since is None
    sim.do(ResumeRun())
    assert sim.run.peek("w").timed_since == sim.now, "the other item works on"
    sim.report("w[1]").do(PauseRun()).do(ResumeRun())
    assert sim.run.peek("w").timed_since is None, "only a person is waited for"


def test_the_runs_own_time_names_itself_and_what_was_under_way() -> None:
    sim = Sim(plan(call("a"), timeout_s=100)).create().later(100).do(Wake())
    assert sim.run.data.error is not None
    assert sim.run.data.error.details == {"timeout": "run", "timeout_s": 100, "step": "a"}
    assert sim.why().startswith("run timeout: ")


def test_a_timer_is_no_work() -> None:
    sim = Sim(plan(step("w", WaitStep(seconds=3_600.0)), timeout_s=100)).create()
    assert sim.later(3_600).do(Wake()).status == "succeeded"


def test_every_failed_attempt_and_its_delay_is_shown_and_only_the_last_are_kept() -> None:
    sim = Sim(plan(call("a", retry=Retry(max_attempts=100, initial_s=10, factor=1, jitter=0)))).create()
    sim.fail("a", "flaky", "upstream_error")
    (wait,) = sim.row()["detail"]["waiting"]
    assert (wait["for"], wait["step"], wait["until"]) == ("retry", "a", sim.now + 10_000)
    (shown,) = sim.row("steps", step="a")["detail"]["attempts"]
    assert shown == {
        "number": 1,
        "status": "failed",
        "index": None,
        "iteration": 0,
        "attempt_id": sim.orders["a"].attempt_id,
        "worker": "wrk_1",
        "error": {"type": "upstream_error", "message": "flaky"},
        "started_at": sim.now,
        "finished_at": sim.now,
        "next_at": sim.now + 10_000,
    }
    for _ in range(ATTEMPTS_KEPT_MAX + 5):
        sim.later(10).do(Wake()).fail("a", "flaky")
    tried = sim.row("steps", step="a")["detail"]["attempts"]
    assert [each["number"] for each in tried] == list(range(7, ATTEMPTS_KEPT_MAX + 7))


@pytest.mark.parametrize("items", [0, 50])
def test_the_next_time_follows_retries_of_items_as_they_come_and_go(items: int) -> None:
    listed = list(range(items or 3))
    sim = Sim(plan(call("m", items=listed, retry=Retry(max_attempts=9, initial_s=10, factor=3, jitter=0)))).create()
    sim.fail("m[1]")
    first = sim.now + 10_000
    assert sim.room.wake_at(sim.run) == min(first, sim.now + 1_800_000)
    sim.later(4).fail("m[2]")
    assert sim.room.wake_at(sim.run) == first
    restored = sim.room.restore(sim.room.snapshot(sim.run))
    assert sim.room.wake_at(restored) == first
    sim.later(6).do(Wake())
    assert sim.room.wake_at(sim.run) == first + 4_000
    for place in set(listed) - {2}:
        sim.report(f"m[{place}]")
    assert sim.room.wake_at(sim.run) == first + 4_000
    sim.later(4).do(Wake()).report("m[2]")
    assert (sim.status, sim.room.wake_at(sim.run)) == ("succeeded", None)


def test_of_several_retries_the_earliest_comes_first_also_after_a_takeover_and_beside_a_wait() -> None:
    steps = (call("m", items=[1, 2], retry=THRICE), step("s", WaitStep(signal="go")))
    sim = Sim(plan(*steps)).create()
    sim.fail("m[0]", retry_after_s=60).fail("m[1]")
    assert sim.room.wake_at(sim.run) == sim.now + 10_000
    assert sim.room.wake_at(sim.room.restore(sim.room.snapshot(sim.run))) == sim.now + 10_000
    assert sim.later(10).do(Wake()).made() == ["step.retried"]
    assert sim.room.wake_at(sim.run) == sim.now + 50_000


def test_a_cancelled_run_is_looked_at_when_what_was_told_to_stop_had_its_time() -> None:
    sim = Sim(plan(call("a"))).create().later(5).do(CancelRun())
    assert sim.room.wake_at(sim.run) == sim.now + 10_000
    assert sim.later(9).do(Wake()).made() == []
    assert sim.later(1).do(Wake()).made() == ["run.cancelled"]


def asking() -> Sim:
    return Sim(plan(step("ok", ApprovalStep()), step("w", WaitStep(seconds=20.0)))).create()


def test_a_question_without_receipt_does_not_put_off_what_is_due_sooner() -> None:
    sim = asking()
    asked = sim.now
    assert sim.room.wake_at(sim.run) == asked + 2_000
    sim.later(10).do(Wake())
    assert sim.room.wake_at(sim.run) == asked + 2_000, "it is overdue"
    assert sim.room.wake_after(sim.run, sim.now) == asked + 20_000
    assert sim.later(10).do(Wake()).made() == ["step.succeeded"]


def test_what_an_ended_run_asked_is_taken_back_until_somebody_confirms_that() -> None:
    sim = asking()
    ask = next(iter(sim.run.data.asks.values()))
    sim.do(NoteApprovalReceived(approval_id=ask.approval_id)).later(60).do(CancelRun(reason="enough"))
    assert sim.status == "cancelled"
    assert not sim.room.finished(sim.run)
    assert (sim.row()["busy"], sim.room.wake_at(sim.run)) == (True, sim.now + 2_000)
    sim.told.clear()
    sim.later(2).do(Wake())
    (told,) = sim.told
    assert told.command == SupersedeApproval(reason="the run cancelled", reply_to=sim.id, step="ok", digest=ask.digest)
    assert list(sim.room.outstanding(sim.run, sim.now)) == [told]
    assert sim.resolve("superseded").made() == ["approval.resolved"]
    assert sim.room.finished(sim.run)
    assert (sim.status, sim.row()["busy"], sim.room.wake_at(sim.run)) == ("cancelled", False, None)
    assert not any(isinstance(event, StepFailed) for event, _ in sim.history)


def test_an_answer_that_comes_while_a_run_is_being_cancelled_fails_nothing() -> None:
    sim = Sim(plan(step("ok", ApprovalStep()), call("a"))).create().do(CancelRun())
    assert sim.resolve("superseded").made() == ["approval.resolved"]
    assert sim.report("a", status="cancelled").status == "cancelled"
    assert sim.step_status("ok") == "cancelled"
    assert any(isinstance(tell.command, OpenApproval) for tell in sim.told)
    assert codec.loads(sim.run.data.outputs) is None


def test_what_a_run_spends_in_a_queue_does_not_count_against_its_time() -> None:
    sim = Sim(plan(call("a"), timeout_s=100)).create().later(100).do(Wake(performed_ms=0))
    assert sim.made() == ["run.clock_moved"]
    assert sim.room.wake_at(sim.run) == sim.now + 100_000
    sim.later(100).do(Wake(performed_ms=0))
    assert sim.room.wake_at(sim.run) == sim.now + 300_000, "a short time in a long queue is looked at now and then"
    sim.later(300).do(Wake(performed_ms=40_000))
    assert sim.room.wake_at(sim.run) == sim.now + 60_000, "what its worker says counts"
    assert sim.later(60).do(Wake(performed_ms=100_001)).made() == ["run.failed"]
    assert "run timeout: the run timed out after 100 s of work, while a was performed" in sim.why()


def test_a_run_that_left_its_queue_ends_when_its_time_is_over_and_not_at_the_next_look() -> None:
    sim = Sim(plan(call("a"), timeout_s=100)).create().later(100).do(Wake(performed_ms=0))
    sim.later(100).do(Wake(performed_ms=0))
    assert next(iter(sim.room.outstanding(sim.run, sim.now))).waits  # type: ignore[union-attr]  # an order
    sim.later(20).do(Wake(performed_ms=1_000))  # its worker began a second ago, as its owner heard
    assert sim.room.wake_at(sim.run) == sim.now + 99_000
    assert not next(iter(sim.room.outstanding(sim.run, sim.now))).waits  # type: ignore[union-attr]  # the same order
    assert sim.later(99).do(Wake(performed_ms=100_000)).made() == ["run.failed"]


def test_a_new_owner_hears_the_workers_before_it_says_that_a_run_is_over_its_time() -> None:
    sim = Sim(plan(call("a"), timeout_s=100)).create().later(600).do(Wake(unheard=True))
    assert (sim.made(), sim.room.wake_at(sim.run)) == (["run.clock_moved"], sim.now + 3_000)
    queued, performed = sim.later(3), Sim(plan(call("a"), timeout_s=100)).create().later(600).do(Wake(unheard=True))
    assert queued.do(Wake(performed_ms=0)).made() == ["run.clock_moved"]
    assert queued.status != "failed"
    assert performed.later(3).do(Wake(performed_ms=590_000)).made() == ["run.failed"], "its whole work counts"


def test_a_run_of_a_short_time_leaves_its_worker_the_time_of_a_beat_to_say_that_it_began() -> None:
    sim = Sim(plan(call("a"), timeout_s=1)).create().later(1).do(Wake(performed_ms=0))
    assert sim.room.wake_at(sim.run) == sim.now + 3_000
    assert sim.later(3).do(Wake(performed_ms=2_500)).made() == ["run.failed"]


def test_results_say_how_long_was_worked_and_what_nobody_performed_waited() -> None:
    sim = Sim(plan(call("a"), call("b", "a"), call("c", "b"), timeout_s=100)).create()
    sim.later(600).report("a", started_at=sim.now - 60_000)
    assert sim.room.wake_at(sim.run) == sim.now + 40_000
    sim.later(39).report("b", started_at=sim.now - 30_000)
    assert sim.room.wake_at(sim.run) == sim.now + 10_000
    assert sim.later(10).do(Wake(performed_ms=10_000)).made() == ["run.failed"]


def test_of_results_that_come_together_the_time_from_the_first_beginning_to_the_last_end_counts() -> None:
    sim = Sim(plan(call("m", items=[1, 2]), call("b", "m"), timeout_s=100)).create().later(60)
    first, second = (sim.word(f"m[{place}]", started_at=sim.now - since) for place, since in ((0, 60_000), (1, 10_000)))
    assert sim.together(first, second) == 2
    assert sim.room.wake_at(sim.run) == sim.now + 40_000


def test_attempts_side_by_side_count_once() -> None:
    sim = Sim(plan(call("a"), call("b"), call("c", "a", "b"), timeout_s=100)).create().later(50)
    sim.report("a", started_at=sim.now - 50_000).later(10).report("b", started_at=sim.now - 60_000)
    assert sim.room.wake_at(sim.run) == sim.now + 40_000
