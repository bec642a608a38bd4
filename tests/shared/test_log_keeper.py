"""When house is kept: every half an hour, sooner when the database did not answer, and months once a day after midnight."""

import asyncio
from typing import Any

import pytest

from headrace.errors import ConflictError, UnavailableError
from headrace.log.retention import AGAIN_S, DAY_S, HOUSE_S, SETTLE_S, Keeper
from headrace.testing.virtual import BEGINNING_MS, VirtualClock, in_virtual_time

MIDNIGHT_S = DAY_S - BEGINNING_MS // 1000 % DAY_S
"""From the beginning of virtual time until the day is over."""


class House:
    """A house of which is kept when it was kept, and that fails as it is told."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.kept, self.fails = clock, list[int](), list[Exception | None]()

    async def keep_house(self) -> None:
        self.kept.append(round(self.clock.monotonic()))
        problem = self.fails.pop(0) if self.fails else None
        if problem is not None:
            raise problem


class Looked(Keeper):
    """A keeper of which is kept when it looked at months."""

    def __init__(self, clock: VirtualClock, *fails: Exception | None) -> None:
        super().__init__("postgres://nowhere", clock, months=0)
        self.clock, self.looks, self.fails = clock, list[int](), list(fails)

    async def look(self) -> list[int]:
        self.looks.append(round(self.clock.monotonic()))
        problem = self.fails.pop(0) if self.fails else None
        if problem is not None:
            raise problem
        return await super().look()


async def kept(keeper: Keeper, house: House, seconds: float) -> None:
    task = asyncio.create_task(keeper.run(house))
    await asyncio.sleep(seconds)
    assert not task.done(), "it goes on whatever happens"
    task.cancel()
    await asyncio.wait({task})


@in_virtual_time
async def test_months_are_looked_at_when_it_begins_and_once_a_day_a_while_after_midnight() -> None:
    clock = VirtualClock()
    keeper, house = Looked(clock), House(clock)
    await kept(keeper, house, MIDNIGHT_S + DAY_S + HOUSE_S + SETTLE_S + 1)
    assert len(keeper.looks) == 3
    assert keeper.looks[0] == 0
    for number, at in enumerate(keeper.looks[1:]):
        assert 0 <= at - (MIDNIGHT_S + number * DAY_S + SETTLE_S) <= HOUSE_S
    assert house.kept == [number * HOUSE_S for number in range(len(house.kept))]


@pytest.mark.parametrize(
    ("problem", "pause"),
    [(UnavailableError("away"), AGAIN_S), (TimeoutError(), AGAIN_S), (ConflictError("somebody else does"), HOUSE_S)],
)
@in_virtual_time
async def test_what_could_not_be_done_is_done_again_and_only_then_not_before_the_next_day(
    problem: Any, pause: int
) -> None:
    clock = VirtualClock()
    keeper, house = Looked(clock, problem, problem), House(clock)
    await kept(keeper, house, 4 * HOUSE_S)
    assert keeper.looks == [0, pause, 2 * pause]
    house, keeper = House(clock), Looked(clock)
    house.fails = [problem]
    began = round(clock.monotonic())
    await kept(keeper, house, pause + 1)
    assert house.kept == [began, began + pause]
    assert keeper.looks == [began + pause], "months come after the house"
