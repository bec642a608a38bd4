"""Who looks on while things break: a reader of the log with a cursor, and a meter of what processes use."""

import asyncio
from contextlib import suppress
from typing import Final

import psutil

from headrace.errors import HeadraceError
from headrace.log.postgres import PostgresLog
from headrace.testing.checker.history import History, Reading, Sample
from tests.chaos.schedule import SERVICES
from tests.chaos.stand import Stand

READ_EVERY_S: Final = 2.0
PAGE: Final = 1_000
MEASURE_EVERY_S: Final = 10.0
WARM_S: Final = 8.0
"""How long a process lives before its use is measured first: it imports and warms up until then."""
IDLE_S: Final = 10.0
READER: Final = "cursor"


class Reader:
    """Reads every partition after the last position it has seen, through everything: a consumer as ours are."""

    def __init__(self, log: PostgresLog, history: History) -> None:
        self._log = log
        self._places: dict[tuple[str, int], Reading] = {}
        self._history = history

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            with suppress(HeadraceError):  # the database is away; the cursors stay where they were
                await self.catch_up()
            await asyncio.sleep(READ_EVERY_S)

    async def catch_up(self) -> None:
        """Read up to the end of every partition."""
        for row in await self._log.partitions():
            place = (str(row["log"]), int(row["partition"]))
            reading = self._places.get(place)
            if reading is None:
                reading = self._places[place] = Reading(reader=READER, log=place[0], partition=place[1])
                self._history.readings.append(reading)
            while len(reading.seen) < row["last_position"]:
                read = await self._log.read(*place, reading.seen[-1] if reading.seen else 0, PAGE)
                if not read:
                    break
                reading.seen += [one.position for one in read]


class Meter:
    """Measures the programs from outside."""

    def __init__(self, stand: Stand, history: History) -> None:
        self._stand, self._history = stand, history

    async def run(self) -> None:
        """Measure now and then, until cancelled."""
        while True:
            await asyncio.sleep(MEASURE_EVERY_S)
            await self.measure()

    async def measure(self, *, idle: bool = False) -> None:
        """Measure every program that has warmed up: one that was just started, or paused in its start, is small yet."""
        ready = {name for name in SERVICES if await self._stand.is_ready(name)}
        now_ms = self._stand.clock.now_ms()
        for name in sorted(ready):
            pid = self._stand.pid(name)
            if pid is None:
                continue
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    if not idle and now_ms / 1000 - process.create_time() < WARM_S:
                        continue
                    spent = process.cpu_times()
                    sample = Sample(
                        process=f"{name} ({pid})",
                        at=now_ms,
                        rss_bytes=process.memory_info().rss,
                        tasks=process.num_threads(),
                        handles=process.num_fds(),
                        cpu_s=spent.user + spent.system,
                        idle=idle,
                    )
            except psutil.Error:
                continue
            self._history.samples.append(sample)

    async def measure_idle(self) -> None:
        """Measure what the programs use while there is nothing to do."""
        await self.measure()
        await asyncio.sleep(IDLE_S)
        await self.measure(idle=True)
