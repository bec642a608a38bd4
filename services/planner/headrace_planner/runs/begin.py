"""What can go on by itself: steps that become ready, maps that are complete, the end of the run (pure)."""

from collections.abc import Iterator, Sequence
from typing import assert_never

from headrace import codec
from headrace.codec import NULL
from headrace.decider import Context, Library, MissingError
from headrace.errors import StepError, ValidationError
from headrace.events.base import ErrorInfo
from headrace.events.runs import (
    MapStarted,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunStarted,
    RunSucceeded,
    StepFailed,
    StepReady,
    StepSkipped,
    StepSucceeded,
    TimerStarted,
)
from headrace.plans.model import (
    ApprovalStep,
    CallStep,
    ConditionStep,
    GateStep,
    LoopStep,
    PlanStep,
    SubWorkflowStep,
    TransformStep,
    WaitStep,
)
from headrace.vocabulary import RunStatus, StepStatus
from headrace_planner.runs import asks, children, permits, shelving, undo, waits
from headrace_planner.runs.dashboard import dashboard_result
from headrace_planner.runs.items import recorded
from headrace_planner.runs.loops import next_round, rounds_over
from headrace_planner.runs.orders import order_for, scope_of
from headrace_planner.runs.scope import RunScope, items_of, told, truth
from headrace_planner.runs.state import Instance, Run


def advance(run: Run, context: Context, library: Library) -> Sequence[RunEvent]:
    """Give the next events that need nobody outside; none when the run waits for somebody."""
    data = run.data
    if run.final or not data.begun:
        return ()
    if data.undo is not None:
        return tuple(_broken_orders(run, library)) or permits.ask_limits(run, context) or undo.advance(run, library)
    if data.cancel is not None:
        return () if data.active or data.children else (RunCancelled(by=data.cancel.by, reason=data.cancel.reason),)
    if data.failed_step is not None:
        return (RunFailed(step=data.failed_step, error=_failure(run, data.failed_step)),)
    if run.graph.plan.concurrency is not None and permits.stands_in_line(run):
        return permits.ask_key(run, context, library)
    if data.status == RunStatus.QUEUED and (data.ready or run.queued.workers_active):
        return (RunStarted(),)
    graph = run.graph
    return (
        (tuple(_broken_orders(run, library)) if run.unchecked else ())
        or (tuple(shelving.results(run, graph.maps)) if graph.maps else ())
        or (tuple(shelving.leavings(run)) if run.full else ())
        or (tuple(_maps_over(run)) if graph.maps else ())
        or (tuple(rounds_over(run, library)) if graph.loops else ())
        or (tuple(waits.answered(run)) if data.signals else ())
        or (_next_step(run, context, library) if data.ready else ())
        or (permits.ask_limits(run, context) if data.limited else ())
        or (_end(run, library) if data.steps_done == len(graph.plan.steps) else ())
    )


def _failure(run: Run, step_id: str) -> ErrorInfo:
    known = run.peek(step_id)
    error = known.error or ErrorInfo(type="execution_error", message="it failed")
    details, message = {**error.details, "step": step_id}, error.message
    first = known.map.failed_first if known.map is not None else {}
    item = next((index for index, said in first.items() if said == error.message), None)
    if item is not None:
        details["item"], message = item, f"{run.label((step_id, item))} failed: {message}"
    return ErrorInfo(
        type=error.type, message=f"step {step_id!r} failed: {message}", details=details, plugin=error.plugin
    )


def _broken_orders(run: Run, library: Library) -> Iterator[RunEvent]:
    """Make the orders of what was opened; what cannot be resolved fails, the rest is ready to be sent."""
    failed: set[Instance] = set()
    while run.unchecked:
        instance = run.unchecked[-1]
        trial = run.trial(instance)
        if trial is not None and (trial.child or not trial.idle) and instance not in failed:
            try:
                _check(run, library, instance)
            except MissingError:
                if failed:
                    return  # first what failed is written down; then the body is asked for again
                raise
            except (StepError, ValidationError) as problem:
                run.unchecked.pop()
                failed.add(instance)
                step_id, index = instance
                continued = run.goes_on(instance)
                yield StepFailed(
                    step=step_id,
                    index=index,
                    attempt=trial.attempt,
                    error=told(problem),
                    continued=continued,
                    child_id=trial.child,
                )
                continue
            run.checked.append(instance)
        run.unchecked.pop()


def _check(run: Run, library: Library, instance: Instance) -> None:
    if instance[0] in run.graph.children:
        children.check(run, library, instance)
    else:
        order_for(run, library, instance)


def _maps_over(run: Run) -> Iterator[RunEvent]:
    for step_id in run.graph.maps:
        known = run.data.steps.get(step_id)
        if known is None or known.map is None or known.status != StepStatus.RUNNING:
            continue
        if known.map.done == known.map.count:
            yield StepSucceeded(step=step_id, started_at=known.started_at)


def _next_step(run: Run, context: Context, library: Library) -> Sequence[RunEvent]:
    if run.resting:
        return ()
    for step_id in run.data.ready:
        step = run.graph.index[step_id]
        try:
            events = _begin(run, step, context, library)
        except (StepError, ValidationError) as problem:
            events = (StepFailed(step=step_id, error=told(problem), continued=step.on_error == "continue"),)
        if events:
            return events
    return ()


def _begin(run: Run, step: PlanStep, context: Context, library: Library) -> Sequence[RunEvent]:
    """Begin a step whose needs are over, or give nothing when it must wait for a person first."""
    known = run.peek(step.id)
    if run.all_skipped(step.id):
        return (StepSkipped(step=step.id, reason="everything it needs was skipped"),)
    if step.when is not None and not known.go:
        if truth(run, library, step.id, step.when):
            return (StepReady(step=step.id),)
        return (StepSkipped(step=step.id, reason=f"its condition was false: {step.when}"),)
    if not step.confirm and not run.permitted(step.id):
        asked = any(not ask.step for ask in run.data.asks.values())
        return () if asked else (asks.for_run(run, context),)
    if step.confirm and not known.confirmed:
        arguments = step.body.arguments if isinstance(step.body, CallStep) else {}
        arguments = step.body.inputs if isinstance(step.body, SubWorkflowStep) else arguments
        if not step.is_map:
            scope = scope_of(run, library, (step.id, None))
            arguments = run.graph.template(step.id, "arguments", arguments).resolve(scope)
        return (asks.for_confirmation(run, step, arguments, context),)
    if step.is_map:
        return _begin_map(run, step, library)
    return _begin_body(run, step, context, library)


def _begin_map(run: Run, step: PlanStep, library: Library) -> Sequence[RunEvent]:
    count = len(items_of(run, library, step.id))
    if not isinstance(step.body, TransformStep):
        return (MapStarted(step=step.id, count=count),)
    template = run.graph.template(step.id, "value", step.body.value)
    output = [template.resolve(_item_scope(run, library, step.id, place)) for place in range(count)]
    return (StepSucceeded(step=step.id, output=codec.raw(output)),)


def _item_scope(run: Run, library: Library, step_id: str, place: int) -> RunScope:
    return scope_of(run, library, (step_id, place))


def _begin_body(run: Run, step: PlanStep, context: Context, library: Library) -> Sequence[RunEvent]:
    match step.body:
        case TransformStep(value=value):
            output = run.graph.template(step.id, "value", value).resolve(scope_of(run, library, (step.id, None)))
            return (StepSucceeded(step=step.id, output=codec.raw(output)),)
        case ConditionStep():
            return _branch(run, step, step.body, library)
        case WaitStep(seconds=float(seconds)):
            return (TimerStarted(step=step.id, due_at=context.now + int(seconds * 1000)),)
        case WaitStep():
            return waits.begin(run, step, step.body, context, library)
        case ApprovalStep():
            return (asks.for_step(run, step, step.body, context, library),)
        case LoopStep():
            return next_round(run, step, step.body, library)
        case CallStep() | GateStep() | SubWorkflowStep():
            return ()
        case _:
            assert_never(step.body)


def _branch(run: Run, step: PlanStep, body: ConditionStep, library: Library) -> Sequence[RunEvent]:
    """Choose: the steps of the other branch are skipped before the condition ends, so that none of them begins."""
    chosen = truth(run, library, step.id, body.expression)
    taken, left = (body.then, body.otherwise) if chosen else (body.otherwise, body.then)
    reason = f"the condition {step.id!r} chose the other branch"
    skipped = tuple(StepSkipped(step=name, reason=reason) for name in left if name not in taken and not run.over(name))
    output = codec.raw({"value": chosen, "branch": "then" if chosen else "else"})
    return (*skipped, StepSucceeded(step=step.id, output=output))


def _end(run: Run, library: Library) -> Sequence[RunEvent]:
    plan = run.graph.plan
    try:
        if plan.views:
            outputs = codec.raw(dashboard_result(run, library))
        elif plan.outputs is None:
            outputs = NULL
        else:
            template = run.graph.template("", "outputs", plan.outputs)
            outputs = recorded(run, library, template) or codec.raw(template.resolve(RunScope(run, library)))
    except (StepError, ValidationError) as problem:
        return (RunFailed(error=told(problem)),)
    return (RunSucceeded(outputs=outputs),)
