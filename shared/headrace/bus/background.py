"""Tasks that live as long as the thing that started them."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)


class Background:
    """A task group from `open` to `close`, for objects that are opened and closed rather than entered.

    A task that fails is a defect: it is logged, and ends the task that opened the group.
    """

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin."""
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine until it ends or the group is closed."""
        if self._group is None:
            work.close()
            message = f"{name} was started outside the life of its owner"
            raise RuntimeError(message)
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        """Cancel what still runs and wait for its end. Raises what a task failed with."""
        group, self._group = self._group, None
        if group is None:
            return
        for task in self._tasks:
            task.cancel()
        await group.__aexit__(None, None, None)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            logger.error("%s failed: %s", task.get_name(), problem, exc_info=problem)
