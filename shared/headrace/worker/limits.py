"""Time limits of attempts: one timer for all that are far from theirs.

A timer an attempt would cost more than a short tool takes, and nearly all attempts end long before their time.
"""

import asyncio
from typing import Final

NEAR_S: Final = 2.0
"""A limit nearer than this has a timer of its own, so that it is kept to the moment."""
LOOK_INTERVAL_S: Final = 1.0


class Limits:
    """The limits of what is under way. `begin` gives one to be entered, as `asyncio.timeout` does."""

    def __init__(self) -> None:
        self._far: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> asyncio.Timeout:
        """Give a limit that ends in some time; it must be given back by `over`."""
        if seconds <= NEAR_S:
            return asyncio.timeout(seconds)
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)
        self._far[limit] = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_later(LOOK_INTERVAL_S, self._look)
        return limit

    def over(self, limit: asyncio.Timeout) -> None:
        """Forget a limit."""
        self._far.pop(limit, None)

    def _look(self) -> None:
        """Give those that are near now a timer of their own."""
        loop = asyncio.get_running_loop()
        until = loop.time() + NEAR_S
        for limit, at in list(self._far.items()):
            if at <= until:
                del self._far[limit]
                limit.reschedule(at)
        self._timer = loop.call_later(LOOK_INTERVAL_S, self._look) if self._far else None
