"""Waking: streams get a `Wake` when the time has come that they asked for."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from headrace import ids
from headrace.clock import Clock, until_tick
from headrace.errors import UnavailableError
from headrace.host.cadence import READ_TIMEOUT_S, Cadence
from headrace.host.tenure import Held
from headrace.host.wakeups import Wakeups
from headrace.log.port import Log
from headrace.waits import Limit, Signal

REFILL_MAX: Final = 5_000
"""Streams read from the database's index at once, and taken over of them before they are woken."""
SOON_S: Final = 0.002
"""A wake-up that comes earlier by less is not looked for anew: times are told in milliseconds, and rounding is none."""

_logger = logging.getLogger(__name__)


class Waking:
    """The loop over wake-ups. `held` gives the partitions; `send` hands a stream its `Wake`."""

    def __init__(
        self,
        log: Log,
        *,
        clock: Clock,
        wakeups: Wakeups,
        held: Callable[[], Iterable[Held]],
        send: Callable[[Held, str], None],
        cadence: Cadence,
    ) -> None:
        self._log = log
        self._clock = clock
        self._wakeups = wakeups
        self._held = held
        self._send = send
        self._cadence = cadence
        self._stirred = Signal()
        self._limit = Limit(READ_TIMEOUT_S)
        self._refill_at = 0.0
        self._looks_at = 0.0
        """When it looks again by itself, in monotonic seconds."""

    def stir(self, *, refill: bool = False) -> None:
        """Look again: an earlier wake-up may be known, or (`refill`) a new partition is here."""
        if refill:
            self._refill_at = 0.0
        now_s = self._clock.monotonic()
        if now_s + self._pause_s(now_s) < self._looks_at - SOON_S:
            self._stirred.set()

    async def run(self) -> None:
        """Wake streams until cancelled."""
        while True:
            if self._clock.monotonic() >= self._refill_at:
                await self._refill()
            for held, stream_id in self._wakeups.take_due(self._clock.now_ms()):
                if not held.over:
                    self._send(held, stream_id)
            now_s = self._clock.monotonic()
            pause_s = self._pause_s(now_s)
            self._looks_at = now_s + pause_s
            await self._stirred.wait_for(pause_s)

    def _pause_s(self, now_s: float) -> float:
        pause = max(self._refill_at - now_s, 0.0)
        next_at = self._wakeups.next_at()
        if next_at is not None:
            pause = min(pause, max(next_at - self._clock.now_ms(), 0) / 1000)
        return pause

    async def _refill(self) -> None:
        now = self._clock.monotonic()
        self._refill_at = now + until_tick(now, self._cadence.refill_s)
        until = self._clock.now_ms() + int(self._cadence.wake_window_s * 1000)
        by_log: dict[str, dict[int, Held]] = {}
        for held in self._held():
            if not held.surveyed:
                continue  # a stream of its that is under way must be known as such before it is woken
            by_log.setdefault(held.log, {})[held.partition] = held
        for log, parts in by_log.items():
            if not await self._read(log, parts, until):
                self._refill_at = self._clock.monotonic() + self._cadence.retry_s

    async def _read(self, log: str, parts: Mapping[int, Held], until: int) -> bool:
        """Take over what is due in a log up to a time (ms); False when it must be read again soon.

        What is known already is passed over: streams that wait for a receipt stand first, overdue, for as long as nobody
        gives one, and must hide no timer of others.
        """
        after, fresh = None, 0
        while fresh < REFILL_MAX and not self._wakeups.full:
            try:
                with self._limit:
                    found = await self._log.due(log, sorted(parts), until, REFILL_MAX, after)
            except (UnavailableError, TimeoutError) as problem:
                _logger.info("what is due is read again: %s", problem)
                return False
            for due in found:
                owner = parts.get(ids.partition_of(due.stream_id))
                if owner is not None and not owner.over:
                    fresh += self._wakeups.found(owner, owner.address(due.stream_id), due.wake_at)
            if len(found) < REFILL_MAX:
                return True
            after = found[-1]
        return False
