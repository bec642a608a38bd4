"""Which attempt a piece of code works for: known to the attempt's task and to every task that it starts."""

import asyncio
from contextvars import ContextVar
from typing import Final

_attempt: Final[ContextVar[str]] = ContextVar("headrace_attempt", default="")


def working_for(attempt_id: str) -> None:
    """Say that the running task, and what it starts from now on, works for an attempt."""
    _attempt.set(attempt_id)


def attempt_on(loop: asyncio.AbstractEventLoop) -> str:
    """Give the attempt whose task a loop is running at this moment, from any thread; empty for a task of our own."""
    task = asyncio.current_task(loop)
    return "" if task is None else task.get_context().get(_attempt, "")
