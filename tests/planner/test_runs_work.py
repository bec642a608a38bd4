"""Much work that may have to be undone leaves the state as pieces, and is undone as if it were there; what all this costs."""

import msgspec
import pytest

from headrace.decider import MissingError
from headrace.events.runs import RunFailed, StepSucceeded
from headrace.events.steering import WorkKept, WorkRecalled
from headrace.messages import Wake
from headrace.plans.model import LoopStep
from headrace.vocabulary import COMPENSATION_TIMEOUT_S
from headrace_planner.runs import work
from headrace_planner.runs.bounds import USUAL, Bounds
from tests.planner.leavings_kit import FEW, MANY, left_by, mapped, perform, shuffled, sim_of, undoing, undone
from tests.planner.runs_kit import Sim, call, step
from tests.planner.test_runs_maps import STATE_BYTES_AN_ITEM, Long, held, size_of


def looped(bounds: Bounds) -> Sim:
    """A run that does work of every kind, some beside some other, and fails."""
    every = {"item": "{{ item }}", "index": "{{ index }}", "got": "{{ output.n }}"}
    sim = sim_of(
        call("a"),
        mapped("m"),
        mapped("n"),
        step("l", LoopStep(condition="iteration < 2", body=("in", "one")), "a"),
        call("in", items="{{ [iteration, iteration * 10] }}", parent="l"),
        call("one", "in", parent="l"),
        call("bad"),
        bounds=bounds,
        compensations=(
            undoing("a"),
            undoing("m", **every),
            undoing("n", **every),
            undoing("in", **every),
            undoing("one"),
        ),
    )
    sim.report("a", "A")
    for index in shuffled():
        sim.report(f"m[{index}]", {"n": f"m{index}"}).report(f"n[{index}]", {"n": f"n{index}"})
        if index in {3, 20}:
            sim.report("in[1]", {"n": 1}).report("in[0]", {"n": 0}).report("one", {"round": index})
    return sim.fail("bad")


def test_what_was_put_away_is_undone_in_the_same_order_with_the_same_arguments() -> None:
    few, usual = looped(FEW), looped(USUAL)
    assert (few.names.count("work.kept") > 10, "work.kept" in usual.names) == (True, False)
    ordered, wanted = undone(few), undone(usual)
    assert ordered == wanted
    assert len(ordered) == 2 * MANY + 2 * 3 + 1
    assert ordered[0] == (
        "n.compensate[29]",
        {"item": shuffled()[-1], "index": shuffled()[-1], "got": f"n{shuffled()[-1]}"},
    )
    assert (few.status, few.why()) == (usual.status, usual.why())
    assert few.row()["detail"]["error"] == usual.row()["detail"]["error"]
    assert few.names.count("work.recalled") == few.names.count("work.kept")
    assert (few.run.data.work, few.run.data.done) == ([], [])


def test_undoing_reads_one_body_after_the_other_and_none_before_it_is_due() -> None:
    sim = sim_of(mapped(), call("bad"), compensations=(undoing("m"),))
    perform(sim).fail("bad")
    (last, before) = [piece.digest for piece in reversed(sim.run.data.work)][:2]
    sim.shelf.missing |= {piece.digest for piece in sim.run.data.work}
    while sim.run.data.done:
        (_, index) = sim.run.under_way()[0]
        sim.report(f"m.compensate[{index}]")
    (_, index) = sim.run.under_way()[0]
    with pytest.raises(MissingError) as missing:
        sim.report(f"m.compensate[{index}]")
    assert missing.value.digests == (last,)
    assert before != last


def test_an_owner_that_takes_over_in_the_middle_goes_on_where_undoing_stood() -> None:
    sim = sim_of(mapped(), call("bad"), compensations=(undoing("m", index="{{ index }}"),))
    perform(sim, order=shuffled()).fail("bad")
    seen = undone(sim, limit=11)
    sim.run = sim.room.restore(sim.room.snapshot(sim.run))
    assert any(
        "19 more follow" in reason.message or "18 more follow" in reason.message for reason in sim.room.explain(sim.run)
    )
    seen += undone(sim)
    assert [arguments["index"] for _, arguments in seen] == shuffled()[::-1]
    assert [name for name, _ in seen] == [f"m.compensate[{place}]" for place in reversed(range(MANY))]


def test_steps_that_are_done_once_are_undone_without_items_also_from_a_body() -> None:
    names = [f"s{number}" for number in range(9)]
    chain = [call(name, *names[max(0, place - 1) : place]) for place, name in enumerate(names)]
    sim = sim_of(*chain, call("bad", names[-1]), compensations=tuple(undoing(name) for name in names))
    for name in names:
        sim.report(name, name.upper())
    sim.fail("bad")
    assert "work.kept" in sim.names
    wanted = [(f"{name}.compensate", {"undo": name.upper()}) for name in reversed(names)]
    assert undone(sim) == wanted


def test_an_undoing_without_end_names_what_is_left_also_of_what_was_put_away() -> None:
    sim = sim_of(mapped(), call("bad"), compensations=(undoing("m"),))
    perform(sim).fail("bad")
    undone(sim, limit=2)
    sim.later(COMPENSATION_TIMEOUT_S).do(Wake())
    assert (sim.status, sim.run.data.error is not None) == ("failed", True)
    compensation = msgspec.to_builtins(sim.run.data.error)["details"]["compensation"]
    assert compensation["left"] == [f"m[{index}]" for index in range(MANY - 3, MANY - 23, -1)]
    assert sim.why().endswith("m[8], …")


def test_what_could_not_be_undone_is_counted_also_when_it_has_left_the_state() -> None:
    sim = sim_of(mapped(), call("bad"), compensations=(undoing("m"),))
    perform(sim).fail("bad")
    while sim.status == "running":
        ((_, index),) = sim.run.under_way()
        name = f"m.compensate[{index}]"
        sim.fail(name, f"no {index}", retryable=False) if index in {3, 25} else sim.report(name)
    known = sim.run.peek("m.compensate")
    assert known.map is not None and known.error is not None  # noqa: PT018  (one thought)
    assert len(known.map.pieces) > 1
    assert known.error.message == f"2 of {MANY} could not be undone, the first m.compensate[3]: no 3"
    assert sim.why().endswith("; not undone: m.compensate")


def test_a_run_of_which_all_work_is_put_away_is_still_undone() -> None:
    sim = sim_of(mapped(), call("bad"), count=4, compensations=(undoing("m"),))
    for index in range(4):
        sim.report(f"m[{index}]", index)
    assert (sim.run.data.done, len(sim.run.data.work)) == ([], 1)
    sim.fail("bad")
    assert [name for name, _ in undone(sim)] == [f"m.compensate[{place}]" for place in (3, 2, 1, 0)]
    assert isinstance(sim.history[-1][0], RunFailed)


def test_work_that_is_recalled_was_kept_under_its_digest_in_the_order_in_which_it_was_done() -> None:
    sim = looped(FEW)
    undone(sim)
    kept = [event.piece for event, _ in sim.history if isinstance(event, WorkKept)]
    recalled = [event for event, _ in sim.history if isinstance(event, WorkRecalled)]
    assert [event.digest for event in recalled] == [piece.digest for piece in reversed(kept)]
    assert [sum(len(group.indexes) for group in event.done) for event in recalled] == [
        sum(piece.steps.values()) for piece in reversed(kept)
    ]
    did = [event for event, _ in sim.history if isinstance(event, StepSucceeded) and event.step in sim.run.graph.undo]
    told = [
        (group.step, index, group.iteration)
        for event in reversed(recalled)
        for group in event.done
        for index in group.indexes
    ]
    wanted = [
        (event.step, event.index, event.iteration) for event in did if event.step != "in" or event.index is not None
    ]
    assert told == wanted[: len(told)]


# --- what it costs -----------------------------------------------------------------------------------------------


def test_ten_thousand_items_that_leave_artifacts_and_may_have_to_be_undone_cost_the_state_next_to_nothing() -> None:
    """Neither while they are done nor while they are undone."""
    done, undoing_too = {}, {}
    for count in (2_000, 8_000):
        sim = sim_of(mapped(), call("bad"), count=count, bounds=USUAL, kind=Long, compensations=(undoing("m"),))
        _all(sim, count)
        done[count] = _held(sim)
        sim.fail("bad")
        for _ in range(count - 500):
            ((_, index),) = sim.run.under_way()
            sim.report(f"m.compensate[{index}]", artifacts=left_by(index))
            _forget(sim)
        undoing_too[count] = _held(sim)
    assert (done[8_000] - done[2_000]) / 6_000 < STATE_BYTES_AN_ITEM
    assert (undoing_too[8_000] - undoing_too[2_000]) / 6_000 < STATE_BYTES_AN_ITEM


def _all(sim: Sim, count: int) -> None:
    for index in range(count):
        sim.report(f"m[{index}]", {"n": index}, artifacts=left_by(index))
        _forget(sim)


def _forget(sim: Sim) -> None:
    sim.history.clear()
    sim.dispatched.clear()


def _held(sim: Sim) -> int:
    assert work.count(sim.run) >= 0
    return held(sim.run) - size_of(sim.run.data.queued, set())
