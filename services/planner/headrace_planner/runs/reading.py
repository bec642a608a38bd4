"""What the expressions of a step speak of (pure)."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from headrace.errors import HeadraceError
from headrace.expressions.expression import Expression, parse
from headrace.expressions.template import template
from headrace.plans.model import ConditionStep, GateStep, LoopStep, PlanStep, WaitStep
from headrace_planner.runs.orders import EXPRESSION_GATE

NOT_READ: Final = frozenset({"id", "kind", "name", "needs", "covered_by", "parent", "compensates", "on_error"})


def expressions_of(step: PlanStep) -> Iterator[Expression | None]:
    """Give every expression of a step; None stands for one that cannot be read any more."""
    body = step.body
    bare = [
        step.when,
        body.expression if isinstance(body, ConditionStep) else None,
        body.condition if isinstance(body, LoopStep) else None,
        body.when if isinstance(body, WaitStep) else None,
        body.config.get("expression") if isinstance(body, GateStep) and body.gate == EXPRESSION_GATE else None,
    ]
    for text in bare:
        if isinstance(text, str):
            yield _parsed(text)
    for name, value in msgspec.to_builtins(step).items():
        if name not in NOT_READ:
            yield from in_template(value)


def in_template(value: Any) -> Iterator[Expression | None]:
    """Give the expressions of a template; None stands for one that cannot be read any more."""
    try:
        yield from template(value).expressions
    except HeadraceError:
        yield None


def _parsed(text: str) -> Expression | None:
    try:
        return parse(text)
    except HeadraceError:
        return None
