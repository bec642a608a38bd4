"""Interrupts until they are heeded: core NATS may lose one, and a worker must not perform for ever what nobody wants."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from headrace.clock import Clock
from headrace.host.presence import Presence
from headrace.vocabulary import PRESENCE_INTERVAL_S
from headrace.wire import Interrupt

AGAIN_S: Final = 1.5 * PRESENCE_INTERVAL_S
"""After this a beat that was made since the interrupt has come: who still holds the attempt did not hear it."""
KEPT_S: Final = 15.0
UNSERVED_KEPT_S: Final = 3_600.0
STOPS_MAX: Final = 20_000


@dataclass(slots=True)
class Stopped:
    """An attempt that was told to stop."""

    pool: str
    interrupt: Interrupt
    first_s: float
    last_s: float


class Stops:
    """What was told to stop, and must be told again while a live worker says that it holds it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stopped: OrderedDict[str, Stopped] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stopped)

    def told(self, pool: str, interrupt: Interrupt) -> None:
        """Note an interrupt that was sent."""
        now = self._clock.monotonic()
        self._stopped[interrupt.attempt_id] = Stopped(pool, interrupt, now, now)
        while len(self._stopped) > STOPS_MAX:
            self._stopped.popitem(last=False)

    def unheeded(self, presence: Presence) -> list[tuple[str, Interrupt]]:
        """Give what must be told again now, and forget what nobody holds any more."""
        now, again, served = self._clock.monotonic(), [], presence.pools()
        for attempt_id, stopped in list(self._stopped.items()):
            if now - stopped.last_s < AGAIN_S:
                continue
            if presence.holder(attempt_id) is not None:
                stopped.last_s = now
                again.append((stopped.pool, stopped.interrupt))
            elif stopped.pool not in served and now - stopped.first_s < UNSERVED_KEPT_S:
                stopped.last_s = now  # whoever joins the pool finds the order in its queue, and begins it
            elif now - stopped.last_s >= KEPT_S:
                del self._stopped[attempt_id]
        return again
