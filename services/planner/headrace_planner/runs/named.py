"""Named outputs that are made while what they say still stands (pure).

A step's `outputs` are made when an expression asks for them. What they say of other steps, of the round and of the one
before is gone when the next round begins, and is not there in a run for which the step's result stands: so those are
made before, and recorded.
"""

from collections.abc import Iterator
from typing import Any, Final

from headrace import codec
from headrace.codec import Raw
from headrace.decider import Library
from headrace.errors import StepError, ValidationError
from headrace.expressions.scope import STEPS
from headrace.plans.model import PlanStep
from headrace.vocabulary import INLINE_BYTES_MAX, StepStatus
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.reading import expressions_of, in_template
from headrace_planner.runs.scope import OUTPUTS, PREVIOUS, RunScope
from headrace_planner.runs.state import Run

PASSING: Final = frozenset({STEPS, PREVIOUS})
"""What another round says otherwise; of `iteration` a round before knows its own."""
OWN: Final = frozenset({PREVIOUS, "iteration", "run", "variables"})
"""What another run says otherwise for which the step's result stands; variables may speak of the run."""


def of_round(run: Run, loop: str, library: Library) -> tuple[dict[str, Raw], dict[str, str]]:
    """Give the named outputs of a round that is over which the next one could not make, and why others cannot be made.

    Raises MissingError while a body must be fetched.
    """
    made: dict[str, Raw] = {}
    unmade: dict[str, str] = {}
    for step_id in _asked_later(run.graph, loop):
        if run.status_of(step_id) != StepStatus.SUCCEEDED:
            continue
        try:
            made[step_id] = _made(run, step_id, library)
        except (StepError, ValidationError) as problem:
            unmade[step_id] = problem.message
    return made, unmade


def standing(run: Run, step_id: str, library: Library) -> Raw:
    """Give the named outputs of a step whose result stands for another run, if that could not make them; else null.

    Raises StepError or ValidationError when they cannot be made, MissingError while a body must be fetched.
    """
    known = run.peek(step_id)
    if known.named != codec.NULL:
        return known.named
    step = run.graph.index[step_id]
    if known.status != StepStatus.SUCCEEDED or not OWN.intersection(_roots(step)):
        return codec.NULL
    return _made(run, step_id, library)


def _made(run: Run, step_id: str, library: Library) -> Raw:
    value = codec.raw(RunScope(run, library).step(step_id)[OUTPUTS])
    size = len(bytes(value))
    if size > INLINE_BYTES_MAX:
        message = (
            f"the named outputs of {step_id!r} take {size} bytes; those that speak of other steps or of their round "
            f"take {INLINE_BYTES_MAX} at most"
        )
        raise ValidationError(message, details={"step": step_id, "size_bytes": size})
    return value


def _asked_later(graph: Graph, loop: str) -> tuple[str, ...]:
    """Name the steps of a loop's body whose named outputs speak of what passes, if anything speaks of rounds before."""
    known = graph.asked_later.get(loop)
    if known is None:
        inside = [graph.index[step_id] for step_id in graph.inside[loop]]
        read = any(root == PREVIOUS for step in inside for root in _every_root(step))
        found = (step.id for step in inside if step.outputs and PASSING.intersection(_roots(step)))
        known = graph.asked_later[loop] = tuple(found) if read else ()
    return known


def _roots(step: PlanStep) -> Iterator[Any]:
    return (path[0] for one in in_template(step.outputs) if one is not None for path in one.paths)


def _every_root(step: PlanStep) -> Iterator[Any]:
    return (path[0] for one in expressions_of(step) if one is not None for path in one.paths)
