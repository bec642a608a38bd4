"""What a shared key shows: its projection row, and why it is not moving (pure)."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from headrace import ids
from headrace.decider import Reason, Row
from headrace_planner.flow.bounds import USUAL, Bounds
from headrace_planner.flow.react import wake_at
from headrace_planner.flow.state import CONCURRENCY, Flow

SHOWN_MAX: Final = 20


def row(flow: Flow, bounds: Bounds = USUAL) -> Row:
    """Give the row of table `flows`. One that is over is neither busy nor not: `busy` is null."""
    return Row(
        "flows",
        {
            "id": flow.id,
            "workspace": flow.workspace,
            "partition": ids.partition_of(flow.id),
            "version": flow.version,
            "kind": flow.kind,
            "key": flow.key,
            "limit": flow.limit,
            "period_ms": flow.period_ms,
            "held": len(flow.held) if flow.kind == CONCURRENCY else sum(count for _, count in flow.spent),
            "queued": flow.queued,
            "detail": {"holders": _holders(flow), "queue": _queue(flow), "opens_at": flow.opens_at()},
            "updated_at": flow.updated_at,
            "wake_at": wake_at(flow, bounds),
            "busy": None if flow.over else bool(flow.untold or flow.recalled),
        },
    )


def explain(flow: Flow) -> Sequence[Reason]:
    """Say who holds the key, and who waits."""
    if not flow.queued or flow.over:
        return ()
    if flow.kind == CONCURRENCY:
        holders = flow.holders(SHOWN_MAX)
        message = f"{flow.queued} runs wait for the key {flow.key!r}: held by {', '.join(holders)}"
        return (Reason(flow.kind, message, f"it is free when one of them ends: headrace runs cancel {holders[0]}"),)
    message = f"{flow.queued} runs wait for {flow.key!r}: {flow.limit} attempts may begin in {flow.period_ms} ms"
    return (Reason(flow.kind, message, "nothing to do: they go on at that time", until=flow.opens_at()),)


def _holders(flow: Flow) -> list[dict[str, Any]]:
    return [
        {
            "run_id": flow.permits[permit_id].run_id,
            "asked_at": flow.permits[permit_id].asked_at,
            "recalled_for": flow.permits[permit_id].recalled_for or None,
        }
        for permit_id in islice(flow.held, SHOWN_MAX)
    ]


def _queue(flow: Flow) -> list[dict[str, Any]]:
    return [
        {
            "run_id": flow.permits[permit_id].run_id,
            "asked_at": flow.permits[permit_id].asked_at,
            "priority": flow.permits[permit_id].priority,
            "count": flow.permits[permit_id].lacking,
        }
        for permit_id in islice(flow.waiting(), SHOWN_MAX)
    ]
