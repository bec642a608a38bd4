"""Ctrl-C and SIGTERM as a cancellation of the work under way; a second one ends the process at once."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED: Final = 130
"""The exit code of a command that a signal ended."""


async def until_stopped(work: Coroutine[Any, Any, int], *, code: int) -> int:
    """Do the work; when a signal comes, cancel it, let it clean up, and give `code` instead.

    At a second signal the process ends on the spot: the leashes stop what still runs.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    came: list[int] = []

    def stop() -> None:
        if came:
            os._exit(INTERRUPTED)
        came.append(1)
        task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        return await work
    except asyncio.CancelledError:
        if not came:
            raise
        task.uncancel()
        return code
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
