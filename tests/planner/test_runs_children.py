"""Sub-workflows, run by run: a child is asked for until it is there, heard until it is known, and stopped with its parent."""

from typing import Any

import pytest

from headrace import codec
from headrace.decider import Rejection
from headrace.errors import ForbiddenError
from headrace.events.base import SYSTEM, ErrorInfo
from headrace.events.runs import AttemptFailed, Parent, RunQueued, StepSucceeded
from headrace.messages import CancelRun, CreateRun, Wake
from headrace.plans.model import InputField, LoopStep, Plan, Retry, TransformStep, WaitStep
from headrace.steering import NoteChildOutcomeReceived, NoteChildStarted, ReportChild
from headrace.vocabulary import INLINE_BYTES_MAX, SUB_WORKFLOW_DEPTH_MAX
from tests.planner.family_kit import House, children, pin, sub, tells
from tests.planner.runs_kit import ANN, Sim, call, plan, step

KID = plan(
    call("work", arguments={"n": "{{ inputs.n }}"}),
    inputs={"n": InputField(type="integer", default=1)},
    outputs={"n": "{{ steps.work.output }}"},
)


def family(
    *steps: Any, kid: Plan = KID, gated: bool = False, integrations: tuple[str, ...] = (), **more: Any
) -> tuple[House, Sim]:
    house = House(kid)
    above = plan(*steps, workflows={"kid": pin(kid, gated=gated, integrations=integrations)}, **more)
    return house, house.move_in(Sim(above))


def the_child(house: House, parent: Sim) -> Sim:
    (found,) = [sim for sim in house.sims.values() if sim.id != parent.id]
    return found


def kids(house: House, parent: Sim) -> list[Sim]:
    return [sim for sim in house.sims.values() if sim.id != parent.id]


def ended(sim: Sim, kind: type[Any]) -> Any:
    return next(event for event, _ in reversed(sim.history) if isinstance(event, kind))


def test_a_child_is_made_with_what_the_plan_pins_and_what_its_parent_has() -> None:
    house, parent = family(sub("s", inputs={"n": "{{ inputs.m + 1 }}"}), inputs={"m": InputField(type="integer")})
    parent.create({"m": 4}, subject="card-1", stage="test", labels={"a": "b"}, priority=7)
    (asked,) = tells(parent, CreateRun)
    assert (codec.loads(asked.inputs), asked.workflow, asked.workflow_version) == ({"n": 5}, "kid", 3)
    assert (asked.subject, asked.stage, asked.labels, asked.priority) == ("card-1", "test", {"a": "b"}, 7)
    assert asked.parent == Parent(run_id=parent.id, step="s")
    assert (parent.status, parent.row()["waiting_for"]) == ("waiting", "children")
    house.mail()
    child = the_child(house, parent)
    assert child.run.queued.requester == ANN
    child.report("work", 9)
    house.mail()
    assert (parent.status, parent.output("s")) == ("succeeded", {"n": 9})
    assert ended(parent, StepSucceeded).child_id == child.id
    assert child.names[-1] == "child.ended"
    assert (child.run.finished, parent.run.finished) == (True, True)
    assert not parent.run.data.children


def test_a_child_is_asked_for_again_until_it_is_known_to_be_there() -> None:
    house, parent = family(sub("s"))
    parent.create()
    house.mail(lose=(CreateRun,))
    assert parent.room.wake_at(parent.run) == parent.now + 2_000
    assert parent.row()["busy"]
    house.mail()
    parent.later(2).do(Wake())
    house.mail(lose=(NoteChildStarted,))
    parent.later(2).do(Wake())
    house.mail()
    child = the_child(house, parent)
    assert child.names.count("run.queued") == 1
    assert parent.names.count("child.started") == 1
    assert parent.room.wake_at(parent.run) is None
    assert not parent.row()["busy"]
    assert parent.step_status("s") == "running"


def test_a_new_owner_asks_for_a_child_again() -> None:
    house, parent = family(sub("s", inputs={"n": 3}))
    parent.create()
    house.mail(lose=(CreateRun,))
    parent.run = parent.room.restore(parent.room.snapshot(parent.run))
    assert not list(parent.room.outstanding(parent.run, parent.now))
    parent.do(Wake())
    (again,) = tells(parent, CreateRun)
    assert codec.loads(again.inputs) == {"n": 3}


def test_a_child_tells_its_end_until_its_parent_knows_it() -> None:
    house, parent = family(sub("s"))
    parent.create()
    house.mail()
    child = the_child(house, parent).later(60).report("work", 1)
    house.mail(lose=(ReportChild,))
    assert (child.status, child.run.finished, child.row()["busy"]) == ("succeeded", False, True)
    assert child.room.wake_at(child.run) == child.now + 2_000
    child.later(2).do(Wake())
    house.mail(lose=(NoteChildOutcomeReceived,))
    assert (parent.status, child.run.finished) == ("succeeded", False)
    child.later(2).do(Wake())
    house.mail()
    assert child.run.finished
    assert parent.names.count("step.succeeded") == 1
    child.later(60).do(Wake())
    assert not child.told


def test_large_outputs_come_back_as_a_body_apart() -> None:
    house, parent = family(
        sub("s"),
        step("after", TransformStep(value="{{ size(steps.s.output.n) }}"), "s"),
        outputs="{{ steps.after.output }}",
    )
    parent.create()
    house.mail()
    the_child(house, parent).report("work", "x" * INLINE_BYTES_MAX)
    house.mail()
    assert parent.status == "succeeded"
    assert codec.loads(parent.run.data.outputs) == INLINE_BYTES_MAX
    assert parent.run.peek("s").blob is not None


def test_a_failed_child_fails_the_step_and_names_itself() -> None:
    house, parent = family(sub("s"))
    parent.create()
    house.mail()
    child = the_child(house, parent).fail("work")
    house.mail()
    assert parent.status == "failed"
    error = parent.row("steps", step="s")
    assert error["detail"]["error_details"]["child_id"] == child.id
    assert f"child run {child.id} failed: step 'work' failed: broken" in error["error_message"]


def test_a_failed_child_is_followed_by_another_as_often_as_the_step_says() -> None:
    house, parent = family(sub("s", retry=Retry(max_attempts=2, initial_s=5)))
    parent.create()
    house.mail()
    first = the_child(house, parent).fail("work")
    house.mail()
    assert ended(parent, AttemptFailed).child_id == first.id
    assert parent.row()["waiting_for"] == "retry"
    parent.later(10).do(Wake())
    house.mail()
    _, second = kids(house, parent)
    assert second.run.queued.parent == Parent(run_id=parent.id, step="s", attempt=2)
    second.report("work", 2)
    house.mail()
    assert parent.output("s") == {"n": 2}
    assert parent.row("steps", step="s")["attempt"] == 2


def test_a_child_that_a_person_cancelled_fails_the_step_with_the_reason() -> None:
    house, parent = family(sub("s", retry=Retry(max_attempts=3)))
    parent.create()
    house.mail()
    child = the_child(house, parent)
    child.do(CancelRun(reason="wrong card")).report("work", status="cancelled")
    house.mail()
    assert parent.status == "failed"
    assert "was cancelled by ann: wrong card" in parent.why()
    assert parent.names.count("attempt.failed") == 0


def test_a_step_may_go_on_without_its_child() -> None:
    house, parent = family(
        sub("s", on_error="continue"), step("after", TransformStep(value="{{ steps.s.error.type }}"), "s")
    )
    parent.create()
    house.mail()
    the_child(house, parent).fail("work")
    house.mail()
    assert (parent.status, parent.output("after")) == ("succeeded", "tool_error")


def test_a_map_has_a_child_for_each_item_so_many_at_once() -> None:
    house, parent = family(sub("s", items=[3, 4, 5], concurrency=2, inputs={"n": "{{ item }}"}))
    parent.create()
    house.mail()
    assert len(kids(house, parent)) == 2
    for _ in range(3):
        child = next(each for each in kids(house, parent) if not each.run.final)
        child.report("work", codec.loads(child.orders["work"].arguments)["n"] * 2)
        house.mail()
    assert parent.status == "succeeded"
    assert parent.row("steps", step="s")["output"] == [{"n": 6}, {"n": 8}, {"n": 10}]
    assert len({each.run.queued.parent.index for each in kids(house, parent) if each.run.queued.parent}) == 3


def test_a_map_collects_the_children_that_failed() -> None:
    house, parent = family(sub("s", items=[1, 2], on_item_error="collect"))
    parent.create()
    house.mail()
    first, second = kids(house, parent)
    first.fail("work")
    second.report("work", 2)
    house.mail()
    assert parent.status == "succeeded"
    assert list(parent.row("steps", step="s")["detail"]["failed_items"]) == ["0"]


def test_each_round_of_a_loop_has_a_child_of_its_own() -> None:
    again = step("again", LoopStep(condition="iteration < 2", body=("s",), cap=9))
    house, parent = family(again, sub("s", parent="again", inputs={"n": "{{ iteration }}"}))
    parent.create()
    for number in (1, 2):
        house.mail()
        child = next(each for each in kids(house, parent) if not each.run.final)
        assert codec.loads(child.orders["work"].arguments) == {"n": number}
        assert child.run.queued.parent is not None
        assert child.run.queued.parent.iteration == number
        child.report("work", number)
    house.mail()
    assert parent.status == "succeeded"


def test_inputs_that_cannot_be_resolved_fail_the_step_and_ask_for_no_child() -> None:
    house, parent = family(sub("s", inputs={"n": "{{ inputs.m.x }}"}), inputs={"m": InputField(type="any", default=1)})
    parent.create()
    assert parent.status == "failed"
    assert not children(parent)
    assert not parent.run.data.children
    assert parent.run.finished
    house.mail()


def test_inputs_that_no_message_can_carry_are_refused() -> None:
    house, parent = family(sub("s", inputs={"n": "{{ inputs.m }}"}), inputs={"m": InputField()})
    parent.create({"m": "x" * 600_000})
    assert "a child is given" in parent.why()
    house.mail()


def test_a_child_whose_inputs_do_not_fit_is_on_record_as_failed() -> None:
    house, parent = family(
        sub("s", inputs={"n": "{{ inputs.m }}"}, retry=Retry(max_attempts=3)), inputs={"m": InputField()}
    )
    parent.create({"m": "three"})
    house.mail()
    child = the_child(house, parent)
    assert (child.names[:2], child.status) == (["run.queued", "run.failed"], "failed")
    assert "must be of type integer" in parent.why()
    assert parent.names.count("attempt.failed") == 0
    assert (child.dispatched, child.stopped) == ([], [])


@pytest.mark.parametrize(
    ("depth", "status"), [(SUB_WORKFLOW_DEPTH_MAX, "queued"), (SUB_WORKFLOW_DEPTH_MAX + 1, "failed")]
)
def test_row_56_the_sixth_level_is_refused_at_run_time_too(depth: int, status: str) -> None:
    sim = Sim(KID)
    sim.create({}, parent=Parent(run_id=sim.id, step="s", depth=depth), workers_active=False)
    assert sim.status == status
    if status == "failed":
        assert sim.row()["error_type"] == "depth_exceeded"
        assert "depth" in sim.why()


def test_a_child_that_its_parent_has_no_connection_for_is_reported_so() -> None:
    house, parent = family(sub("s", retry=Retry(max_attempts=3)), integrations=("github",))
    parent.create(connections=codec.raw({"github": {"name": "g"}, "slack": {"name": "s"}}))
    (asked,) = tells(parent, CreateRun)
    assert codec.loads(asked.connections) == {"github": {"name": "g"}}
    refusal = ErrorInfo(type="integration_not_connected", message="not connected: github")
    parent.told.clear()
    child = house.child(children_of(parent)[0], parent.now)
    child.do(CreateRun(**{**fields(asked), "refused": refusal}), by=SYSTEM)
    house.mail()
    assert (parent.row()["error_type"], child.status) == ("integration_not_connected", "failed")
    assert "not connected: github" in parent.why()


def test_a_child_whose_plan_is_nowhere_is_reported_without_a_stream() -> None:
    house, parent = family(sub("s"))
    parent.create()
    (asked,) = tells(parent, CreateRun)
    parent.told.clear()
    child = house.child(children_of(parent)[0], parent.now)
    gone = ErrorInfo(type="not_found", message="there is no plan")
    child.do(CreateRun(**{**fields(asked), "plan_digest": "", "refused": gone}), by=SYSTEM)
    assert not child.history
    house.mail()
    assert "could not be made: there is no plan" in parent.why()


def children_of(sim: Sim) -> list[str]:
    return list(sim.run.data.children)


def fields(command: CreateRun) -> dict[str, Any]:
    return {name: getattr(command, name) for name in command.__struct_fields__}


def test_people_cannot_make_a_run_with_a_parent() -> None:
    sim = Sim(KID)
    sim.do(CreateRun(plan_digest=sim.digest, parent=Parent(run_id=sim.id, step="s")), by=ANN)
    assert isinstance(sim.last, Rejection)
    assert isinstance(sim.last.error, ForbiddenError)


def test_an_approval_of_the_parent_covers_its_child_and_what_lies_below() -> None:
    kid = plan(call("work", tool="write"), authorization="run")
    house, parent = family(sub("s"), kid=kid, gated=True, authorization="run")
    parent.create()
    assert not tells(parent, CreateRun)
    (asked,) = parent.run.data.asks.values()
    tools = codec.loads(asked.shown)["tools"]
    assert tools == [{"step": "s", "workflow": "kid", "version": 3, "workflow_plan_digest": pin(kid).digest}]
    parent.resolve()
    house.mail()
    child = the_child(house, parent)
    assert child.run.data.authorized
    assert not child.run.data.asks
    assert "work" in child.orders


def test_explain_and_rows_name_the_children() -> None:
    house, parent = family(sub("s"))
    parent.create()
    house.mail()
    child = the_child(house, parent)
    (reason,) = parent.room.explain(parent.run)
    assert (reason.waiting_for, reason.step) == ("children", "s")
    assert child.id in reason.message
    assert reason.remedy == f"headrace runs explain {child.id}"
    assert child.row("children")["parent_id"] == parent.id
    assert child.row()["detail"]["parent"]["step"] == "s"
    (waiting,) = parent.row()["detail"]["waiting"]
    assert waiting["children"] == [child.id]


def test_a_child_may_wait_and_its_parent_waits_with_it() -> None:
    nap = plan(step("nap", WaitStep(seconds=60)), outputs=7)
    house, parent = family(sub("s"), kid=nap)
    parent.create()
    house.mail()
    child = the_child(house, parent)
    assert child.row()["waiting_for"] == "timer"
    child.later(60).do(Wake())
    house.mail()
    assert parent.output("s") == 7


def test_a_word_of_a_child_that_nobody_asked_for_is_confirmed_and_changes_nothing() -> None:
    house, parent = family(sub("s"))
    parent.create()
    house.mail()
    child = the_child(house, parent)
    word = ReportChild(child_id=child.id.replace("run_0", "run_1"), step="s", status="succeeded")
    parent.told.clear()
    parent.do(word, by=SYSTEM)
    assert parent.made() == []
    assert tells(parent, NoteChildOutcomeReceived, word.child_id)
    stranger = NoteChildStarted(child_id=word.child_id, step="s")
    parent.do(stranger, by=SYSTEM)
    assert tells(parent, CancelRun, word.child_id)


def test_what_people_say_of_an_outcome_that_was_never_told_is_refused() -> None:
    sim = Sim(KID).create()
    assert "has not told its outcome" in sim.do(NoteChildOutcomeReceived(), by=SYSTEM).refused()


def test_the_beginning_of_a_refused_run_opens_nothing() -> None:
    kid = plan(sub("below", workflow="kid"), workflows={"kid": pin(KID)})
    house, parent = family(sub("s"), kid=kid)
    parent.create()
    house.mail(lose=(CreateRun,))
    parent.do(CancelRun())
    house.mail()
    assert len(house.sims) == 2
    first = ended(the_child(house, parent), RunQueued)
    assert first.refused
