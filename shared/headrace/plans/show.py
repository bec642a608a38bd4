"""A plan as people read it: rows of a table, a tree, and what an approver is shown; as data and plain text (pure)."""

from typing import Any, Final, assert_never

import msgspec

from headrace.plans.durations import duration
from headrace.plans.fusion import fused
from headrace.plans.model import (
    ApprovalStep,
    CallStep,
    ConditionStep,
    GateStep,
    LoopStep,
    Plan,
    PlanStep,
    SubWorkflowStep,
    TransformStep,
    WaitStep,
    digest,
)
from headrace.vocabulary import Effect

HEADER: Final = ("step", "kind", "does", "effect", "access", "pool", "needs", "approval")
GATED: Final = "gated"


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """A step as a row. `approval` says who must agree before it acts, empty when nobody need."""

    step: str
    kind: str
    does: str
    effect: str = ""
    access: str = ""
    pool: str = ""
    needs: tuple[str, ...] = ()
    approval: str = ""
    name: str = ""

    def cells(self) -> tuple[str, ...]:
        """Give the row's texts in the order of HEADER."""
        needs = ", ".join(self.needs)
        return (self.step, self.kind, self.does, self.effect, self.access, self.pool, needs, self.approval)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A step in the tree: below the last step that it needs; `also` are the others that it needs."""

    row: StepRow
    also: tuple[str, ...] = ()
    below: tuple["Node", ...] = ()


def rows(plan: Plan) -> list[StepRow]:
    """Give a row for each step, in the order of the plan, and then for each that may be called to undo one."""
    return [_row(plan, step) for step in (*plan.steps, *plan.compensations)]


def tree(plan: Plan) -> tuple[Node, ...]:
    """Give the steps as a forest: each once, below the last of the steps that it needs."""
    below: dict[str, list[PlanStep]] = {}
    order = {step.id: number for number, step in enumerate(plan.steps)}
    for step in plan.steps:
        parent = max(step.needs, key=order.__getitem__, default="")
        below.setdefault(parent, []).append(step)
    made: dict[str, Node] = {}
    for step in reversed(plan.steps):
        parent = max(step.needs, key=order.__getitem__, default="")
        made[step.id] = Node(
            row=_row(plan, step),
            also=tuple(need for need in step.needs if need != parent),
            below=tuple(made[child.id] for child in below.get(step.id, [])),
        )
    return tuple(made[step.id] for step in below.get("", []))


def table_text(plan: Plan) -> str:
    """Give the rows as plain text in columns."""
    lines = [HEADER, *(row.cells() for row in rows(plan))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def tree_text(plan: Plan) -> str:
    """Give the tree as plain text."""
    lines: list[str] = []
    stack: list[tuple[Node, str, str]] = [(node, "", "") for node in reversed(tree(plan))]
    while stack:
        node, lead, inner = stack.pop()
        lines.append(lead + _label(node))
        for number, child in reversed(list(enumerate(node.below))):
            last = number == len(node.below) - 1
            stack.append((child, inner + ("└─ " if last else "├─ "), inner + ("   " if last else "│  ")))
    return "\n".join(lines)


def approvals_text(plan: Plan) -> list[str]:
    """Say what must be agreed to before the plan's tools may act, a sentence each."""
    said: list[str] = []
    if plan.authorization == "plan":
        said.append("This plan runs only after its digest has been authorised by an approver.")
    elif plan.authorization == "run":
        said.append("Every run asks one approver for all gated steps, unless the digest is authorised for all runs.")
    for step in plan.steps:
        if isinstance(step.body, ApprovalStep):
            said.append(f"{step.id}: {_who(step.body)} must approve{_covers(plan, step.id)}.")
        if step.confirm:
            said.append(f"{step.id}: an approver must confirm before it acts.")
    if said:
        return said
    acts = any(row.effect not in {"", Effect.READ} for row in rows(plan))
    why = "its tools that write or notify have access `auto`" if acts else "the plan only reads"
    return [f"Nobody needs to approve anything: {why}."]


def fused_text(plan: Plan) -> list[str]:
    """Say which steps are dispatched together, a line for each chain."""
    return [f"Fused: {' → '.join(chain)}" for chain in fused(plan)]


def summary(plan: Plan) -> dict[str, Any]:
    """Give what an approver is shown of a plan: what it does to the world, step by step, and under which digest."""
    return {
        "name": plan.name,
        "kind": plan.kind,
        "plan_digest": digest(plan),
        "authorization": plan.authorization,
        "steps": [_shown(plan, step) for step in (*plan.steps, *plan.compensations)],
        "tools": {
            name: {"version": pin.version, "digest": pin.digest, "effect": pin.effect, "access": pin.access}
            for name, pin in sorted(plan.tools.items())
        },
        "approvals": approvals_text(plan),
    }


def does(step: PlanStep) -> str:
    """Say in a few words what a step does."""
    match step.body:
        case CallStep(tool=tool) if step.compensates:
            return f"{tool}, to undo {step.compensates}"
        case CallStep(tool=tool):
            return f"{tool} for each of {step.items}" if step.is_map else tool
        case TransformStep():
            return f"computes for each of {step.items}" if step.is_map else "computes"
        case ConditionStep(expression=expression):
            return f"if {expression}"
        case GateStep(gate=gate, required=required):
            return f"checks {gate}" if required else f"checks {gate} (warns only)"
        case ApprovalStep():
            return f"asks {_who(step.body)}"
        case WaitStep():
            return _waits(step.body)
        case LoopStep(condition=condition, cap=cap):
            return f"while {condition}, {cap} rounds at most"
        case SubWorkflowStep(workflow=workflow):
            return f"runs {workflow} for each of {step.items}" if step.is_map else f"runs {workflow}"
        case _:
            assert_never(step.body)


def _waits(wait: WaitStep) -> str:
    until = "" if wait.expires_s is None else f", {duration(wait.expires_s)} at most"
    if wait.signal is not None:
        return f"waits for the signal {wait.signal}{until}"
    if wait.event is not None:
        return f"waits for the event {wait.event}{f' where {wait.when}' if wait.when else ''}{until}"
    return f"waits {duration(wait.seconds or 0)}"


def _shown(plan: Plan, step: PlanStep) -> dict[str, Any]:
    row = _row(plan, step)
    about: dict[str, Any] = {"id": step.id, "kind": row.kind, "does": row.does, "needs": list(step.needs)}
    match step.body:
        case CallStep(tool=tool, arguments=arguments):
            about |= {"tool": tool, "arguments": arguments, "effect": row.effect, "access": row.access}
        case GateStep(gate=gate, config=config):
            about |= {"gate": gate, "config": config}
        case SubWorkflowStep(workflow=workflow, inputs=inputs):
            pin = plan.workflows[workflow]
            about |= {"workflow": workflow, "version": pin.version, "workflow_plan_digest": pin.digest, "with": inputs}
        case TransformStep() | ConditionStep() | ApprovalStep() | WaitStep() | LoopStep():
            pass
        case _:
            assert_never(step.body)
    told = {"map": step.items, "when": step.when, "precondition": step.precondition, "compensates": step.compensates}
    return about | {name: value for name, value in told.items() if value not in (None, "")}


def _row(plan: Plan, step: PlanStep) -> StepRow:
    name = step.body.tool if isinstance(step.body, CallStep) else ""
    if isinstance(step.body, GateStep):
        name = f"gate.{step.body.gate}"
    pin = plan.tools.get(name)
    return StepRow(
        step=step.id,
        name=step.name,
        kind=step.shown_kind,
        does=does(step),
        effect=pin.effect if pin else "",
        access=pin.access if pin else "",
        pool=pin.pool if pin else "",
        needs=step.needs,
        approval=_approval(plan, step, gated=pin is not None and pin.access == GATED),
    )


def _approval(plan: Plan, step: PlanStep, *, gated: bool) -> str:
    if isinstance(step.body, ApprovalStep):
        return _who(step.body)
    parts: list[str] = []
    if plan.authorization == "plan":
        parts.append("of the plan")
    elif gated:
        parts.append(f"by {', '.join(step.covered_by)}" if step.covered_by else "of the run")
    if step.confirm:
        parts.append("confirmation")
    return ", ".join(parts)


def _who(body: ApprovalStep) -> str:
    roles = " or ".join(body.roles)
    return f"{body.quorum} x {roles}" if body.quorum > 1 else f"one {roles}"


def _covers(plan: Plan, approval: str) -> str:
    covered = [step.id for step in plan.steps if approval in step.covered_by]
    return f" before {', '.join(covered)}" if covered else ""


def _label(node: Node) -> str:
    row = node.row
    marks = [row.kind, row.does, row.effect if row.effect not in {"", "read"} else ""]
    text = f"{row.step}  ({', '.join(mark for mark in marks if mark and mark != row.step)})"
    if row.approval and row.kind != "approval":
        text += f"  approval: {row.approval}"
    return f"{text}  also needs {', '.join(node.also)}" if node.also else text
