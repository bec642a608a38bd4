"""A reader of everything: it is woken by the feed, goes on from its cursor, and must in the end have seen every event."""

import asyncio
from typing import Final

import msgspec

from headrace.testing.checker.history import History, Reading
from headrace.testing.simulation.storage import World
from headrace.testing.simulation.world import Machine
from headrace.vocabulary import LOG_RUNS
from headrace.wire import FeedEvent

PAGE: Final = 50
GATHER_S: Final = 0.25
"""How long it lets news gather before it reads on: a page then holds more than one append."""
REPAIR_S: Final = 5.0
_feed = msgspec.json.Decoder(list[FeedEvent])


class Reader:
    """Reads all partitions of the runs, as a consumer outside does: by position, in pages, woken by the feed."""

    def __init__(self, log: World, machine: Machine, history: History) -> None:
        self.machine = machine
        self._log = log
        self._woken = asyncio.Event()
        self._places = [partition for (name, partition) in log._parts if name == LOG_RUNS]  # noqa: SLF001  (all)
        self._readings = {
            place: Reading(reader="reader", log=LOG_RUNS, partition=place, seen=[]) for place in self._places
        }
        history.readings += self._readings.values()
        self._stirred: set[int] = set()

    async def read(self) -> None:
        """Read on whenever the feed tells of something, or after a while."""
        await self.machine.bus.open_feed(LOG_RUNS, self._heard)
        while True:
            try:
                async with asyncio.timeout(REPAIR_S):
                    await self._woken.wait()
            except TimeoutError:
                await self.finish()
            else:
                await asyncio.sleep(GATHER_S)
                places, self._stirred = sorted(self._stirred), set()
                self._woken.clear()
                for place in places:
                    await self._page(self._readings[place])

    async def finish(self) -> None:
        """Read what is left of every partition."""
        for reading in self._readings.values():
            await self._page(reading)

    async def _page(self, reading: Reading) -> None:
        while True:
            after = reading.seen[-1] if reading.seen else 0
            found = await self._log.read(LOG_RUNS, reading.partition, after, PAGE)
            reading.seen += [one.position for one in found]
            if len(found) < PAGE:
                return

    def _heard(self, data: bytes) -> None:
        for event in _feed.decode(data):
            self._stirred.add(event.partition)
        self._woken.set()
