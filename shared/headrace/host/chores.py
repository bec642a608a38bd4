"""Chores: waiting work that synchronous code hands over, done by a few tasks that are started when they are needed."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from headrace.errors import HeadraceError
from headrace.host import metrics

CHORES_WAITING_MAX: Final = 20_000

_logger = logging.getLogger(__name__)

type Chore = Callable[[], Awaitable[None]]


class Chores:
    """A bounded queue of chores and the tasks that do them, `tasks` at most.

    A chore that fails is logged: repair is its owner's.
    """

    def __init__(self, name: str, *, tasks: int, waiting_max: int = CHORES_WAITING_MAX) -> None:
        self._name = name
        self._waiting_max = waiting_max
        self._tasks = tasks
        self._waiting: asyncio.Queue[Chore] = asyncio.Queue()
        self._group: asyncio.TaskGroup | None = None
        self._surroundings = contextvars.copy_context()
        self._started = 0
        self._busy = 0

    def __len__(self) -> int:
        return self._waiting.qsize() + self._busy

    def put(self, chore: Chore) -> bool:
        """Hand a chore over; False when too many wait already and it was turned away."""
        if self._waiting.qsize() >= self._waiting_max:
            metrics.count(f"{self._name}_turned_away")
            return False
        self._waiting.put_nowait(chore)
        self._staff()
        return True

    async def run(self) -> None:
        """Do chores until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group, self._surroundings = group, contextvars.copy_context()
            try:
                for _ in range(min(self._waiting.qsize(), self._tasks)):
                    self._staff()
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None

    def _staff(self) -> None:
        """Start another task when more waits than those that are there will take up at once."""
        idle = self._started - self._busy
        if self._group is not None and self._started < self._tasks and self._waiting.qsize() > idle:
            self._started += 1
            self._group.create_task(self._work(), context=self._surroundings.copy())

    async def _work(self) -> None:
        while True:
            chore = await self._waiting.get()
            self._busy += 1
            try:
                await chore()
            except (HeadraceError, TimeoutError) as problem:
                metrics.count(f"{self._name}_failed")
                _logger.debug("%s: %s", self._name, problem)
            finally:
                self._busy -= 1
