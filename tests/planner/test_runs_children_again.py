"""Sub-workflows: what is said twice, or crosses another word on the way, and which failures another child follows."""

from headrace import ids
from headrace.decider import Context
from headrace.events.base import SYSTEM, Actor
from headrace.events.runs import Parent, StepFailed
from headrace.events.steering import RunPurged
from headrace.messages import CancelRun, CreateRun, Wake
from headrace.plans.model import Retry, TransformStep
from headrace.steering import NoteChildOutcomeReceived, NoteChildStarted, PurgeRun
from headrace.vocabulary import SUB_WORKFLOW_DEPTH_MAX
from tests.planner.family_kit import sub, tells
from tests.planner.runs_kit import START, Sim, call, plan, step
from tests.planner.test_runs_children import ended, family, fields, kids, the_child

ROOT = Actor(id="tok_root", name="root", roles=("admin",))
ABOVE = ids.make(ids.RUN, START, b"9876543210", 5)


def test_what_a_child_says_twice_is_on_record_once() -> None:
    house, parent = family(sub("s"))
    parent.create()
    house.mail()
    child = the_child(house, parent)
    assert parent.do(NoteChildStarted(child_id=child.id, step="s"), by=SYSTEM).made() == []
    assert "has not told its outcome" in child.do(NoteChildOutcomeReceived(), by=SYSTEM).refused()
    child.report("work", 1)
    house.mail()
    assert child.do(NoteChildOutcomeReceived(), by=SYSTEM).made() == []
    alone = Sim(plan(step("t", TransformStep(value=1)))).create()
    assert "has not told its outcome" in alone.do(NoteChildOutcomeReceived(), by=SYSTEM).refused()


def test_a_child_that_is_over_is_not_cancelled_by_a_word_that_crossed_its_own() -> None:
    house, parent = family(sub("s"))
    parent.create()
    (asked,) = tells(parent, CreateRun)
    house.mail()
    child = the_child(house, parent).report("work", 1)
    assert child.do(CreateRun(**{**fields(asked), "cancelled": "enough"}), by=SYSTEM).made() == []
    house.mail()
    assert (child.status, parent.status) == ("succeeded", "succeeded")


def test_the_word_of_a_child_whose_step_is_over_is_kept_as_late() -> None:
    house, parent = family(sub("s", step_timeout_s=30, on_error="continue"), call("a", "s"))
    parent.create()
    house.mail()
    parent.later(30).do(Wake())
    parent.told.clear()
    the_child(house, parent).report("work", 1)
    house.mail()
    assert parent.names[-1] == "attempt.late"
    assert parent.report("a").status == "succeeded"


def test_a_run_is_purged_only_when_its_parent_knows_its_end() -> None:
    house, parent = family(sub("s"))
    parent.create()
    house.mail()
    child = the_child(house, parent).report("work", 1)
    assert "others have not confirmed" in child.do(PurgeRun(), by=ROOT).refused()
    house.mail()
    context = Context(now=child.now, stream_id=child.id, workspace=child.workspace, actor=ROOT)
    assert child.room.decide(child.run, PurgeRun(), context) == (RunPurged(by=ROOT),)


def test_while_a_run_is_being_cancelled_no_child_follows_one_that_failed() -> None:
    house, parent = family(sub("s", retry=Retry(max_attempts=3, initial_s=0)))
    parent.create()
    house.mail()
    parent.do(CancelRun())
    the_child(house, parent).fail("work")
    house.mail()
    assert (parent.status, ended(parent, StepFailed).status) == ("cancelled", "failed")
    assert len(kids(house, parent)) == 1


def test_only_failures_of_the_named_types_are_followed_by_another_child_and_never_one_that_lies_too_deep() -> None:
    house, parent = family(sub("s", retry=Retry(max_attempts=3, initial_s=0, on=("timeout",))))
    parent.create()
    house.mail()
    the_child(house, parent).fail("work", type="timeout")
    house.mail()
    _, second = kids(house, parent)
    second.fail("work", type="tool_error")
    house.mail()
    assert (parent.status, len(kids(house, parent))) == ("failed", 2)
    house, deep = family(sub("s", retry=Retry(max_attempts=3, initial_s=0)))
    deep.create(parent=Parent(run_id=ABOVE, step="s", depth=SUB_WORKFLOW_DEPTH_MAX))
    house.mail(lose=(NoteChildStarted,))
    assert (deep.status, deep.names.count("attempt.failed")) == ("failed", 0)
    assert "at most 5 are allowed" in deep.why()
