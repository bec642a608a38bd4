"""The boundary between the bus and a handler that may fail: what is settled, and what comes again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from headrace import telemetry
from headrace.bus.port import Delivery

logger = logging.getLogger(__name__)
PROBLEM_CHARS_MAX: Final = 300


async def handle(deliver: Callable[[Delivery], Awaitable[None]], message: Delivery, what: str) -> bool:
    """Let a handler work on a message; False when it raised and the message has to come again. `what` is its kind.

    Whatever it raised, the message stays on the bus and its neighbours go on: a handler's defect must neither lose a
    message nor end the process again and again.
    """
    try:
        await deliver(message)
    except asyncio.CancelledError:
        raise
    except Exception as problem:  # noqa: BLE001  (the boundary: the message comes again, and the log says why)
        text = f"{type(problem).__name__}: {problem}"[:PROBLEM_CHARS_MAX]
        telemetry.message_redelivered(what)
        logger.warning("%s %d could not be handled and comes again: %s", what, message.sequence, text)
        return False
    return True
