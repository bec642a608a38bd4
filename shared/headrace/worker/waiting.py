"""Waiting for an event or for time to pass, whichever comes first."""

import asyncio


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Tell whether an event came within a time, by the clock of the running loop."""
    if not event.is_set():
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return event.is_set()
    return True
