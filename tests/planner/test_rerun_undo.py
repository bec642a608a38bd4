"""Running again what can be undone: what an earlier run did is undone by that run, once, or stands and is undone by nobody."""

from collections import Counter

import pytest
from pydantic import BaseModel

import headrace
from headrace import codec
from headrace.errors import ConflictError, StepError
from headrace.messages import Wake
from headrace.plans.model import LoopStep, PlanStep
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import COMPENSATION_TIMEOUT_S
from headrace_planner.runs.reuse import reused_steps
from tests.planner.runs_kit import Sim, call, plan, step
from tests.planner.test_runs_rerun import again
from tests.planner.test_runs_undo import performed, undoing

STEPS = (call("a"), call("m", "a", items=["x", "y"]), call("c", "m"))
UNDOES = tuple(undoing(name, arguments={"undo": "{{ output }}"}) for name in ("a", "m"))


def house(*steps: PlanStep, undoes: tuple[PlanStep, ...] = UNDOES) -> Sim:
    return Sim(plan(*(steps or STEPS), compensations=undoes)).create()


def done(sim: Sim, *names: str) -> Sim:
    for name in names:
        sim.report(name, {"of": name})
    return sim


def told(sim: Sim, from_step: str) -> str:
    with pytest.raises(ConflictError) as refused:
        reused_steps(sim.run, from_step)
    return refused.value.message


def test_what_stands_from_a_run_that_succeeded_is_not_undone_when_the_rerun_fails() -> None:
    first = done(house(), "a", "m[0]", "m[1]", "c")
    assert first.status == "succeeded"
    second = again(first, "c").fail("c")
    assert (second.status, second.names[-1], performed(second)) == ("failed", "run.failed", [])
    assert not [name for name in second.orders if ".compensate" in name]
    third = again(second, "c")
    assert done(third, "c").status == "succeeded", "it stands still, two runs on"


def test_items_that_the_rerun_did_are_undone_by_it_each_once_and_what_stands_before_them_is_not() -> None:
    second = again(done(house(), "a", "m[0]", "m[1]", "c"), "m")
    done(second, "m[1]", "m[0]").fail("c")
    seen = []
    for number in (1, 0):
        seen.append(codec.loads(second.orders[f"m.compensate[{number}]"].arguments)["undo"]["of"])
        second.report(f"m.compensate[{number}]")
    assert (seen, second.status, "a.compensate" in second.orders) == (["m[0]", "m[1]"], "failed", False)
    assert "step 'm', which 'c' needs, was undone by 'm.compensate': run again from 'm'" in told(second, "c")
    third = again(second, "m")
    assert (third.step_status("a"), sorted(third.orders)) == ("succeeded", ["m[0]", "m[1]"])


def test_of_a_run_that_was_undone_nothing_stands_that_it_did() -> None:
    first = done(house(), "a", "m[0]", "m[1]").fail("c")
    done(first, "m.compensate[1]", "m.compensate[0]", "a.compensate")
    assert first.status == "failed"
    for from_step in ("m", "c"):
        assert f"'a', which {from_step!r} needs, was undone by 'a.compensate': run again from 'a'" in told(
            first, from_step
        )
    second = done(again(first, "a"), "a", "m[0]", "m[1]").fail("c")
    done(second, "m.compensate[1]", "m.compensate[0]", "a.compensate")
    assert (second.status, performed(second).count("a.compensate")) == ("failed", 1)


def test_what_could_not_be_undone_or_not_in_time_does_not_stand() -> None:
    first = done(house(undoes=UNDOES[1:]), "a", "m[0]", "m[1]").fail("c")
    first.report("m.compensate[1]").fail("m.compensate[0]")
    assert first.status == "failed"
    assert "'m', which 'c' needs, was to be undone by 'm.compensate', which is failed" in told(first, "c")
    late = done(house(), "a", "m[0]", "m[1]").fail("c").later(COMPENSATION_TIMEOUT_S).do(Wake())
    assert (late.status, late.step_status("m.compensate"), late.step_status("a.compensate")) == (
        "failed", "cancelled", "pending",
    )  # fmt: skip
    assert "'a', which 'm' needs, was to be undone by 'a.compensate', and the time for that was over" in told(late, "m")


def test_a_loop_whose_rounds_were_undone_does_not_stand() -> None:
    loop = step("again", LoopStep(condition="iteration < 2", body=("in",)))
    steps = (loop, call("in", parent="again"), call("c", "again"))
    undoes = (undoing("in"),)
    first = done(house(*steps, undoes=undoes), "in", "in").fail("c")
    done(first, "in.compensate[1]", "in.compensate[0]")
    assert "'in', which 'c' needs, was undone by 'in.compensate': run again from 'again'" in told(first, "c")
    beside = done(house(*steps[:2], call("c"), undoes=undoes), "in", "in").fail("c")
    done(beside, "in.compensate[1]", "in.compensate[0]")
    assert sorted(again(beside, "c").orders) == ["c", "in"], "it is performed anew beside"
    third = done(again(done(house(*steps, undoes=undoes), "in", "in", "c"), "c")).fail("c")
    assert (third.status, performed(third)) == ("failed", [])


# --- in the whole engine -----------------------------------------------------------------------------------------


class Booked(BaseModel):
    """A booking."""

    id: str


class World:
    """What was booked and given back; no train goes while it is broken, and nothing is given back while it is stuck."""

    def __init__(self) -> None:
        self.booked: Counter[str] = Counter()
        self.given_back: Counter[str] = Counter()
        self.broken, self.stuck = True, False

        @headrace.tool(effect="write", access="auto", idempotent=True)
        async def book(room: str) -> Booked:
            """Book a room."""
            self.booked[room] += 1
            return Booked(id=f"{room}/{self.booked[room]}")

        @headrace.tool(effect="write", access="auto", idempotent=True)
        async def give_back(booking: str) -> Booked:
            """Give a booking back."""
            if self.stuck:
                message = "nobody is there"
                raise StepError(message, type="upstream_error")
            self.given_back[booking] += 1
            return Booked(id=booking)

        @headrace.tool(effect="read", access="auto")
        async def travel() -> Booked:
            """Fail while something is broken."""
            if self.broken:
                message = "no train"
                raise StepError(message, type="upstream_error")
            return Booked(id="t")

        self.tools = [book, give_back, travel]


JOURNEY = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: journey}
spec:
  outputs: "{{ [steps.train.output.id, steps.rooms.output] }}"
  steps:
    - {id: house, tool: book, with: {room: house}, compensate: {tool: give_back, with: {booking: "{{ output.id }}"}}}
    - id: rooms
      depends_on: [house]
      map: [x, y]
      tool: book
      with: {room: "{{ item }}"}
      compensate: {tool: give_back, with: {booking: "{{ output.id }}"}}
    - {id: train, depends_on: [rooms], tool: travel}
"""


@in_virtual_time
async def test_over_reruns_everything_booked_is_kept_by_one_run_or_given_back_once() -> None:
    world = World()
    async with Engine(tools=world.tools) as engine:
        first = await engine.run(JOURNEY)
        await first.until("failed")
        assert world.given_back == Counter({"house/1": 1, "x/1": 1, "y/1": 1})
        with pytest.raises(ConflictError, match="'house', which 'train' needs, was undone"):
            await engine.rerun(first, "train")
        world.broken = False
        second = await engine.rerun(first, "house")
        await second.until("succeeded")
        assert second.outputs == ["t", [{"id": "x/2"}, {"id": "y/2"}]]
        world.broken = True
        third = await engine.rerun(second, "rooms")
        await third.until("failed")
        assert {one for one in world.given_back if one.endswith("/3")} == {"x/3", "y/3"}
        fourth = await engine.rerun(second, "train")
        await fourth.until("failed")
        world.broken = False
        fifth = await engine.rerun(fourth, "train")
        await fifth.until("succeeded")
        assert fifth.outputs == ["t", [{"id": "x/2"}, {"id": "y/2"}]]
    kept = {f"{room}/{number}" for room, count in world.booked.items() for number in range(1, count + 1)}
    assert kept - set(world.given_back) == {"house/2", "x/2", "y/2"}
    assert set(world.given_back.values()) == {1}
