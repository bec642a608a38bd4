"""What is told of a run that has no row: that it was purged, that its month is away, or that it is not known (pure)."""

from typing import Any, Final

from headrace.errors import NotFoundError
from headrace.events import registry
from headrace.events.steering import RunPurged
from headrace.log.months import Month, shown
from headrace.log.port import Recorded
from headrace_api import views

AWAY: Final = {
    "closed": "is leaving the log since {since}: `headrace db months` says where it is",
    "detached": "left the log at {since}; if this was a run of then, `headrace db restore {month}` brings it back",
    "dropped": (
        "was archived at {since}; if this was a run of then, `headrace db restore FILE` brings it back"
        " (headrace-{month}.zip unless named otherwise)"
    ),
}
"""What is said of a month, by its state."""


def without_row(run_id: str, workspace: str, gone: Recorded | Month | None) -> NotFoundError:
    """Make the error of a run without a row; one of another workspace is as if it had never been."""
    message = f"there is no run {run_id!r}"
    if isinstance(gone, Month):
        return _away(message, gone)
    if gone is not None and gone.workspace == workspace:
        return _purged(run_id, gone)
    return NotFoundError(message)


def _purged(run_id: str, recorded: Recorded) -> NotFoundError:
    event = registry.read(recorded)
    told: dict[str, Any] = {"at": views.at(recorded.at)}
    message = f"run {run_id!r} was purged at {told['at']}"
    if isinstance(event, RunPurged):
        told |= {"by": {"id": event.by.id, "name": event.by.name}, "reason": event.reason}
        message += f" by {event.by.name}" + (f": {event.reason}" if event.reason else "")
    return NotFoundError(message, details={"purged": told})


def _away(message: str, month: Month) -> NotFoundError:
    told = {"month": shown(month.month), "state": month.state, "since": views.at(month.at), "archive": month.archive}
    said = AWAY[month.state or "closed"].format(month=told["month"], since=told["since"])
    return NotFoundError(f"{message}: its month {told['month']} {said}", details={"month": told})
