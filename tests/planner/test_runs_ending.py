"""A run that is cancelled, or undoes what it did, waits for nothing that would let it go on, and asks nobody for it."""

import pytest

from headrace.codec import raw
from headrace.messages import CancelRun, NoteApprovalReceived, OpenApproval, SupersedeApproval, Wake
from headrace.plans.model import ApprovalStep, Retry, WaitStep
from headrace.steering import PauseRun, SignalRun
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from tests.planner.runs_kit import Sim, call, plan, step
from tests.planner.test_rerun_undo import World

AGAIN = Retry(max_attempts=3, initial_s=60, jitter=0)
BESIDE = (
    step("ask", ApprovalStep()),
    step("nap", WaitStep(seconds=600.0)),
    step("word", WaitStep(signal="go", expires_s=700.0)),
)


def beside() -> Sim:
    """Give a run that waits for all sorts of things while a step is performed, with something done that can be undone."""
    undo = call("a.compensate", compensates="a", retry=AGAIN)
    sim = Sim(plan(call("a"), *BESIDE, call("x", "a"), compensations=(undo,))).create().report("a")
    assert {each["for"] for each in sim.row()["detail"]["waiting"]} == {"approval", "timer", "signal"}
    sim.told.clear()
    return sim


def told(sim: Sim) -> list[str]:
    return [type(each.command).__name__ for each in sim.told]


@pytest.mark.parametrize("how", ["undone", "cancelled"])
def test_a_run_that_comes_to_its_end_asks_nobody_for_what_would_let_it_go_on(how: str) -> None:
    sim = beside().fail("x", retryable=False) if how == "undone" else beside().do(CancelRun())
    assert (sim.status, sim.row()["detail"]["waiting"], told(sim)) == ("running", [], ["SupersedeApproval"])
    assert {each.waiting_for for each in sim.room.explain(sim.run)} <= {"cancel", "compensation", "worker"}
    signal = SignalRun(signal_id="s", name="go", data=raw(None))
    assert "nothing of the run takes a signal any more" in sim.do(signal).refused()
    if how == "cancelled":
        sim.report("x", status="cancelled")
    sim.later(701).do(Wake())
    assert sim.made() == [], "neither timers nor limits of waits count any more"
    assert sim.report("a.compensate").status == ("failed" if how == "undone" else "cancelled")


def test_an_undoing_that_waits_to_be_tried_again_waits_for_that_and_not_for_an_approval() -> None:
    sim = beside().fail("x", retryable=False).fail("a.compensate")
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "retry")
    assert sim.room.wake_at(sim.run) == min(sim.now + 60_000, sim.now + 2_000), (
        "the question is taken back again before"
    )
    sim.resolve("superseded", step="ask")
    assert sim.room.wake_at(sim.run) == sim.now + 60_000
    assert sim.later(60).do(Wake()).report("a.compensate").status == "failed"


def test_a_question_that_is_taken_back_is_so_until_that_is_known_and_is_not_asked_again() -> None:
    sim = beside().fail("x", retryable=False)
    sim.told.clear()
    sim.later(3).do(Wake())
    (tell,) = sim.told
    assert isinstance(tell.command, SupersedeApproval)
    assert "over but for what undoes its steps" in tell.command.reason
    (ask,) = sim.run.data.asks.values()
    sim.told.clear()
    sim.do(NoteApprovalReceived(approval_id=ask.approval_id))
    assert not [each for each in sim.told if isinstance(each.command, OpenApproval)]
    sim.resolve("superseded", step="ask")
    sim.told.clear()
    sim.later(3).do(Wake())
    assert sim.told == []


def test_a_pause_is_no_longer_what_a_run_waits_for_that_is_being_cancelled() -> None:
    sim = Sim(plan(call("a"), call("b"))).create().do(PauseRun()).report("a").do(CancelRun())
    assert (sim.status, sim.row()["detail"]["waiting"]) == ("running", [])


JOURNEY = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: journey}
spec:
  steps:
    - {id: house, tool: book, with: {room: h}, compensate: {tool: give_back, with: {booking: "{{ output.id }}"}, retry: {max_attempts: 3, backoff: {initial: 10m}}}}
    - {id: ask, approval: {roles: [approver], prompt: Go?}}
    - {id: train, depends_on: [house], tool: travel}
"""


@in_virtual_time
async def test_the_approval_of_a_run_that_undoes_what_it_did_can_be_given_no_more() -> None:
    world = World()
    world.stuck = True
    async with Engine(tools=world.tools) as engine:
        run = await engine.run(JOURNEY)
        await engine.pass_time("30s")
        assert (run.status, run.waiting_for) == ("waiting", "retry")
        (approval,) = await engine.log.rows("approvals", {"subject": run.id}, limit=10)
        assert approval["status"] == "superseded"
        world.stuck = False
        await engine.pass_time("11m")
        await run.until("failed")
    assert dict(world.given_back) == {"h/1": 1}
