"""Deadlines of orders: how long one may wait for a worker, and how long a living worker may keep one to itself.

Both are findings about workers, which only presence can tell, so they are made here and not in the deciders; those
judge what they mean. An order waits until a live worker says that it performs it: one that lies in a busy worker's
hand waits too. Whoever began it since the last beat is given the time of a beat to say so.
"""

import heapq
from collections.abc import Iterator
from typing import Final

from headrace.clock import Clock
from headrace.host.pools import Order
from headrace.host.presence import Presence
from headrace.vocabulary import ATTEMPT_GRACE_S, PRESENCE_INTERVAL_S

BEAT_S: Final = 1.5 * PRESENCE_INTERVAL_S
"""After this a beat has come of whoever began an order before: so much later a queue timeout is found at most."""

OVER_MAX: Final = 1_000
"""Deadlines of attempts that are over which may be kept, beside as many as there are orders."""


class Deadlines:
    """The earliest first, so that a tick looks at nothing that is not due."""

    def __init__(self, clock: Clock, presence: Presence) -> None:
        self._clock = clock
        self._presence = presence
        self._heap: list[tuple[int, str]] = []

    def note(self, attempt_id: str, until: int | None) -> None:
        """Note until when (ms) an attempt may wait for a worker."""
        if until is not None:
            heapq.heappush(self._heap, (until, attempt_id))

    def untaken(self, orders: dict[str, Order]) -> Iterator[Order]:
        """Give the orders whose time to wait is over and that nobody has begun."""
        now = self._clock.now_ms()
        if len(self._heap) > 2 * len(orders) + OVER_MAX:
            self._heap = [(until, attempt_id) for until, attempt_id in self._heap if attempt_id in orders]
            heapq.heapify(self._heap)
        while self._heap and self._heap[0][0] <= now:
            _, attempt_id = heapq.heappop(self._heap)
            known = orders.get(attempt_id)
            if known is None or (self._presence.holder(attempt_id) is not None and self._presence.begun(attempt_id)):
                continue
            if known.asked:
                yield known
            else:
                known.asked = True
                self.note(attempt_id, now + int(BEAT_S * 1000))

    def overdue(self, known: Order) -> str | None:
        """Give the live worker that began an attempt, holds it beyond its time, and says nothing; told once."""
        attempt_id = known.order.attempt_id
        worker = self._presence.holder(attempt_id)
        if worker is None or not self._presence.begun(attempt_id):
            known.begun_at = None
            return None
        if known.begun_at is None:
            known.begun_at = self._presence.proven
        limit_s = known.order.timeout_s + ATTEMPT_GRACE_S
        return worker if self._presence.proven - known.begun_at >= limit_s else None
