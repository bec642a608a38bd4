"""Waiting for an event or for time to pass, whichever comes first, on any clock."""

import asyncio

from headrace.clock import Clock


async def within(clock: Clock, event: asyncio.Event, seconds: float) -> bool:
    """Tell whether an event came within a time."""
    if event.is_set():
        return True
    async with asyncio.TaskGroup() as group:
        pause = group.create_task(clock.sleep(seconds))
        seen = group.create_task(event.wait())
        await asyncio.wait({pause, seen}, return_when=asyncio.FIRST_COMPLETED)
        pause.cancel()
        seen.cancel()
    return event.is_set()
