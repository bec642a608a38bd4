"""The watchdog: notices from another thread that a worker's event loop does not answer, and says what holds it up.

An asynchronous tool that blocks (a `time.sleep`, a long computation without an `await`) stops everything else its
worker does, and from outside looks like one that is busy. The loop is asked to answer every LOOK_INTERVAL_S while the
worker holds anything, now and then while it does not; if it has not answered after BLOCKED_AFTER_S, the tool and the
stack of the loop's thread are logged, and beats carry the blockage.
"""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from headrace.clock import Clock, until_tick, within
from headrace.vocabulary import PRESENCE_INTERVAL_S
from headrace.wire import Blocked
from headrace.worker.current import attempt_on
from headrace.worker.holdings import Holdings

LOOK_INTERVAL_S: Final = 1.0
IDLE_INTERVAL_S: Final = PRESENCE_INTERVAL_S
"""How often it is looked whether anything is held: with each beat, for which the thread wakes anyway."""
IDLE_ASKED_S: Final = 10.0
"""How often a loop is asked to answer whose worker holds nothing."""
BLOCKED_AFTER_S: Final = 3.0
SAY_AGAIN_S: Final = 60.0
"""How often the stack of a loop that stays blocked is logged."""
FRAMES_MAX: Final = 40

log = logging.getLogger(__name__)


class Watchdog:
    """Watches the loop on which it was made, from the loop on which it runs. `blocked` may be read from any thread."""

    def __init__(
        self,
        clock: Clock,
        holdings: Holdings,
        changed: Callable[[], None],
        *,
        blocked_after_s: float = BLOCKED_AFTER_S,
    ) -> None:
        self._clock, self._holdings, self._changed = clock, holdings, changed
        self._after_s = blocked_after_s
        self._watched = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.blocked: Blocked | None = None

    async def run(self) -> None:
        """Watch until cancelled, or until the watched loop is closed."""
        while not self._watched.is_closed():
            answered = asyncio.Event()
            asked_ms, asked_s = self._clock.now_ms(), self._clock.monotonic()
            self._ask(answered)
            pause_s = self._after_s
            while not await within(answered, pause_s):
                self._found_blocked(asked_ms, self._clock.monotonic() - asked_s)
                pause_s = SAY_AGAIN_S
            if self.blocked is not None:
                self.blocked = None
                log.warning("the worker's event loop answers again after %.1f s", self._clock.monotonic() - asked_s)
                self._changed()
            await self._pause()

    async def _pause(self) -> None:
        """Wait until the loop is to be asked again: while nothing is held, until something is, or for long."""
        if len(self._holdings):
            await self._clock.sleep(LOOK_INTERVAL_S)
            return
        now = self._clock.monotonic()
        until = now + IDLE_ASKED_S
        while now < until and not len(self._holdings):
            await self._clock.sleep(until_tick(now, IDLE_INTERVAL_S))
            now = self._clock.monotonic()

    def _ask(self, answered: asyncio.Event) -> None:
        own = asyncio.get_running_loop()

        def answer() -> None:
            with suppress(RuntimeError):  # nobody waits any more: the asking loop is closed
                own.call_soon_threadsafe(answered.set)

        with suppress(RuntimeError):  # the watched loop was closed just now: the process ends
            self._watched.call_soon_threadsafe(answer)

    def _found_blocked(self, since: int, seconds: float) -> None:
        attempt_id = attempt_on(self._watched)
        held = self._holdings.get(attempt_id)
        tool = "" if held is None else held.tool
        log.error(
            "worker blocked: its event loop has not answered for %.1f s, held up by %s; it stands at:\n%s",
            seconds,
            f"the tool {tool} (attempt {attempt_id} of {held.run_id})" if held is not None else "no tool",
            self._stack(),
        )
        self.blocked = Blocked(since=since, tool=tool, attempt_id=attempt_id)
        self._changed()

    def _stack(self) -> str:
        """Give the stack of the watched loop's thread: places in code alone, no values."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001  (documented in `sys`, for this very use)
        return "".join(traceback.format_stack(frame, limit=FRAMES_MAX)) if frame is not None else "(its thread is gone)"
