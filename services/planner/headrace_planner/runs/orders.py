"""Work orders: what a worker is asked to perform for an instance, with its arguments resolved (pure)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, assert_never

from headrace import codec
from headrace.codec import NULL, Raw
from headrace.decider import Library
from headrace.errors import StepError
from headrace.expressions.expression import parse
from headrace.expressions.references import Path
from headrace.expressions.scope import STEPS
from headrace.expressions.series import whole
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
from headrace.wire import WorkOrder
from headrace_planner.runs import artifacts
from headrace_planner.runs.graph import tool_name
from headrace_planner.runs.scope import PREVIOUS, RunScope, items_of, scope_for, undone_scope
from headrace_planner.runs.state import Instance, Run

EXPRESSION_GATE: Final = "expression"
ITERATION: Final = "iteration"
LAST: Final = "last"
"""Where a run's orders keep the digest that was asked for last."""


def scope_of(run: Run, library: Library, instance: Instance, extra: dict[str, Any] | None = None) -> RunScope:
    """Give the scope in which an instance's templates are resolved."""
    step_id, index = instance
    if run.graph.index[step_id].compensates:
        return undone_scope(run, library, step_id)
    own = {} if index is None else {"item": items_of(run, library, step_id)[index], "index": index}
    return scope_for(run, library, step_id, {**own, **(extra or {})})


def order_for(run: Run, library: Library, instance: Instance) -> WorkOrder:
    """Give the order of an instance that is under way, made once; of one that has not begun, that of its first attempt.

    Raises StepError (expression_error) when an argument cannot be resolved, MissingError when a body must be fetched.
    """
    trial = run.trial(instance)
    attempt = 1 if trial is None else trial.attempt
    known = run.orders.get((instance, attempt))
    if known is None:
        known = run.orders[instance, attempt] = _make(run, library, instance, attempt)
    return known


def digest_for(run: Run, library: Library, instance: Instance) -> str:
    """Give the digest of an instance's arguments; its order need not be made for it. Raises as `order_for`.

    What follows in a chain is reported without ever having been ordered. The last digest is kept: a result is first
    compared with it, and then recorded with it.
    """
    trial = run.trial(instance)
    attempt = 1 if trial is None else trial.attempt
    known = run.orders.get((instance, attempt))
    if known is not None:
        return str(known.arguments_digest)
    last = run.orders.get(LAST)
    if last is None or last[0] != run.data.version or last[1:3] != (instance, attempt):
        arguments = codec.raw(_arguments(run, run.graph.index[instance[0]], scope_of(run, library, instance)))
        last = run.orders[LAST] = (run.data.version, instance, attempt, codec.sha256(arguments))
    return str(last[3])


def _make(run: Run, library: Library, instance: Instance, attempt: int) -> WorkOrder:
    step_id, index = instance
    step = run.graph.index[step_id]
    pin = run.graph.pins[step_id]
    scope = scope_of(run, library, instance)
    arguments = codec.raw(_arguments(run, step, scope))
    connection = _connection(run, step, pin.requires_connection)
    return WorkOrder(
        attempt_id=run.attempt_id(instance, attempt),
        run_id=run.data.id,
        step=step_id,
        index=index,
        attempt=attempt,
        workspace=run.data.workspace,
        kind=step.kind,
        tool=tool_name(step),
        pool=pin.pool,
        arguments=arguments,
        arguments_digest=codec.sha256(arguments),
        plan_digest=run.queued.plan_digest,
        manifest_digest=pin.digest,
        effect=pin.effect,
        idempotency_key=f"{run.data.id}:{run.label(instance)}",
        timeout_s=step.timeout_s,
        evidence=codec.raw(_evidence(run, library, step, scope)) if isinstance(step.body, GateStep) else NULL,
        precondition=_precondition(run, step, scope),
        connection=connection,
    )


def _arguments(run: Run, step: PlanStep, scope: RunScope) -> Any:
    match step.body:
        case CallStep(arguments=arguments):
            return run.graph.template(step.id, "arguments", arguments).resolve(scope)
        case GateStep(gate=gate, config=config) if gate == EXPRESSION_GATE:
            return config  # its expression is for the gate to evaluate, not to expand
        case GateStep(config=config):
            return run.graph.template(step.id, "config", config).resolve(scope)
        case TransformStep() | ConditionStep() | ApprovalStep() | WaitStep() | LoopStep() | SubWorkflowStep():
            message = f"step {step.id!r} is not performed by a worker"
            raise StepError(message)
        case _:
            assert_never(step.body)


def _precondition(run: Run, step: PlanStep, scope: RunScope) -> Raw:
    if step.precondition is None:
        return NULL
    return codec.raw(run.graph.template(step.id, "precondition", step.precondition).resolve(scope))


def _connection(run: Run, step: PlanStep, integration: str | None) -> Raw:
    if integration is None:
        return NULL
    known = codec.loads(run.queued.connections) or {}
    named = step.body.connection if isinstance(step.body, CallStep) else None
    connection = known.get(f"{integration}/{named}" if named else integration)
    if connection is None:
        message = f"step {step.id!r} needs a connection to {integration}, and the run was created without one"
        raise StepError(message, type="integration_not_connected", details={"integration": integration})
    return codec.raw(connection)


def _evidence(run: Run, library: Library, step: PlanStep, scope: RunScope) -> dict[str, Any]:
    """Gather what is recorded; of step outputs only those that the gate's own expression names."""
    shown = []
    steps = {step_id: run.data.steps[step_id] for step_id in run.graph.index if step_id in run.data.steps}
    artifacts.fetch(steps.values(), library)
    for step_id, known in steps.items():
        for _, _, _, kept in artifacts.read(known, library):
            shown.append(
                {
                    "type": kept.type,
                    "label": kept.label,
                    "value": codec.loads(kept.value),
                    "step": step_id,
                    **({"text": codec.loads(kept.body)} if kept.body != NULL else {}),
                    **({"blob": {"digest": kept.blob.digest, "size_bytes": kept.blob.size_bytes}} if kept.blob else {}),
                }
            )
    paths = sorted(_named(step), key=repr)
    unmade: list[str] = []
    evidence: dict[str, Any] = {
        "artifacts": shown,
        "steps": _parts(scope.step, [path[1:3] for path in paths if path[0] == STEPS], unmade),
        **{root: scope.root(root) for root in ("trigger", "variables", "inputs", "run")},
    }
    if step.parent:
        before = scope.root(PREVIOUS)
        named = [path[1:3] or (name,) for path in paths if path[0] == PREVIOUS for name in before]
        evidence |= {ITERATION: scope.root(ITERATION), PREVIOUS: _parts(before.get, named, unmade)}
    return evidence | ({"unmade": unmade} if unmade else {})


def _parts(
    view_of: Callable[[str], Mapping[str, Any] | None], named: Iterable[Path], unmade: list[str]
) -> dict[str, dict[str, Any]]:
    """Give what is recorded of steps: the parts that are named, or of a step as such all of it.

    Named outputs that cannot be made are left out, and it is said why: the gate may come to its verdict without them.
    """
    found: dict[str, dict[str, Any]] = {}
    for step_id, *part in named:
        view = view_of(str(step_id))
        if view is not None:
            of_step = found.setdefault(str(step_id), {})
            for key in (str(each) for each in (part or view) if each in view):
                try:
                    of_step[key] = whole(view[key])
                except StepError as problem:
                    unmade.append(f"{step_id}.{key}: {problem.message}")
    return found


def _named(step: PlanStep) -> tuple[Path, ...]:
    assert isinstance(step.body, GateStep), "only a gate gathers evidence"
    text = step.body.config.get("expression")
    return parse(text).paths if isinstance(text, str) else ()
