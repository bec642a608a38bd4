"""Cancel, pause and resume at every moment of a run's life: nothing new begins, what was held back goes on, and all ends."""

from collections.abc import Callable

import pytest

from headrace import codec, ids
from headrace.messages import CancelRun, StartRun, Wake
from headrace.plans.model import ApprovalStep, LoopStep, Plan, Retry, ToolPin, WaitStep
from headrace.steering import DropAttempt, PauseRun, ResumeRun, SettleOutcome
from headrace.vocabulary import CANCEL_GRACE_S
from tests.planner.runs_kit import Sim, call, plan, step

RETRY = Retry(max_attempts=9, initial_s=10, factor=1, jitter=0)
ACTS = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)


def queued_without_a_worker() -> Sim:
    return Sim(plan(call("a"), call("b", "a"))).create(workers_active=False)


def before_its_start() -> Sim:
    return Sim(plan(call("a"), automation="human_approval")).create()


def under_way() -> Sim:
    return Sim(plan(call("a"), call("b", "a"))).create()


def waiting_for_approval() -> Sim:
    return Sim(plan(step("ok", ApprovalStep()), call("b", "ok"))).create()


def waiting_for_the_runs_approval() -> Sim:
    return Sim(plan(call("a"), call("w", "a", tool="write"))).create().report("a")


def waiting_for_a_confirmation() -> Sim:
    return Sim(plan(call("a", confirm=True))).create()


def waiting_for_a_retry() -> Sim:
    return Sim(plan(call("a", retry=RETRY))).create().fail("a")


def waiting_for_a_timer() -> Sim:
    return Sim(plan(step("t", WaitStep(seconds=60.0)), call("b", "t"))).create()


def in_a_map() -> Sim:
    items = list(range(6))
    return (
        Sim(plan(call("m", items=items, concurrency=3, retry=RETRY), call("b", "m")))
        .create()
        .report("m[0]")
        .fail("m[1]")
    )


def in_a_loop() -> Sim:
    loop = step("l", LoopStep(condition="iteration < 2", body=("i", "t")))
    body = (call("i", parent="l"), step("t", WaitStep(seconds=5.0), "i", parent="l"))
    return Sim(plan(loop, *body, call("b", "l"))).create().report("i")


def with_an_unknown_outcome() -> Sim:
    the_plan = Plan(name="d", kind="Workflow", steps=(call("w", tool="w"),), tools={"w": ACTS})
    return Sim(the_plan).create().claim("w").lose("w")


def while_acting() -> Sim:
    the_plan = Plan(name="d", kind="Workflow", steps=(call("w", tool="w"),), tools={"w": ACTS})
    return Sim(the_plan).create().claim("w")


Moment = Callable[[], Sim]
MOMENTS = [
    queued_without_a_worker,
    before_its_start,
    under_way,
    waiting_for_approval,
    waiting_for_the_runs_approval,
    waiting_for_a_confirmation,
    waiting_for_a_retry,
    waiting_for_a_timer,
    in_a_map,
    in_a_loop,
    with_an_unknown_outcome,
    while_acting,
]
every_moment = pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)


def out(sim: Sim) -> set[str]:
    """Name what is with the workers now."""
    open_ones = [(instance, sim.run.trial(instance)) for instance in sim.run.under_way()]
    return {ids.instance(*instance) for instance, trial in open_ones if trial and not trial.idle}


def finish(sim: Sim) -> Sim:
    """Do whatever the run waits for, until it is over."""
    for _ in range(60):
        if sim.run.final:
            return sim
        if not sim.run.data.begun:
            sim.do(StartRun())
        for ask in [each for each in sim.run.data.asks.values() if each.status == "pending"]:
            sim.resolve(step=ask.step)
        for instance in sim.run.under_way():
            trial = sim.run.trial(instance)
            if trial is not None and trial.unknown is not None:
                sim.do(SettleOutcome(step=instance[0], index=instance[1], answer="happened"))
        for name in sorted(out(sim)):
            order = sim.orders[name]
            if order.effect != "read" and sim.run.trial((order.step, order.index)).nonce is None:  # type: ignore[union-attr]  # it is out
                sim.claim(name, nonce=f"n-{name}-{order.attempt}")
            sim.report(name, {})
        sim.later(60).do(Wake())
    return sim


@every_moment
def test_a_run_that_is_left_alone_ends_well(moment: Moment) -> None:
    assert finish(moment()).status == "succeeded"


@every_moment
def test_a_cancel_ends_the_run_and_stops_what_is_out_row_10(moment: Moment) -> None:
    sim = moment()
    before, dispatched = out(sim), len(sim.dispatched)
    sim.do(CancelRun(reason="enough"))
    assert {each.interrupt.attempt_id for each in sim.stopped} >= {sim.orders[name].attempt_id for name in before}
    if before:
        assert sim.row()["cancel_requested"] is True
        sim.later(CANCEL_GRACE_S).do(Wake())
    assert (sim.status, sim.why()) == ("cancelled", "enough")
    assert len(sim.dispatched) == dispatched, "nothing new began"
    assert sim.do(CancelRun()).made() == []
    for name in before:
        assert sim.report(name, "late").made() == ["attempt.late"]
        assert sim.report(name, "late").made() == []
    assert sim.status == "cancelled"


@every_moment
def test_a_cancelled_run_is_not_cancelled_twice_and_nothing_else_steers_it_row_86(moment: Moment) -> None:
    sim = moment().do(CancelRun()).later(CANCEL_GRACE_S).do(Wake())
    assert "cannot be paused: it is cancelled" in sim.do(PauseRun()).refused()
    assert "is over: cancelled" in sim.do(ResumeRun()).refused()
    assert "is over: cancelled" in sim.do(StartRun()).refused()


@every_moment
def test_what_nobody_holds_is_cancelled_without_waiting(moment: Moment) -> None:
    sim = moment()
    free = {name for name in out(sim) if sim.run.trial(_of(sim, name)).nonce is None}  # type: ignore[union-attr]  # it is out
    claimed = out(sim) - free
    sim.do(CancelRun())
    assert all(each.confirm for each in sim.stopped) or not out(sim)
    for name in sorted(free):
        order = sim.orders[name]
        sim.do(DropAttempt(step=order.step, attempt=order.attempt, attempt_id=order.attempt_id, index=order.index))
    assert sim.status == ("running" if claimed else "cancelled")


def _of(sim: Sim, name: str) -> tuple[str, int | None]:
    return sim.orders[name].step, sim.orders[name].index


@every_moment
def test_a_pause_lets_end_what_is_out_begins_nothing_and_a_resume_goes_on(moment: Moment) -> None:
    sim = moment().do(PauseRun(reason="a look"))
    dispatched = len(sim.dispatched)
    assert sim.do(PauseRun()).made() == []
    for name in sorted(out(sim)):
        if sim.orders[name].effect != "read" and sim.run.trial(_of(sim, name)).nonce is None:  # type: ignore[union-attr]  # it is out
            sim.claim(name, nonce=f"n-{name}")
        sim.report(name, {})
    for ask in [each for each in sim.run.data.asks.values() if each.status == "pending"]:
        sim.resolve(step=ask.step)
    sim.later(600).do(Wake())
    if not sim.run.final:
        assert len(sim.dispatched) == dispatched, "nothing began while it was paused"
        if sim.run.data.begun:
            assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "resume")
        sim.do(ResumeRun())
        assert sim.do(ResumeRun()).made() == []
    assert finish(sim).status == "succeeded"


@every_moment
def test_a_pause_that_ends_at_once_leaves_everything_as_it_was(moment: Moment) -> None:
    before, after = moment().row(), moment().do(PauseRun()).do(ResumeRun()).row()
    assert [after[name] for name in ("status", "waiting_for")] == [before[name] for name in ("status", "waiting_for")]
    assert after["detail"]["waiting"] == before["detail"]["waiting"]


def test_a_run_that_is_being_cancelled_is_not_paused_any_more() -> None:
    assert "cannot be paused: it is being cancelled" in under_way().do(CancelRun()).do(PauseRun()).refused()


def test_a_map_that_failed_while_its_run_went_on_does_not_begin_again_with_the_end_of_a_pause() -> None:
    sim = Sim(plan(call("m", items=[1, 2, 3], concurrency=1, on_error="continue"), call("b", "m"))).create()
    sim.fail("m[0]")
    assert (sim.step_status("m"), "m[1]" in sim.orders, sim.stopped) == ("failed", False, [])
    sim.do(PauseRun()).do(ResumeRun())
    assert "m[1]" not in sim.orders
    assert sim.report("b").status == "succeeded"


def test_an_approval_that_crosses_the_end_of_the_run_changes_nothing_of_it() -> None:
    sim = waiting_for_a_confirmation().do(CancelRun())
    assert sim.resolve().made() == ["approval.resolved"]
    assert (sim.status, sim.step_status("a")) == ("cancelled", "cancelled")


@every_moment
def test_a_paused_run_can_be_cancelled(moment: Moment) -> None:
    sim = moment().do(PauseRun()).do(CancelRun(reason="no more")).later(CANCEL_GRACE_S).do(Wake())
    assert (sim.status, sim.why()) == ("cancelled", "no more")


@every_moment
def test_a_start_of_what_has_begun_changes_nothing(moment: Moment) -> None:
    sim = moment()
    begun = sim.run.data.begun
    assert sim.do(StartRun()).made()[:1] == ([] if begun else ["run.started"])
    assert codec.loads(sim.run.queued.inputs) == {}
