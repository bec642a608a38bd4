"""Virtual time: an event loop whose clock jumps to the next timer whenever nothing else is left to do.

Every `asyncio.sleep` and timeout on such a loop is virtual, so that a day passes in the time that its work takes. The
order of everything repeats exactly: nothing here reads the machine's clock or its entropy.
"""

import asyncio
import contextlib
import functools
import hashlib
import math
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final

from headrace.errors import ConflictError

BEGINNING_MS: Final = 1_800_000_000_000
"""Where virtual clocks begin, in milliseconds since 1970 (in January 2027)."""
THREAD_LOOK_S: Final = 0.05
"""How long the loop really waits at once while a thread works for it."""


class _JumpingSelector(selectors.SelectSelector):
    """A selector that does not wait: where the loop would, its time goes on instead."""

    loop: "VirtualLoop | None" = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Look for input; else let time jump by the timeout, unless a thread is at work."""
        loop = self.loop
        if loop is None:
            return super().select(timeout)
        if timeout is not None and timeout <= 0:
            loop.jump(0)
            return super().select(0)
        if loop.threads or timeout is None:
            return super().select(THREAD_LOOK_S if timeout is None else min(timeout, THREAD_LOOK_S))
        ready = super().select(0)
        if not ready:
            loop.jump(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with virtual time. `asyncio.Runner(loop_factory=VirtualLoop)` runs on it."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        self._virtual_now = 0.0
        self.threads = 0
        """Calls that threads are working on: while there are any, time does not jump."""
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        """Give the virtual time in seconds since the loop began."""
        return self._virtual_now

    def jump(self, seconds: float) -> None:
        """Let time go on by at least the smallest bit: a timer of this very moment would otherwise never be over."""
        self._virtual_now = math.nextafter(self._virtual_now + seconds, math.inf)

    def run_in_executor[*Given, Result](
        self, executor: Executor | None, func: Callable[[*Given], Result], *args: *Given
    ) -> asyncio.Future[Result]:
        """Run a function in a thread, in real time."""
        self.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _future: object) -> None:
        self.threads -= 1


class VirtualClock:
    """A clock on the running loop's time, whose entropy repeats. `leap` moves the calendar alone."""

    def __init__(self, *, begins_ms: int = BEGINNING_MS, seed: str = "") -> None:
        self._begins_ms = begins_ms
        self._seed = seed
        self._drawn = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def now_ms(self) -> int:
        """Give milliseconds since 1970."""
        return self._begins_ms + int(self.monotonic() * 1000)

    def monotonic(self) -> float:
        """Give the running loop's time in seconds; in a thread, that of the loop on which the clock was read last."""
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        if self._loop is None:
            message = "a virtual clock shows the time of an event loop: read it on one first"
            raise RuntimeError(message)
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)

    def entropy(self) -> bytes:
        """Give 16 bytes, the same ones in the same order for the same seed."""
        self._drawn += 1
        return hashlib.sha256(f"{self._seed}/{self._drawn}".encode()).digest()[:16]

    def leap(self, seconds: float) -> None:
        """Let the calendar jump ahead, as a night passes for a sleeping machine: timers of the loop stay."""
        self._begins_ms += int(seconds * 1000)


def run[Result](main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on a virtual loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def in_virtual_time[**Given](test: Callable[Given, Coroutine[Any, Any, None]]) -> Callable[Given, None]:
    """Make a plain synchronous test of an async one; it runs on a virtual loop of its own. Fixtures work as ever."""

    @functools.wraps(test)
    def run_virtually(*args: Given.args, **kwargs: Given.kwargs) -> None:
        run(test(*args, **kwargs))

    return run_virtually


def demand() -> None:
    """Raise ConflictError unless the running loop is a virtual one."""
    if not isinstance(asyncio.get_running_loop(), VirtualLoop):
        message = "this needs virtual time: put @in_virtual_time on the test, or use virtual.run(coroutine)"
        raise ConflictError(message)
