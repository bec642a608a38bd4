"""Runs whose steps leave much behind, with pieces of four instead of a thousand."""

from collections.abc import Sequence
from typing import Any

from headrace import codec
from headrace.events.base import ArtifactInfo
from headrace.plans.model import CallStep, GateStep, InputField, Plan, PlanStep
from headrace_planner.runs.bounds import Bounds
from tests.planner.runs_kit import Sim, call, plan

FEW = Bounds(items_a_piece=4)
MANY = 30
INPUTS = {"items": InputField(type="array")}
GATE = GateStep(gate="expression", config={"expression": "size(steps.m.artifacts) > 0"})


def sim_of(*steps: PlanStep, count: int = MANY, bounds: Bounds = FEW, kind: type[Sim] = Sim, **more: Any) -> Sim:
    made: Plan = plan(*steps, inputs=INPUTS, **more)
    sim = kind(made)
    sim.room.bounds = bounds
    sim.run = sim.room.initial(sim.id, sim.workspace)
    return sim.create({"items": list(range(count))})


def mapped(step_id: str = "m", **more: Any) -> PlanStep:
    return call(step_id, items="{{ inputs.items }}", arguments={"n": "{{ item }}"}, **more)


def undoing(step_id: str, **arguments: Any) -> PlanStep:
    body = CallStep(tool="read", arguments=arguments or {"undo": "{{ output }}"})
    return PlanStep(id=f"{step_id}.compensate", kind="tool", body=body, compensates=step_id)


def left_by(index: int | None, **more: Any) -> tuple[ArtifactInfo, ...]:
    return (ArtifactInfo(type="file", label=f"f{index}", value=codec.raw(index), **more),)


def perform(sim: Sim, step_id: str = "m", *, but: int | None = None, order: Sequence[int] | None = None) -> Sim:
    """Let every item succeed with an output and an artifact that name it, in an order."""
    for index in order or range(MANY):
        if index != but:
            sim.report(f"{step_id}[{index}]", {"n": index}, artifacts=left_by(index))
    return sim


def shuffled() -> list[int]:
    return [(index * 7) % MANY for index in range(MANY)]


def undone(sim: Sim, limit: int = 10_000) -> list[tuple[str, Any]]:
    """Let everything be undone, one after the other; gives what was ordered, with its arguments."""
    seen: list[tuple[str, Any]] = []
    while sim.status == "running" and len(seen) < limit:
        ((step_id, index),) = sim.run.under_way()
        name = step_id if index is None else f"{step_id}[{index}]"
        seen.append((name, codec.loads(sim.orders[name].arguments)))
        sim.report(name)
    return seen
