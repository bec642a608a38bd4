"""Fusion: which steps of a plan are dispatched together, as one order (pure).

A worker performs the steps of a chain one after the other and sends their results together. Nothing else differs: each
step has its own attempt, events, retries and timeouts. So a step follows another in a chain only where nothing lies
between the two that the planner, a person or the clock would have to decide, and where nobody else waits for the first.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from headrace.expressions.scope import STEPS
from headrace.expressions.template import template
from headrace.plans.model import CallStep, Plan, PlanStep
from headrace.vocabulary import Access, Effect

SEEN: Final = frozenset({"output", "status", "error"})
"""What a worker can tell of a step that it has just performed; other views of it are the planner's to make."""


def fused(plan: Plan) -> tuple[tuple[str, ...], ...]:
    """Give the chains of a plan, each of two steps or more, in the order of the plan; none under `fuse: false`."""
    return tuple(_chains(plan)) if plan.fuse else ()


def following(plan: Plan) -> dict[str, str]:
    """Give the step that follows each in its chain."""
    return {one: other for chain in fused(plan) for one, other in pairwise(chain)}


def _chains(plan: Plan) -> Iterator[tuple[str, ...]]:
    undone = {step.compensates for step in plan.compensations}
    index = {step.id: step for step in plan.steps}
    above = _above(plan)
    needed_by: dict[str, list[str]] = {}
    for step in plan.steps:
        for need in step.needs:
            needed_by.setdefault(need, []).append(step.id)
    chained: set[str] = set()
    for step in plan.steps:
        chain = [step.id]
        while chain[-1] not in chained and (found := _next(plan, index, above, needed_by, undone, chain)) is not None:
            chain.append(found)
        if len(chain) > 1:
            yield tuple(chain)
        chained.update(chain)


def _above(plan: Plan) -> dict[str, set[str]]:
    """Give everything that each step needs, directly or through others."""
    above: dict[str, set[str]] = {}
    for step in plan.steps:
        above[step.id] = set(step.needs).union(*(above[need] for need in step.needs))
    return above


def _next(
    plan: Plan,
    index: dict[str, PlanStep],
    above: dict[str, set[str]],
    needed_by: dict[str, list[str]],
    undone: set[str],
    chain: list[str],
) -> str | None:
    """Give the step that goes on with a chain, or None where it ends.

    Whatever else needs the last step must come after the next one anyway: nobody waits for a result that is not sent.
    """
    last = index[chain[-1]]
    waiting = needed_by.get(last.id, [])
    if not waiting or not _leads(plan, last, undone):
        return None
    step = index[waiting[0]]
    if any(step.id not in above[other] for other in waiting[1:]):
        return None
    if not _follows(plan, last, step, undone) or any(
        need != last.id and need not in above[last.id] for need in step.needs
    ):
        return None
    return step.id if _visible(step, chain) else None


def _reads(plan: Plan, step: PlanStep, undone: set[str]) -> bool:
    """Tell whether a step is one call that only reads, and that nothing undoes."""
    if not isinstance(step.body, CallStep) or step.is_map or step.compensates or step.id in undone:
        return False
    return plan.tools[step.body.tool].effect == Effect.READ


def _leads(plan: Plan, step: PlanStep, undone: set[str]) -> bool:
    """Tell whether another step may follow at once: the planner makes nothing of its result but the result."""
    return _reads(plan, step, undone) and not step.artifacts


def _follows(plan: Plan, before: PlanStep, step: PlanStep, undone: set[str]) -> bool:
    """Tell whether a step may begin as soon as the one before it has succeeded, at the same worker."""
    if not _reads(plan, step, undone) or step.parent != before.parent:
        return False
    if step.when is not None or step.confirm or step.precondition is not None:
        return False
    assert isinstance(before.body, CallStep), "a chain is made of calls"
    assert isinstance(step.body, CallStep), "a chain is made of calls"
    pin = plan.tools[step.body.tool]
    if pin.access == Access.GATED or pin.rate_limit is not None or pin.requires_connection is not None:
        return False
    return pin.pool == plan.tools[before.body.tool].pool


def _visible(step: PlanStep, chain: list[str]) -> bool:
    """Tell whether a step refers to steps of its chain only in ways that their worker can answer."""
    assert isinstance(step.body, CallStep), "a chain is made of calls"
    return all(
        path[0] != STEPS or path[1] not in chain or (len(path) > 2 and path[2] in SEEN)  # noqa: PLR2004  (steps, id, what)
        for expression in template(step.body.arguments).expressions
        for path in expression.paths
    )
