"""Waits: signals are kept and taken, the oldest first; events end the waits they are meant for; deadlines are named."""

from typing import Any

from headrace import codec, ids
from headrace.decider import Context, Rejection
from headrace.errors import UnprocessableError
from headrace.events.base import SYSTEM
from headrace.events.runs import StepFailed, StepSucceeded
from headrace.messages import CancelRun, Wake
from headrace.plans.model import InputField, LoopStep, PlanStep, TransformStep, WaitStep
from headrace.steering import (
    DeliverEvent,
    PauseRun,
    SignalRun,
)
from headrace.vocabulary import INLINE_BYTES_MAX, SIGNALS_KEPT_MAX
from tests.planner.runs_kit import ANN, BOB, START, Sim, call, plan, step


def wait(step_id: str, *needs: str, more: dict[str, Any] | None = None, **body: Any) -> PlanStep:
    return step(step_id, WaitStep(**body), *needs, **(more or {}))


def signal(name: str = "go", number: int = 1, data: Any = None) -> SignalRun:
    return SignalRun(name=name, signal_id=f"sig-{number}", data=codec.raw(data))


def event(data: Any = None, *, name: str = "deployed", identity: str = "e1", at: int = START) -> DeliverEvent:
    return DeliverEvent(source="trigger", name=name, event_id=identity, at=at, data=codec.raw(data))


# --- signals -----------------------------------------------------------------------------------------------------


def test_a_signal_ends_the_wait_for_it_and_is_its_output() -> None:
    sim = Sim(plan(wait("w", signal="go"), call("after", "w"))).create()
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "signal")
    sim.later(5).do(signal(data={"yes": True}))
    assert sim.made()[:2] == ["signal.received", "step.succeeded"]
    assert sim.output("w") == {"name": "go", "data": {"yes": True}, "by": "ann", "at": START + 5_000}
    assert "after" in sim.orders


def test_a_signal_that_comes_before_the_wait_is_kept_and_the_oldest_is_taken_first() -> None:
    again = step("again", LoopStep(condition="iteration < 3", body=("w",), cap=9), "first")
    sim = Sim(plan(call("first"), again, wait("w", signal="go", more={"parent": "again"}))).create()
    sim.do(signal(number=1, data="a")).do(signal(number=2, data="b"))
    assert sim.names.count("step.succeeded") == 0
    sim.report("first")
    assert sim.names.count("loop.iterated") == 3
    assert sim.output("w") is None
    assert sim.do(signal(number=3, data="c")).status == "succeeded"
    ends = [one for one, _ in sim.history if isinstance(one, StepSucceeded) and one.step == "w"]
    taken = [codec.loads(one.output)["data"] for one in ends]
    assert taken == ["a", "b", "c"]


def test_one_signal_ends_one_wait_and_the_first_that_began_is_the_first_that_ends() -> None:
    sim = Sim(plan(wait("v", signal="go"), wait("w", signal="go"))).create().do(signal(number=1))
    assert (sim.step_status("v"), sim.step_status("w")) == ("succeeded", "waiting")
    assert sim.do(signal(number=2)).status == "succeeded"


def test_the_same_signal_again_changes_nothing_before_and_after_it_was_taken() -> None:
    sim = Sim(plan(call("a"), wait("w", "a", signal="go"), wait("v", "w", signal="go"))).create()
    sim.do(signal(number=1))
    assert sim.do(signal(number=1)).made() == []
    sim.report("a")
    assert sim.step_status("v") == "waiting"
    assert sim.do(signal(number=1)).made() == []
    assert sim.do(signal(number=2)).status == "succeeded"
    assert sim.do(signal(number=2)).made() == []


def test_a_name_that_no_step_waits_for_is_refused_with_those_that_there_are() -> None:
    sim = Sim(plan(wait("w", signal="go"), wait("v", signal="stop"))).create()
    assert "there" not in sim.do(signal("gone")).refused()
    assert "'gone'; it waits for: go, stop" in sim.refused()
    assert isinstance(sim.last, Rejection)
    assert isinstance(sim.last.error, UnprocessableError)
    assert "no step of it waits for one" in Sim(plan(call("a"))).create().do(signal()).refused()


def test_signals_that_nobody_takes_are_kept_up_to_a_limit() -> None:
    sim = Sim(plan(call("a"), wait("w", "a", signal="go"))).create()
    kept = sim.run.data.signals
    sim.do(signal(number=0))
    kept.extend([kept[0]] * (SIGNALS_KEPT_MAX - 1))
    last = sim.room.decide(sim.run, signal(number=5), _context(sim))
    assert isinstance(last, Rejection)
    assert f"{SIGNALS_KEPT_MAX} signals" in last.error.message


def _context(sim: Sim) -> Any:
    return Context(now=sim.now, stream_id=sim.id, workspace=sim.workspace, actor=ANN)


def test_a_signal_may_not_carry_too_much_and_a_run_that_is_over_takes_none() -> None:
    sim = Sim(plan(wait("w", signal="go"))).create()
    assert "bytes at most" in sim.do(signal(data="x" * INLINE_BYTES_MAX)).refused()
    assert "may not do this" in sim.do(signal(), by=BOB).refused()
    sim.do(CancelRun())
    assert "the run is over: cancelled" in sim.do(signal()).refused()


def test_a_wait_whose_time_is_over_fails_and_names_what_did_not_come() -> None:
    sim = Sim(plan(wait("w", signal="go", expires_s=60))).create()
    assert sim.room.wake_at(sim.run) == START + 60_000
    sim.later(59).do(Wake())
    assert sim.status == "waiting"
    sim.later(1).do(Wake())
    assert sim.status == "failed"
    assert "w waited 60 s for the signal 'go', and it did not come" in sim.why()
    assert sim.row()["error_type"] == "timeout"
    (ended,) = [one for one, _ in sim.history if isinstance(one, StepFailed)]
    assert (ended.status, ended.started_at) == ("timed_out", START)


def test_a_run_may_go_on_when_a_signal_did_not_come() -> None:
    late = wait("w", signal="go", expires_s=60, more={"on_error": "continue"})
    sim = Sim(plan(late, step("after", TransformStep(value="{{ steps.w.error.type }}"), "w"))).create()
    sim.later(60).do(Wake())
    assert (sim.status, sim.output("after")) == ("succeeded", "timeout")


def test_a_wait_does_not_count_against_the_time_of_the_run() -> None:
    sim = Sim(plan(wait("w", signal="go"), timeout_s=5)).create()
    sim.later(3_600).do(Wake())
    assert sim.room.wake_at(sim.run) is None
    assert sim.do(signal()).status == "succeeded"


def test_a_paused_run_takes_a_signal_and_begins_nothing() -> None:
    sim = Sim(plan(wait("w", signal="go"), call("after", "w"))).create().do(PauseRun()).do(signal())
    assert sim.step_status("w") == "succeeded"
    assert "after" not in sim.orders


def test_explain_says_who_may_send_what() -> None:
    sim = Sim(plan(wait("w", signal="go", expires_s=60))).create()
    (reason,) = sim.room.explain(sim.run)
    assert (reason.waiting_for, reason.step, reason.until) == ("signal", "w", START + 60_000)
    assert reason.remedy == f"headrace runs signal {sim.id} go"
    assert "the signal 'go'" in reason.message


# --- events of triggers ------------------------------------------------------------------------------------------


def test_an_event_for_which_when_is_true_ends_the_wait() -> None:
    chosen = wait("w", event="deployed", when="event.env == inputs.env")
    sim = Sim(plan(chosen, inputs={"env": InputField()})).create({"env": "live"})
    assert sim.row()["waiting_for"] == "event"
    assert sim.do(event({"env": "test"}), by=SYSTEM).made() == []
    assert sim.do(event({"other": 1}), by=SYSTEM).made() == []
    assert sim.do(event({"env": "live"}, name="removed"), by=SYSTEM).made() == []
    assert sim.do(event({"env": "live"}, identity="e2"), by=SYSTEM).status == "succeeded"
    assert sim.output("w") == {"name": "deployed", "id": "e2", "at": START, "data": {"env": "live"}}


def test_an_event_that_comes_before_the_wait_is_not_kept() -> None:
    sim = Sim(plan(call("a"), wait("w", "a", event="deployed"))).create()
    assert sim.do(event(), by=SYSTEM).made() == []
    sim.report("a")
    assert sim.step_status("w") == "waiting"
    assert sim.do(event(identity="e2"), by=SYSTEM).status == "succeeded"


def test_an_event_that_comes_again_ends_no_later_wait() -> None:
    sim = Sim(plan(wait("w", event="deployed"), wait("v", "w", event="deployed"))).create()
    sim.do(event(), by=SYSTEM)
    assert sim.step_status("v") == "waiting"
    assert sim.do(event(), by=SYSTEM).made() == []
    assert sim.do(event(identity="e2"), by=SYSTEM).status == "succeeded"


def test_one_event_ends_every_wait_it_is_meant_for() -> None:
    sim = Sim(
        plan(wait("w", event="deployed"), wait("v", event="deployed"), wait("u", event="deployed", when="false"))
    ).create()
    sim.do(event(), by=SYSTEM)
    assert [sim.step_status(name) for name in "wvu"] == ["succeeded", "succeeded", "waiting"]


def test_an_event_that_when_cannot_judge_ends_nothing_and_is_refused_with_the_step() -> None:
    sim = Sim(plan(wait("w", event="deployed", when="event.n + 1 > 2"))).create()
    assert "step 'w'" in sim.do(event({"n": "x"}), by=SYSTEM).refused()
    assert sim.status == "waiting"
    assert sim.do(event({"n": 2}), by=SYSTEM).status == "succeeded"


def test_an_event_that_one_when_cannot_judge_ends_the_wait_that_it_is_meant_for() -> None:
    sim = Sim(plan(wait("v", event="deployed", when="event.n > 1"), wait("w", event="deployed"))).create()
    assert sim.do(event({"n": "many"}), by=SYSTEM).made() == ["step.succeeded"]
    assert (sim.step_status("v"), sim.step_status("w")) == ("waiting", "succeeded")


def test_an_event_ends_no_wait_of_a_run_that_is_being_cancelled() -> None:
    sim = Sim(plan(wait("w", event="deployed"), call("a"))).create().do(CancelRun())
    assert sim.do(event(), by=SYSTEM).made() == []
    assert (sim.report("a", status="cancelled").status, sim.step_status("w")) == ("cancelled", "cancelled")


def test_who_waits_for_another_run_is_not_shown_to_the_router() -> None:
    sim = Sim(plan(wait("w", event="step.succeeded", of_run=ids.make(ids.RUN, START, b"9876543210", 5)))).create()
    assert sim.row()["waiting_for"] == "event"
    assert [row for row in sim.room.rows(sim.run, None) if row.table == "waits"] == []


def test_a_large_event_is_kept_as_a_body_apart() -> None:
    sim = Sim(plan(wait("w", event="deployed"))).create()
    large = event("x" * INLINE_BYTES_MAX)
    sim.do(large, by=SYSTEM)
    blob = sim.run.peek("w").blob
    assert blob is not None
    body = sim.room.attachments(large)[blob.digest]
    assert codec.loads(body)["data"] == "x" * INLINE_BYTES_MAX


def test_an_event_waits_for_its_time_like_a_signal_and_explain_names_the_command() -> None:
    sim = Sim(plan(wait("w", event="deployed", when="event.env == 'live'", expires_s=10))).create()
    (reason,) = sim.room.explain(sim.run)
    assert reason.remedy == "headrace trigger deployed, or publish to headrace.trigger.deployed"
    assert "for which event.env == 'live'" in reason.message
    sim.later(10).do(Wake())
    assert "10 s for the event 'deployed'" in sim.why()


def test_the_router_is_shown_a_run_from_its_beginning_until_the_step_is_over() -> None:
    sim = Sim(plan(call("a"), wait("w", "a", event="deployed"), call("b", "w"))).create()
    assert sim.row("waits", step="w") == {
        "id": f"{sim.id}/w",
        "run_id": sim.id,
        "step": "w",
        "workspace": "default",
        "name": "deployed",
        "open": True,
    }
    sim.report("a")
    assert sim.row("waits", step="w")["open"]
    sim.do(event(), by=SYSTEM)
    assert not sim.row("waits", step="w")["open"]


def test_a_wait_in_a_loop_is_shown_until_the_loop_is_over() -> None:
    again = step("again", LoopStep(condition="iteration < 2", body=("w",), cap=9))
    sim = Sim(plan(again, wait("w", event="deployed", more={"parent": "again"}), call("after", "again"))).create()
    sim.do(event(identity="e1"), by=SYSTEM)
    assert sim.row("waits", step="w")["open"]
    sim.do(event(identity="e2"), by=SYSTEM)
    assert not sim.row("waits", step="w")["open"]


def test_a_cancelled_run_waits_for_nothing() -> None:
    sim = Sim(plan(wait("w", event="deployed"))).create().do(CancelRun())
    assert not sim.row("waits", step="w")["open"]
    assert sim.do(event(), by=SYSTEM).made() == []
    assert sim.room.wake_at(sim.run) is None
