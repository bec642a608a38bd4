"""Loops: whether another round begins, and what a run remembers of it (pure)."""

from collections.abc import Iterator, Sequence

import msgspec

from headrace import codec
from headrace.codec import NULL
from headrace.decider import Library, Rejection
from headrace.errors import StepError, ValidationError
from headrace.events.base import ErrorInfo
from headrace.events.runs import RunEvent, StepFailed, StepsSucceeded, StepSucceeded
from headrace.events.steering import LoopIterated
from headrace.plans.model import LoopStep, PlanStep
from headrace.vocabulary import STEP_FINAL, StepStatus
from headrace_planner.runs import named
from headrace_planner.runs.instances import make_ready
from headrace_planner.runs.scope import PREVIOUS, told, truth
from headrace_planner.runs.state import Run, StepState


def next_round(run: Run, step: PlanStep, body: LoopStep, library: Library) -> Sequence[RunEvent]:
    """Begin another round while the condition holds; one that still holds after `cap` rounds fails the step."""
    known = run.peek(step.id)
    if not truth(run, library, step.id, body.condition, {"iteration": known.loop}):
        output = codec.raw({"iterations": known.loop})
        return (StepSucceeded(step=step.id, output=output, started_at=known.started_at),)
    if known.loop < body.cap:
        made, unmade = named.of_round(run, step.id, library) if known.loop else ({}, {})
        return (LoopIterated(step=step.id, count=known.loop + 1, outputs=made, unmade=unmade),)
    message = f"after {body.cap} rounds the loop's condition still holds: {body.condition}"
    error = ErrorInfo(type="execution_error", message=message, details={"cap": body.cap, "iterations": known.loop})
    return (StepFailed(step=step.id, error=error, continued=step.on_error == "continue"),)


def rounds_over(run: Run, library: Library) -> Iterator[RunEvent]:
    """Go on with the first loop whose body is over."""
    for step_id in run.graph.loops:
        known = run.peek(step_id)
        step = run.graph.index[step_id]
        if known.status != StepStatus.RUNNING or not isinstance(step.body, LoopStep):
            continue
        if all(run.over(inner) for inner in step.body.body):
            try:
                yield from next_round(run, step, step.body, library)
            except (StepError, ValidationError) as problem:
                continued = step.on_error == "continue"
                yield StepFailed(step=step_id, error=told(problem), continued=continued)
            return


def iterated(run: Run, event: LoopIterated, at: int) -> None:
    """Remember that a round begins: the body's steps are as if they had never been, but for their artifacts."""
    loop = run.step(event.step)
    loop.loop, loop.status, loop.started_at = event.count, StepStatus.RUNNING, loop.started_at or at
    if event.step in run.data.ready:
        run.data.ready.remove(event.step)
    for place in [place for place in run.decoded if isinstance(place, tuple) and place[0] == PREVIOUS]:
        del run.decoded[place]
    for step_id in run.graph.inside[event.step]:
        old = run.step(step_id)
        run.data.steps_done -= old.status in STEP_FINAL
        direct = run.graph.index[step_id].parent == event.step
        run.data.steps[step_id] = StepState(
            iteration=old.iteration + direct,
            artifacts=old.artifacts,
            artifact_pieces=old.artifact_pieces,
            tried=old.tried,
            before=_kept(old, step_id, event) if event.count > 1 else None,
        )
        run.decoded.pop(("step", step_id), None)
        needs = run.graph.index[step_id].needs
        if needs:
            run.data.left[step_id] = len(needs)
    for step_id in run.graph.inside[event.step]:
        step = run.graph.index[step_id]
        if step.parent == event.step and not step.needs:
            make_ready(run, step_id)


def _kept(old: StepState, step_id: str, event: LoopIterated) -> StepState | None:
    """Give what the next round may read of a step: how it ended, and what it gave."""
    if old.status not in STEP_FINAL:
        return None
    return StepState(
        status=old.status,
        output=old.output,
        blob=old.blob,
        named=event.outputs.get(step_id, NULL),
        unmade=event.unmade.get(step_id, ""),
        map=old.map,
        error=old.error,
    )


def rounds_named(run: Run, decision: Sequence[RunEvent] | Rejection) -> Sequence[RunEvent] | Rejection:
    """Write into the events of steps in a loop's body which round they belong to."""
    if isinstance(decision, Rejection) or not decision or not run.exists or not run.graph.loops:
        return decision
    return tuple(_named(run, event) for event in decision)


def _named(run: Run, event: RunEvent) -> RunEvent:
    if isinstance(event, StepsSucceeded):
        return StepsSucceeded(results=tuple(_round_named(run, each) for each in event.results))
    return _round_named(run, event)


def _round_named[Kind: RunEvent](run: Run, event: Kind) -> Kind:
    step_id = getattr(event, "step", "")
    if not step_id or getattr(event, "iteration", None) != 0:
        return event  # it has none, or knows its own: a child's is that in which the child was asked for
    iteration = run.peek(step_id).iteration
    return msgspec.structs.replace(event, iteration=iteration) if iteration else event
