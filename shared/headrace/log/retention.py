"""Keeping house: months are attached ahead, and those far enough back whose streams are all over are detached.

Every planner runs a `Keeper`, beside its heartbeats, which wait for none of this. Months are detached by one at a time,
under a lock of the database, once a day, when the day is new, and when it starts. Detaching waits for nobody that
appends wait for, and drops nothing: what is detached stays in the database beside the log until `headrace db archive`
writes it to a file.
"""

import logging
from typing import Final, Protocol

import asyncpg

from headrace.clock import Clock
from headrace.errors import ConflictError, HeadraceError
from headrace.ids import month_text
from headrace.log.connections import translated
from headrace.log.months import TIMELESS, Months, Straggler, before, named

DAY_S: Final = 86_400
HOUSE_S: Final = 1_800
"""How often months are attached ahead, and old answers forgotten."""
AGAIN_S: Final = 60
"""How soon it is tried again after the database did not answer."""
SETTLE_S: Final = 300
"""How long after midnight a look is taken, so that all clocks agree on the day."""
OVERDUE_SHOWN_MAX: Final = 20
logger = logging.getLogger(__name__)


class House(Protocol):
    """A log that wants some keeping now and then."""

    async def keep_house(self) -> None:
        """Attach months ahead, and forget what is old; raises UnavailableError."""
        ...


class Keeper:
    """Keeps the last months in the log: `months` whole ones before the current; 0 keeps all."""

    def __init__(self, url: str, clock: Clock, months: int) -> None:
        self._url, self._clock, self._months = url, clock, months
        self._looked_on = -1

    async def run(self, house: House) -> None:
        """Keep house until cancelled; `house` is the log that is in use."""
        while True:
            pause = HOUSE_S
            try:
                await house.keep_house()
                today = (self._clock.now_ms() // 1000 - SETTLE_S) // DAY_S
                if today != self._looked_on:
                    await self.look()
                    self._looked_on = today
            except ConflictError as problem:
                logger.info("months are looked after later: %s", problem)
            except (HeadraceError, TimeoutError) as problem:
                logger.warning("house is kept again in %d s: %s", AGAIN_S, problem)
                pause = AGAIN_S
            await self._clock.sleep(pause)

    async def look(self) -> list[int]:
        """Detach what may leave, and say what is held; gives the months that left. Raises as `Months.keeping`."""
        left: list[int] = []
        if self._months == 0:
            return left
        async with Months.keeping(self._url, wait_s=0) as months:
            for month in await overdue(months, self._months):
                with translated():
                    held = await self._detach(months, month)
                if held:
                    logger.warning("the month %s stays in the log: %s", month_text(month), named(held))
                else:
                    logger.info(
                        "the month %s was detached: `headrace db archive` writes it to a file", month_text(month)
                    )
                    left.append(month)
        return left

    async def _detach(self, months: Months, month: int) -> list[Straggler]:
        try:
            return await months.detach(month)
        except asyncpg.LockNotAvailableError:
            return [Straggler(month, "", "somebody uses it right now")]


async def overdue(months: Months, kept: int) -> list[int]:
    """Give the months in the log that lie further back than is kept; not those that somebody brought back."""
    oldest = before(await months.now(), kept)
    return [
        one.month
        for one in await months.all()
        if one.stands and TIMELESS != one.month < oldest and one.state in {None, "closed"}
    ]


async def held(url: str, kept: int) -> list[Straggler]:
    """Name the streams that hold months in the log beyond what is kept, for `headrace doctor`; 0 keeps all."""
    if kept == 0:
        return []
    found: list[Straggler] = []
    async with Months.looking(url) as months:
        for month in await overdue(months, kept):
            found += await months.stragglers(month, OVERDUE_SHOWN_MAX - len(found))
            if len(found) >= OVERDUE_SHOWN_MAX:
                break
    return found
