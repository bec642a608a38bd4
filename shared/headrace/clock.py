"""The clock, ids and sleep: the one reader of the time and of entropy.

Owners live on the database's clock (read at each lease renewal) plus the monotonic clock in between, so that two hosts
whose clocks differ agree on deadlines. Tests bring a clock of their own.
"""

import asyncio
import os
import time
from typing import Final, Protocol

from headrace import ids

TICK_PARTS_MIN: Final = 8
"""A tick that is nearer than this part of the period is the one that was just waited for, woken a little early."""


class Clock(Protocol):
    """Time, and waiting for it."""

    def now_ms(self) -> int:
        """Give milliseconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Give seconds that never go back; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def entropy(self) -> bytes:
        """Give 16 bytes that nobody can guess."""
        ...


class SystemClock:
    """This machine's clock, steered to the database's by `steer`."""

    def __init__(self) -> None:
        self._offset_ms = int(time.time() * 1000) - int(time.monotonic() * 1000)

    def now_ms(self) -> int:
        """Give milliseconds since 1970, by the last steering plus the monotonic clock."""
        return int(time.monotonic() * 1000) + self._offset_ms

    def steer(self, database_now_ms: int, took_ms: int) -> None:
        """Be set right by the database's time, which came with an answer that took so long; see `astray_ms`."""
        self._offset_ms -= astray_ms(self.now_ms(), database_now_ms, took_ms)

    def monotonic(self) -> float:
        """Give seconds of the monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)

    def entropy(self) -> bytes:
        """Give 16 bytes from the operating system."""
        return os.urandom(16)


def astray_ms(now_ms: int, told_ms: int, took_ms: int) -> int:
    """Give by how much a clock is ahead of another at least, behind it where negative; 0 where it may be right.

    The other's time was read somewhen while its answer took its time. So a late answer sets no clock back that is right,
    and no later one ahead again: who counts by this clock, as rate limits do, would count too little.
    """
    return max(now_ms - told_ms - took_ms, 0) + min(now_ms - told_ms, 0)


def until_tick(now_s: float, period_s: float) -> float:
    """Give the seconds from `now_s` of the monotonic clock to its next multiple of a period; never a small part of it.

    For what is done now and then: the monotonic clock is one for all processes of a machine, so that timers of the same
    period fire together there. A process then wakes once for all of its own, and once for what several others send,
    while processes of different machines keep apart.
    """
    left = period_s - now_s % period_s
    return left if left * TICK_PARTS_MIN >= period_s else left + period_s


def mint(clock: Clock, prefix: str, partition: int = 0) -> str:
    """Make a new TypeID."""
    return ids.make(prefix, clock.now_ms(), clock.entropy(), partition)


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Tell whether an event came within a time, by the clock of the running loop."""
    if not event.is_set():
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return event.is_set()
    return True
