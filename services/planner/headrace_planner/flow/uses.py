"""How the streams of a key follow each other: months of the log can leave only when their streams are over (pure).

A key that nobody holds any more ends after a while, and whoever asks next begins a new stream. A key that is always in
use goes on in a new stream now and then, which begins with all that counts of the one before.
"""

from collections.abc import Sequence

import msgspec

from headrace import ids
from headrace.events.base import CarriedPermit
from headrace.events.flow import KeyContinued, KeyEnded
from headrace_planner.flow.bounds import Bounds
from headrace_planner.flow.state import Flow, Permit


def rests_at(flow: Flow, bounds: Bounds) -> int | None:
    """Give when the stream ends by itself; None while anybody holds the key, or waits for it."""
    if flow.over or flow.permits:
        return None
    return flow.updated_at + max(int(bounds.rests_s * 1000), flow.period_ms)


def ending(flow: Flow, now: int, bounds: Bounds) -> Sequence[KeyEnded]:
    """End a stream that has rested for long enough, or that is old."""
    if flow.over or not flow.version:
        return ()
    at = rests_at(flow, bounds)
    if at is not None and at <= now:
        return (KeyEnded(),)
    old = now >= ids.millis_of(flow.id) + int(bounds.moves_s * 1000)
    return (KeyEnded(goes_on=True),) if old and len(flow.permits) <= bounds.moved_permits else ()


def heir(flow: Flow) -> Sequence[KeyContinued]:
    """Give that with which the next stream begins; nothing where the key came to rest."""
    if not flow.goes_on:
        return ()
    return (
        KeyContinued(
            after=flow.id,
            kind=flow.kind,
            key=flow.key,
            limit=flow.limit,
            period_ms=flow.period_ms,
            permits=tuple(
                CarriedPermit(permit_id=permit_id, **msgspec.structs.asdict(permit))
                for permit_id, permit in flow.permits.items()
            ),
            held=tuple(flow.held.items()),
            untold=tuple(flow.untold.items()),
            recalled=tuple(flow.recalled.items()),
            spent=tuple(flow.spent),
        ),
    )


def take_over(flow: Flow, event: KeyContinued) -> None:
    """Remember what counts of the stream before."""
    flow.kind, flow.key, flow.limit, flow.period_ms = event.kind, event.key, event.limit, event.period_ms
    for one in event.permits:
        told = msgspec.structs.asdict(one)
        permit_id = told.pop("permit_id")
        permit = flow.permits[permit_id] = Permit(**told)
        if permit.lacking > 0 and not permit.recalled_for:
            flow.queue.setdefault(permit.priority, {})[permit_id] = None
    flow.held, flow.untold, flow.recalled = dict(event.held), dict(event.untold), dict(event.recalled)
    flow.spent = list(event.spent)
