"""A child run, as it meets its parent: how it begins, and what it says at its end until its parent has that (pure).

A child that cannot run (its parent has no connection for it, its inputs do not fit, it lies too deep) is on record all
the same, as failed at once: so its id is settled, and a repeated `CreateRun` changes nothing.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from headrace import codec
from headrace.decider import Context, Rejection, Tell
from headrace.errors import ConflictError, ForbiddenError, ValidationError
from headrace.events.base import SYSTEM, BlobRef, ErrorInfo
from headrace.events.runs import RunCancelled, RunEvent, RunFailed, RunSucceeded
from headrace.events.steering import ChildEnded
from headrace.messages import CancelRun, CreateRun
from headrace.steering import NoteChildStarted, ReportChild
from headrace.vocabulary import INLINE_BYTES_MAX, LOG_RUNS, PREVIEW_CHARS, SUB_WORKFLOW_DEPTH_MAX
from headrace_planner.runs.children import REFUSED, TOO_DEEP
from headrace_planner.runs.creating import queued_as
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.scope import told
from headrace_planner.runs.state import Run

Decision = Sequence[RunEvent] | Rejection
Make = Callable[[CreateRun, Context, Graph], Decision]
Cancel = Callable[[Run, CancelRun, Context], Decision]


# --- what happens ------------------------------------------------------------------------------------------------


def born(run: Run, command: CreateRun, context: Context, graph: Graph | None, make: Make, cancel: Cancel) -> Decision:
    """Make a child, or record why there will be none. Again: nothing, but that it may be cancelled."""
    if context.actor.id != SYSTEM.id:
        return Rejection(ForbiddenError("a run with a parent is made by its parent alone"))
    if run.exists:
        over = run.final or command.cancelled is None
        return () if over else cancel(run, CancelRun(reason=command.cancelled or ""), context)
    if graph is None:
        return ()  # there is nothing to make: the receipt says why
    if command.cancelled is not None:
        ended = RunCancelled(by=SYSTEM, reason=command.cancelled)
        return queued_as(command, graph, context, command.inputs, refused=True), ended
    problem = command.refused or _too_deep(command)
    if problem is None:
        try:
            made = make(command, context, graph)
        except (ValidationError, ForbiddenError) as refusal:
            problem = told(refusal)
        else:
            if not isinstance(made, Rejection):
                return made
            problem = told(made.error)
    return queued_as(command, graph, context, command.inputs, refused=True), RunFailed(error=problem)


def _too_deep(command: CreateRun) -> ErrorInfo | None:
    assert command.parent is not None, "the caller sees to it"
    depth = command.parent.depth
    if depth <= SUB_WORKFLOW_DEPTH_MAX:
        return None
    message = f"depth: it would lie {depth} sub-workflows deep; at most {SUB_WORKFLOW_DEPTH_MAX} are allowed"
    return ErrorInfo(type=TOO_DEEP, message=message, details={"depth": depth})


def received(run: Run) -> Decision:
    """The parent has the child's outcome on record. Again: nothing."""
    if not run.final or run.queued.parent is None:
        return Rejection(ConflictError("the run has not told its outcome to anybody"))
    return () if run.data.reported else (ChildEnded(parent_id=run.queued.parent.run_id),)


# --- what is set going -------------------------------------------------------------------------------------------


def ended(run: Run, event: RunEvent) -> Iterator[Tell]:
    """Tell the parent how the child ended."""
    if isinstance(event, RunSucceeded | RunFailed | RunCancelled) and run.queued.parent is not None:
        yield report(run)


def again(run: Run) -> Iterator[Tell]:
    """Tell the parent again, which has not confirmed it."""
    if unheard(run):
        yield report(run)


def unheard(run: Run) -> bool:
    """Tell whether the parent must still be told how the run ended."""
    return run.exists and run.final and run.queued.parent is not None and not run.data.reported


def receipts(run: Run, command: CreateRun) -> Iterator[Tell]:
    """Answer a parent that asks for the child: it is on record, or over, or cannot be made."""
    parent = command.parent
    if parent is None:
        return
    if not run.exists:
        error = command.refused or ErrorInfo(type="not_found", message=f"there is no plan {command.plan_digest}")
        refused = ReportChild(
            child_id=run.data.id,
            step=parent.step,
            status=REFUSED,
            attempt=parent.attempt,
            index=parent.index,
            iteration=parent.iteration,
            error=error,
        )
        yield Tell(LOG_RUNS, parent.run_id, refused, run.data.workspace)
    elif run.final:
        yield report(run)
    else:
        begun = NoteChildStarted(
            child_id=run.data.id,
            step=parent.step,
            attempt=parent.attempt,
            index=parent.index,
            iteration=parent.iteration,
        )
        yield Tell(LOG_RUNS, parent.run_id, begun, run.data.workspace)


def report(run: Run) -> Tell:
    """Give what tells the parent how the child ended: large outputs as a blob."""
    parent, data = run.queued.parent, run.data
    assert parent is not None, "the caller sees to it"
    said = ReportChild(
        child_id=data.id,
        step=parent.step,
        status=str(data.status),
        attempt=parent.attempt,
        index=parent.index,
        iteration=parent.iteration,
        output=data.outputs,
        error=_error(run),
        started_at=data.started_at,
        finished_at=data.finished_at,
    )
    body = bytes(data.outputs)
    if len(body) <= INLINE_BYTES_MAX:
        return Tell(LOG_RUNS, parent.run_id, said, data.workspace)
    digest = codec.sha256(body)
    preview = body[:PREVIEW_CHARS].decode("utf-8", "replace")
    large = BlobRef(digest=digest, size_bytes=len(body), preview=preview)
    light = msgspec.structs.replace(said, output=codec.NULL, blob=large)
    return Tell(LOG_RUNS, parent.run_id, light, data.workspace, {digest: body})


def _error(run: Run) -> ErrorInfo | None:
    error = run.data.error
    if error is None or not run.data.cancelled_by:
        return error
    return msgspec.structs.replace(error, details={**error.details, "by": run.data.cancelled_by})
