"""Runs of any shape with people, waits, branches, loops in loops and children, to which anything happens."""

import random
from contextlib import suppress
from typing import Any

from headrace import codec
from headrace.decider import Rejection
from headrace.errors import HeadraceError
from headrace.messages import CancelRun, ResolveApproval, RunCommand, Wake
from headrace.plans.model import (
    ApprovalStep,
    ConditionStep,
    LoopStep,
    Plan,
    PlanStep,
    Retry,
    SubWorkflowStep,
    TransformStep,
    WaitStep,
)
from headrace.steering import DeliverEvent, PauseRun, ResumeRun, SignalRun
from headrace_planner.runs.reuse import reused_steps
from tests.planner.any_run import TOOLS, AnyRun
from tests.planner.family_kit import House, pin
from tests.planner.runs_kit import BOB, Sim, call, step
from tests.planner.second_reading import judge
from tests.planner.test_runs_rerun import again

DECISIONS = ("approved", "approved", "approved", "rejected", "expired")
DRAIN_MAX = 900
KID = Plan(
    name="kid",
    kind="Workflow",
    steps=(
        call("k", tool="keyed", retry=Retry(max_attempts=2, initial_s=5)),
        step("rest", WaitStep(seconds=20.0), "k"),
    ),
    tools=TOOLS,
    fuse=False,
)


class Author:
    """Writes a plan: bodies of a few steps, some of them loops with bodies of their own."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.steps: list[PlanStep] = []
        self.undoes: list[PlanStep] = []

    def plan(self) -> Plan:
        """Give it."""
        self._body("s", "", self.chance.randint(2, 5), 2)
        return Plan(
            name="d", kind="Workflow", steps=tuple(self.steps), tools=TOOLS, compensations=tuple(self.undoes),
            workflows={"kid": pin(KID)}, timeout_s=self.chance.choice([1800, 300]), fuse=False,
        )  # fmt: skip

    def _body(self, prefix: str, parent: str, count: int, depth: int) -> tuple[str, ...]:
        names: list[str] = []
        chosen: dict[str, str] = {}
        for number in range(count):
            name = f"{prefix}{number}"
            needs = [known for known in names if self.chance.random() < 0.35]
            if name in chosen and chosen[name] not in needs:
                needs.append(chosen[name])
            more: dict[str, Any] = {"parent": parent} if parent else {}
            kind = self.chance.random()
            if kind < 0.12 and depth:
                body = self._body(f"{name}_", name, self.chance.randint(1, 3), depth - 1)
                rounds = self.chance.randint(0, 2)
                self.steps.append(
                    step(name, LoopStep(condition=f"iteration < {rounds}", body=body, cap=4), *needs, **more)
                )
            elif kind < 0.2 and number + 2 < count:
                left, right = f"{prefix}{number + 1}", f"{prefix}{number + 2}"
                chosen |= {left: name, right: name}
                truth = self.chance.choice(["true", "false"])
                body_ = ConditionStep(expression=truth, then=(left,), otherwise=(right,))
                self.steps.append(step(name, body_, *needs, **more))
            else:
                self.steps.append(self._plain(name, needs, more))
            names.append(name)
        return tuple(names)

    def _plain(self, name: str, needs: list[str], more: dict[str, Any]) -> PlanStep:
        chance = self.chance

        def some(share: float, **fields: Any) -> None:
            if chance.random() < share:
                more.update(fields)

        some(0.3, on_error="continue")
        some(0.1, when=chance.choice(["true", "false"]))
        kind = chance.random()
        if kind < 0.1:
            return step(name, ApprovalStep(expires_s=chance.choice([None, 60.0])), *needs, **more)
        if kind < 0.17:
            return step(name, WaitStep(seconds=20.0), *needs, **more)
        if kind < 0.24:
            return step(name, WaitStep(signal="go", expires_s=chance.choice([None, 30.0])), *needs, **more)
        if kind < 0.29:
            return step(name, WaitStep(event="pushed", expires_s=chance.choice([None, 30.0])), *needs, **more)
        if kind < 0.33:
            return step(name, TransformStep(value=1), *needs, **more)
        some(0.5, retry=Retry(max_attempts=chance.randint(2, 3), initial_s=chance.choice([0, 5, 60])))
        if chance.random() < 0.35:
            more["items"] = list(range(chance.randint(0, 4)))
            some(0.3, on_item_error="collect")
            some(0.4, concurrency=chance.randint(1, 2))
        some(0.2, step_timeout_s=40)
        if kind < 0.45:
            return step(name, SubWorkflowStep(workflow="kid"), *needs, **more)
        some(0.15, queue_timeout_s=30)
        some(0.1, confirm=True)
        tool = chance.choice(["acts", "keyed", "keyed", "rated", "read", "read"])
        if tool != "read" and chance.random() < 0.5:
            retry = Retry(max_attempts=chance.choice([1, 2]), initial_s=chance.choice([0, 30]))
            self.undoes.append(
                call(f"{name}.compensate", tool=chance.choice(["acts", "keyed", "read"]), compensates=name, retry=retry)
            )
        return call(name, *needs, tool=tool, **more)


class AnyHouse(AnyRun):
    """A run and its children, drawn from a seed; after everything that happens each is held against the second reading."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  (a test's own dice)
        self.plan = Author(self.chance).plan()
        self.house = House(KID, self.plan)
        self.top = self.sim = self.house.move_in(Sim(self.plan).create())
        self.said = []
        self.claims = self.count = 0
        self._look()

    def live(self) -> None:
        for _ in range(self.chance.randint(3, 60)):
            going = [sim for sim in self.house.sims.values() if not sim.run.final and sim.run.exists]
            if not going:
                break
            self.sim = self.chance.choice([self.top, *going]) if not self.top.run.final else self.chance.choice(going)
            self._step()
            if self.chance.random() < 0.8:
                self._mail()
        self._drain()
        for sim in self.house.sims.values():
            self.sim, self.plan = sim, sim.run.graph.plan
            self._judge()

    def _judge_doubts(self, outcomes: dict[str, list[str]]) -> None:
        """Of a child its own history says what may have happened: what is named of its step is known there."""
        families = {each.id for each in self.plan.steps if isinstance(each.body, SubWorkflowStep)}
        below = [name for name in self.sim.run.data.doubts if name.partition("[")[0].partition("#")[0] in families]
        assert len(below) <= sum(
            bool(each.run.data.doubts) for each in self.house.sims.values() if each is not self.sim
        )
        super()._judge_doubts({**outcomes, **{name: ["unknown"] for name in below}})

    def _step(self) -> None:
        roll, out = self.chance.random(), any(not trial.idle for _, trial in self._open())
        if roll < 0.3 and self.sim.run.asked():
            self._decide(self.chance.choice(DECISIONS))
        elif roll < (0.1 if out else 0.3):
            self._outside()
        elif out and roll < 0.9:
            self._turn()
        elif roll < 0.95:
            self.sim.later(self.chance.choice([1, 5, 21, 41, 61]))
            self._do(Wake())
        else:
            steering: list[RunCommand] = [PauseRun(), PauseRun(), ResumeRun(), ResumeRun(), CancelRun(reason="x")]
            self._do(self.chance.choice(steering))

    def _do(self, command: RunCommand) -> None:
        super()._do(command)
        self._look()

    def _look(self) -> None:
        for sim in self.house.sims.values():
            if sim.run.exists:
                judge(sim)

    def _mail(self) -> None:
        for sim in self.house.sims.values():
            sim.now = max(each.now for each in self.house.sims.values())
        self.house.mail()
        self._look()

    def _decide(self, status: str) -> None:
        ask = self.chance.choice(self.sim.run.asked())
        self._do(
            ResolveApproval(approval_id=ask.approval_id, step=ask.step, status=status, digest=ask.digest, by=(BOB,))
        )

    def _outside(self) -> None:
        self.count += 1
        if self.chance.random() < 0.5:
            self._do(SignalRun(signal_id=f"sig{self.count}", name="go", data=codec.raw(1)))
        else:
            self._do(DeliverEvent(source="trigger", name="pushed", event_id=f"e{self.count}", at=1, data=codec.raw({})))

    def _drain(self) -> None:
        for _ in range(DRAIN_MAX):
            self._mail()
            going = [sim for sim in self.house.sims.values() if sim.run.exists and not sim.run.final]
            if not going:
                return
            if not any(self._goes_on(sim) for sim in going):
                self._wait(going)
        stuck = {sim.id: sim.row()["detail"]["waiting"] for sim in going}
        assert not stuck, f"they do not end: {stuck}"

    def _goes_on(self, sim: Sim) -> bool:
        self.sim = sim
        if sim.run.data.paused is not None and sim.run.data.paused.parent_id is None and not sim.run.halted:
            self._do(ResumeRun())
            assert not isinstance(sim.last, Rejection), "a run that is paused can be resumed"
            return True
        if sim.run.asked():
            self._decide("superseded" if sim.run.halted else "approved")
            return True
        if self._finish_one() or self._grant():
            return True
        if any(each["for"] in {"signal", "event"} for each in sim.row()["detail"]["waiting"]):
            self._outside()
            return True
        return False

    def _wait(self, going: list[Sim]) -> None:
        due = [(at, sim) for sim in going if (at := sim.room.wake_at(sim.run)) is not None]
        assert due, "nothing is under way, and nothing is due"
        at, self.sim = min(due, key=lambda each: each[0])
        for sim in self.house.sims.values():
            sim.now = max(at, sim.now + 1)
        self._do(Wake())


class AnyRerun(AnyHouse):
    """Such a run, and then a rerun of it from the first of its steps, in any order, that can be: to which anything happens too."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        super().live()
        self.stands: tuple[str, ...] = ()
        self.from_step = self._first_that_can_be()
        if self.from_step:
            self.plan, earlier = self.top.run.graph.plan, self.top
            undone = {
                name for name, undoes in earlier.run.graph.undo.items() if earlier.step_status(undoes) != "pending"
            }
            assert not undone & set(self.stands), f"{undone & set(self.stands)} were undone, and stand"
            self.house = House(KID, self.plan)
            self.top = self.sim = self.house.move_in(again(earlier, self.from_step))
            self.said = []
            self._look()

    def _first_that_can_be(self) -> str:
        names = [each.id for each in self.top.run.graph.plan.steps]
        self.chance.shuffle(names)
        for name in names:
            with suppress(HeadraceError):
                self.stands = reused_steps(self.top.run, name)
                return name
        return ""

    def live(self) -> None:
        """Let it happen; what stands is neither done again nor undone."""
        if not self.from_step:
            return
        super().live()
        ordered = {each.order.step.removesuffix(".compensate") for each in self.top.dispatched}
        assert not ordered & set(self.stands), f"{ordered & set(self.stands)} stand, and are done again or undone"
