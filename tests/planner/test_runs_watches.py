"""Runs that wait for other runs: registered there, told there what happens, and forgotten when it is over."""

from typing import Any

import pytest

from headrace import ids
from headrace.events.steering import RunWatched
from headrace.messages import CancelRun, Wake
from headrace.plans.model import InputField, PlanStep, TransformStep, WaitStep
from headrace.steering import (
    DeliverEvent,
    NoteEventReceived,
    NoteWatched,
    WatchRun,
)
from headrace.vocabulary import INLINE_BYTES_MAX
from headrace_planner.runs.watches import WATCHES_MAX
from tests.planner.family_kit import House, tells
from tests.planner.runs_kit import START, Sim, call, plan, step

DAY_MS = 86_400_000


def wait(step_id: str, *needs: str, more: dict[str, Any] | None = None, **body: Any) -> PlanStep:
    return step(step_id, WaitStep(**body), *needs, **(more or {}))


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
    assert waiting.room.wake_at(waiting.run) == waiting.now + 2_000
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
    assert waiting.why().endswith(f"step 'w' waits for run {unknown}: there is no such run")


def test_a_run_whose_month_may_have_left_the_log_is_not_said_never_to_have_been() -> None:
    house = House()
    waiting = house.move_in(
        Sim(plan(wait("w", of_run=ids.make(ids.RUN, START - 100 * DAY_MS, b"aaaaaaaaaa", 4))))
    ).create()
    house.mail()
    month = ids.month_of(ids.make(ids.RUN, START - 100 * DAY_MS, b"aaaaaaaaaa"))
    assert f"if it was one of {month // 100}-{month % 100:02}, that month may have left the log" in waiting.why()


@pytest.mark.parametrize(("kind", "away"), [("not_found", True), ("execution_error", False), ("", False)])
def test_only_of_an_unknown_run_it_is_said_that_its_month_may_have_left(kind: str, *, away: bool) -> None:
    long_ago = ids.make(ids.RUN, START - 100 * DAY_MS, b"aaaaaaaaaa", 4)
    waiting = Sim(plan(wait("w", of_run=long_ago))).create()
    waiting.do(NoteWatched(watch_id=f"{waiting.id}:w", refused="there is no such run", refused_type=kind))
    assert waiting.run.data.error is not None
    assert waiting.run.data.error.type == (kind or "not_found"), "older planners do not say"
    assert ("may have left the log" in waiting.why()) is away
    assert "there is no such run" in waiting.why()


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
    waiting = Sim(plan(wait("w", of_run="{{ null }}"))).create()
    assert "waits for the run null, and" in waiting.why()
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


def test_of_two_waits_each_hears_of_its_own_run() -> None:
    house = House()
    targets = [other(house, call("work"), number=bytes([65 + n]) * 10).create() for n in range(2)]
    both = plan(wait("v", of_run=targets[0].id), wait("w", of_run=targets[1].id))
    waiting = house.move_in(Sim(both)).create()
    house.mail()
    targets[1].report("work", 1)
    house.mail()
    assert [waiting.step_status(one) for one in "vw"] == ["waiting", "succeeded"]
    assert waiting.output("w")["run_id"] == targets[1].id


def test_what_comes_again_or_belongs_to_no_wait_is_nothing() -> None:
    house, waiting, _ = pair()
    house.mail()
    for strange in (f"{waiting.id}:w", f"{waiting.id}:other"):
        waiting.do(NoteWatched(watch_id=strange))
        assert waiting.made() == []
    ended = DeliverEvent(
        source="run", name="run.succeeded", event_id="e", at=1, watch_id=f"{waiting.id}:other", over=True
    )
    waiting.do(ended)
    assert waiting.made() == []
    waiting.do(CancelRun())
    for late in (ended, NoteWatched(watch_id=f"{waiting.id}:w", refused="no")):
        waiting.do(late)
        assert waiting.made() == []
    assert waiting.status == "cancelled"


def test_a_run_keeps_so_many_waits_and_tells_its_end_to_everybody() -> None:
    target = Sim(plan(call("work"))).create()

    def by(number: int) -> str:
        return ids.make(ids.RUN, START, number.to_bytes(8, "big") + b"..", 4)

    def asked(number: int) -> list[Any]:
        who = by(number)
        target.told.clear()
        target.do(WatchRun(watch_id=f"{who}:w", by_run=who, workspace="default"))
        return tells(target, NoteWatched, who) + tells(target, DeliverEvent, who)

    for number in range(WATCHES_MAX - 1):
        event = RunWatched(watch_id=f"{by(number)}:w", by_run=by(number), name="")
        target.run = target.room.evolve(target.run, event, target.now)
        target.history.append((event, target.now))
    assert [told.refused for told in asked(WATCHES_MAX - 1)] == [""]
    (refused,) = asked(WATCHES_MAX)
    assert f"{WATCHES_MAX} waits are on record" in refused.refused
    assert [told.refused for told in asked(0)] == [""], "that one is on record"
    target.report("work", 1)
    (told,) = asked(WATCHES_MAX)
    assert (told.name, told.over) == ("run.succeeded", True), "one that is over keeps nothing of whom it tells"


@pytest.mark.parametrize("event", ["step.succeeded", None])
def test_what_is_large_is_not_told_and_that_it_was_left_out_is_said(event: str | None) -> None:
    large = {"text": "x" * INLINE_BYTES_MAX}
    house, waiting, target = pair(outputs={"all": "{{ steps.work.output }}"}, body={"event": event} if event else {})
    house.mail()
    target.report("work", {"text": large["text"][: INLINE_BYTES_MAX - 100]})
    house.mail()
    told = waiting.output("w")["data"]
    assert (told["truncated"], told["run_id"]) == (True, target.id)
    assert not {"output", "outputs"} & told.keys()


def test_explain_leads_to_the_other_run() -> None:
    house, waiting, target = pair()
    house.mail()
    (reason,) = waiting.room.explain(waiting.run)
    assert reason.remedy == f"headrace runs explain {target.id}"
    assert f"the end of run {target.id}" in reason.message
