"""What is told of a run or an approval that has no row: purged, away with its month, or not known (pure)."""

from typing import Any, Final

from headrace.errors import NotFoundError
from headrace.events import registry
from headrace.events.steering import RunPurged
from headrace.ids import month_text
from headrace.log.months import Away, Month
from headrace.log.port import Recorded
from headrace_api import views

LEFT: Final = {
    "closed": "is leaving the log since {since}: `headrace db months` says where it is",
    "detached": "left the log at {since}",
    "dropped": "was archived at {since}",
}
"""What is said of a month, by its state."""
BACK: Final = {
    "closed": "",
    "detached": "`headrace db restore {month}` brings it back",
    "dropped": "`headrace db restore FILE` brings it back (headrace-{month}.zip unless named otherwise)",
}
"""What brings back what was in a month."""


def without_row(what: str, stream_id: str, workspace: str, gone: Recorded | Away | None) -> NotFoundError:
    """Make the error of `what` (a run, an approval) without a row; one of another workspace is as if it had never been."""
    if isinstance(gone, Away):
        return _away(what, stream_id, gone)
    if gone is not None and gone.workspace == workspace:
        return _purged(stream_id, gone)
    message = f"there is no {what} {stream_id!r}"
    return NotFoundError(message)


def _purged(run_id: str, recorded: Recorded) -> NotFoundError:
    event = registry.read(recorded)
    told: dict[str, Any] = {"at": views.at(recorded.at)}
    message = f"run {run_id!r} was purged at {told['at']}"
    if isinstance(event, RunPurged):
        told |= {"by": {"id": event.by.id, "name": event.by.name}, "reason": event.reason}
        message += f" by {event.by.name}" + (f": {event.reason}" if event.reason else "")
    return NotFoundError(message, details={"purged": told})


def _away(what: str, stream_id: str, gone: Away) -> NotFoundError:
    month = gone.month
    told = {
        "month": month_text(month.month),
        "state": month.state,
        "since": views.at(month.at),
        "archive": month.archive,
        "fate": gone.fate,
    }
    return NotFoundError(_said(what, stream_id, gone), details={"month": told})


def _said(what: str, stream_id: str, gone: Away) -> str:
    month: Month = gone.month
    named, state = {"month": month_text(month.month), "since": views.at(month.at)}, month.state or "closed"
    left, back = (text[state].format(**named) for text in (LEFT, BACK))
    its = f"its month {named['month']} {left}"
    match gone.fate:
        case "away":
            return f"{what} {stream_id!r} is not in the log: {its}" + (f"; {back}" if back else "")
        case "purged":
            return f"{what} {stream_id!r} was purged before {its}; when, by whom and why stands there alone"
        case _:
            sure = f"; if this was one of then, {back}" if back else ""
            return f"there is no {what} {stream_id!r}: {its}{sure}"
