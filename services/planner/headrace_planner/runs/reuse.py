"""Running again from a step: whose recorded results stand for the new run's, and who reads which input (pure).

A step is performed anew when it is the one that is named or comes after it. What that one needs must have succeeded or
been skipped, and its results stand. Of the rest, what succeeded or was skipped stands too, and everything else, with
what comes after it, is performed anew. An approval that stands lets nothing pass: a rerun is authorised like any run.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from headrace import codec
from headrace.errors import ConflictError, NotFoundError
from headrace.events.steering import StepReused
from headrace.plans.model import ConditionStep
from headrace.vocabulary import Automation, RunStatus, StepStatus
from headrace_planner.runs import work
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.instances import end
from headrace_planner.runs.pieces import short_map, whole_map
from headrace_planner.runs.reading import expressions_of, in_template
from headrace_planner.runs.state import Run

STANDS: Final = frozenset({StepStatus.SUCCEEDED, StepStatus.SKIPPED})
EVERY: Final = "*"
"""Stands for all inputs, where an expression does not say which."""


def reused_steps(run: Run, from_step: str) -> tuple[str, ...]:
    """Name the steps of an earlier run that stand when it is run again from a step, those of loops' bodies first.

    Raises ConflictError when it is not over or something that the step needs does not stand, NotFoundError for a step
    that the plan does not have.
    """
    graph = run.graph
    if not run.final:
        message = f"run {run.data.id} is {run.data.status}: only a run that is over can be run again from a step"
        raise ConflictError(message, details={"status": str(run.data.status)})
    planned = [step.id for step in graph.plan.steps]
    if from_step not in planned:
        message = f"the plan has no step {from_step!r}; it has: {', '.join(planned)}"
        raise NotFoundError(message)
    outermost = _outermost(graph, from_step)
    if outermost != from_step:
        message = f"step {from_step!r} is in the body of the loop {outermost!r}: run again from {outermost!r}"
        raise ConflictError(message, details={"step": from_step, "loop": outermost})
    left_out = _left_out(run)
    if from_step in left_out:
        condition = left_out[from_step]
        message = f"the condition {condition!r} chose the other branch, not {from_step!r}: run again from {condition!r}"
        raise ConflictError(message, details={"step": from_step, "condition": condition})
    needed = _upstream(graph, from_step)
    for step in planned:
        if step in needed and (why := _unfit(run, step)) is not None:
            message = (
                f"step {step!r}, which {from_step!r} needs, {why}: "
                f"run again from {_outermost(graph, step)!r}, or retry the whole run"
            )
            raise ConflictError(message, details={"step": step, "status": str(run.status_of(step))})
    rest = (step for step in planned if step not in needed and _unfit(run, step) is not None)
    anew = _downstream(graph, [from_step, *(_outermost(graph, step) for step in rest)])
    for step, condition in left_out.items():
        if condition not in anew:  # its choice stands, so nothing begins that it did not choose
            anew -= {step, *graph.inside.get(step, ())}
    return tuple(sorted((step for step in planned if step not in anew), key=lambda step: -_depth(graph, step)))


def _left_out(run: Run) -> dict[str, str]:
    """Give the steps that a condition did not choose, each with that condition."""
    found: dict[str, str] = {}
    for step in run.graph.plan.steps:
        if isinstance(step.body, ConditionStep) and run.status_of(step.id) == StepStatus.SUCCEEDED:
            then, otherwise = step.body.then, step.body.otherwise
            taken, left = (then, otherwise) if _chose_then(run, step.id) else (otherwise, then)
            found |= {name: step.id for name in left if name not in taken}
    return found


def _chose_then(run: Run, step_id: str) -> bool:
    return bool(codec.loads(run.peek(step_id).output)["value"])


def _unfit(run: Run, step_id: str) -> str | None:
    """Say why a step's result cannot stand, or nothing; of a loop's body it stands with the loop, unless it was undone."""
    undone_by = run.graph.undo.get(step_id)
    if undone_by is not None and (why := _undone(run, step_id, undone_by)) is not None:
        return why
    status = run.status_of(step_id)
    stands = status in STANDS or run.graph.index[step_id].parent
    return None if stands else f"did not succeed (it is {status})"


def _undone(run: Run, step_id: str, undone_by: str) -> str | None:
    """Say that what a step did was undone, or was to be: what is left of it is for people to find out."""
    status = run.status_of(undone_by)
    if status == StepStatus.SUCCEEDED:
        return f"was undone by {undone_by!r}"
    if status not in {StepStatus.PENDING, StepStatus.SKIPPED}:
        return f"was to be undone by {undone_by!r}, which is {status}"
    if run.data.status != RunStatus.SUCCEEDED and work.left(run).get(step_id):
        return f"was to be undone by {undone_by!r}, and the time for that was over before"
    return None


def _outermost(graph: Graph, step_id: str) -> str:
    while graph.index[step_id].parent:
        step_id = graph.index[step_id].parent
    return step_id


def _depth(graph: Graph, step_id: str) -> int:
    depth = 0
    while graph.index[step_id].parent:
        step_id, depth = graph.index[step_id].parent, depth + 1
    return depth


def _upstream(graph: Graph, step_id: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph.index[step_id].needs)
    while waiting:
        step = waiting.pop()
        if step not in found:
            found.add(step)
            waiting += [*graph.index[step].needs, *graph.inside.get(step, ())]
    return found


def _downstream(graph: Graph, roots: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        step = waiting.pop()
        if step in found:
            continue
        found.add(step)
        body = graph.index[step].body
        branches = (*body.then, *body.otherwise) if isinstance(body, ConditionStep) else ()
        waiting += [*graph.successors[step], *graph.inside.get(step, ()), *branches]
    return found


def check_inputs(run: Run, reused: Sequence[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse inputs that differ from those that a reused step has read; raises ConflictError naming step and input."""
    changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    for step_id in sorted(reused, key=run.graph.order.__getitem__) if changed else ():
        read = inputs_read(run.graph, step_id)
        touched = sorted(changed) if EVERY in read else sorted(changed & read)
        if touched:
            first = _outermost(run.graph, step_id)
            message = (
                f"step {step_id!r} has read the input {touched[0]!r}, and its result would stand: "
                f"run again from {first!r}, or leave that input as it was"
            )
            raise ConflictError(message, details={"step": step_id, "inputs": touched})


def inputs_read(graph: Graph, step_id: str) -> set[str]:
    """Name the inputs that a step's expressions refer to, also by way of variables; EVERY when they do not say which."""
    variables, waiting = graph.plan.variables, list(expressions_of(graph.index[step_id]))
    found: set[str] = set()
    seen: set[str] = set()
    while waiting:
        expression = waiting.pop()
        if expression is None:
            found.add(EVERY)
            continue
        for root, *keys in expression.paths:
            first = str(keys[0]) if keys else None
            if root == "inputs":
                found.add(first or EVERY)
            elif root == "variables":
                names = [first] if first is not None else list(variables)
                fresh = [name for name in names if name not in seen]
                seen.update(fresh)
                waiting += [each for name in fresh for each in in_template(variables.get(name))]
    return found


# --- what a run remembers, for `evolve` alone --------------------------------------------------------------------


def reused(run: Run, event: StepReused, at: int) -> bool:
    """Remember that a recorded result stands; tells whether that was the last one, so that the run may begin."""
    known = run.step(event.step)
    known.reused_from, known.reason = event.run_id, event.reason
    known.output, known.blob, known.evidence = event.output, event.blob, event.evidence
    known.error, known.named = event.error, event.outputs
    if event.items is not None:
        known.map = whole_map(event.items)
    elif event.failed:
        known.map = short_map(event.output, event.failed)
    known.attempt_id = event.attempt_id
    known.artifact_pieces = list(event.artifact_pieces)
    known.artifacts.extend((None, event.attempt_id, at, kept) for kept in event.artifacts)
    end(run, event.step, StepStatus(event.status), at)
    run.data.reused += 1
    return run.data.reused == run.queued.reused and run.queued.automation != Automation.HUMAN_APPROVAL
