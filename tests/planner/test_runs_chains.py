"""The results of a chain as one event: what is recorded together, what is not, and what a run remembers of it."""

from typing import Any

import msgspec
import pytest

from headrace import codec
from headrace.events.base import BlobRef, ErrorInfo
from headrace.events.runs import StepsSucceeded
from headrace.plans.model import ArtifactSpec
from headrace.steering import WatchRun
from tests.planner.fusion_kit import OTHER, chain, kept, results
from tests.planner.runs_kit import Sim, call, plan


def test_a_chains_results_are_one_event_which_says_of_each_step_what_its_own_would() -> None:
    sim = chain().create({"n": 1})
    sim.do(results(sim, sim.orders["a"], {"n": 2}, {"n": 3}, {"n": 4}))
    single = chain(fuse=False).create({"n": 1})
    assert single.orders["a"].chain == ()
    single.report("a", {"n": 2}).report("b", {"n": 3}).report("c", {"n": 4})
    assert sim.names == ["run.queued", "run.started", "steps.succeeded", "run.succeeded"]
    assert single.names == ["run.queued", "run.started", *["step.succeeded"] * 3, "run.succeeded"]
    assert kept(sim) == kept(single)
    made = codec.sha256(codec.raw({"n": 2})), codec.sha256(codec.raw({"n": 4}))
    assert tuple(sim.run.peek(step_id).arguments_digest for step_id in ("b", "c")) == made
    assert len(sim.dispatched) == 1
    assert sim.status == "succeeded"


def test_a_run_remembers_of_a_chain_what_it_remembers_of_its_steps_one_by_one() -> None:
    sim = chain().create({"n": 1})
    sim.do(results(sim, sim.orders["a"], {"n": 2}, {"n": 3}, {"n": 4}))
    single = sim.room.initial(sim.id, sim.workspace)
    for event, at in sim.history:
        for one in event.results if isinstance(event, StepsSucceeded) else (event,):
            single = sim.room.evolve(single, one, at)
    together = codec.loads(sim.room.snapshot(sim.run))
    one_by_one = codec.loads(sim.room.snapshot(single))
    assert (together.pop("version"), one_by_one.pop("version")) == (4, 6)
    assert together == one_by_one


def test_what_the_last_step_of_a_chain_leaves_is_kept() -> None:
    wanted = ArtifactSpec(type="file", label="report", value="{{ output.path }}")
    sim = Sim(plan(call("a"), call("b", "a", artifacts=(wanted,)), call("c", "b"))).create()
    sim.do(results(sim, sim.orders["a"], {"n": 1}, {"path": "r.md"}))
    assert sim.report("c").status == "succeeded"
    (left,) = [row.columns for row in sim.room.rows(sim.run, None) if row.table == "artifacts"]
    assert (left["label"], left["value"]) == ("report", "r.md")


def test_what_follows_a_chain_begins_when_all_it_needs_of_it_is_on_record() -> None:
    sim = Sim(plan(call("a"), call("b", "a"), call("c", "b"), call("d", "b", "c", tool="write"))).create(
        authorized=True
    )
    head = sim.orders["a"]
    sim.do(results(sim, head, 1, 2, goes_on=head.chain[1].attempt_id))
    assert (sim.made(), sim.dispatched[-1].order.step, sim.dispatched[-1].held_by) == (
        ["steps.succeeded"],
        "c",
        "wrk_1",
    )
    sim.do(results(sim, head, 1, 2, 3, skip=2))
    assert sim.made() == ["step.succeeded"]
    assert sim.orders["d"].chain == ()


def test_the_results_of_a_chain_stay_single_where_another_run_waits_for_one_of_them() -> None:
    sim = chain().create({"n": 1})
    sim.do(WatchRun(watch_id="wat_1", by_run=OTHER, name="step.succeeded", workspace="default"))
    sim.do(results(sim, sim.orders["a"], {"n": 2}, {"n": 3}, {"n": 4}))
    assert sim.names.count("step.succeeded") == 3
    assert "steps.succeeded" not in sim.names


def test_of_a_chain_that_fails_the_steps_before_are_on_record_together() -> None:
    sim = chain().create({"n": 1})
    sim.do(results(sim, sim.orders["a"], {"n": 2}, {"n": 3}, ErrorInfo(type="tool_error", message="no")))
    assert sim.names[2:] == ["steps.succeeded", "step.failed", "run.failed"]
    assert [step for step, *_ in kept(sim)] == ["a", "b"]


def test_a_result_that_was_not_made_of_the_one_before_is_not_recorded_with_it() -> None:
    sim = chain().create({"n": 1})
    told = results(sim, sim.orders["a"], {"n": 2}, {"n": 3}, {"n": 4})
    other = results(sim, sim.orders["a"], {"n": 2}, {"n": 99}, {"n": 100})
    sim.do(msgspec.structs.replace(told, then=(told.then[0], other.then[1])))
    assert sim.names[2:] == ["steps.succeeded", "attempt.late"]
    assert [step for step, *_ in kept(sim)] == ["a", "b"]
    assert sim.step_status("c") == "queued"


def test_results_that_follow_what_another_worker_gave_are_all_late() -> None:
    sim = chain().create({"n": 1})
    other = results(sim, sim.orders["a"], {"n": 99}, {"n": 100}, {"n": 101}, skip=1)
    sim.report("a", {"n": 2})
    sim.do(other)
    assert sim.names[2:] == ["step.succeeded", "attempt.late"]
    assert sim.step_status("b") == "queued"


@pytest.mark.parametrize("changed", [{"attempt": 2}, {"attempt_id": "att_other"}, {"worker": "wrk_2", "after": "c"}])
def test_what_is_no_next_result_of_the_chain_is_judged_by_itself(changed: dict[str, Any]) -> None:
    sim = chain().create({"n": 1})
    told = results(sim, sim.orders["a"], {"n": 2}, {"n": 3}, {"n": 4})
    sim.do(msgspec.structs.replace(told, then=(msgspec.structs.replace(told.then[0], **changed), told.then[1])))
    assert sim.names[2] == "step.succeeded"
    assert [step for step, *_ in kept(sim)] == ["a"]


def test_a_result_of_a_chain_that_is_a_body_of_its_own_is_recorded_by_itself() -> None:
    sim = chain().create({"n": 1})
    told = results(sim, sim.orders["a"], {"n": 2}, {"n": 3}, {"n": 4})
    large = msgspec.structs.replace(told.then[1], output=codec.NULL, blob=BlobRef(digest="sha256:x", size_bytes=9))
    sim.do(msgspec.structs.replace(told, then=(told.then[0], large)))
    assert sim.names[2:4] == ["steps.succeeded", "step.succeeded"]
