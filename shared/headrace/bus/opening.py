"""Beginning to listen on a bus that may be away: again until it is there."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from headrace.clock import Clock
from headrace.errors import UnavailableError

OPEN_AGAIN_S: Final = 0.5

_logger = logging.getLogger(__name__)


async def until_open[T](way: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """Do what begins to listen, again while the bus or the log does not answer: a service outlives both."""
    while True:
        try:
            return await way()
        except UnavailableError as problem:
            _logger.info("trying again to listen: %s", problem.message)
            await clock.sleep(OPEN_AGAIN_S)
