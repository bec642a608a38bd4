"""Where a worker's orders come from: its pools, opened while it takes work and closed while it drains."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from headrace.bus.port import Bus, Delivery, WorkSource
from headrace.clock import Clock, within
from headrace.errors import UnavailableError
from headrace.worker.credit import Credit

OPEN_RETRY_S: Final = 0.5
SHUT_S: Final = 5.0
"""How long a drain waits for orders that are on their way."""

log = logging.getLogger(__name__)


class Sources:
    """The pools of one worker. What arrives is queued in `arrived`, as (pool, message), and `stir` is called."""

    def __init__(self, bus: Bus, clock: Clock, pools: Sequence[str], slots: int, stir: Callable[[], None]) -> None:
        self._bus, self._clock, self._pools, self._stir = bus, clock, tuple(pools), stir
        self._slots = slots
        self._open: dict[str, WorkSource] = {}
        self._wanted = True
        self._turned = asyncio.Event()
        self._shut = asyncio.Event()
        self.credits = {pool: Credit(slots) for pool in self._pools}
        self.arrived: deque[tuple[str, bytes]] = deque()

    @property
    def taking(self) -> bool:
        """Tell whether work is taken."""
        return self._wanted

    @property
    def shut_now(self) -> bool:
        """Tell whether no work is taken and none is on its way."""
        return not self._wanted and self._shut.is_set()

    def take(self, *, work: bool) -> None:
        """Take work from now on, or take none."""
        self._wanted = work
        self._turned.set()
        self._stir()

    async def shut(self) -> None:
        """Take no more work, and wait until what was on its way has arrived, SHUT_S at most."""
        self.take(work=False)
        if not await within(self._shut, SHUT_S):
            log.warning("the pools could not be closed: orders on their way here are repaired by their owners")
            self._shut.set()  # what is here goes back all the same
            self._stir()

    def put_back(self, pool: str, packed: bytes) -> None:
        """Give an order back to its pool as it came: the next worker there takes it."""
        self._bus.publish_work(pool, packed)

    async def run(self) -> None:
        """Open and close pools as told, until cancelled."""
        while True:
            self._turned.clear()
            if self._wanted:
                self._shut.clear()
                await self._open_all()
            else:
                await self._close_all()
                self._shut.set()
            self._stir()
            await self._turned.wait()

    async def close(self) -> None:
        """Close what is open, at the end."""
        await self._close_all()

    def ask(self) -> None:
        """Ask for as much as there is credit for."""
        if self._wanted:
            for pool, source in self._open.items():
                more = self.credits[pool].wanted()
                if more:
                    source.want(more)

    async def _open_all(self) -> None:
        """Open what is not open, again while the bus does not answer, as long as work is wanted."""
        for pool in self._pools:
            while self._wanted and pool not in self._open:
                try:
                    self._open[pool] = await self._bus.open_work(pool, self._receiver(pool))
                except UnavailableError as problem:
                    log.info("waiting for the bus: %s", problem.message)
                    await self._clock.sleep(OPEN_RETRY_S)
                else:
                    self._stir()

    async def _close_all(self) -> None:
        for pool, source in list(self._open.items()):
            await source.close()
            del self._open[pool]
            self.credits[pool].forgotten()

    def _receiver(self, pool: str) -> Callable[[Delivery], None]:
        def deliver(delivery: Delivery) -> None:
            self.arrived.append((pool, delivery.data))
            self._stir()

        return deliver
