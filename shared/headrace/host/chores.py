"""Chores: waiting work that synchronous code hands over, done by a few tasks that live as long as there is some."""

import asyncio
import contextvars
import logging
from collections import deque
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
        self._waiting: deque[Chore] = deque()
        self._group: asyncio.TaskGroup | None = None
        self._surroundings = contextvars.copy_context()
        self._started = 0

    def __len__(self) -> int:
        return len(self._waiting) + self._started

    def put(self, chore: Chore) -> bool:
        """Hand a chore over; False when too many wait already and it was turned away."""
        if len(self._waiting) >= self._waiting_max:
            metrics.count(f"{self._name}_turned_away")
            return False
        self._waiting.append(chore)
        self._staff()
        return True

    async def run(self) -> None:
        """Do chores until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group, self._surroundings = group, contextvars.copy_context()
            try:
                self._staff()
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None

    def _staff(self) -> None:
        """Give what waits to tasks of its own, as far as there may be more."""
        while self._group is not None and self._waiting and self._started < self._tasks:
            self._started += 1
            self._group.create_task(self._work(self._waiting.popleft()), context=self._surroundings.copy())

    async def _work(self, chore: Chore) -> None:
        """Do a chore, and then what waits: no task is kept for what may come."""
        try:
            while True:
                try:
                    await chore()
                except (HeadraceError, TimeoutError) as problem:
                    metrics.count(f"{self._name}_failed")
                    _logger.debug("%s: %s", self._name, problem)
                if not self._waiting:
                    return
                chore = self._waiting.popleft()
        finally:
            self._started -= 1
