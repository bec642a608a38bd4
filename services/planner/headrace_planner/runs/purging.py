"""Purging a finished run: its rows and what it printed go at once, its events stay until their month leaves (pure)."""

from collections.abc import Sequence

from headrace.decider import Context, Rejection
from headrace.errors import ConflictError
from headrace.events.runs import RunEvent
from headrace.events.steering import RunPurged
from headrace.policy import may
from headrace.steering import PurgeRun
from headrace_planner.runs.state import Run


def purge(run: Run, command: PurgeRun, context: Context) -> Sequence[RunEvent] | Rejection:
    """Purge a run that is over, and that nobody waits for any more."""
    may(context.actor, "purge")
    if run.data.purged:
        return ()
    if not run.final:
        message = f"only a run that is over can be purged; this one is {run.data.status}: cancel it first"
        return Rejection(ConflictError(message, details={"status": str(run.data.status)}))
    if not run.finished:
        message = "the run is over, but others have not confirmed that they know: try again in a moment"
        return Rejection(ConflictError(message, details={"status": str(run.data.status)}))
    return (RunPurged(by=context.actor, reason=command.reason),)
