"""How many simulations are under way at once in one api."""

import asyncio
from typing import TYPE_CHECKING, Final

from headrace.errors import UnavailableError

if TYPE_CHECKING:
    from headrace.testing.prediction.apart import Wanted

SIMULATIONS_MAX: Final = 2
"""Simulations under way at once in one api; others wait for their turn."""
TURN_S: Final = 15.0
"""How long one waits for its turn."""


class Turns:
    """Lets a few simulate at once; what is not let in within TURN_S is told to come again."""

    def __init__(self, most: int = SIMULATIONS_MAX, patience_s: float = TURN_S) -> None:
        self._free, self._patience_s = asyncio.Semaphore(most), patience_s

    async def predict(self, wanted: "Wanted") -> bytes:
        """Predict once there is room; raises UnavailableError, and as `predict_apart`."""
        from headrace.testing.prediction.apart import predict_apart

        try:
            async with asyncio.timeout(self._patience_s):
                await self._free.acquire()
        except TimeoutError as problem:
            message = "this api simulates as much as it may at once; ask again"
            raise UnavailableError(message, details={"retry_after_s": 2}) from problem
        try:
            return await predict_apart(wanted)
        finally:
            self._free.release()
