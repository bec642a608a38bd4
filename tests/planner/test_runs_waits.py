"""Waits: signals are kept and taken, the oldest first; events end the waits they are meant for; deadlines are named."""

from typing import Any

from headrace import codec, ids
from headrace.decider import Rejection
from headrace.errors import UnprocessableError
from headrace.events.base import SYSTEM
from headrace.messages import CancelRun, Wake
from headrace.plans.model import InputField, LoopStep, PlanStep, TransformStep, WaitStep
from headrace.steering import (
    DeliverEvent,
    NoteEventReceived,
    NoteWatched,
    PauseRun,
    SignalRun,
    WatchRun,
)
from headrace.vocabulary import INLINE_BYTES_MAX, SIGNALS_KEPT_MAX
from tests.planner.family_kit import House, tells
from tests.planner.runs_kit import BOB, START, Sim, call, plan, step


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
    taken = [
        codec.loads(one.output)["data"]
        for one, _ in sim.history
        if getattr(one, "step", "") == "w" and one.type_name() == "step.succeeded"
    ]
    assert taken == ["a", "b", "c"]


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
    from headrace.decider import Context
    from tests.planner.runs_kit import ANN

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


# --- events of other runs ----------------------------------------------------------------------------------------


def other(house: House, *steps: PlanStep, number: bytes = b"9876543210", **more: Any) -> Sim:
    sim = Sim(plan(*steps, **more))
    sim.id = ids.make(ids.RUN, START, number, 5)
    sim.run = sim.room.initial(sim.id, sim.workspace)
    return house.move_in(sim)


def pair(*steps: PlanStep, body: dict[str, Any] | None = None, **more: Any) -> tuple[House, Sim, Sim]:
    """Give a run that waits for another one, which is under way."""
    house = House()
    target = other(house, *(steps or (call("work"),)), **more).create()
    waiting = Sim(plan(wait("w", of_run="{{ inputs.run }}", **(body or {})), inputs={"run": InputField()}))
    return house, house.move_in(waiting).create({"run": target.id}), target


def test_a_run_waits_for_the_end_of_another() -> None:
    house, waiting, target = pair(outputs={"n": 3})
    house.mail()
    assert waiting.row()["waiting_for"] == "event"
    assert waiting.names.count("wait.registered") == 1
    assert target.names.count("run.watched") == 1
    assert waiting.room.wake_at(waiting.run) is None
    target.report("work", 1)
    house.mail()
    assert waiting.status == "succeeded"
    output = waiting.output("w")
    assert (output["name"], output["run_id"], output["data"]["outputs"]) == ("run.succeeded", target.id, {"n": 3})
    assert target.run.finished
    assert target.names[-1] == "watch.confirmed"


def test_a_run_that_is_over_already_answers_at_once_and_remembers_nothing() -> None:
    house = House()
    target = other(house, step("t", TransformStep(value=1))).create()
    waiting = house.move_in(Sim(plan(wait("w", of_run=target.id)))).create()
    house.mail()
    assert waiting.status == "succeeded"
    assert target.names[-1] == "run.succeeded"


def test_an_event_of_another_run_ends_the_wait_when_it_fits() -> None:
    house, waiting, target = pair(
        call("a"), call("b"), body={"event": "step.succeeded", "when": "event.step == 'b' && event.output == 2"}
    )
    house.mail()
    target.report("a", 1)
    house.mail()
    assert waiting.status == "waiting"
    assert not target.run.data.watches[f"{waiting.id}:w"].pending
    target.report("b", 2)
    house.mail()
    assert waiting.status == "succeeded"
    assert waiting.output("w")["data"]["step"] == "b"
    assert not target.run.data.watches


def test_an_event_that_did_not_come_until_the_end_fails_the_step() -> None:
    house, waiting, target = pair(body={"event": "run.succeeded"})
    house.mail()
    target.fail("work")
    house.mail()
    assert waiting.status == "failed"
    assert f"run {target.id} is over (run.failed), and there was no run.succeeded" in waiting.why()
    assert target.run.finished


def test_the_end_is_told_after_all_events_before_it() -> None:
    house, waiting, target = pair(body={"event": "step.succeeded"})
    house.mail()
    target.report("work", 1)
    assert target.status == "succeeded"
    told = [command.name for command in tells(target, DeliverEvent)]
    assert told == ["step.succeeded"]
    house.mail()
    assert waiting.output("w")["name"] == "step.succeeded"


def test_what_is_lost_between_runs_is_said_again() -> None:
    house, waiting, target = pair()
    house.mail(lose=(WatchRun,))
    assert waiting.row()["busy"]
    waiting.later(2).do(Wake())
    house.mail(lose=(NoteWatched,))
    waiting.later(2).do(Wake())
    house.mail()
    assert target.names.count("run.watched") == 1
    target.report("work")
    house.mail(lose=(DeliverEvent,))
    assert not target.run.finished
    assert target.row()["busy"]
    target.later(2).do(Wake())
    house.mail(lose=(NoteEventReceived,))
    assert waiting.status == "succeeded"
    target.later(2).do(Wake())
    house.mail()
    assert target.run.finished


def test_a_new_owner_registers_again() -> None:
    house, waiting, target = pair()
    house.mail(lose=(WatchRun,))
    (again,) = waiting.room.outstanding(waiting.run, waiting.now)
    assert again.stream_id == target.id  # type: ignore[union-attr]  # a message


def test_an_unknown_run_fails_the_step_by_its_name() -> None:
    unknown = ids.make(ids.RUN, START, b"aaaaaaaaaa", 4)
    house = House()
    waiting = house.move_in(Sim(plan(wait("w", of_run=unknown)))).create()
    house.mail()
    assert waiting.status == "failed"
    assert f"step 'w' waits for run {unknown}: there is no such run" in waiting.why()


def test_a_run_of_another_workspace_is_an_unknown_one() -> None:
    house = House()
    target = other(house, call("work")).create()
    waiting = house.move_in(Sim(plan(wait("w", of_run=target.id)), workspace="elsewhere")).create()
    house.mail()
    assert "there is no such run" in waiting.why()
    assert not target.run.data.watches


def test_what_is_no_run_fails_the_step_at_once() -> None:
    for text in ("nonsense", "apr_01m000000000000000000000", ids.make(ids.RUN, START, b"aaaaaaaaaa", 200)):
        waiting = Sim(plan(wait("w", of_run=text))).create()
        assert f"{text!r}, and that is no run's id" in waiting.why()
    own = Sim(plan(wait("w", of_run="{{ run.id }}"))).create()
    assert "waits for its own run" in own.why()


def test_a_run_that_waits_no_more_is_forgotten() -> None:
    house, waiting, target = pair(body={"expires_s": 10})
    house.mail()
    waiting.later(10).do(Wake())
    assert f"10 s for the end of run {target.id}" in waiting.why()
    target.report("work")
    house.mail()
    assert target.run.finished
    assert waiting.status == "failed"


def test_events_that_nobody_confirms_are_not_kept_without_end() -> None:
    house, waiting, target = pair(
        call("m", items=list(range(1_100))), body={"event": "step.succeeded", "when": "event.step == 'x'"}
    )
    house.mail()
    for number in range(1_001):
        target.report(f"m[{number}]")
    target.told.clear()
    target.later(2).do(Wake())
    house.mail()
    assert waiting.status == "failed"
    assert "more than 1000 of its events" in waiting.why()
    assert not target.run.data.watches


def test_explain_leads_to_the_other_run() -> None:
    house, waiting, target = pair()
    house.mail()
    (reason,) = waiting.room.explain(waiting.run)
    assert reason.remedy == f"headrace runs explain {target.id}"
    assert f"the end of run {target.id}" in reason.message
