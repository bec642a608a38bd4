"""Features of a run that meet: pausing, undoing, rerunning, loops, children, keys, workers that leave; hostile words."""

from typing import Any

import msgspec
import pytest

from headrace import codec, ids
from headrace.decider import Rejection
from headrace.errors import ConflictError
from headrace.events.base import ErrorInfo, RateLimit
from headrace.events.runs import Parent
from headrace.events.steering import ChildStarted
from headrace.messages import CancelRun, LoseAttempt, Wake
from headrace.plans.model import (
    CallStep,
    Concurrency,
    ConditionStep,
    LoopStep,
    PlanStep,
    Retry,
    SubWorkflowStep,
    WorkflowPin,
)
from headrace.steering import (
    GrantPermit,
    NoteChildStarted,
    NotePermitQueued,
    PauseRun,
    RefusePermit,
    RequestPermit,
    SettleOutcome,
)
from headrace.vocabulary import CANCEL_GRACE_S, HANDED_BACK_AT_ONCE_MAX, HANDED_BACK_MAX, LOST_ATTEMPTS_MAX
from headrace_planner.runs.results import delay_s
from tests.planner.runs_kit import PINS, READ, WRITE, Sim, call, plan, step
from tests.planner.test_runs_rerun import again

LIMITED = msgspec.structs.replace(READ, rate_limit=RateLimit(limit=1, period_s=60))
PLAIN_WRITE = msgspec.structs.replace(WRITE, access="auto")
IDEMPOTENT = msgspec.structs.replace(PLAIN_WRITE, idempotent=True)
TOOLS = {**PINS, "limited": LIMITED, "plain_write": PLAIN_WRITE, "idempotent": IDEMPOTENT}


def undoing(step_id: str, tool: str = "read", *, arguments: dict[str, Any] | None = None, **more: Any) -> PlanStep:
    body = CallStep(tool=tool, arguments=arguments or {})
    return PlanStep(id=f"{step_id}.compensate", kind="tool", body=body, compensates=step_id, **more)


def made(*steps: PlanStep, **more: Any) -> Sim:
    return Sim(msgspec.structs.replace(plan(*steps, **more), tools=TOOLS))


def grant(sim: Sim) -> Sim:
    tell = next(tell for tell in reversed(sim.told) if isinstance(tell.command, RequestPermit))
    assert isinstance(tell.command, RequestPermit)
    return sim.do(GrantPermit(permit_id=tell.command.permit_id, count=1, flow_id=tell.stream_id))


# --- pausing and undoing -----------------------------------------------------------------------------------------


def test_a_paused_run_that_is_cancelled_undoes_under_a_rate_limit() -> None:
    sim = made(call("a"), call("b", "a"), compensations=(undoing("a", "limited"),)).create().report("a")
    sim.do(PauseRun()).do(CancelRun()).report("b", status="cancelled")
    grant(sim)
    assert "a.compensate" in sim.orders
    assert sim.names.count("permit.requested") == 1
    assert sim.report("a.compensate").status == "cancelled"


def test_what_undoes_a_step_of_a_paused_run_is_tried_again_without_a_resume() -> None:
    again = undoing("a", retry=Retry(max_attempts=2, initial_s=5.0, jitter=0.0))
    sim = made(call("a"), call("b", "a"), compensations=(again,)).create().report("a")
    sim.do(PauseRun()).do(CancelRun()).report("b", status="cancelled").fail("a.compensate")
    assert sim.room.wake_at(sim.run) == sim.now + 5_000
    assert sim.row()["waiting_for"] == "retry"
    assert sim.later(5).do(Wake()).report("a.compensate").status == "cancelled"


def test_a_run_that_is_being_undone_cannot_be_paused() -> None:
    sim = made(call("a"), call("b", "a"), compensations=(undoing("a"),)).create().report("a").fail("b")
    assert sim.do(PauseRun()).refused() == "the run cannot be paused: it is over but for what undoes its steps"


def test_a_step_that_was_stopped_for_the_undoing_does_not_fail_for_being_late() -> None:
    late = call("late", step_timeout_s=20.0, retry=Retry(max_attempts=2, initial_s=60.0))
    sim = made(call("a"), late, call("b", "a"), compensations=(undoing("a"),)).create().report("a")
    sim.fail("late").fail("b").later(25).do(Wake())
    assert sim.step_status("late") == "waiting"
    sim.report("a.compensate")
    assert (sim.status, sim.step_status("late")) == ("failed", "cancelled")


def test_a_rate_limit_that_refuses_does_not_end_a_run_that_is_being_undone() -> None:
    sim = made(call("a"), call("b", "a"), compensations=(undoing("a", "limited"),)).create().report("a").fail("b")
    (permit_id,) = sim.run.data.permits
    assert sim.do(RefusePermit(permit_id=permit_id)).made() == []
    assert grant(sim).report("a.compensate").status == "failed"


def _acting() -> Sim:
    """A run that is cancelled while a write acts that can be undone, and whose worker says nothing."""
    sim = made(call("a", tool="plain_write"), compensations=(undoing("a"),)).create().claim("a").do(CancelRun())
    sim.later(CANCEL_GRACE_S).do(Wake()).later(CANCEL_GRACE_S).do(Wake())
    assert sim.names[-1] == "outcome.lost"
    assert sim.row()["waiting_for"] == "input"
    return sim


def test_a_write_that_did_not_stop_in_time_is_undone_when_its_worker_says_that_it_happened() -> None:
    assert _acting().report("a", "done").report("a.compensate").status == "cancelled"


def test_a_write_that_did_not_stop_in_time_is_not_undone_when_a_person_says_that_it_did_not_happen() -> None:
    sim = _acting().do(SettleOutcome(step="a", answer="not_happened"))
    assert sim.status == "cancelled"
    assert "a.compensate" not in sim.orders


def test_a_lost_write_of_a_cancelled_run_that_could_be_repeated_is_for_a_person_to_judge_if_it_can_be_undone() -> None:
    sim = made(call("a", tool="idempotent"), compensations=(undoing("a"),)).create().claim("a").do(CancelRun())
    assert sim.lose("a").made() == ["outcome.lost", "compensation.started"]
    sim.do(SettleOutcome(step="a", answer="happened"))
    assert sim.report("a.compensate").status == "cancelled"


# --- permissions -------------------------------------------------------------------------------------------------


def test_what_undoes_a_step_that_a_person_confirmed_may_act() -> None:
    sim = made(
        call("charge", tool="write", confirm=True), call("ship", "charge"), compensations=(undoing("charge", "write"),)
    )
    sim.create().resolve().claim("charge").report("charge").fail("ship")
    assert sim.claim("charge.compensate").made() == ["write.claimed"]
    assert sim.report("charge.compensate").status == "failed"


def test_who_approves_a_run_is_shown_what_would_undo_it() -> None:
    sim = made(call("a"), compensations=(undoing("a", "write"),)).create()
    (ask,) = sim.run.data.asks.values()
    shown = codec.loads(ask.shown)
    assert [tool["step"] for tool in shown["tools"]] == ["a", "a.compensate"]
    sure = made(call("a", tool="write", confirm=True), compensations=(undoing("a", "plain_write"),)).create()
    (asked,) = sure.run.data.asks.values()
    assert codec.loads(asked.shown)["undone_by"] == "plain_write"


# --- running again -----------------------------------------------------------------------------------------------


def _branched() -> Sim:
    """A run whose condition left `other` out, which also needs `late`; `late` failed."""
    choice = step("choice", ConditionStep(expression="true", then=("chosen",), otherwise=("other",)))
    sim = made(choice, call("chosen", "choice"), call("late", "chosen"), call("other", "choice", "late"))
    return sim.create().report("chosen").fail("late")


def test_a_rerun_begins_nothing_that_a_condition_which_stands_did_not_choose() -> None:
    new = again(_branched(), "late")
    assert new.step_status("other") == "skipped"
    assert new.report("late").status == "succeeded"
    assert list(new.orders) == ["late"]


def test_a_rerun_from_a_step_that_was_not_chosen_is_refused() -> None:
    with pytest.raises(ConflictError, match="the condition 'choice' chose the other branch, not 'other': run again"):
        again(_branched(), "other")


def test_a_rerun_that_stands_in_line_shows_the_steps_that_its_key_lets_begin() -> None:
    key = Concurrency(key="one")
    sim = made(call("a"), call("b", "a"), call("c", "b"), concurrency=key).create()
    new = again(grant(sim).report("a").report("b").fail("c"), "c", workers_active=False)
    assert grant(new).row("steps", step="c")["status"] == "queued"
    assert "c" in _written(new)


# --- workers -----------------------------------------------------------------------------------------------------


def test_an_attempt_that_leaving_workers_hand_back_is_never_counted_as_lost() -> None:
    sim = made(call("a", retry=Retry(max_attempts=2, initial_s=1.0, jitter=0.0))).create()
    for _ in range(2 * LOST_ATTEMPTS_MAX):
        sim.report("a", status="cancelled", error=ErrorInfo(type="worker_lost", message="handed back"))
        assert sim.made() == ["attempt.failed"]
        sim.later(60).do(Wake())
    attempts = sim.row("steps", step="a")["detail"]["attempts"]
    assert {each["status"] for each in attempts} == {"cancelled"}
    sim.fail("a")
    assert sim.made() == ["attempt.failed"], "what was handed back is none of the tries that the step may have"
    assert sim.room.wake_at(sim.run) == sim.now + 1_000
    assert sim.later(1).do(Wake()).fail("a").status == "failed"


def _handed_back(sim: Sim) -> None:
    """Let a worker leave, and time pass until the next attempt is out."""
    sim.report("a", status="cancelled")
    while sim.orders["a"].attempt_id in {each.attempt_id for each in sim.run.peek("a").tried}:
        at = sim.room.wake_at(sim.run)
        assert at is not None
        sim.later((at - sim.now) / 1000).do(Wake())


def test_an_attempt_that_is_handed_back_again_and_again_waits_ever_longer_and_says_so() -> None:
    sim = made(call("a")).create()
    waits = []
    for _ in range(HANDED_BACK_AT_ONCE_MAX + 9):
        first = sim.now
        _handed_back(sim)
        waits.append((sim.now - first) // 1000)
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    (out,) = sim.room.explain(sim.run)
    assert out.message == "a, handed back 12 times of at most 100: handed to pool 'runner', not yet reported."
    assert out.step == "a"
    sim.report("a", status="cancelled")
    (waiting,) = sim.room.explain(sim.run)
    assert waiting.message == "a waits to be tried again (attempt 14, handed back 13 times of at most 100)."
    assert sim.row()["waiting_for"] == "retry"
    assert sim.row()["detail"]["waiting"][0]["message"] == "attempt 14, handed back 13 times of at most 100"
    assert sim.row("steps", step="a")["detail"]["attempts"][-1]["status"] == "cancelled"
    assert sim.later(60).do(Wake()).report("a").status == "succeeded"


def test_an_attempt_that_no_worker_stays_for_fails_in_the_end_and_says_so() -> None:
    sim = made(call("a")).create()
    for times in range(1, HANDED_BACK_MAX):
        _handed_back(sim)
        assert sim.status != "failed", times
    assert sim.report("a", status="cancelled").status == "failed"
    assert sim.why() == "step 'a' failed: a was handed back 100 times: no worker stayed until it was done"
    assert sim.run.data.error is not None
    assert (sim.run.data.error.type, sim.run.data.error.details["handed_back"]) == ("worker_lost", HANDED_BACK_MAX)


def test_lost_workers_are_counted_across_what_was_handed_back() -> None:
    sim = made(call("a")).create()
    for _ in range(LOST_ATTEMPTS_MAX - 1):
        sim.lose("a").report("a", status="cancelled")
    assert sim.status == "running"
    assert sim.lose("a").status == "failed"
    assert sim.run.data.error is not None
    assert sim.run.data.error.type == "worker_lost"


def test_a_hand_back_that_is_told_again_is_on_record_already() -> None:
    sim = made(call("a")).create()
    first = sim.orders["a"]
    sim.report("a", status="cancelled")
    sim.orders["a"] = first
    assert sim.report("a", status="cancelled").made() == []


def test_a_write_that_was_claimed_and_handed_back_is_for_a_person_to_judge() -> None:
    sim = made(call("a", tool="plain_write")).create().claim("a").report("a", status="cancelled")
    assert sim.made() == ["outcome.lost"]


def test_the_delay_before_a_try_that_follows_hundreds_of_others_is_the_longest() -> None:
    retry = Retry(max_attempts=100, initial_s=1.0, factor=100.0, max_s=60.0, jitter=0.0)
    sim = made(call("a", retry=retry)).create()
    assert delay_s(sim.run, ("a", None), 2_000, None) == 60.0


# --- loops -------------------------------------------------------------------------------------------------------


def _loop(body: tuple[str, ...], rounds: int = 2) -> PlanStep:
    return step("loop", LoopStep(condition=f"iteration < {rounds}", body=body))


def test_what_is_found_about_an_attempt_of_an_earlier_round_changes_nothing_in_this_one() -> None:
    sim = made(_loop(("a",)), call("a", parent="loop")).create()
    first = sim.orders["a"]
    sim.report("a")
    sim.do(LoseAttempt(step="a", attempt=1, attempt_id=first.attempt_id, worker="wrk_1"))
    assert sim.made() == []
    assert sim.orders["a"].attempt == 1
    assert sim.report("a").status == "succeeded"


def test_what_undoes_the_items_of_a_loops_map_is_given_each_rounds_own_items() -> None:
    items = "{{ iteration == 1 ? ['x', 'y'] : ['z'] }}"
    undo = undoing("m", arguments={"item": "{{ item }}", "index": "{{ index }}", "round": "{{ iteration }}"})
    sim = made(
        _loop(("m",)), call("m", parent="loop", items=items), call("last", "loop"), compensations=(undo,)
    ).create()
    sim.report("m[0]").report("m[1]").report("m[0]").fail("last")
    given = []
    for number in (2, 1, 0):
        given.append(codec.loads(sim.orders[f"m.compensate[{number}]"].arguments))
        sim.report(f"m.compensate[{number}]")
    assert [(each["item"], each["index"], each["round"]) for each in given] == [("z", 0, 2), ("y", 1, 1), ("x", 0, 1)]
    assert sim.status == "failed"


# --- children ----------------------------------------------------------------------------------------------------

ABOVE = ids.make(ids.RUN, 0, b"above", 1)
PARENT = ids.make(ids.RUN, 0, b"parent", 1)


def test_a_child_does_not_wait_for_a_key_that_runs_hold_which_wait_for_it() -> None:
    parent = Parent(run_id=PARENT, step="s", depth=2, above=(ABOVE,))
    sim = made(call("a"), concurrency=Concurrency(key="one", limit=2)).create(parent=parent)
    (permit_id,) = sim.run.data.permits
    sim.do(NotePermitQueued(permit_id=permit_id, held_by=(ABOVE, PARENT)))
    assert sim.status == "failed"
    assert "the runs that it is a child of, which wait for it" in sim.why()


def test_a_child_waits_for_a_key_that_another_run_holds_too() -> None:
    other = ids.make(ids.RUN, 0, b"other", 1)
    sim = made(call("a"), concurrency=Concurrency(key="one", limit=2)).create(parent=Parent(run_id=PARENT, step="s"))
    (permit_id,) = sim.run.data.permits
    assert sim.do(NotePermitQueued(permit_id=permit_id, held_by=(PARENT, other))).status == "queued"


def test_the_first_word_of_a_child_of_an_earlier_round_keeps_its_own_round() -> None:
    pins = {"w": WorkflowPin(version=1, digest="sha256:w")}
    sub = step("s", SubWorkflowStep(workflow="w"), parent="loop", step_timeout_s=5.0, on_error="continue")
    sim = made(_loop(("s",)), sub, workflows=pins).create()
    (first,) = sim.run.data.children
    sim.later(5).do(Wake())
    sim.do(NoteChildStarted(child_id=first, step="s"))
    (started,) = [event for event, _ in sim.history if isinstance(event, ChildStarted)]
    assert started.iteration == 1


# --- long runs ---------------------------------------------------------------------------------------------------


def _written(sim: Sim) -> set[str]:
    """Name the steps whose rows the newest command wrote."""
    assert not isinstance(sim.last, Rejection)
    return {row.columns["step"] for row in sim.room.rows(sim.run, sim.last) if row.table == "steps"}


def test_undoing_one_item_of_a_map_does_not_write_the_whole_map_again() -> None:
    sim = made(call("m", items=[1, 2, 3]), call("last", "m"), compensations=(undoing("m"),)).create()
    sim.report("m[0]").report("m[1]").report("m[2]").fail("last").report("m.compensate[2]")
    assert _written(sim) == {"m.compensate"}


def test_a_round_of_a_loop_writes_the_rows_of_its_own_body_alone() -> None:
    loop = step("loop", LoopStep(condition="iteration < 3", body=("a",)), "before")
    sim = made(call("before"), loop, call("a", parent="loop"), call("aside", "before")).create()
    sim.report("before").report("a")
    assert "loop.iterated" in sim.made()
    assert _written(sim) == {"loop", "a"}


def test_a_word_that_comes_after_the_end_writes_no_row_of_a_step() -> None:
    sim = made(call("a"), call("b"), call("c")).create().fail("a").report("b")
    assert sim.made() == ["attempt.late"]
    assert _written(sim) == set()
