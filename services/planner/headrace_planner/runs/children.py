"""Sub-workflows, as the run sees them whose step is performed by a run of its own, its child (pure).

An attempt of such a step is a child run, whose id follows from the run, the instance and the attempt. The run tells it
`CreateRun` until it is known to be on record, and remembers it until it says how it ended, also when it is not needed
any more: then it is told `CancelRun`, or, while nobody knows whether it is on record, `CreateRun` with `cancelled`, so
that it is recorded as cancelled and never begins. Children work on their own time: a run's clock rests while it only
waits for them. A paused run holds its children: see `holding`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from headrace import codec
from headrace.codec import Raw
from headrace.decider import Context, Library, Reason, Tell
from headrace.errors import StepError, ValidationError
from headrace.events.base import SYSTEM, ErrorInfo
from headrace.events.runs import (
    CancelRequested,
    LateResultKept,
    Parent,
    RunCancelled,
    RunEvent,
    RunFailed,
    RunSucceeded,
    StepFailed,
    StepSucceeded,
)
from headrace.events.steering import ChildEnded, ChildStarted, CompensationStarted
from headrace.messages import CancelRun, CreateRun, ReportAttempt, RunCommand
from headrace.plans.model import SubWorkflowStep, WorkflowPin
from headrace.steering import NoteChildOutcomeReceived, NoteChildStarted, ReportChild
from headrace.vocabulary import (
    LOG_RUNS,
    MESSAGE_BYTES_MAX,
    NEVER_AGAIN,
    AttemptStatus,
    RunStatus,
    StepStatus,
    WaitingFor,
)
from headrace_planner.runs import results
from headrace_planner.runs.kept import Child
from headrace_planner.runs.orders import scope_of
from headrace_planner.runs.scope import told
from headrace_planner.runs.state import Instance, Run

INPUTS_BYTES_MAX: Final = MESSAGE_BYTES_MAX // 2
"""A child's inputs travel to it in one message; a larger one would never arrive."""
SHOWN_MAX: Final = 20
OF_PARENT: Final = " its parent run "
REFUSED: Final = "refused"
TOO_DEEP: Final = "depth_exceeded"
MAY_LEAVE: Final = (CancelRequested, CompensationStarted, RunFailed, RunCancelled, RunSucceeded, StepFailed)
"""Events after which children may be under way that nobody needs."""


# --- what happens ------------------------------------------------------------------------------------------------


def request(run: Run, library: Library, instance: Instance) -> CreateRun:
    """Give the command that makes the child of an instance that is under way, made once.

    Raises StepError when its inputs cannot be resolved or are too large, MissingError when a body must be fetched.
    """
    trial = run.trial(instance)
    assert trial is not None and trial.child is not None, "the caller sees to it"  # noqa: PT018  (one thought)
    known: CreateRun | None = run.orders.get((instance, trial.attempt))
    if known is None:
        known = run.orders[instance, trial.attempt] = _request(run, library, instance, run.data.children[trial.child])
    return known


def _request(run: Run, library: Library, instance: Instance, child: Child) -> CreateRun:
    step_id, _ = instance
    body, pin, queued = run.graph.index[step_id].body, run.graph.children[step_id], run.queued
    assert isinstance(body, SubWorkflowStep), "only such a step has children"
    inputs = codec.raw(run.graph.template(step_id, "inputs", body.inputs).resolve(scope_of(run, library, instance)))
    size = len(bytes(inputs))
    if size > INPUTS_BYTES_MAX:
        message = f"the inputs of {run.label(instance)} take {size} bytes; a child is given {INPUTS_BYTES_MAX} at most"
        raise StepError(message, type="validation_error", details={"step": step_id, "size_bytes": size})
    return CreateRun(
        plan_digest=pin.digest,
        inputs=inputs,
        workflow=body.workflow,
        workflow_version=pin.version,
        subject=queued.subject,
        stage=queued.stage,
        labels=queued.labels,
        priority=queued.priority,
        authorized=pin.gated and run.permitted(step_id),
        connections=_connections(run, pin),
        parent=_parent(run, child),
        requester=queued.requester,
    )


def _connections(run: Run, pin: WorkflowPin) -> Raw:
    """Give those of the run's connections that the child, or anything below it, needs."""
    mine = codec.loads(run.queued.connections) or {}
    return codec.raw({name: mine[name] for name in pin.integrations if name in mine})


def _parent(run: Run, child: Child) -> Parent:
    above = run.queued.parent
    return Parent(
        run_id=run.data.id,
        step=child.step,
        attempt=child.attempt,
        index=child.index,
        iteration=child.iteration,
        depth=1 if above is None else above.depth + 1,
        above=() if above is None else (above.run_id, *above.above),
    )


def check(run: Run, library: Library, instance: Instance) -> None:
    """Resolve what a child will be given, unless it is known to be on record; raises as `request`."""
    trial = run.trial(instance)
    child = None if trial is None or trial.child is None else run.data.children.get(trial.child)
    if child is not None and not child.started:
        request(run, library, instance)


def started(run: Run, command: NoteChildStarted) -> Sequence[RunEvent]:
    """A child is on record. Again: nothing."""
    child = run.data.children.get(command.child_id)
    if child is None or child.started:
        return ()
    return (
        ChildStarted(
            step=child.step,
            child_id=command.child_id,
            attempt=child.attempt,
            index=child.index,
            iteration=child.iteration,
        ),
    )


def reported(run: Run, command: ReportChild, context: Context, library: Library) -> Sequence[RunEvent]:
    """A child says how it ended. Again: nothing. What nobody waits for any more is kept as late."""
    child = run.data.children.get(command.child_id)
    if child is None:
        return ()
    instance = (child.step, child.index)
    trial = run.trial(instance)
    if run.final or trial is None or trial.child != command.child_id:
        return (_late(child, command),)
    word = _word(run, child, command)
    if command.status == RunStatus.SUCCEEDED:
        return (_succeeded(run, word, command, library),)
    error = _error(command)
    ended: RunEvent
    if command.status == RunStatus.CANCELLED and not run.stands(child.step):
        ended = results.ended(run, word, error, status=AttemptStatus.CANCELLED)
    elif _again(run, child, command, error):
        delay_s = results.delay_s(run, instance, child.attempt, None)
        ended = results.tried(word, error, AttemptStatus.FAILED, context.now + int(delay_s * 1000))
    else:
        ended = results.ended(run, word, error)
    return (msgspec.structs.replace(ended, child_id=command.child_id),)


def _late(child: Child, command: ReportChild) -> LateResultKept:
    return LateResultKept(
        step=child.step,
        attempt=child.attempt,
        attempt_id=command.child_id,
        status=command.status,
        index=child.index,
        output=command.output,
        blob=command.blob,
        error=command.error,
    )


def _word(run: Run, child: Child, command: ReportChild) -> ReportAttempt:
    """Write a child's word as that of a worker."""
    return ReportAttempt(
        run_id=run.data.id,
        step=child.step,
        index=child.index,
        attempt=child.attempt,
        attempt_id=run.attempt_id((child.step, child.index), child.attempt),
        status=command.status,
        worker="",
        output=command.output,
        blob=command.blob,
        artifacts=command.artifacts,
        error=command.error,
        started_at=command.started_at,
        finished_at=command.finished_at,
    )


def _succeeded(run: Run, word: ReportAttempt, command: ReportChild, library: Library) -> RunEvent:
    try:
        artifacts = results.artifacts(run, run.graph.index[word.step], word, library)
    except (StepError, ValidationError) as problem:
        return msgspec.structs.replace(results.ended(run, word, told(problem)), child_id=command.child_id)
    return StepSucceeded(
        step=word.step,
        index=word.index,
        attempt=word.attempt,
        attempt_id=word.attempt_id,
        output=word.output,
        blob=word.blob,
        artifacts=artifacts,
        started_at=word.started_at,
        finished_at=word.finished_at,
        child_id=command.child_id,
        item=results.item_kept(run, (word.step, word.index), library),
    )


def _error(command: ReportChild) -> ErrorInfo:
    known = command.error or ErrorInfo(type="execution_error", message="it gave no error")
    said = {RunStatus.CANCELLED: "was cancelled", REFUSED: "could not be made"}.get(command.status, "failed")
    by = f" by {known.details['by']}" if command.status == RunStatus.CANCELLED and known.details.get("by") else ""
    return ErrorInfo(
        type=known.type,
        message=f"child run {command.child_id} {said}{by}: {known.message}",
        details={**known.details, "child_id": command.child_id},
        plugin=known.plugin,
    )


def _again(run: Run, child: Child, command: ReportChild, error: ErrorInfo) -> bool:
    """Tell whether another child follows one that failed; not so when a person cancelled it, or it would fail again."""
    retry = run.graph.index[child.step].retry
    if command.status != RunStatus.FAILED or not run.stands(child.step) or error.type in {*NEVER_AGAIN, TOO_DEEP}:
        return False
    return child.attempt < retry.max_attempts and (not retry.on or error.type in retry.on)


# --- what is remembered (for `evolve` alone) ---------------------------------------------------------------------


def remember(run: Run, event: ChildStarted | ChildEnded, at: int) -> None:
    """Remember that a child is on record; or, of a child, that its parent knows its end."""
    if isinstance(event, ChildEnded):
        run.data.reported = True
        return
    child = run.data.children.get(event.child_id)
    if child is None:
        return
    child.started = True
    trial = run.trial((event.step, event.index))
    if event.index is None and trial is not None and trial.child == event.child_id:
        known = run.step(event.step)
        known.status, known.started_at = StepStatus.RUNNING, known.started_at or at


# --- what is set going -------------------------------------------------------------------------------------------


def create(run: Run, library: Library, instance: Instance) -> Iterator[Tell]:
    """Ask for the child of an instance, unless it is known to be on record."""
    trial = run.trial(instance)
    if trial is None or trial.child is None or not needed(run, trial.child):
        return
    if not run.data.children[trial.child].started:
        yield Tell(LOG_RUNS, trial.child, request(run, library, instance), run.data.workspace)


def needed(run: Run, child_id: str) -> bool:
    """Tell whether a step still waits for a child."""
    child = run.data.children.get(child_id)
    trial = None if child is None else run.trial((child.step, child.index))
    return child is not None and trial is not None and trial.child == child_id and run.stands(child.step)


def dismissed(run: Run, event: RunEvent) -> Iterator[Tell]:
    """Tell children to stop that an event made needless."""
    if isinstance(event, MAY_LEAVE):
        yield from _stop_needless(run)


def again(run: Run) -> Iterator[Tell]:
    """Say again what children have not answered; what must be resolved first is left to `Advance`."""
    for child_id, child in run.data.children.items():
        instance = (child.step, child.index)
        if not child.started and needed(run, child_id) and instance not in run.unchecked:
            run.unchecked.append(instance)
    yield from _stop_needless(run)


def _stop_needless(run: Run) -> Iterator[Tell]:
    for child_id, child in run.data.children.items():
        if not needed(run, child_id):
            yield _stop(run, child_id, child)


def _stop(run: Run, child_id: str, child: Child) -> Tell:
    reason = _why(run, child)
    if child.started:
        return Tell(LOG_RUNS, child_id, CancelRun(reason=reason), run.data.workspace)
    body, pin = run.graph.index[child.step].body, run.graph.children[child.step]
    assert isinstance(body, SubWorkflowStep), "only such a step has children"
    stillborn = CreateRun(
        plan_digest=pin.digest,
        workflow=body.workflow,
        workflow_version=pin.version,
        subject=run.queued.subject,
        stage=run.queued.stage,
        labels=run.queued.labels,
        parent=_parent(run, child),
        requester=run.queued.requester,
        cancelled=reason,
    )
    return Tell(LOG_RUNS, child_id, stillborn, run.data.workspace)


def _why(run: Run, child: Child) -> str:
    data = run.data
    if data.cancel is not None:
        if run.queued.parent is not None and data.cancel.by.id == SYSTEM.id and OF_PARENT in data.cancel.reason:
            return data.cancel.reason.replace(OF_PARENT, " run ", 1)  # who began it, not the whole way down
        why = f" ({data.cancel.reason})" if data.cancel.reason else ""
        return f"{data.cancel.by.name} cancelled{OF_PARENT}{data.id}{why}"
    if run.final:
        return f"its parent run {data.id} {data.status}"
    if data.undo is not None:
        return f"what its parent run {data.id} did is being undone"
    return f"step {child.step!r} of its parent run {data.id} ended without it"


def receipts(run: Run, command: RunCommand) -> Iterator[Tell]:
    """Answer a child: its outcome is on record; or, to one that begins and is not needed, that it shall stop."""
    if isinstance(command, ReportChild):
        yield Tell(LOG_RUNS, command.child_id, NoteChildOutcomeReceived(), run.data.workspace)
    elif isinstance(command, NoteChildStarted) and not needed(run, command.child_id):
        reason = f"its parent run {run.data.id} does not need it" if run.exists else "its parent run is not there"
        yield Tell(LOG_RUNS, command.child_id, CancelRun(reason=reason), run.data.workspace)


def unheard(run: Run) -> Iterator[Child]:
    """Give the children that must be told something again: that they are to begin, or to stop."""
    for child_id, child in run.data.children.items():
        if not child.started or not needed(run, child_id):
            yield child


# --- what people see ---------------------------------------------------------------------------------------------


def waits(run: Run) -> Iterator[dict[str, Any]]:
    """Give the children that each step waits for, as the run's row shows it."""
    by_step: dict[str, list[str]] = {}
    for child_id, child in run.data.children.items():
        by_step.setdefault(child.step, []).append(child_id)
    for step_id, found in by_step.items():
        shown = found[:SHOWN_MAX]
        many = "a child run" if len(found) == 1 else f"{len(found)} child runs"
        yield {
            "step": step_id,
            "for": str(WaitingFor.CHILDREN),
            "until": None,
            "approval_id": None,
            "message": f"{many}: {', '.join(shown)}{', …' if len(found) > len(shown) else ''}",
            "children": shown,
        }


def reasons(run: Run) -> Iterator[Reason]:
    """Say which children are waited for."""
    for wait in waits(run):
        remedy = f"headrace runs explain {wait['children'][0]}"
        yield Reason(WaitingFor.CHILDREN, f"{wait['step']}: waits for {wait['message']}.", remedy, wait["step"])
