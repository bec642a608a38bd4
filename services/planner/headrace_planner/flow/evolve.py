"""What a shared key remembers of its events (pure)."""

from typing import assert_never

from headrace.events.flow import (
    FlowEvent,
    KeyContinued,
    KeyEnded,
    PermitAsked,
    PermitGiven,
    PermitRecalled,
    PermitReceived,
    PermitReturned,
)
from headrace_planner.flow import uses
from headrace_planner.flow.state import CONCURRENCY, Flow, Permit


def evolve(flow: Flow, event: FlowEvent, at: int) -> Flow:
    """Remember an event that happened at `at`; updates the state in place."""
    flow.version += 1
    flow.updated_at = at
    match event:
        case PermitAsked():
            _asked(flow, event, at)
        case PermitGiven(permit_id=permit_id, count=count):
            _given(flow, permit_id, count, at)
        case PermitReceived(permit_id=permit_id):
            _received(flow, permit_id, at)
        case PermitRecalled(permit_id=permit_id, for_run=for_run):
            flow.permits[permit_id].recalled_for = for_run
            flow.recalled[permit_id] = at
            _leave_queue(flow, permit_id)
        case PermitReturned(permit_id=permit_id):
            _forget(flow, permit_id)
        case KeyEnded(goes_on=goes_on):
            flow.over, flow.goes_on = True, goes_on
        case KeyContinued():
            uses.take_over(flow, event)
        case _:
            assert_never(event)
    return flow


def _asked(flow: Flow, event: PermitAsked, at: int) -> None:
    flow.kind, flow.key = event.kind, event.key
    flow.limit, flow.period_ms = event.limit, event.period_ms
    flow.permits[event.permit_id] = Permit(
        run_id=event.run_id,
        limit=event.limit,
        period_ms=event.period_ms,
        on_conflict=event.on_conflict,
        priority=event.priority,
        count=event.count,
        asked_at=at,
    )
    flow.queue.setdefault(event.priority, {})[event.permit_id] = None


def _given(flow: Flow, permit_id: str, count: int, at: int) -> None:
    permit = flow.permits[permit_id]
    permit.given += count
    flow.untold[permit_id] = flow.untold.pop(permit_id, at)
    if permit.lacking <= 0:
        _leave_queue(flow, permit_id)
    if flow.kind == CONCURRENCY:
        flow.held[permit_id] = at
        return
    period_ms = max(flow.period_ms, permit.period_ms)
    flow.spent = [(then, number) for then, number in flow.spent if then > at - period_ms]
    flow.spent.append((at, count))


def _received(flow: Flow, permit_id: str, at: int) -> None:
    flow.untold.pop(permit_id, None)
    if flow.held.pop(permit_id, None) is not None:
        flow.held[permit_id] = at
    elif flow.permits[permit_id].lacking <= 0:
        _forget(flow, permit_id)


def _leave_queue(flow: Flow, permit_id: str) -> None:
    priority = flow.permits[permit_id].priority
    line = flow.queue.get(priority)
    if line is not None:
        line.pop(permit_id, None)
        if not line:
            del flow.queue[priority]


def _forget(flow: Flow, permit_id: str) -> None:
    _leave_queue(flow, permit_id)
    del flow.permits[permit_id]
    for kept in (flow.held, flow.untold, flow.recalled):
        kept.pop(permit_id, None)
