"""The feed as wake-ups: who waits for a stream is woken when something was committed to it.

The feed may lose messages, so a waiter reads the log again on every wake and after `REPAIR_S` without one. What is
shown always comes from the log, never from the feed itself.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import msgspec

from headrace import telemetry
from headrace.bus.port import Bus, Subscription
from headrace.events.catalogue import TokenRevoked
from headrace.events.runs import RunCancelled, RunFailed, RunSucceeded
from headrace.events.steering import RunPurged
from headrace.vocabulary import LOG_APPROVALS, LOG_CATALOGUE, LOG_FLOW, LOG_RUNS

REPAIR_S: Final = 5.0
ENDS: Final = frozenset(kind.type_name() for kind in (RunSucceeded, RunFailed, RunCancelled, RunPurged, TokenRevoked))
"""What ends the waiting for a run's end; anything else need not be looked at."""
ENDED_KEPT_MAX: Final = 10_000
"""Subjects of which it is remembered that they ended."""
LOGS: Final = (LOG_RUNS, LOG_CATALOGUE, LOG_APPROVALS, LOG_FLOW)

_log = logging.getLogger(__name__)


class Heard(msgspec.Struct, frozen=True):
    """An event of the feed, as far as it matters to who waits: the rest is not even read."""

    type: str
    subject: str
    log: str


_decoder = msgspec.json.Decoder(list[Heard])


class Watcher:
    """One waiter's wake-up, by any event or by those of some types `only`."""

    def __init__(self, only: frozenset[str] | None = None) -> None:
        self._woken = asyncio.Event()
        self._only = only

    def wake(self, kind: str = "") -> None:
        """Wake the waiter, unless the event's type is none of those that it waits for."""
        if self._only is None or kind in self._only:
            self._woken.set()

    def rouse(self) -> None:
        """Wake the waiter, whatever it waits for."""
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until woken, at most `seconds`; tells whether it was."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Feed:
    """The feed of all logs, and who waits for which subject."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[Watcher]] = {}
        self._hooks: list[Callable[[Heard], None]] = []
        self._ended: OrderedDict[str, None] = OrderedDict()

    def ways(self, bus: Bus) -> list[Callable[[], Awaitable[Subscription]]]:
        """Give what begins to receive, one log each."""
        return [partial(bus.open_feed, log, self.deliver) for log in LOGS]

    def each(self, hook: Callable[[Heard], None]) -> None:
        """Call `hook` for every event; it must not block."""
        self._hooks.append(hook)

    def deliver(self, data: bytes) -> None:
        """Take a message of the feed."""
        try:
            events = _decoder.decode(data)
        except (msgspec.ValidationError, msgspec.DecodeError) as problem:
            telemetry.message_refused("feed", "malformed")
            _log.warning("a message on the feed is no list of events: %s", problem)
            return
        for event in events:
            if event.type in ENDS:
                self._ended[event.subject] = None
                while len(self._ended) > ENDED_KEPT_MAX:
                    self._ended.popitem(last=False)
            self.notify(event.subject, event.type)
            for hook in self._hooks:
                hook(event)

    def ended(self, subject: str) -> bool:
        """Tell whether its end was heard of lately; the feed may have lost it, so that False proves nothing."""
        return subject in self._ended

    def notify(self, subject: str, kind: str = "") -> None:
        """Wake everybody who waits for a subject, because of an event of a type."""
        for watcher in self._watchers.get(subject, ()):
            watcher.wake(kind)

    def wake_all(self) -> None:
        """Wake everybody, whatever they wait for."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.wake(next(iter(ENDS)))

    @contextmanager
    def watch(
        self, *subjects: str, only: frozenset[str] | None = None, watcher: Watcher | None = None
    ) -> Iterator[Watcher]:
        """Wait for subjects, or `only` for events of some types: watch before reading, so that nothing falls between.

        A `watcher` that there is already is woken as well.
        """
        watcher = watcher or Watcher(only)
        for subject in subjects:
            self._watchers.setdefault(subject, set()).add(watcher)
        try:
            yield watcher
        finally:
            for subject in subjects:
                watchers = self._watchers[subject]
                watchers.discard(watcher)
                if not watchers:
                    del self._watchers[subject]


def lines_of(run_id: str) -> str:
    """Name the lines of a run as a subject to wait for."""
    return f"lines/{run_id}"
