"""Chains in a run: what an order brings, how the results of a chain are judged, and what steering does to it."""

from typing import Any

import msgspec
import pytest

from headrace import codec
from headrace.codec import Raw
from headrace.decider import Rejection
from headrace.errors import ConflictError
from headrace.events.base import BlobRef, ErrorInfo
from headrace.messages import CancelRun, ReportAttempt, Wake
from headrace.plans.model import ConditionStep, InputField, LoopStep, Retry
from headrace.steering import PauseRun, ResumeRun
from headrace.vocabulary import FUSE_BYTES_MAX, FUSE_STEPS_MAX
from tests.planner.fusion_kit import chain, orders, results
from tests.planner.runs_kit import Sim, call, plan, step


def test_an_order_brings_the_steps_of_its_chain_and_what_they_read_besides() -> None:
    sim = chain().create({"n": 7, "more": "x"})
    assert [each.step for each in sim.orders["a"].chain] == ["b", "c"]
    assert codec.loads(sim.orders["a"].scope) == {"roots": {"inputs": {"n": 7, "more": "x"}}, "steps": {}}
    assert len(sim.dispatched) == 1


def test_a_worker_that_knows_no_chains_reports_the_head_and_the_run_goes_on_from_there() -> None:
    sim = chain().create({"n": 1}).report("a", {"n": 2})
    assert [each.step for each in sim.orders["b"].chain] == ["c"]
    assert not sim.dispatched[-1].held_by
    assert codec.loads(sim.orders["b"].arguments) == {"n": 2}


def test_what_a_worker_goes_on_with_is_looked_after_and_not_sent() -> None:
    sim = chain().create({"n": 1})
    head = sim.orders["a"]
    sim.do(results(sim, head, {"n": 2}, goes_on=head.chain[0].attempt_id))
    assert (sim.dispatched[-1].order.step, sim.dispatched[-1].held_by) == ("b", "wrk_1")
    assert sim.dispatched[-1].order.attempt_id == head.chain[0].attempt_id
    sim.do(results(sim, head, {"n": 2}, {"n": 3}, {"n": 4}, skip=1))
    assert sim.status == "succeeded"


def test_a_lost_attempt_of_a_chain_is_tried_again_with_the_rest_of_the_chain() -> None:
    sim = chain().create({"n": 1})
    head = sim.orders["a"]
    sim.do(results(sim, head, {"n": 2}, goes_on=head.chain[0].attempt_id)).lose("b")
    again = sim.orders["b"]
    assert (again.attempt, [each.step for each in again.chain]) == (2, ["c"])
    assert not sim.dispatched[-1].held_by


def test_a_failed_step_ends_the_chain_and_is_tried_again_as_ever() -> None:
    sim = Sim(plan(call("a"), call("b", "a", retry=Retry(max_attempts=2)), call("c", "b"))).create()
    sim.do(results(sim, sim.orders["a"], 1, ErrorInfo(type="tool_error", message="no")))
    assert sim.names[-2:] == ["step.succeeded", "attempt.failed"]
    sim.later(60)
    sim.do(Wake())
    assert (sim.orders["b"].attempt, [each.step for each in sim.orders["b"].chain]) == (2, ["c"])


def test_a_failure_without_retries_fails_the_run() -> None:
    sim = chain().create({"n": 1})
    sim.do(results(sim, sim.orders["a"], {"n": 2}, ErrorInfo(type="tool_error", message="no")))
    assert sim.status == "failed"
    assert sim.why() == "step 'b' failed: no"


def test_a_result_of_other_arguments_than_the_plans_is_late_and_its_step_goes_on() -> None:
    """What two workers made of one chain is never mixed."""
    sim = chain().create({"n": 1})
    told = results(sim, sim.orders["a"], {"n": 99}, {"n": 3})
    own = results(sim, sim.orders["a"], {"n": 2}, {"n": 0})
    sim.report("a", {"n": 2})
    sim.do(told.then[0])
    assert sim.names[-1] == "attempt.late"
    assert sim.step_status("b") == "queued"
    sim.do(own.then[0])
    assert sim.step_status("b") == "succeeded"


def test_a_result_before_its_turn_is_nothing() -> None:
    sim = chain().create({"n": 1})
    told = results(sim, sim.orders["a"], {"n": 2}, {"n": 3})
    sim.do(told.then[0])
    assert sim.made() == []
    sim.do(told)
    assert [sim.step_status(one) for one in "abc"] == ["succeeded", "succeeded", "queued"]


def test_the_same_results_again_are_nothing() -> None:
    sim = chain().create({"n": 1})
    told = results(sim, sim.orders["a"], {"n": 2}, {"n": 3})
    sim.do(told).do(told)
    assert sim.made() == []
    assert len(sim.dispatched) == 2


def test_who_says_that_a_step_follows_another_which_it_does_not_is_refused() -> None:
    sim = chain().create({"n": 1})
    told = results(sim, sim.orders["a"], {"n": 2}, {"n": 3})
    sim.do(msgspec.structs.replace(told.then[0], after="c"))
    assert isinstance(sim.last, Rejection)
    assert isinstance(sim.last.error, ConflictError)


def test_a_pause_ends_the_chain_after_what_is_performed_now() -> None:
    sim = chain().create({"n": 1}).do(PauseRun())
    assert [each.end.attempt_id for each in sim.unchained] == [sim.orders["a"].attempt_id]


def test_what_a_chain_had_begun_when_the_pause_came_counts_as_under_way() -> None:
    sim = chain().create({"n": 1})
    told = results(sim, sim.orders["a"], {"n": 2}, {"n": 3})
    sim.do(PauseRun()).do(told)
    assert [sim.step_status(one) for one in "abc"] == ["succeeded", "succeeded", "pending"]
    assert len(sim.dispatched) == 1
    sim.do(ResumeRun())
    assert sim.step_status("c") == "queued"
    sim.report("c", {"n": 5})
    assert sim.status == "succeeded"


def test_what_failed_in_a_chain_while_paused_is_tried_again_when_the_run_goes_on() -> None:
    sim = Sim(plan(call("a"), call("b", "a", retry=Retry(max_attempts=2)), call("c", "b"))).create()
    told = results(sim, sim.orders["a"], 1, ErrorInfo(type="tool_error", message="no"))
    sim.do(PauseRun()).do(told)
    assert sim.names[-1] == "attempt.failed"
    assert not sim.run.data.ready
    sim.do(ResumeRun()).later(60).do(Wake())
    assert sim.orders["b"].attempt == 2


def test_an_attempt_that_a_pause_keeps_from_beginning_is_not_held_by_anybody() -> None:
    sim = chain().create({"n": 1})
    head = sim.orders["a"]
    sim.do(PauseRun()).do(results(sim, head, {"n": 2}, goes_on=head.chain[0].attempt_id)).do(ResumeRun())
    assert (sim.dispatched[-1].order.step, sim.dispatched[-1].held_by) == ("b", "")


def test_a_cancelled_run_stops_the_attempt_that_it_knows_and_keeps_later_results_as_late() -> None:
    sim = chain().create({"n": 1}).do(CancelRun())
    assert [stop.interrupt.attempt_id for stop in sim.stopped] == [sim.orders["a"].attempt_id]
    sim.do(results(sim, sim.orders["a"], {"n": 2}, {"n": 3}))
    assert sim.names[-3:] == ["step.succeeded", "attempt.late", "run.cancelled"]


def test_a_stopped_step_that_the_planner_never_saw_begin_leaves_nothing() -> None:
    sim = chain().create({"n": 1}).do(CancelRun())
    told = results(sim, sim.orders["a"], {"n": 2}, {"n": 3})
    cut = msgspec.structs.replace(told.then[0], status="cancelled", output=codec.NULL)
    sim.do(msgspec.structs.replace(told, then=(cut,)))
    assert sim.names[-2:] == ["step.succeeded", "run.cancelled"]


def test_a_run_cancelled_while_paused_stops_the_chain_that_it_does_not_know() -> None:
    sim = chain().create({"n": 1})
    head = sim.orders["a"]
    sim.do(PauseRun()).do(results(sim, head, {"n": 2}, goes_on=head.chain[0].attempt_id)).do(CancelRun())
    assert sim.status == "cancelled"
    assert [stop.interrupt.attempt_id for stop in sim.stopped] == [head.chain[0].attempt_id]


def test_an_order_of_a_paused_run_brings_no_chain() -> None:
    """What a new owner finds under way in a paused run ends, and nothing begins after it."""
    sim = chain().create({"n": 1}).do(PauseRun())
    assert [order.chain for order in orders(sim)] == [()]


def test_a_new_owner_orders_what_is_under_way_with_its_chain() -> None:
    sim = chain().create({"n": 1})
    assert [[each.step for each in order.chain] for order in orders(sim)] == [["b", "c"]]


def test_a_chain_reaches_no_step_whose_branch_was_not_taken() -> None:
    sim = Sim(
        plan(
            step("choice", ConditionStep(expression="true", then=("a",), otherwise=("b",))),
            call("a", "choice"),
            call("b", "choice", "a"),
            call("c", "b"),
        )
    ).create()
    assert sim.step_status("b") == "skipped"
    assert sim.orders["a"].chain == ()


def test_a_chain_reaches_no_step_that_reads_what_does_not_fit_its_order() -> None:
    sim = chain().create({"n": 1, "more": "x" * 100_000})
    assert [each.step for each in sim.orders["a"].chain] == ["b"]
    assert len(bytes(sim.orders["a"].scope)) < 100


def test_a_chain_reaches_no_step_that_reads_a_body_kept_apart() -> None:
    reads_both = call("c", "z", "b", arguments={"x": "{{ steps.z.output }}"})
    sim = Sim(plan(call("z", when="true"), call("a", "z", when="true"), call("b", "a"), reads_both)).create()
    order = sim.orders["z"]
    sim.do(
        ReportAttempt(
            run_id=sim.id,
            step="z",
            attempt=1,
            attempt_id=order.attempt_id,
            status="succeeded",
            worker="wrk_1",
            blob=BlobRef(digest=codec.sha256(b"1"), size_bytes=1, preview=""),
        )
    )
    assert [each.step for each in sim.orders["a"].chain] == ["b"]


def test_what_a_chain_reads_of_steps_before_it_travels_once_with_its_order() -> None:
    reads = {"x": "{{ steps.z.output.n }}", "skipped": "{{ steps.s.status }}"}
    sim = Sim(
        plan(
            call("z", when="true"),
            call("s", "z", when="false"),
            call("a", "z", "s", when="true"),
            call("b", "a", "z", "s", arguments=reads),
            call("c", "b", "z", arguments={"x": "{{ steps.z.output.n + steps.b.output }}"}),
        )
    ).create()
    sim.report("z", {"n": 5})
    assert [each.step for each in sim.orders["a"].chain] == ["b", "c"]
    told = codec.loads(sim.orders["a"].scope)
    assert told["roots"] == {}
    assert {name: (known["status"], known["output"]) for name, known in told["steps"].items()} == {
        "z": ("succeeded", {"n": 5}),
        "s": ("skipped", None),
    }
    sim.do(results(sim, sim.orders["a"], 1, 2, 3))
    assert sim.status == "succeeded"


def test_a_chain_reaches_no_step_before_which_something_else_stands() -> None:
    sim = Sim(plan(call("z", when="true"), call("a", when="true"), call("b", "a"), call("c", "z", "b"))).create()
    assert [each.step for each in sim.orders["a"].chain] == ["b"]


@pytest.mark.parametrize("reads", ["", "{{ inputs.n }}"])
def test_a_chain_has_as_many_steps_and_bytes_as_an_order_may(reads: str) -> None:
    def length(count: int, **arguments: Any) -> int:
        links = [call(f"s{n}", f"s{n - 1}", arguments={**arguments, "n": reads}) for n in range(1, count)]
        inputs = {"n": InputField(type="integer")}
        return len(Sim(plan(call("s0"), *links, inputs=inputs)).create({"n": 1}).orders["s0"].chain)

    assert (length(FUSE_STEPS_MAX), length(FUSE_STEPS_MAX + 5)) == (FUSE_STEPS_MAX - 1, FUSE_STEPS_MAX - 1)
    assert length(20, text="x" * 8_000) == FUSE_BYTES_MAX // 8_100 == 8


def test_arguments_that_cannot_be_made_fail_the_step_in_the_planners_words() -> None:
    """The worker ends its chain there and says nothing: the planner meets the same problem."""
    sim = chain().create({"n": 1})
    sim.do(results(sim, sim.orders["a"], {"m": 2}))
    assert sim.status == "failed"
    assert "unknown key 'n' in steps.a.output" in sim.why()


def test_a_loops_body_is_chained_anew_in_each_round() -> None:
    sim = Sim(
        plan(
            step("again", LoopStep(condition="iteration < 2", body=("b", "c"))),
            call("b", parent="again", arguments={"n": "{{ iteration }}"}),
            call("c", "b", parent="again", arguments={"n": "{{ steps.b.output + iteration }}"}),
        )
    ).create()
    first = sim.orders["b"]
    assert codec.loads(first.scope) == {"roots": {"iteration": 1}, "steps": {}}
    sim.do(results(sim, first, 1, 2))
    second = sim.orders["b"]
    assert second.attempt_id != first.attempt_id
    assert second.chain[0].attempt_id != first.chain[0].attempt_id
    sim.do(results(sim, second, 1, 3))
    assert sim.status == "succeeded"


@pytest.mark.parametrize("raw", [b"null"])
def test_an_order_without_a_chain_says_nothing_of_one(raw: bytes) -> None:
    sim = Sim(plan(call("a"))).create()
    assert sim.orders["a"].chain == ()
    assert sim.orders["a"].scope == Raw(raw)
