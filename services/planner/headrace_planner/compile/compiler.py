"""From a document to a plan: exactly what will run, the same bytes on every machine (pure).

made = compile(document, catalogue)
if isinstance(made, Problems): …          # everything wrong with it, with places
digest = plans.model.digest(made)
"""

from typing import Final

from headrace.codec import Raw
from headrace.errors import ValidationError
from headrace.plans.model import (
    COMPENSATION_SUFFIX,
    ApprovalStep,
    ArtifactSpec,
    CallStep,
    Concurrency,
    ConditionStep,
    GateStep,
    InputField,
    LoopStep,
    Plan,
    PlanStep,
    Retry,
    StepBody,
    SubWorkflowStep,
    ToolPin,
    TransformStep,
    WaitStep,
    WorkflowPin,
)
from headrace.specs import graph, names
from headrace.specs.check import validate
from headrace.specs.documents import Document, from_json, in_order, read_one
from headrace.specs.models import DashboardSpec, Step, ToolPlanSpec, WorkflowSpec
from headrace.specs.models import Retry as RetrySpec
from headrace.specs.problems import Problem, Problems
from headrace.vocabulary import APPROVAL_EXPIRES_S, RUN_TIMEOUT_S, STEP_TIMEOUT_S, TOOL_TIMEOUT_S, Access
from headrace_planner.compile.arguments import Said
from headrace_planner.compile.calls import (
    GATE_PREFIX,
    Catalogue,
    call_of,
    call_problems,
    called,
    gate_problems,
    pin_of,
)
from headrace_planner.compile.children import Workflows, child_problems
from headrace_planner.compile.cover import covering
from headrace_planner.compile.dashboard import READ_TIMEOUT_S, dashboard_catalogue_problems, dashboard_steps

TIMEOUTS_S: Final = {
    "tool": TOOL_TIMEOUT_S,
    "http": TOOL_TIMEOUT_S,
    "integration": READ_TIMEOUT_S,
    "gate": TOOL_TIMEOUT_S,
}
"""How long a step may take when it does not say (VOCABULARY "Defaults"); others STEP_TIMEOUT_S."""


def compile(document: Document, catalogue: Catalogue, workflows: Workflows | None = None) -> Plan | Problems:
    """Give the plan of a document under a catalogue of tools by name, or everything that is wrong with it.

    `workflows` are those by name that its sub-workflow steps may run.
    """
    workflows = workflows or {}
    gates = [name.removeprefix(GATE_PREFIX) for name in catalogue if name.startswith(GATE_PREFIX)]
    found: list[Problem] = list(validate(document, gates, called(document.steps, catalogue)))
    for path, message, kind in _catalogue_problems(document, catalogue, workflows):
        found.extend(document.located([(path, message)], kind))
    if found:
        return in_order(found)
    if isinstance(document.spec, DashboardSpec):
        return _dashboard(document, document.spec, catalogue)
    assert document.spec is not None, "a document without problems has a spec"
    return _graph(document, document.spec, catalogue, workflows)


def compile_bytes(spec: bytes | Raw, catalogue: Catalogue) -> Plan | Problems:
    """Compile a document as it travels in commands, JSON, or as it was written, YAML; raises TooLargeError."""
    data = bytes(spec)
    try:
        document = from_json(data) if data.lstrip()[:1] == b"{" else read_one(data)
    except ValidationError as problem:
        listed = problem.details.get("problems") or [{"path": "", "message": problem.message}]
        return Problems(tuple(Problem(**one) for one in listed))
    return compile(document, catalogue)


def _catalogue_problems(document: Document, catalogue: Catalogue, workflows: Workflows) -> list[Said]:
    if isinstance(document.spec, DashboardSpec):
        return dashboard_catalogue_problems(document.spec, catalogue)
    said: list[Said] = []
    for number, step in document.steps:
        path = ("spec", "steps", number)
        call = call_of(step)
        if call is not None:
            said += call_problems(step, call, path, catalogue)
        elif step.gate is not None and step.gate.type not in names.GATES_LATER:
            said += gate_problems(step, path, catalogue)
        said += child_problems(step, path, document.name, workflows)
        undo = None if step.compensate is None else call_of(step.compensate)
        if undo is not None and step.compensate is not None:
            said += call_problems(step.compensate, undo, (*path, "compensate"), catalogue)
    return said


def _graph(document: Document, spec: WorkflowSpec | ToolPlanSpec, catalogue: Catalogue, workflows: Workflows) -> Plan:
    needs = graph.needs(spec.steps, chain=document.kind == names.TOOL_PLAN)
    inside = graph.parents(spec.steps)
    around = {step_id: (*needed, inside[step_id]) if step_id in inside else needed for step_id, needed in needs.items()}
    by_id = {step.id: step for step in spec.steps}
    ordered = [by_id[step_id] for step_id in graph.topological(around)]
    pins = _pins(ordered, catalogue)
    called = {step.sub_workflow.workflow for step in ordered if step.sub_workflow is not None}
    children = {name: workflows[name].pin for name in sorted(called)}
    cover = covering(spec.steps, around)
    steps = tuple(
        _step(
            step,
            needs[step.id],
            cover[step.id] if _gated(step, pins, children) else (),
            inside.get(step.id, ""),
        )
        for step in ordered
    )
    undone = tuple(_compensation(step, cover[step.id], pins) for step in ordered if step.compensate is not None)
    workflow = spec if isinstance(spec, WorkflowSpec) else None
    return Plan(
        name=document.name,
        kind=document.kind,
        steps=steps,
        tools=pins,
        inputs=_inputs(spec),
        variables=spec.variables,
        outputs=spec.outputs,
        automation=workflow.automation if workflow else "fully_auto",
        on_failure=workflow.on_failure if workflow else "stay",
        timeout_s=spec.timeout or RUN_TIMEOUT_S,
        authorization=_authorization(document.kind, (*steps, *undone), pins, children),
        workflows=children,
        compensations=undone,
        concurrency=_concurrency(workflow, document.name),
        priority=workflow.priority if workflow else 0,
        fuse=spec.fuse,
    )


def _concurrency(spec: WorkflowSpec | None, name: str) -> Concurrency | None:
    if spec is None or spec.concurrency is None:
        return None
    given = spec.concurrency
    return Concurrency(key=given.key or f"workflow/{name}", limit=given.limit, on_conflict=given.on_conflict)


def _compensation(step: Step, covered_by: tuple[str, ...], pins: dict[str, ToolPin]) -> PlanStep:
    undo = step.compensate
    assert undo is not None, "the caller sees to it"
    call = call_of(undo)
    assert call is not None, "a document without problems names one call"
    return PlanStep(
        id=f"{step.id}{COMPENSATION_SUFFIX}",
        kind=undo.kind,
        body=call,
        timeout_s=undo.timeout or TIMEOUTS_S.get(undo.kind, STEP_TIMEOUT_S),
        retry=_retry(undo.retry),
        covered_by=covered_by if pins[call.tool].access == Access.GATED else (),
        compensates=step.id,
    )


def _dashboard(document: Document, spec: DashboardSpec, catalogue: Catalogue) -> Plan:
    steps, views = dashboard_steps(spec)
    tools = {step.body.tool for step in steps if isinstance(step.body, CallStep)}
    return Plan(
        name=document.name,
        kind=document.kind,
        steps=tuple(steps),
        tools={name: pin_of(catalogue[name]) for name in sorted(tools)},
        inputs=_inputs(spec),
        variables=spec.variables,
        timeout_s=spec.timeout or RUN_TIMEOUT_S,
        authorization=_authorization(
            document.kind, tuple(steps), {name: pin_of(catalogue[name]) for name in tools}, {}
        ),
        views=tuple(views),
    )


def _inputs(spec: WorkflowSpec | ToolPlanSpec | DashboardSpec) -> dict[str, InputField]:
    return {
        name: InputField(
            type=field.type,
            default=field.default,
            required=field.required if field.required is not None else "default" not in field.model_fields_set,
            description=field.description,
        )
        for name, field in sorted(spec.inputs.items())
    }


def _tool_name(step: Step) -> str | None:
    call = call_of(step)
    if call is not None:
        return call.tool
    return GATE_PREFIX + step.gate.type if step.gate is not None else None


def _pins(steps: list[Step], catalogue: Catalogue) -> dict[str, ToolPin]:
    wanted = {name for step in steps if (name := _tool_name(step)) is not None}
    for step in steps:
        undo = None if step.compensate is None else call_of(step.compensate)
        if undo is not None:
            wanted.add(undo.tool)
    return {name: pin_of(catalogue[name]) for name in sorted(wanted)}


def _gated(step: Step, pins: dict[str, ToolPin], children: dict[str, WorkflowPin]) -> bool:
    """Tell whether a step, or what undoes it, needs an approval."""
    if step.sub_workflow is not None and children[step.sub_workflow.workflow].gated:
        return True
    undo = None if step.compensate is None else call_of(step.compensate)
    called = (_tool_name(step), undo.tool if undo is not None else None)
    return any(name is not None and pins[name].access == Access.GATED for name in called)


def _authorization(
    kind: str, steps: tuple[PlanStep, ...], pins: dict[str, ToolPin], children: dict[str, WorkflowPin]
) -> str:
    """Say what must be approved first: a tool plan always as a whole; else gated steps that no approval covers."""
    if kind == names.TOOL_PLAN:
        return "plan"
    return "run" if any(_open(step, pins, children) for step in steps) else "none"


def _open(step: PlanStep, pins: dict[str, ToolPin], children: dict[str, WorkflowPin]) -> bool:
    """Tell whether a step uses what needs an approval, and none covers it."""
    if step.covered_by:
        return False
    if isinstance(step.body, SubWorkflowStep):
        return children[step.body.workflow].gated
    return isinstance(step.body, CallStep) and pins[step.body.tool].access == Access.GATED


def _step(step: Step, needs: tuple[str, ...], covered_by: tuple[str, ...], parent: str) -> PlanStep:
    return PlanStep(
        id=step.id,
        kind=step.kind,
        body=_body(step),
        name=step.name,
        needs=needs,
        when=step.guard,
        items=step.map if step.is_map else None,
        timeout_s=step.timeout or TIMEOUTS_S.get(step.kind, STEP_TIMEOUT_S),
        retry=_retry(step.retry),
        on_error=step.on_error,
        artifacts=tuple(ArtifactSpec(type=one.type, label=one.label, value=one.value) for one in step.artifacts),
        precondition=step.precondition,
        confirm=step.requires_confirmation,
        covered_by=covered_by,
        outputs=step.outputs,
        parent=parent,
        step_timeout_s=step.step_timeout,
        queue_timeout_s=step.queue_timeout,
        concurrency=step.concurrency,
        on_item_error=step.on_item_error,
    )


def _retry(retry: RetrySpec | None) -> Retry:
    if retry is None:
        return Retry()
    backoff = retry.backoff
    if backoff is None:
        return Retry(max_attempts=retry.max_attempts, on=tuple(retry.retry_on))
    return Retry(
        max_attempts=retry.max_attempts,
        initial_s=backoff.initial,
        factor=backoff.factor,
        max_s=max(backoff.max, backoff.initial),
        jitter=backoff.jitter,
        on=tuple(retry.retry_on),
    )


def _body(step: Step) -> StepBody:
    call = call_of(step)
    if call is not None:
        return call
    if step.gate is not None:
        gate = step.gate
        return GateStep(
            gate=gate.type, config=gate.config, required=gate.required, failure_message=gate.failure_message
        )
    if step.approval is not None:
        asked = step.approval
        expires = APPROVAL_EXPIRES_S if asked.expires is None else asked.expires
        return ApprovalStep(roles=tuple(asked.roles), quorum=asked.quorum, expires_s=expires, prompt=asked.prompt)
    if step.wait is not None:
        wait = step.wait
        return WaitStep(
            seconds=wait.timer,
            signal=wait.signal,
            event=wait.event,
            of_run=wait.run,
            when=wait.when,
            expires_s=wait.timeout,
        )
    if step.loop is not None:
        return LoopStep(condition=step.loop.while_, body=tuple(step.loop.steps), cap=step.loop.max_iterations)
    if step.sub_workflow is not None:
        return SubWorkflowStep(workflow=step.sub_workflow.workflow, inputs=dict(step.sub_workflow.with_))
    if step.choice is not None:
        chosen = step.choice
        return ConditionStep(expression=chosen.expression, then=tuple(chosen.then), otherwise=tuple(chosen.else_))
    return TransformStep(value=step.transform)
