"""Events of a key that many runs share (log `flow`, written by the planner) (pure).

A key is a concurrency key, which runs hold until they are over, or a rate limit, which attempts use up.
"""

from headrace.events.base import CarriedPermit, Event


class PermitAsked(Event, frozen=True, kw_only=True, tag="flow.asked"):
    """Written when a run asks for a key: for itself, or for `count` of its attempts; what limits it as the run's plan says."""

    permit_id: str
    run_id: str
    kind: str
    key: str
    limit: int
    period_ms: int = 0
    on_conflict: str = "queue"
    priority: int = 0
    count: int = 1


class PermitGiven(Event, frozen=True, kw_only=True, tag="flow.given"):
    """Written when a run holds the key from now on, or when `count` more of its attempts may begin."""

    permit_id: str
    count: int = 1


class PermitReceived(Event, frozen=True, kw_only=True, tag="flow.received"):
    """Written when the run has what it was given on record, so that it need not be told again."""

    permit_id: str


class PermitRecalled(Event, frozen=True, kw_only=True, tag="flow.recalled"):
    """Written when a run must make room for another one (`on_conflict: replace`): it is cancelled."""

    permit_id: str
    for_run: str


class PermitReturned(Event, frozen=True, kw_only=True, tag="flow.returned"):
    """Written when a run gives the key back, or asks no longer."""

    permit_id: str


class KeyEnded(Event, frozen=True, kw_only=True, tag="flow.ended"):
    """Written when the stream of a key ends, the last of it: nobody holds the key, or it `goes_on` in a new stream."""

    goes_on: bool = False


class KeyContinued(Event, frozen=True, kw_only=True, tag="flow.continued"):
    """Written when a key goes on in a new stream: what counts of the one before, which ends in the same append."""

    after: str
    kind: str
    key: str
    limit: int
    period_ms: int = 0
    permits: tuple[CarriedPermit, ...] = ()
    held: tuple[tuple[str, int], ...] = ()
    untold: tuple[tuple[str, int], ...] = ()
    recalled: tuple[tuple[str, int], ...] = ()
    spent: tuple[tuple[int, int], ...] = ()


FlowEvent = PermitAsked | PermitGiven | PermitReceived | PermitRecalled | PermitReturned | KeyEnded | KeyContinued
