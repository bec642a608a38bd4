"""What may have happened when a run was over is listed with its effects, and named where it is explained."""

from headrace import codec
from headrace.clock import SystemClock
from headrace.events.base import SYSTEM, ErrorInfo
from headrace.events.runs import (
    AttemptFailed,
    RunCancelled,
    RunEvent,
    StepFailed,
    StepsSucceeded,
    StepSucceeded,
    WriteClaimed,
)
from headrace.events.steering import Failure, OutcomeLost, OutcomeSettled
from headrace.keys import Keys
from headrace.messages import CancelRun, Wake
from headrace.plans.model import CallStep, Plan, PlanStep, ToolPin
from headrace.steering import SettleOutcome
from headrace_api.effects import Effects
from headrace_api.explaining import explain
from headrace_api.presence import Presence
from tests.planner.family_kit import House, pin, sub
from tests.planner.runs_kit import Sim, call

ACTS = ToolPin(version="1", digest="sha256:a", effect="write", access="auto", pool="runner", idempotent=False)
STEPS = (PlanStep(id="w", kind="tool", body=CallStep(tool="w", arguments={})),)


def listed(*events: RunEvent) -> list[str]:
    effects = Effects("run_1", Plan(name="d", kind="Workflow", steps=STEPS, tools={"w": ACTS}), 100)
    claimed = WriteClaimed(
        step="w", attempt=1, attempt_id="att_1", nonce="n", arguments_digest="sha256:d", worker="wrk_1"
    )
    effects.read([(at + 1, at, event) for at, event in enumerate([claimed, *events])])
    return [each["outcome"] for each in effects.listed]


def test_of_a_page_of_effects_that_are_done_no_more_is_read() -> None:
    effects = Effects("run_1", Plan(name="d", kind="Workflow", steps=STEPS, tools={"w": ACTS}), 1)
    claims = [
        WriteClaimed(
            step="w", index=place, attempt=1, attempt_id=f"att_{place}", nonce="n", arguments_digest="d", worker="w"
        )
        for place in range(3)
    ]
    effects.read([(place + 1, 0, claim) for place, claim in enumerate(claims)])
    assert (len(effects.listed), effects.complete) == (2, False)
    effects.read([(4, 0, StepSucceeded(step="w", index=0, attempt_id="att_0"))])
    assert effects.complete


def test_effects_whose_results_came_together_are_done_each() -> None:
    effects = Effects("run_1", Plan(name="d", kind="Workflow", steps=STEPS, tools={"w": ACTS}), 9)
    names = [f"att_{place}" for place in range(3)]
    claims = [
        WriteClaimed(step="w", index=place, attempt=1, attempt_id=name, nonce="n", arguments_digest="d", worker="w")
        for place, name in enumerate(names)
    ]
    effects.read([(place + 1, 0, claim) for place, claim in enumerate(claims)])
    results = tuple(StepSucceeded(step="w", index=place, attempt_id=names[place]) for place in range(2))
    effects.read([(4, 0, StepsSucceeded(results=results))])
    assert [each["outcome"] for each in effects.listed] == ["done", "done", "under_way"]


def test_the_effect_of_a_run_that_ended_while_it_acted_is_unknown() -> None:
    assert listed() == ["under_way"]
    assert listed(RunCancelled(by=SYSTEM, reason="")) == ["unknown"]
    error = ErrorInfo(type="tool_error", message="refused")
    failed = StepFailed(step="w", error=error, attempt=1, attempt_id="att_1")
    assert listed(failed, RunCancelled(by=SYSTEM, reason="")) == ["failed"]
    slow = ErrorInfo(type="timeout", message="attempt timeout")
    assert listed(StepFailed(step="w", error=slow, attempt=1, attempt_id="att_1", status="timed_out")) == ["unknown"]
    cut = StepFailed(step="w", error=error, attempt=1, attempt_id="att_1", status="timed_out")
    assert listed(cut) == ["unknown"], "whatever its worker says of why"
    useless = ErrorInfo(type="validation_error", message="a list", details={"outcome": "happened"})
    assert listed(StepFailed(step="w", error=useless, attempt=1, attempt_id="att_1")) == ["done"]


def test_each_attempt_of_a_write_says_what_became_of_it_alone() -> None:
    slow = ErrorInfo(type="timeout", message="too slow")
    first = AttemptFailed(step="w", attempt=1, attempt_id="att_1", status="timed_out", error=slow, retry_at=0)
    second = WriteClaimed(step="w", attempt=2, attempt_id="att_2", nonce="m", arguments_digest="d", worker="wrk_1")
    said = ErrorInfo(type="tool_error", message="refused", details={"outcome": "unknown", "attempt": 1})
    over = StepFailed(step="w", error=said, attempt=2, attempt_id="att_2")
    assert listed(first, second, over) == ["unknown", "failed"]
    since = Failure(error=ErrorInfo(type="tool_error", message="refused"), attempt=2, attempt_id="att_2")
    asked = OutcomeLost(step="w", attempt=1, attempt_id="att_1", nonce="n", reason="timeout", failure=since)
    assert listed(first, second, asked) == ["unknown", "failed"]
    acted = ErrorInfo(type="tool_error", message="refused", details={"outcome": "happened", "attempt": 1})
    assert listed(first, second, StepFailed(step="w", error=acted, attempt=2, attempt_id="att_2"))[1] == "failed"
    settled = OutcomeSettled(step="w", attempt=1, attempt_id="att_1", answer="not_happened", by=SYSTEM)
    assert listed(first, second, asked, settled, over) == ["not_happened", "failed"]


def test_a_run_that_is_over_is_explained_with_what_may_have_happened() -> None:
    sim = Sim(Plan(name="d", kind="Workflow", steps=(call("w", tool="w"),), tools={"w": ACTS})).create()
    row = sim.claim("w").do(CancelRun()).later(11).do(Wake()).row()
    presence = Presence(SystemClock(), Keys(b"k" * 32))
    row = codec.loads(codec.dumps(row))
    over, doubt = explain(row, [], None, presence, {})
    assert over["message"].startswith("it is over: cancelled")
    assert doubt["message"].startswith("whether w happened is unknown")
    assert doubt["remedy"] == f"look at the outside system; `headrace runs effects {sim.id}` has worker, time and key"


def test_what_may_have_happened_in_a_child_is_looked_for_in_the_child() -> None:
    kid = Plan(name="kid", kind="Workflow", steps=(call("w", tool="w"),), tools={"w": ACTS})
    steps = (sub("c", items=[1, 2], on_item_error="collect"), call("w", "c", tool="w"))
    sim = Sim(Plan(name="d", kind="Workflow", steps=steps, tools={"w": ACTS}, workflows={"kid": pin(kid)})).create()
    house = House(kid)
    house.move_in(sim)
    house.mail()
    first, second = (each for each in house.sims.values() if each is not sim)
    first.claim("w").lose("w").do(SettleOutcome(step="w", answer="give_up"))
    second.claim("w").report("w")
    house.mail()
    sim.claim("w").do(CancelRun()).later(11).do(Wake())
    row = codec.loads(codec.dumps(sim.row()))
    assert row["detail"]["unknown_outcomes"] == ["c[0]", "w"]
    _, own, below = explain(row, [], sim.run.graph.plan, Presence(SystemClock(), Keys(b"k" * 32)), {})
    assert (own["step"], own["message"].partition(":")[0]) == ("w", "whether w happened is unknown")
    assert (below["step"], below["message"]) == (
        "c",
        "whether all that c[0] did happened is unknown: a child run says so",
    )
    assert f"`headrace runs show {sim.id}`" in below["remedy"]
