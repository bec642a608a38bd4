"""Children whose parent ends before them: they are stopped, also those of which nobody knows whether they are there."""

from headrace.events.base import SYSTEM
from headrace.events.runs import StepFailed
from headrace.messages import CancelRun, CreateRun, Wake
from headrace.steering import NoteChildStarted, PauseRun
from headrace.vocabulary import CANCEL_GRACE_S
from tests.planner.family_kit import sub, tells
from tests.planner.runs_kit import call
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


def test_pausing_a_parent_leaves_its_children_alone() -> None:
    house, parent = family(sub("s"), call("after", "s"))
    parent.create()
    house.mail()
    parent.do(PauseRun())
    house.mail()
    child = the_child(house, parent)
    assert child.run.data.paused is None
    child.report("work", 1)
    house.mail()
    assert parent.step_status("s") == "succeeded"
    assert "after" not in parent.orders
