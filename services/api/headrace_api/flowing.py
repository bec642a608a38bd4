"""Keys that runs share, as callers meet them: who holds one, who waits, and what that means for a run."""

from collections.abc import Mapping
from typing import Any, Final

from headrace import ids
from headrace.vocabulary import LOG_FLOW, WaitingFor
from headrace_api import views
from headrace_api.desk import Desk
from headrace_api.run_shapes import Shape

WAITS: Final = (WaitingFor.CONCURRENCY, WaitingFor.RATE_LIMIT)
IN_USE: Final = {"busy": (False, True)}
"""What is true of the rows of keys that are in use: of one that came to rest, or goes on in a new stream, it is null."""


class Holder(Shape):
    """A run that holds the key; `recalled_for` is the run for which it must make room."""

    run_id: str
    asked_at: str | None
    recalled_for: str | None


class InLine(Shape):
    """A run that waits for the key: itself, or `count` of its attempts."""

    run_id: str
    asked_at: str | None
    priority: int
    count: int


class Flow(Shape):
    """A key that runs share. `held` counts its holders, or the attempts that began within the period of a rate limit.

    `holders` and `queue` show the first ones; `opens_at` is when a rate limit has room again.
    """

    id: str
    kind: str
    key: str
    limit: int
    period_s: float | None
    held: int
    queued: int
    holders: list[Holder]
    queue: list[InLine]
    opens_at: str | None
    updated_at: str | None


def flow(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a key."""
    detail = row["detail"] or {}
    return {
        "id": row["id"],
        "kind": row["kind"],
        "key": row["key"],
        "limit": row["limit"],
        "period_s": row["period_ms"] / 1000 if row["period_ms"] else None,
        "held": row["held"],
        "queued": row["queued"],
        "holders": [{**one, "asked_at": views.at(one["asked_at"])} for one in detail.get("holders") or []],
        "queue": [{**one, "asked_at": views.at(one["asked_at"])} for one in detail.get("queue") or []],
        "opens_at": views.at(detail.get("opens_at")),
        "updated_at": views.at(row["updated_at"]),
    }


async def flow_row(desk: Desk, flow_id: str, workspace: str) -> dict[str, Any] | None:
    """Read the row of a key, as it is used now when `flow_id` is its address, which runs name."""
    if not flow_id.startswith(f"{ids.FLOW}_"):
        return None
    name = flow_id
    if ids.millis_of(flow_id) == ids.TIMELESS_MS:
        name = (await desk.log.uses(LOG_FLOW, [flow_id])).get(flow_id, flow_id)
    return await desk.own_row("flows", {"id": name}, workspace)


def flows_of(row: Mapping[str, Any]) -> list[str]:
    """Name the keys that a run waits for, each once."""
    waiting = (row["detail"] or {}).get("waiting") or []
    return list(dict.fromkeys(str(one["flow_id"]) for one in waiting if one.get("for") in WAITS and one.get("flow_id")))


def told(run_id: str, kept: Mapping[str, Any], known: Mapping[str, Any] | None) -> tuple[str, str, str | None]:
    """Say what a run waits for, of a key as it stands now: the message, what would move it, and until when."""
    message = f"waiting for {kept.get('message')}"
    until = views.at(kept.get("until"))
    limited = kept.get("for") == WaitingFor.RATE_LIMIT
    if known is None:
        remedy = f"nothing to do: it goes on when the {'rate limit' if limited else 'key'} has room"
        return message + (f", which has room again at {until}" if limited and until else ""), remedy, until
    detail = known["detail"] or {}
    line = detail.get("queue") or []
    place = next((number for number, one in enumerate(line, 1) if one["run_id"] == run_id), None)
    where = f"; number {place} of {known['queued']} in line" if place else f"; {known['queued']} in line"
    if limited:
        until = views.at(detail.get("opens_at")) or until
        room = f", which has room again at {until}" if until else ""
        return message + room + where, "nothing to do: it goes on when the rate limit has room", until
    holders = [one["run_id"] for one in detail.get("holders") or []]
    most = kept.get("limit") or known["limit"]  # its own: others may ask under the key with other limits
    limit = "one run at a time" if most == 1 else f"{most} runs at a time"
    held = f", held by run {', '.join(holders)}" if holders else ""
    message = f"waiting for the concurrency key {known['key']!r} ({limit}){held}{where}"
    remedy = "nothing to do: it goes on when a run that holds the key is over"
    return message, remedy + (f"; or `headrace runs cancel {holders[0]}`" if holders else ""), None
