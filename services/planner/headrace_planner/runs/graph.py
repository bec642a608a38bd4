"""A plan, made ready to be interpreted: who follows whom, which tool a step uses, its templates parsed (pure)."""

from collections.abc import Iterator
from typing import Any, Final, assert_never

from headrace.errors import ValidationError
from headrace.expressions.template import Template, template
from headrace.plans.fusion import following
from headrace.plans.model import (
    ApprovalStep,
    CallStep,
    ConditionStep,
    GateStep,
    LoopStep,
    Plan,
    PlanStep,
    SubWorkflowStep,
    ToolPin,
    TransformStep,
    WaitStep,
    WorkflowPin,
)
from headrace.vocabulary import Access, Effect

GATE_PREFIX: Final = "gate."


class Graph:
    """An interpreted plan. Immutable; one instance serves every run of the plan.

    `follows` gives the step that follows each in its chain, `links` what `fusion` has made of those,
    `lets` what `asks` shows of the steps that a question lets go on, `asked_later` what `named` keeps of each loop's rounds.
    """

    __slots__ = (
        "_templates",
        "asked_later",
        "calls",
        "children",
        "digest",
        "follows",
        "index",
        "inside",
        "lets",
        "limitable",
        "links",
        "loops",
        "maps",
        "order",
        "pins",
        "plain",
        "plan",
        "roots",
        "straight",
        "successors",
        "timed",
        "undo",
        "waits",
    )

    def __init__(self, plan: Plan, digest: str) -> None:
        self.plan = plan
        self.digest = digest
        every = (*plan.steps, *plan.compensations)
        self.index: dict[str, PlanStep] = {step.id: step for step in every}
        self.order: dict[str, int] = {step.id: place for place, step in enumerate(every)}
        self.undo: dict[str, str] = {step.compensates: step.id for step in plan.compensations}
        followers: dict[str, list[str]] = {step.id: [] for step in every}
        for step in plan.steps:
            for need in dict.fromkeys(step.needs):
                followers.setdefault(need, []).append(step.id)
        self.successors: dict[str, tuple[str, ...]] = {one: tuple(found) for one, found in followers.items()}
        self.pins: dict[str, ToolPin] = {step.id: self._pin(step) for step in every if tool_name(step)}
        self.limitable: frozenset[str] = frozenset(
            step_id for step_id, pin in self.pins.items() if pin.rate_limit or pin.requires_connection
        )
        self.children: dict[str, WorkflowPin] = {step.id: pin for step in every if (pin := self._child(step))}
        self.calls: frozenset[str] = frozenset(
            step.id for step in every if (tool_name(step) or step.id in self.children) and not step.is_map
        )
        self.plain: frozenset[str] = frozenset(
            step.id
            for step in every
            if step.id in self.calls and step.when is None and not step.confirm and not self.gated(step.id)
        )
        """Steps that are performed as soon as what they need is over: nothing else must be asked first."""
        self.maps: tuple[str, ...] = tuple(step.id for step in plan.steps if step.is_map)
        self.roots: tuple[str, ...] = tuple(step.id for step in plan.steps if not step.needs and not step.parent)
        self.loops: tuple[str, ...] = tuple(step.id for step in plan.steps if isinstance(step.body, LoopStep))
        self.timed: tuple[str, ...] = tuple(step.id for step in plan.steps if step.step_timeout_s is not None)
        self.waits: tuple[tuple[str, WaitStep], ...] = tuple(
            (step.id, step.body) for step in plan.steps if isinstance(step.body, WaitStep)
        )
        self.straight: bool = not (self.loops or self.undo or any(step.is_map for step in every))
        """Whether no decision about a run of the plan is rewritten: by a map that ends, a loop's round, or an undoing."""
        self.inside: dict[str, tuple[str, ...]] = {loop: tuple(self._inside(loop)) for loop in self.loops}
        self.follows: dict[str, str] = following(plan)
        self.links: dict[str, Any] = {}
        self.asked_later: dict[str, tuple[str, ...]] = {}
        self.lets: dict[str, list[dict[str, Any]]] = {}
        self._templates: dict[tuple[str, str], Template] = {}

    def _inside(self, loop: str) -> Iterator[str]:
        """Give every step that a loop repeats, also those of loops in its body."""
        for step in self.plan.steps:
            if step.parent == loop:
                yield step.id
                yield from self._inside(step.id)

    def _pin(self, step: PlanStep) -> ToolPin:
        name = tool_name(step)
        pin = self.plan.tools.get(name)
        if pin is None:
            message = f"plan {self.digest} is broken: step {step.id!r} uses {name!r}, which it does not pin"
            raise ValidationError(message)
        return pin

    def _child(self, step: PlanStep) -> WorkflowPin | None:
        if not isinstance(step.body, SubWorkflowStep):
            return None
        pin = self.plan.workflows.get(step.body.workflow)
        if pin is None:
            message = (
                f"plan {self.digest} is broken: step {step.id!r} runs {step.body.workflow!r}, which it does not pin"
            )
            raise ValidationError(message)
        return pin

    def gated(self, step_id: str) -> bool:
        """Tell whether a step's tool needs an approval, or a tool of its child, or that of what undoes it."""
        child = self.children.get(step_id)
        if child is not None and child.gated:
            return True
        pins = (self.pins.get(step_id), self.pins.get(self.undo.get(step_id, "")))
        return any(pin is not None and pin.access == Access.GATED for pin in pins)

    def claims(self, step_id: str) -> bool:
        """Tell whether a step acts on the world, so that a worker must claim it first."""
        pin = self.pins.get(step_id)
        return pin is not None and pin.effect != Effect.READ

    def template(self, step_id: str, field: str, value: Any) -> Template:
        """Give a step's template of a field, parsed once."""
        known = self._templates.get((step_id, field))
        if known is None:
            known = self._templates[step_id, field] = template(value)
        return known


def tool_name(step: PlanStep) -> str:
    """Give the name of the tool that performs a step, or nothing for steps of the planner itself."""
    match step.body:
        case CallStep(tool=tool):
            return tool
        case GateStep(gate=gate):
            return GATE_PREFIX + gate
        case TransformStep() | ConditionStep() | ApprovalStep() | WaitStep() | LoopStep() | SubWorkflowStep():
            return ""
        case _:
            assert_never(step.body)
