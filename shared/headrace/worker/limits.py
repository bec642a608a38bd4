"""Time limits of attempts: none for what does not wait, and one timer for all that are far from theirs.

A timer an attempt would cost more than a short tool takes, and nearly all attempts end long before their time.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Final

NEAR_S: Final = 2.0
"""A limit nearer than this has a timer of its own, so that it is kept to the moment."""
LOOK_INTERVAL_S: Final = 1.0


class OverTimeError(TimeoutError):
    """Work was ended by its limit; a TimeoutError of the work's own is none."""


class Limits:
    """The limits of what is under way."""

    def __init__(self) -> None:
        self._far: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def within[T](self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Do some work within a time, on the running task; raises OverTimeError when it was ended for that.

        It is begun without a limit, and has one from the first time that it waits: until then nothing could end it.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            waits_for = work.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        limit = self._begin(loop, seconds - (loop.time() - began_s))
        try:
            async with limit:
                return await _Begun(work, waits_for)
        except TimeoutError as problem:
            if limit.expired():
                raise OverTimeError from problem
            raise
        finally:
            self._far.pop(limit, None)

    def _begin(self, loop: asyncio.AbstractEventLoop, seconds: float) -> asyncio.Timeout:
        if seconds <= NEAR_S:
            return asyncio.timeout(seconds)
        limit = asyncio.timeout(None)
        self._far[limit] = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_later(LOOK_INTERVAL_S, self._look)
        return limit

    def _look(self) -> None:
        """Give those that are near now a timer of their own."""
        loop = asyncio.get_running_loop()
        until = loop.time() + NEAR_S
        for limit, at in list(self._far.items()):
            if at <= until:
                del self._far[limit]
                limit.reschedule(at)
        self._timer = loop.call_later(LOOK_INTERVAL_S, self._look) if self._far else None


class _Begun[T](Generator[Any, Any, T]):
    """Work that was begun already and waits for something, to be awaited."""

    def __init__(self, work: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._work = work
        self._waits_for = [waits_for]

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def send(self, value: Any, /) -> Any:
        """Say first what it waits for, then let it go on."""
        return self._waits_for.pop() if self._waits_for else self._work.send(value)

    def throw(self, *problem: Any) -> Any:
        """Let it meet what ends the wait."""
        return self._work.throw(*problem)
