"""What is said of a map, each of whose items may wait for something else, and of a loop, which is as far as its body."""

from typing import Any

from headrace.clock import SystemClock
from headrace.codec import encode
from headrace.keys import POOL, Keys
from headrace.messages import CancelRun
from headrace.plans.model import LoopStep, Plan, PlanStep, Retry, WaitStep
from headrace.steering import GrantPermit, PauseRun, ResumeRun
from headrace.wire import Beat, Holding
from headrace_api.explaining import explain
from headrace_api.presence import Presence
from tests.planner.any_run import TOOLS
from tests.planner.runs_kit import Sim, call, step

AGAIN = Retry(max_attempts=3, initial_s=60)
NOTHING = "nothing to do"
KEYS = Keys(b"k" * 32)


def run_of(*steps: PlanStep, undoes: tuple[PlanStep, ...] = ()) -> Sim:
    return Sim(Plan(name="d", kind="Workflow", steps=steps, tools=TOOLS, compensations=undoes)).create()


def mapped(name: str = "m", count: int = 3, tool: str = "read", **more: Any) -> PlanStep:
    return call(name, tool=tool, items=list(range(count)), retry=AGAIN, **more)


def workers(sim: Sim, *held: str, slots: int = 8) -> Presence:
    """Give the presence of one worker that holds these instances, and others' work besides where its slots are few."""
    presence = Presence(SystemClock(), KEYS)
    mine = [
        Holding(attempt_id=order.attempt_id, tool="read", since=1, run_id=sim.id, step=order.step, begun=True)
        for order in (sim.orders[each] for each in held)
    ]
    others = [Holding(attempt_id="att_other", tool="read", since=1, run_id="run_other", begun=True)] * (slots == 1)
    beat = Beat(worker="wrk_1", service="w", host="h", pools=("runner",), slots=slots, holding=(*mine, *others))
    presence.deliver(KEYS.pack(POOL + "runner", encode(beat)))
    return presence


def told(sim: Sim, presence: Presence | None = None) -> list[tuple[str | None, str, str]]:
    steps = [row.columns for row in sim.room.rows(sim.run, None) if row.table == "steps"]
    found = explain(sim.row(), steps, sim.run.graph.plan, presence or workers(sim), {})
    return [(each["waiting_for"], each["message"].partition(" at 20")[0], each["remedy"]) for each in found]


def said(sim: Sim, presence: Presence | None = None) -> list[tuple[str | None, str]]:
    return [(waits, message) for waits, message, _ in told(sim, presence)]


def test_items_that_wait_to_be_tried_again_are_named_beside_a_step_that_is_performed() -> None:
    sim = run_of(mapped(), call("beside"))
    for place in range(3):
        sim.fail(f"m[{place}]", retryable=True)
    assert (sim.status, sim.row()["waiting_for"]) == ("running", None)
    (wait,) = sim.row()["detail"]["waiting"]
    assert (wait["step"], wait["for"], wait["message"], wait["items"]) == ("m", "retry", "3 items", 3)
    assert wait["until"] == sim.room.wake_at(sim.run)
    assert said(sim, workers(sim, "beside"))[:1] == [
        ("retry", "3 items of step m failed and are tried again, the first of them")
    ]
    assert not [message for _, message in said(sim, workers(sim, "beside")) if message.startswith("step m")]
    sim.report("beside")
    assert (sim.status, sim.row()["waiting_for"]) == ("waiting", "retry")


def test_of_a_map_some_items_of_which_wait_it_is_said_that_the_others_are_with_workers() -> None:
    sim = run_of(mapped(count=5, concurrency=2))
    sim.fail("m[0]", retryable=True)
    assert said(sim, workers(sim, slots=0))[0] == ("retry", "1 item of step m failed and is tried again")
    assert sim.row()["detail"]["at_workers"] == {"m": 1}
    performed = said(sim, workers(sim, "m[1]"))[-1][1]
    assert performed.startswith("step m is performed by worker wrk_1 since")
    assert said(sim, workers(sim, slots=1))[-1] == (
        None,
        "step m waits in line for the pool 'runner': the only slot of its only worker is taken (0 of 5 items are over)",
    )
    sim.report("m[1]")
    assert said(sim, workers(sim, "m[2]"))[-1][1].startswith("step m is performed")


def test_a_paused_map_with_nothing_under_way_rests() -> None:
    sim = run_of(mapped(count=5, concurrency=2)).do(PauseRun())
    sim.report("m[0]")
    sim.fail("m[1]", retryable=True)
    waits = [message.partition(", not before")[0] for _, message in said(sim)]
    assert waits == [
        "it is paused by ann: nothing new begins",
        "1 item of step m failed and is tried again when the run goes on",
    ]
    sim = run_of(mapped(count=5, concurrency=2)).do(PauseRun())
    sim.report("m[0]").report("m[1]")
    assert told(sim)[1:] == [(None, "step m rests: 2 of 5 items are over", "nothing to do but to resume the run")]
    sim.do(ResumeRun())
    assert said(sim, workers(sim, "m[2]", "m[3]"))[0][1].startswith("step m is performed")


def test_items_in_doubt_and_items_in_line_for_a_rate_hide_none_that_are_with_workers() -> None:
    sim = run_of(mapped(tool="acts")).claim("m[0]").lose("m[0]")
    presence = Presence(SystemClock(), KEYS)
    assert [waits for waits, _ in said(sim)] == ["input", None]
    assert sim.row()["detail"]["at_workers"] == {"m": 2}
    sim = run_of(mapped(tool="rated"))
    assert [waits for waits, _ in said(sim, presence)][:1] == ["rate_limit"]
    assert not [message for _, message in said(sim) if "step m" in message], "none is with workers"
    ((permit_id, permit),) = sim.run.data.permits.items()
    sim.do(GrantPermit(permit_id=permit_id, flow_id=permit.flow_id, count=2))
    assert said(sim)[0] == ("rate_limit", "waiting for 1 attempt: the rate limit of rated (2 in 60 s)")
    assert said(sim)[1][1].startswith("step m was handed to the pool 'runner'")
    assert said(sim)[1][1].endswith("(0 of 3 items are over)")


def test_a_map_whose_run_comes_to_its_end_is_being_stopped() -> None:
    sim = run_of(mapped(count=5, concurrency=2)).do(CancelRun())
    assert told(sim)[1:] == [(None, "step m is being stopped: 0 of 5 items are over, 2 are with workers", NOTHING)]
    undoes = (call("a.compensate", tool="keyed", compensates="a"),)
    sim = run_of(call("a", tool="keyed"), mapped(), call("bad", "a"), undoes=undoes).claim("a").report("a")
    sim.fail("bad", retryable=False)
    assert said(sim) == [
        (None, "it failed: attempts under way are being stopped, then what its steps did is undone"),
        (None, "step m is being stopped: 0 of 3 items are over, 3 are with workers"),
    ]
    for place in range(3):
        sim.report(f"m[{place}]", status="cancelled")
    assert said(sim)[0] == (None, "what its steps did is being undone, a now")
    assert not [message for _, message in said(sim) if "step m" in message]


def test_a_loop_is_as_far_as_its_body() -> None:
    loop = step("again", LoopStep(condition="true", body=("nap", "look"), cap=5))
    nap = step("nap", WaitStep(seconds=30.0), parent="again")
    sim = run_of(loop, nap, call("look", "nap", parent="again"))
    assert said(sim) == [("timer", "step nap waits until 2026-09-21T14:13:50.000Z")]
    sim.do(PauseRun())
    assert [waits for waits, _ in said(sim)] == ["resume", "timer"]
