"""Waiting that a task does again and again, with less around it than asyncio's own: a flag, a pulse, a time limit.

An `asyncio.Event` serves many waiters, and `asyncio.timeout` makes a timer and a context manager each time; a loop that
turns for every message needs neither. What they promise of cancellation holds here as well.
"""

import asyncio
from types import TracebackType


class Signal:
    """A flag that one task waits for, and that is lowered once it was seen."""

    __slots__ = ("_raised", "_waiter")

    def __init__(self) -> None:
        self._raised = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Raise it; whoever waits goes on."""
        self._raised = True
        if self._waiter is not None:
            _release(self._waiter)

    async def wait(self) -> None:
        """Wait until it is raised, and lower it."""
        if not self._raised:
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        self._raised = False

    async def wait_for(self, seconds: float) -> bool:
        """Wait until it is raised, but no longer than so many seconds; lower it, and tell whether it was."""
        if not self._raised:
            loop = asyncio.get_running_loop()
            waiter = self._waiter = loop.create_future()
            timer = loop.call_later(seconds, _release, waiter)
            try:
                await waiter
            finally:
                self._waiter = None
                timer.cancel()
        raised, self._raised = self._raised, False
        return raised


class Pulse:
    """Wakes those who wait just now; nobody who comes later."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def send(self) -> None:
        """Let everybody who waits go on."""
        for waiter in self._waiters:
            _release(waiter)

    async def wait_for(self, seconds: float) -> None:
        """Wait for the next one, but no longer than so many seconds."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(seconds, _release, waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)
            timer.cancel()


class Limit:
    """A time limit for what one task awaits again and again: `with limit:` raises TimeoutError after `seconds`.

    Its timer stays from one use to the next and is set anew when it fires, not at each use.
    """

    __slots__ = ("_cancelling", "_expired", "_seconds", "_task", "_timer", "_until")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "a time limit is a task's"
        assert self._until is None, "a limit is for one wait at a time"
        loop = task.get_loop()
        self._task, self._cancelling, self._expired = task, task.cancelling(), False
        self._until = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(self._until, self._look, loop)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, _trace: TracebackType | None
    ) -> None:
        task, self._task, self._until = self._task, None, None
        if not self._expired or task is None:
            return
        others = task.uncancel() > self._cancelling  # somebody else wants the task to end as well
        if not others and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from problem

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End a wait that is over its time; look again at the end of one that began later."""
        self._timer = None
        if self._until is None:
            return
        if loop.time() < self._until:
            self._timer = loop.call_at(self._until, self._look, loop)
        elif self._task is not None:
            self._expired = True
            self._task.cancel()


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
