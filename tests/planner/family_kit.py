"""Runs that speak with each other, driven by hand: what one tells is given to the other, or kept back."""

from typing import Any

from headrace import codec
from headrace.decider import Tell
from headrace.envelope import Message
from headrace.events.base import SYSTEM
from headrace.messages import CreateRun
from headrace.plans import model
from headrace.plans.model import Plan, PlanStep, SubWorkflowStep, WorkflowPin
from headrace_planner.runs.room import RunRoom
from tests.planner.runs_kit import Shelf, Sim, step


def sub(
    step_id: str, *needs: str, workflow: str = "kid", inputs: dict[str, Any] | None = None, **more: Any
) -> PlanStep:
    return step(step_id, SubWorkflowStep(workflow=workflow, inputs=inputs or {}), *needs, **more)


def pin(the_plan: Plan, **more: Any) -> WorkflowPin:
    return WorkflowPin(version=3, digest=model.digest(the_plan), **more)


def tells(sim: Sim, kind: type[Message], stream: str | None = None) -> list[Any]:
    return [tell.command for tell in sim.told if isinstance(tell.command, kind) and stream in {None, tell.stream_id}]


def children(sim: Sim) -> list[str]:
    """Give the ids of the children that were asked for, each once, in order."""
    return list(dict.fromkeys(tell.stream_id for tell in sim.told if isinstance(tell.command, CreateRun)))


class House:
    """Several runs over one shelf of plans; `mail` brings what they tell each other."""

    def __init__(self, *plans: Plan) -> None:
        self.shelf = Shelf()
        for each in plans:
            self.shelf.bodies[model.digest(each)] = model.canonical(each)
        self.sims: dict[str, Sim] = {}
        self.lost: list[Tell] = []

    def move_in(self, sim: Sim) -> Sim:
        self.shelf.bodies |= sim.shelf.bodies
        sim.shelf.bodies = self.shelf.bodies
        self.sims[sim.id] = sim
        return sim

    def child(self, stream_id: str, now: int, workspace: str = "default") -> Sim:
        """Give a run by its id; one that is not there yet is empty."""
        if stream_id not in self.sims:
            empty = Sim(Plan(name="none", kind="Workflow", steps=()), now=now, workspace=workspace)
            empty.id, empty.shelf = stream_id, self.shelf
            empty.room = RunRoom(self.shelf)
            empty.run = empty.room.initial(stream_id, workspace)
            self.sims[stream_id] = empty
        return self.sims[stream_id]

    def mail(self, *, lose: tuple[type[Message], ...] = (), rounds: int = 50) -> "House":
        """Deliver what was told between runs until nobody says anything; what is of a kind to lose is lost."""
        for _ in range(rounds):
            waiting = [(sim, tell) for sim in self.sims.values() for tell in sim.told if tell.log == "runs"]
            for sim in self.sims.values():
                sim.told = [tell for tell in sim.told if tell.log != "runs"]
            if not waiting:
                return self
            for sim, tell in waiting:
                if isinstance(tell.command, lose):
                    self.lost.append(tell)
                    continue
                self.shelf.bodies |= tell.bodies
                there = self.child(tell.stream_id, sim.now, tell.workspace or sim.workspace)
                there.now = max(there.now, sim.now)
                there.do(there.room.read_command(codec.encode(tell.command)), by=SYSTEM)
        message = "they never stop talking"
        raise AssertionError(message)
