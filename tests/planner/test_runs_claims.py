"""What a run has permitted and has no word of: `db adopt` gives it up, since who holds it answers to another database."""

from typing import Any

from headrace import codec
from headrace.messages import CancelRun, LoseAttempt
from headrace.plans.model import Plan, PlanStep, Retry, ToolPin
from headrace.steering import SettleOutcome
from headrace_planner.runs.claims import given_up
from tests.planner.runs_kit import READ, Sim, call

ACTS = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)
KEYED = ToolPin(version="1", digest="sha256:i", effect="write", access="auto", pool="runner", idempotent=True)
TOOLS = {"w": ACTS, "k": KEYED, "read": READ}


def made(*steps: PlanStep, **more: Any) -> Sim:
    return Sim(Plan(name="d", kind="Workflow", steps=steps, tools=TOOLS, **more)).create()


def lost(sim: Sim) -> list[LoseAttempt]:
    return list(given_up(sim.run))


def test_every_open_claim_is_given_up_under_its_own_worker_and_nothing_else_is() -> None:
    sim = made(call("w", tool="w"), call("k", tool="k"), call("r"), call("later", "r", tool="w"))
    assert lost(sim) == []
    sim.claim("w", nonce="a").claim("k", nonce="b")
    assert lost(sim) == [
        LoseAttempt(step=name, attempt=1, attempt_id=sim.orders[name].attempt_id, worker="wrk_1") for name in ("w", "k")
    ]


def test_of_a_map_the_items_that_act_are_given_up_one_by_one() -> None:
    sim = made(call("w", tool="w", items=[1, 2, 3])).claim("w[0]").claim("w[2]", nonce="b").report("w[0]", 1)
    (one,) = lost(sim)
    assert (one.step, one.index, one.attempt_id) == ("w", 2, sim.orders["w[2]"].attempt_id)


def test_the_newest_attempt_is_given_up_and_none_that_is_over() -> None:
    sim = made(call("k", tool="k", retry=Retry(max_attempts=3, initial_s=0))).claim("k").fail("k", "broken")
    assert lost(sim) == [], "the first attempt is over, the second has no claim yet"
    sim.claim("k", nonce="b")
    assert [(one.attempt, one.attempt_id) for one in lost(sim)] == [(2, sim.orders["k"].attempt_id)]
    assert lost(sim.report("k", {})) == []


def test_what_is_given_up_is_asked_about_or_tried_again_and_then_there_is_nothing_left_to_give_up() -> None:
    sim = made(call("w", tool="w"), call("k", tool="k")).claim("w", nonce="a").claim("k", nonce="b")
    for command in lost(sim):
        sim.do(command)
    assert (sim.step_status("w"), sim.row()["detail"]["waiting"][0]["for"]) == ("waiting", "input")
    assert sim.orders["k"].attempt == 2
    assert lost(sim) == [], "what a person is asked about is with nobody"
    assert (
        sim.claim("k", nonce="c")
        .report("k", {})
        .do(SettleOutcome(step="w", answer="happened", output=codec.raw({})))
        .status
        == "succeeded"
    )
    assert lost(sim) == []


def test_what_undoes_others_is_given_up_too_and_a_run_that_is_over_has_nothing_left() -> None:
    undo = call("w.compensate", tool="k", compensates="w")
    sim = made(call("w", tool="w"), call("r"), compensations=(undo,)).claim("w").report("w", {}).do(CancelRun())
    sim.fail("r", "stopped", "cancelled", status="cancelled").claim("w.compensate", nonce="u")
    assert [one.step for one in lost(sim)] == ["w.compensate"]
    assert lost(sim.report("w.compensate", {})) == []
    assert lost(made(call("w", tool="w")).claim("w").do(CancelRun()).later(11)) != []
