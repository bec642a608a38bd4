"""How a run begins: what it is given is checked against its plan, and all that was found about it is recorded (pure)."""

from collections.abc import Sequence

from headrace import codec
from headrace.codec import Raw
from headrace.decider import Context, Rejection
from headrace.errors import ConflictError, NotFoundError
from headrace.events.runs import RunEvent, RunQueued
from headrace.messages import CreateRun
from headrace.policy import may
from headrace.vocabulary import Automation
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.inputs import accept, digest_of, priority


def create(command: CreateRun, context: Context, graph: Graph | None) -> Sequence[RunEvent] | Rejection:
    """Queue a run of a plan; raises ForbiddenError, or ValidationError that lists what is wrong with its inputs."""
    if graph is None:
        return Rejection(NotFoundError(f"there is no plan {command.plan_digest}"))
    may(context.actor, "run")
    plan = graph.plan
    if plan.automation == Automation.MANUAL and codec.loads(command.trigger):
        return Rejection(ConflictError(f"{plan.name!r} is started by people only (automation: manual)"))
    inputs = accept(plan.inputs, codec.loads(command.inputs))
    text = codec.raw(inputs)
    digest = digest_of(text, inputs)
    return (queued_as(command, graph, context, text, digest), *command.reused)


def queued_as(
    command: CreateRun, graph: Graph, context: Context, inputs: Raw, digest: str = "", *, refused: bool = False
) -> RunQueued:
    """Give the event that makes a run, of inputs with a digest; `refused`: it is over at once, and nothing of it begins."""
    plan = graph.plan
    return RunQueued(
        kind=plan.kind,
        plan_digest=command.plan_digest,
        inputs=inputs,
        inputs_digest=digest or codec.digest_of(inputs),
        requester=(command.requester if command.parent else None) or context.actor,
        workflow=command.workflow,
        workflow_version=command.workflow_version,
        trigger=command.trigger,
        automation=plan.automation,
        authorized=command.authorized,
        attempt=command.attempt,
        retry_of=command.retry_of,
        rerun_from=command.rerun_from,
        reused=len(command.reused),
        subject=command.subject,
        stage=command.stage,
        labels=command.labels,
        priority=priority(plan.priority if command.priority is None else command.priority),
        connections=command.connections,
        workers_active=command.workers_active,
        parent=command.parent,
        refused=refused,
    )
