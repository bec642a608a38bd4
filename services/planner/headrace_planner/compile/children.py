"""Sub-workflows: which plan a step's child runs, whether it fits, how deep it lies (pure)."""

from collections.abc import Iterator, Mapping

import msgspec

from headrace.expressions.near import hint, meant
from headrace.plans.model import CallStep, InputField, Plan, WorkflowPin
from headrace.specs.models import Step
from headrace.specs.names import WORKFLOW
from headrace.specs.problems import Path
from headrace.vocabulary import SUB_WORKFLOW_DEPTH_MAX
from headrace_planner.compile.arguments import WRONG, Said

TOO_DEEP = "depth_exceeded"
UNKNOWN = "unknown_dependency"


class Callee(msgspec.Struct, frozen=True):
    """A workflow as others may call it: what is pinned of it, and what it must be given."""

    pin: WorkflowPin
    kind: str
    inputs: dict[str, InputField]


Workflows = Mapping[str, Callee]


def callee(version: int, digest: str, plan: Plan) -> Callee:
    """Give what others may know of a workflow's plan."""
    below = plan.workflows
    wanted = {name for one in below.values() for name in one.integrations}
    for step in (*plan.steps, *plan.compensations):
        if isinstance(step.body, CallStep):
            integration = plan.tools[step.body.tool].requires_connection
            if integration is not None:
                wanted.add(f"{integration}/{step.body.connection}" if step.body.connection else integration)
    pin = WorkflowPin(
        version=version,
        digest=digest,
        depth=1 + max((one.depth for one in below.values()), default=0),
        gated=plan.authorization != "none",
        integrations=tuple(sorted(wanted)),
        below=tuple(sorted({*below, *(name for one in below.values() for name in one.below)})),
    )
    return Callee(pin, plan.kind, plan.inputs)


def child_problems(step: Step, path: Path, name: str, workflows: Workflows) -> Iterator[Said]:
    """Say what speaks against running a workflow as a child of the workflow `name`."""
    child = step.sub_workflow
    if child is None:
        return
    place = (*path, "sub_workflow")
    known = workflows.get(child.workflow)
    if child.workflow == name or (known is not None and name in known.pin.below):
        way = "itself" if child.workflow == name else f"itself by way of {child.workflow!r}"
        message = f"workflow {name!r} cannot run {way}: it would never end; use a loop, or split what repeats"
        yield (*place, "workflow"), message, "cycle_detected"
        return
    if known is None:
        slip = meant(child.workflow, workflows)  # not a list of them: only those that the document names were read
        message = f"there is no workflow {child.workflow!r}{slip}; apply it first"
        yield (*place, "workflow"), message, UNKNOWN
        return
    if known.kind != WORKFLOW:
        yield (*place, "workflow"), f"{child.workflow!r} is a {known.kind}; a child is a {WORKFLOW}", WRONG
        return
    if known.pin.depth > SUB_WORKFLOW_DEPTH_MAX:
        message = (
            f"depth: {child.workflow!r} would be the top of {known.pin.depth} nested sub-workflows; "
            f"at most {SUB_WORKFLOW_DEPTH_MAX} may lie below one run"
        )
        yield (*place, "workflow"), message, TOO_DEEP
    for given in child.with_:
        if given not in known.inputs:
            yield (
                (*place, "with", given),
                f"{child.workflow!r} has no input {given!r}{hint(given, known.inputs)}",
                WRONG,
            )
    for wanted, field in known.inputs.items():
        if field.required and field.default is None and wanted not in child.with_:
            yield (*place, "with"), f"{child.workflow!r} needs the input {wanted!r} ({field.type})", "missing_argument"
