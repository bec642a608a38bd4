"""Children whose parent ends before them: they are stopped, also those of which nobody knows whether they are there."""

import msgspec

from headrace.decider import Rejection
from headrace.events.base import SYSTEM
from headrace.events.runs import StepFailed
from headrace.messages import CancelRun, CreateRun, Wake
from headrace.steering import HoldChild, NoteChildHeld, NoteChildStarted, PauseRun, ResumeRun
from headrace.vocabulary import CANCEL_GRACE_S
from tests.planner.family_kit import House, sub, tells
from tests.planner.runs_kit import ANN, Sim, call, plan
from tests.planner.test_runs_children import ended, family, the_child


def test_a_cancel_reaches_the_child_and_the_parent_ends_when_it_has() -> None:
    house, parent = family(sub("s"))
    parent.create()
    house.mail()
    parent.do(CancelRun(reason="enough"))
    assert parent.names[-1] == "run.cancel_requested"
    house.mail()
    child = the_child(house, parent)
    assert child.stopped
    assert (child.status, parent.status) == ("running", "waiting")
    child.report("work", status="cancelled")
    house.mail()
    assert (child.status, parent.status) == ("cancelled", "cancelled")
    assert "ann cancelled its parent run" in child.why()
    assert ended(parent, StepFailed).status == "cancelled"
    assert child.run.finished
    assert parent.run.finished


def test_a_child_that_does_not_end_keeps_its_parent_no_longer_than_the_grace() -> None:
    house, parent = family(sub("s"))
    parent.create()
    house.mail()
    parent.do(CancelRun())
    house.mail()
    parent.later(CANCEL_GRACE_S).do(Wake())
    assert parent.status == "cancelled"
    assert not parent.run.finished
    assert parent.row()["busy"]
    house.mail()
    child = the_child(house, parent).report("work", status="cancelled")
    house.mail()
    assert parent.names[-1] == "attempt.late"
    assert (child.run.finished, parent.run.finished) == (True, True)


def test_a_child_that_was_never_made_is_cancelled_before_it_begins() -> None:
    house, parent = family(sub("s"))
    parent.create()
    (late,) = tells(parent, CreateRun)
    house.mail(lose=(CreateRun,))
    parent.do(CancelRun())
    house.mail()
    child = the_child(house, parent)
    assert (child.names[:2], child.status, parent.status) == (["run.queued", "run.cancelled"], "cancelled", "cancelled")
    assert not child.dispatched
    child.do(late, by=SYSTEM)
    assert (child.made(), child.dispatched) == ([], [])
    house.mail()
    assert parent.run.finished


def test_a_child_that_began_although_the_word_of_it_was_lost_is_cancelled_by_the_second_word() -> None:
    house, parent = family(sub("s"))
    parent.create()
    house.mail(lose=(NoteChildStarted,))
    child = the_child(house, parent)
    parent.do(CancelRun())
    house.mail()
    assert child.run.data.cancel is not None
    child.report("work", status="cancelled")
    house.mail()
    assert parent.status == "cancelled"


def test_the_failure_of_another_step_stops_the_children() -> None:
    house, parent = family(sub("s"), call("other"))
    parent.create()
    house.mail()
    parent.fail("other")
    assert parent.status == "failed"
    assert not parent.run.finished
    house.mail()
    child = the_child(house, parent)
    assert child.stopped
    child.report("work", status="cancelled")
    house.mail()
    assert parent.run.finished


def test_a_step_over_its_time_stops_its_child() -> None:
    house, parent = family(sub("s", step_timeout_s=30))
    parent.create()
    house.mail()
    parent.later(30).do(Wake())
    assert parent.status == "failed"
    assert "step timeout" in parent.why()
    house.mail()
    assert the_child(house, parent).stopped


def test_the_runs_own_clock_rests_while_it_only_waits_for_children() -> None:
    house, parent = family(sub("s"), timeout_s=10)
    parent.create()
    house.mail()
    parent.later(3_600).do(Wake())
    the_child(house, parent).report("work", 1)
    house.mail()
    assert parent.status == "succeeded"


TWO = plan(call("work"), call("next", "work"))


def rests(sim: Sim) -> bool:
    return sim.run.data.paused is not None


def paused_family() -> tuple[House, Sim, Sim]:
    house, parent = family(sub("s"), call("after", "s"), kid=TWO)
    parent.create()
    house.mail()
    parent.do(PauseRun(reason="lunch"))
    return house, parent, the_child(house, parent)


def test_pausing_a_parent_pauses_its_children_and_resuming_it_lets_them_go_on() -> None:
    house, parent, child = paused_family()
    house.mail()
    assert parent.names[-1] == "child.held"
    (reason,) = [each for each in child.room.explain(child.run) if each.waiting_for == "resume"]
    assert reason.message == f"Paused by parent {parent.id}, which ann paused (lunch): nothing new begins."
    assert reason.remedy == f"headrace runs resume {parent.id}"
    assert child.row()["detail"]["waiting"][0]["parent_id"] == parent.id
    child.report("work", 1)
    assert "next" not in child.orders
    assert f"paused with its parent {parent.id}" in child.do(ResumeRun()).refused()
    parent.do(ResumeRun())
    house.mail()
    assert (rests(child), "next" in child.orders) == (False, True)
    child.report("next", 2)
    house.mail()
    assert "after" in parent.orders
    assert parent.room.wake_at(parent.run) is not None


def test_a_child_that_was_paused_by_itself_stays_so_when_its_parent_goes_on() -> None:
    for first in (True, False):
        house, parent, child = paused_family()
        if first:
            child.do(PauseRun())
            house.mail()
        else:
            house.mail()
            child.do(PauseRun())
        parent.do(ResumeRun())
        house.mail()
        child.report("work", 1)
        assert child.run.data.paused is not None
        assert child.run.data.paused.parent_id is None
        assert "next" not in child.orders
        child.do(ResumeRun())
        assert "next" in child.orders


def test_a_child_whose_own_pause_ends_still_rests_with_its_parent() -> None:
    house, parent, child = paused_family()
    house.mail()
    child.do(PauseRun()).do(ResumeRun())
    child.report("work", 1)
    assert "next" not in child.orders
    parent.do(ResumeRun())
    house.mail()
    assert "next" in child.orders


def test_a_word_between_parent_and_child_that_is_lost_is_said_again_until_it_is_confirmed() -> None:
    house, parent, child = paused_family()
    house.mail(lose=(HoldChild,))
    assert (rests(child), parent.row()["busy"]) == (False, True)
    assert parent.room.wake_at(parent.run) is not None
    parent.later(3).do(Wake())
    house.mail(lose=(NoteChildHeld,))
    assert rests(child)
    parent.later(3).do(Wake())
    house.mail()
    assert (parent.names[-1], parent.room.wake_at(parent.run)) == ("child.held", None)
    parent.do(ResumeRun())
    house.mail(lose=(HoldChild, NoteChildHeld))
    parent.later(3).do(Wake())
    house.mail()
    assert (rests(child), parent.room.wake_at(parent.run)) == (False, None)


def test_a_child_whose_word_of_its_rest_is_lost_goes_on_with_its_parent_all_the_same() -> None:
    house, parent, child = paused_family()
    house.mail(lose=(NoteChildHeld,))
    assert rests(child)
    parent.do(ResumeRun())
    house.mail()
    assert (rests(child), parent.room.wake_at(parent.run)) == (False, None)
    parent.do(PauseRun())
    house.mail()
    assert rests(child)


def test_a_late_word_of_an_earlier_pause_changes_nothing() -> None:
    house, parent, child = paused_family()
    (held,) = tells(parent, HoldChild)
    house.mail()
    (confirmed,) = [event for event, _ in parent.history if event.type_name() == "child.held"]
    assert confirmed.held  # type: ignore[union-attr]  # the name says which event it is
    parent.do(ResumeRun())
    house.mail()
    assert child.do(held, by=SYSTEM).made() == []
    assert not rests(child)
    resumed = [event for event, _ in child.history if event.type_name() == "run.resumed"]
    assert [event.by for event in resumed] == [ANN]  # type: ignore[union-attr]  # the name says which event it is
    parent.do(PauseRun())
    old = NoteChildHeld(child_id=child.id, held=True, turn=held.turn)
    assert parent.do(old, by=SYSTEM).made() == [], "it confirms a pause that is over"
    (again,) = tells(parent, HoldChild)
    house.mail()
    assert rests(child)
    assert child.do(again, by=SYSTEM).made() == []
    assert parent.do(msgspec.structs.replace(old, turn=again.turn), by=SYSTEM).made() == []
    assert isinstance(child.do(again).last, Rejection), "nobody but its parent holds a run"
    child.do(CancelRun())
    later = msgspec.structs.replace(again, turn=again.turn + 1)
    assert child.do(later, by=SYSTEM).made() == [], "it is ending"


def test_a_child_that_begins_while_its_parent_is_paused_rests_too_and_a_paused_family_can_be_cancelled() -> None:
    house, parent = family(sub("s"), kid=TWO)
    parent.create().do(PauseRun())
    house.mail()
    child = the_child(house, parent)
    assert rests(child)
    parent.do(CancelRun())
    house.mail()
    child.report("work", status="cancelled")
    house.mail()
    assert (child.status, parent.status) == ("cancelled", "cancelled")
