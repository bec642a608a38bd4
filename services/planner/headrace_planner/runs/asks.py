"""What people are asked: exactly what is shown, and the digest that their decision binds to (pure)."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from headrace import codec, ids
from headrace.decider import Context, Library, Rejection
from headrace.errors import HeadraceError, NotFoundError, StepError
from headrace.events.base import ErrorInfo
from headrace.events.runs import ApprovalRequested, ApprovalResolved, RunEvent, RunFailed, StepFailed, StepSucceeded
from headrace.messages import OpenApproval, ResolveApproval, SupersedeApproval
from headrace.plans.model import ApprovalStep, PlanStep, SubWorkflowStep
from headrace.vocabulary import LOG_APPROVALS, LOG_PARTITIONS, MESSAGE_BYTES_MAX, ApprovalStatus
from headrace_planner.runs.graph import Graph, tool_name
from headrace_planner.runs.kept import Ask
from headrace_planner.runs.orders import scope_of
from headrace_planner.runs.state import Run

SHOWN_BYTES_MAX: Final = MESSAGE_BYTES_MAX // 2
"""What is shown travels to the gatekeeper in one message; a larger one would never arrive."""


def for_run(run: Run, context: Context) -> ApprovalRequested:
    """Ask for the run's gated tools as a whole: the plan and these inputs."""
    tools = [
        {"step": step.id, **_use(run.graph, step)}
        for step in run.graph.index.values()
        if run.graph.gated(step.id) and not run.over(step.id)
    ]
    shown = {**_frame(run), "step": "", "prompt": "Let this run use its gated tools?", "tools": tools}
    return _ask(run, context, shown, "", ("approver",), 1, None)


def for_step(run: Run, step: PlanStep, body: ApprovalStep, context: Context, library: Library) -> ApprovalRequested:
    """Ask what an approval step asks."""
    prompt = run.graph.template(step.id, "prompt", body.prompt).resolve(scope_of(run, library, (step.id, None)))
    shown = {**_frame(run), "step": step.id, "prompt": prompt}
    lets = run.graph.lets.get(step.id)
    if lets is None:
        every = run.graph.index.values()
        lets = [{"step": each.id, **_use(run.graph, each)} for each in every if step.id in each.covered_by]
        run.graph.lets[step.id] = lets
    if lets:
        shown["tools"] = lets
    expires_at = None if body.expires_s is None else context.now + int(body.expires_s * 1000)
    return _ask(run, context, shown, step.id, body.roles, body.quorum, expires_at)


def for_confirmation(run: Run, step: PlanStep, arguments: Any, context: Context) -> ApprovalRequested:
    """Ask before a step acts, showing its tool and its arguments."""
    shown = {
        **_frame(run),
        "step": step.id,
        "prompt": "Perform this step?",
        **_named(run.graph, step),
        "arguments": arguments,
    }
    if step.id in run.graph.undo:
        shown["undone_by"] = tool_name(run.graph.index[run.graph.undo[step.id]])
    return _ask(run, context, shown, step.id, ("approver",), 1, None)


def _use(graph: Graph, step: PlanStep) -> dict[str, Any]:
    """Give what a step uses: its tool and effect, or the workflow that its child runs, by the plan's digest."""
    pin = graph.pins.get(step.id)
    return _named(graph, step) if pin is None else {**_named(graph, step), "effect": pin.effect}


def _named(graph: Graph, step: PlanStep) -> dict[str, Any]:
    child = graph.children.get(step.id)
    if child is None or not isinstance(step.body, SubWorkflowStep):
        return {"tool": tool_name(step)}
    return {"workflow": step.body.workflow, "version": child.version, "workflow_plan_digest": child.digest}


def _frame(run: Run) -> dict[str, Any]:
    queued = run.queued
    return {
        "run_id": run.data.id,
        "workflow": queued.workflow or run.graph.plan.name,
        "plan_digest": queued.plan_digest,
        "inputs": queued.inputs,
        "inputs_digest": queued.inputs_digest,
        "requester": queued.requester.name,
    }


def _ask(
    run: Run,
    context: Context,
    shown: dict[str, Any],
    step: str,
    roles: tuple[str, ...],
    quorum: int,
    expires_at: int | None,
) -> ApprovalRequested:
    full = {**shown, "roles": list(roles), "quorum": quorum, "expires_at": expires_at}
    written = codec.raw(full)
    size = len(bytes(written))
    if size > SHOWN_BYTES_MAX:
        message = f"what an approver would be shown takes {size} bytes, at most {SHOWN_BYTES_MAX} are allowed"
        raise StepError(message, type="validation_error", details={"step": step})
    partition = ids.partition_for(LOG_PARTITIONS[LOG_APPROVALS], run.data.id, step)
    return ApprovalRequested(
        approval_id=ids.derive(ids.APPROVAL, context.now, partition, run.data.id, run.label((step, None))),
        digest=codec.digest_of(written),
        shown=written,
        step=step,
        roles=roles,
        quorum=quorum,
        expires_at=expires_at,
    )


def open_command(run: Run, ask: Ask) -> OpenApproval:
    """Give the message that asks the gatekeeper."""
    return OpenApproval(
        subject=run.data.id,
        plan_digest=run.queued.plan_digest,
        digest=ask.digest,
        shown=ask.shown,
        requester=run.queued.requester,
        reply_to=run.data.id,
        step=ask.step,
        roles=ask.roles,
        quorum=ask.quorum,
        expires_at=ask.expires_at,
    )


def unheard(run: Run) -> Iterator[Ask]:
    """Give the questions that must be repeated: those without receipt, and of a run that comes to its end those taken back."""
    for ask in run.asked():
        if run.halted or not ask.received:
            yield ask


def take_back(run: Run, ask: Ask) -> SupersedeApproval:
    """Give the message that says that no answer is needed any more."""
    ending = "is being cancelled" if run.data.undo is None else "is over but for what undoes its steps"
    reason = f"the run {run.data.status if run.final else ending}"
    asked = None if ask.received else open_command(run, ask)
    return SupersedeApproval(reason=reason, reply_to=run.data.id, step=ask.step, digest=ask.digest, asked=asked)


def approved(run: Run, ask: Ask, command: ResolveApproval) -> Sequence[RunEvent]:
    """Give what follows an approval: an approval step ends; a confirmed step, or the run's tools, may go on."""
    if not ask.step or run.graph.index[ask.step].confirm:
        return ()
    output = {
        "status": command.status,
        "by": [actor.name for actor in command.by],
        "reason": command.reason,
        "approval_id": ask.approval_id,
        "digest": ask.digest,
    }
    return (StepSucceeded(step=ask.step, output=codec.raw(output), started_at=ask.asked_at),)


def resolve(run: Run, command: ResolveApproval) -> Sequence[RunEvent] | Rejection:
    """Take the gatekeeper's outcome: what was asked goes on, or fails. Again: nothing."""
    ask = run.data.asks.get(command.approval_id)
    if ask is None:
        return Rejection(NotFoundError(f"the run asked for no approval {command.approval_id}"))
    if ask.status != ApprovalStatus.PENDING:
        return ()
    if command.digest != ask.digest:
        message = f"the outcome is for {command.digest}, but the run asked about {ask.digest}"
        return Rejection(HeadraceError(message))
    resolved = ApprovalResolved(
        approval_id=command.approval_id, step=ask.step, status=command.status, by=command.by, reason=command.reason
    )
    if run.halted:
        return (resolved,)  # nothing waits for it any more
    if command.status == ApprovalStatus.APPROVED:
        return (resolved, *approved(run, ask, command))
    who = ", ".join(actor.name for actor in command.by)
    said = f"{command.status}{f' by {who}' if who else ''}{f': {command.reason}' if command.reason else ''}"
    details = {"approval_id": ask.approval_id, "status": command.status}
    if ask.step:
        message = f"the approval of step {ask.step!r} was {said}"
        error = ErrorInfo(type="confirmation_denied", message=message, details=details)
        continued = run.graph.index[ask.step].on_error == "continue"
        return (resolved, StepFailed(step=ask.step, error=error, continued=continued))
    error = ErrorInfo(type="not_authorized", message=f"the run's gated tools were {said}", details=details)
    return (resolved, RunFailed(error=error))
