"""Long maps: what is over leaves the state as pieces, and reads as if it were there; what one failure ends."""

import sys
from typing import Any

import msgspec
import pytest

from headrace import codec
from headrace.decider import MissingError
from headrace.events.base import BlobRef, ErrorInfo
from headrace.events.runs import LateResultKept, RunFailed, StepFailed, StepSucceeded
from headrace.events.steering import ItemsKept
from headrace.messages import ReportAttempt
from headrace.plans.model import GateStep, InputField, PlanStep, TransformStep
from headrace_planner.runs.bounds import ITEMS_A_PIECE
from headrace_planner.runs.pieces import PIECE_BYTES_MAX, Results
from headrace_planner.runs.state import Run
from tests.planner.runs_kit import Sim, call, plan, step

INPUTS = {"items": InputField(type="array")}
MANY = 3 * ITEMS_A_PIECE
STATE_BYTES_AN_ITEM = 40
"""What a settled item may cost the state: far less than any Python object."""


class Long(Sim):
    """A run of so many commands that the fold from zero is compared at the end only."""

    compared = False

    def check(self) -> None:
        if self.compared:
            self._kept_events = 0
            super().check()

    def perform(self, *, but: frozenset[int] = frozenset(), **more: Any) -> "Long":
        """Perform every order but those of some items, until nothing else is to be done."""
        while orders := [name for name, order in self.orders.items() if order.index not in but]:
            for name in orders:
                order = self.orders[name]
                self.report(name, {"n": order.index}, **more)
                if self.orders.get(name) is order:
                    del self.orders[name]
        return self

    def compare(self) -> None:
        self.compared = True
        self.check()


def long(*after: PlanStep, count: int = MANY, **more: Any) -> Long:
    each = call("m", items="{{ inputs.items }}", arguments={"n": "{{ item }}"}, **more)
    sim = Long(plan(each, *after, inputs=INPUTS))
    sim.create({"items": list(range(count))})
    return sim


def state(sim: Sim, step_id: str = "m") -> Any:
    found = sim.run.peek(step_id).map
    assert found is not None
    return found


def transform(step_id: str, value: Any) -> PlanStep:
    return step(step_id, TransformStep(value=value), "m")


def test_results_leave_the_state_as_pieces_and_expressions_read_them() -> None:
    sim = long(
        transform("count", "{{ size(steps.m.output) }}"),
        transform("one", "{{ steps.m.output[1500].n }}"),
        transform("sum", "{{ steps.m.output.map(x, x.n).sum() }}"),
        transform("failed", "{{ steps.m.failed }}"),
        call("next", "m", items="{{ steps.m.output }}", arguments={"x": "{{ item.n }}"}, concurrency=2),
    )
    sim.perform()
    assert sim.status == "succeeded"
    assert (sim.output("count"), sim.output("one")) == (MANY, 1500)
    assert (sim.output("sum"), sim.output("failed")) == (sum(range(MANY)), [])
    known = state(sim)
    assert len(known.pieces) >= 2
    assert len(known.settled) <= ITEMS_A_PIECE
    assert codec.loads(Results(known, sim.shelf).whole()) == [{"n": place} for place in range(MANY)]
    row = sim.row("steps", step="m")
    assert (row["items_done"], row["output"]["items"]) == (MANY, MANY)
    assert row["output"]["preview"] == '[{"n":0}, …]'
    assert row["output_bytes"] == len(codec.dumps([{"n": place} for place in range(MANY)]))
    sim.compare()


def test_a_run_whose_outputs_are_a_maps_results_gives_the_whole_list() -> None:
    sim = Long(plan(call("m", items="{{ inputs.items }}"), outputs="{{ steps.m.output }}", inputs=INPUTS))
    sim.create({"items": list(range(MANY))})
    sim.perform()
    assert codec.loads(sim.run.data.outputs) == [{"n": place} for place in range(MANY)]


def test_a_short_map_has_no_pieces() -> None:
    sim = long(count=ITEMS_A_PIECE).perform()
    assert sim.status == "succeeded"
    assert "items.kept" not in sim.names
    sim.compare()


def test_one_item_that_takes_long_does_not_keep_the_others_in_the_state() -> None:
    sim = long().perform(but=frozenset({0, 700}))
    known = state(sim)
    assert len(known.settled) < 2 * ITEMS_A_PIECE
    assert sum(len(piece.ranges) for piece in known.pieces) > len(known.pieces)
    sim.perform()
    assert sim.status == "succeeded"
    assert codec.loads(Results(known, sim.shelf).whole()) == [{"n": place} for place in range(MANY)]
    sim.compare()


def test_large_results_make_a_piece_early() -> None:
    sim = long(count=200)
    for name in list(sim.orders)[:100]:
        sim.report(name, "x" * (PIECE_BYTES_MAX // 40))
    known = state(sim)
    assert len(known.pieces) == 2
    assert known.weight < PIECE_BYTES_MAX


def test_failures_and_bodies_of_their_own_are_read_from_the_pieces_too() -> None:
    sim = long(
        transform("failed", "{{ steps.m.failed }}"),
        transform("body", "{{ steps.m.output[1] }}"),
        on_item_error="collect",
    )
    body = codec.dumps({"large": True})
    sim.shelf.bodies[codec.sha256(body)] = body
    for name in ("m[0]", "m[1]"):
        sim.report(name, None, blob=BlobRef(digest=codec.sha256(body), size_bytes=len(body), preview='{"large":'))
        del sim.orders[name]
    sim.fail("m[2]", "no", retryable=False)
    del sim.orders["m[2]"]
    sim.perform()
    assert (sim.status, state(sim).failures) == ("succeeded", 1)
    assert sim.output("failed") == [{"index": 2, "error": {"type": "tool_error", "message": "no"}}]
    assert sim.output("body") == {"large": True}
    assert sim.row("steps", step="m")["output"]["preview"] == '[{"large":, …]'
    assert sim.row("steps", step="m")["detail"]["failed_items"] == {"2": "no"}
    sim.compare()


def test_a_body_that_must_be_fetched_is_asked_for_with_all_others() -> None:
    sim = long().perform()
    digests = [piece.digest for piece in state(sim).pieces]
    sim.shelf.missing |= set(digests)
    with pytest.raises(MissingError) as missing:
        Results(state(sim), sim.shelf).whole()
    assert sorted(missing.value.digests) == sorted(digests)
    assert Results(state(sim), sim.shelf).settled(MANY - 1) is not None


def test_a_result_that_comes_again_for_an_item_in_a_piece_is_nothing_and_another_is_late() -> None:
    sim = long()
    order = sim.orders["m[0]"]
    sim.perform(but=frozenset({MANY - 1}))
    assert 0 not in state(sim).settled
    sim.orders["m[0]"] = order
    assert sim.report("m[0]", {"n": 0}).made() == []
    sim.orders["m[0]"] = msgspec.structs.replace(order, attempt=2, attempt_id=sim.run.attempt_id(("m", 0), 2))
    (late,) = sim.report("m[0]", {"n": 0}).last  # type: ignore[misc]  # it is no rejection
    assert isinstance(late, LateResultKept)


def test_a_gate_is_shown_the_list() -> None:
    gate = step("g", GateStep(gate="expression", config={"expression": "size(steps.m.output) > 0"}), "m", kind="gate")
    sim = long(gate)
    for name in list(sim.orders):
        sim.orders.pop(name) if name == "g" else None
    while sim.step_status("m") == "running":
        for name in [name for name in sim.orders if name.startswith("m[")]:
            order = sim.orders.pop(name)
            sim.do(_report(sim, order))
    evidence = codec.loads(sim.orders["g"].evidence)
    assert evidence["steps"]["m"]["output"] == [{"n": place} for place in range(MANY)]


def _report(sim: Sim, order: Any) -> ReportAttempt:
    return ReportAttempt(
        run_id=sim.id,
        step=order.step,
        index=order.index,
        attempt=order.attempt,
        attempt_id=order.attempt_id,
        status="succeeded",
        worker="w",
        output=codec.raw({"n": order.index}),
    )


def size_of(value: Any, seen: set[int]) -> int:
    """Count the bytes of a value and of all that it holds, once each."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, msgspec.Raw):
        return msgspec.Raw.__basicsize__ + len(bytes(value))  # `getsizeof` takes a pointer in it for its length
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(size_of(key, seen) + size_of(one, seen) for key, one in value.items())
    if isinstance(value, list | tuple | set):
        return size + sum(size_of(one, seen) for one in value)
    if isinstance(value, msgspec.Struct):
        return size + sum(size_of(getattr(value, name), seen) for name in value.__struct_fields__)
    return size


def held(run: Run) -> int:
    """Count what a run holds beside its plan."""
    names = [name for name in Run.__slots__ if name not in {"_graph", "graph"}]
    seen: set[int] = set()
    return sum(size_of(getattr(run, name), seen) for name in names)


def test_ten_thousand_items_that_are_over_cost_the_state_next_to_nothing() -> None:
    """One run with a long map costs its owner what one with a short map costs."""
    sizes = {}
    for count in (2_000, 12_000):
        sim = long(call("last", "m"), count=count)
        sim.history.clear()
        while sim.step_status("m") == "running":
            for name in list(sim.orders):
                sim.do(_report(sim, sim.orders.pop(name)))
                sim.history.clear()
        assert state(sim).done == count
        sizes[count] = held(sim.run) - size_of(sim.run.data.queued, set())
    assert (sizes[12_000] - sizes[2_000]) / 10_000 < STATE_BYTES_AN_ITEM


def test_fail_fast_stops_the_rest_of_a_map_whose_step_may_fail() -> None:
    sim = Sim(plan(call("m", items=[1, 2, 3, 4], concurrency=2, on_error="continue"), call("b", "m"))).create()
    assert sorted(sim.orders) == ["m[0]", "m[1]"]
    sim.report("m[0]", "x").fail("m[1]", "no", retryable=False)
    assert sorted(sim.orders) == ["b", "m[0]", "m[1]", "m[2]"]
    assert (sim.step_status("m"), sim.status) == ("failed", "running")
    failed = [event for event, _ in sim.history if isinstance(event, StepFailed)]
    assert [(event.index, event.continued, event.ends) for event in failed] == [(1, True, True), (None, True, False)]
    assert [stop.interrupt.attempt_id for stop in sim.stopped] == [sim.orders["m[2]"].attempt_id]
    assert sim.report("m[2]", "late").made() == ["attempt.late"]
    assert sim.report("b").status == "succeeded"
    row = sim.row("steps", step="m")
    assert (row["status"], row["error_message"], row["items_done"]) == ("failed", "m[1] failed: no", 2)


def test_a_run_that_fails_with_its_map_names_the_item() -> None:
    sim = Sim(plan(call("m", items=[1, 2, 3]))).create().report("m[0]", "x").fail("m[1]", "no", retryable=False)
    (error,) = [event.error for event, _ in sim.history if isinstance(event, RunFailed)]
    assert (error.message, error.details["step"], error.details["item"]) == ("step 'm' failed: m[1] failed: no", "m", 1)


def test_a_write_that_is_cut_off_with_its_map_is_named() -> None:
    each = call("m", items=[1, 2, 3], tool="write", concurrency=2, on_error="continue")
    sim = Sim(plan(each)).create(authorized=True)
    sim.claim("m[0]").claim("m[1]", nonce="n2").fail("m[0]", "no", retryable=False)
    error = sim.run.peek("m").error
    assert error is not None
    assert (error.details["outcome"], error.details["unknown"]) == ("unknown", ["m[1]"])
    assert (sim.run.data.doubts, sim.status) == (["m[1]"], "succeeded")


def test_what_comes_after_sees_why_such_a_map_failed() -> None:
    why = step("why", TransformStep(value="{{ steps.m.error.message }}"), "m")
    sim = Sim(plan(call("m", items=[1, 2], on_error="continue"), why)).create()
    sim.fail("m[0]", "no", retryable=False)
    assert (sim.output("why"), sim.status) == ("m[0] failed: no", "succeeded")


def test_items_whose_arguments_cannot_be_made_end_such_a_map_once() -> None:
    sim = Sim(plan(call("m", items=[1, 2, 3], arguments={"x": "{{ item.no }}"}, on_error="continue"))).create()
    failed = [event for event, _ in sim.history if isinstance(event, StepFailed)]
    assert [event.index for event in failed if event.index is not None] != []
    assert len([event for event in failed if event.index is None]) == 1
    assert (sim.step_status("m"), sim.status) == ("failed", "succeeded")


def test_collected_failures_end_no_map_whether_or_not_its_step_may_fail() -> None:
    for on_error in ("fail", "continue"):
        sim = Sim(plan(call("m", items=[1, 2], on_error=on_error, on_item_error="collect"))).create()
        sim.fail("m[0]", "no", retryable=False).report("m[1]", "y")
        assert (sim.step_status("m"), sim.status) == ("succeeded", "succeeded")


def test_an_older_history_in_which_such_a_map_went_on_is_still_read_so() -> None:
    sim = Sim(plan(call("m", items=[1, 2], concurrency=1, on_error="continue"))).create()
    error = ErrorInfo(type="tool_error", message="no")
    sim.run = sim.room.evolve(sim.run, StepFailed(step="m", index=0, error=error, continued=True), sim.now)
    sim.run = sim.room.evolve(sim.run, StepSucceeded(step="m", index=1, output=codec.raw("y")), sim.now)
    sim.run = sim.room.evolve(sim.run, StepSucceeded(step="m"), sim.now)
    assert (sim.step_status("m"), state(sim).failures, state(sim).done) == ("succeeded", 1, 2)


def test_what_is_kept_names_its_body_by_digest() -> None:
    sim = long().perform()
    for event, _ in sim.history:
        if isinstance(event, ItemsKept):
            body = sim.shelf.bodies[event.piece.digest]
            assert (codec.sha256(body), len(body)) == (event.piece.digest, event.piece.size_bytes)
