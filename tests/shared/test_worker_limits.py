"""Time limits of attempts: work is begun at once, and is ended when it waits for too long."""

import asyncio

import pytest

from headrace.worker.limits import NEAR_S, Limits, OverTimeError

FAR_S = NEAR_S * 10


async def test_work_that_never_waits_needs_no_time() -> None:
    async def work() -> int:
        return 1

    assert await Limits().within(0.0, work()) == 1


@pytest.mark.parametrize("seconds", [NEAR_S, FAR_S])
async def test_work_that_waits_again_and_again_goes_on_with_what_it_waited_for(seconds: float) -> None:
    answers = [asyncio.get_running_loop().create_future() for _ in range(3)]

    async def work() -> list[int]:
        await asyncio.sleep(0)
        return [await answer for answer in answers]

    async with asyncio.TaskGroup() as group:
        task = group.create_task(Limits().within(seconds, work()))
        for number, answer in enumerate(answers):
            await asyncio.sleep(0)
            answer.set_result(number)
    assert task.result() == [0, 1, 2]


async def test_work_meets_what_its_first_wait_ends_with_and_may_go_on() -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    answer.set_exception(ValueError("no"))

    async def work() -> str:
        try:
            await answer
        except ValueError as problem:
            await asyncio.sleep(0)
            return str(problem)
        return "nothing"

    assert await Limits().within(FAR_S, work()) == "no"


async def test_work_over_its_time_is_ended_where_it_waits_and_cleans_up() -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    with pytest.raises(OverTimeError):
        await Limits().within(0.001, work())
    assert cleaned == ["up"]


async def test_a_timeout_of_the_works_own_is_none_of_its_limit() -> None:
    async def work() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as caught:
        await Limits().within(FAR_S, work())
    assert not isinstance(caught.value, OverTimeError)


async def test_what_is_cancelled_from_outside_is_cancelled() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(Limits().within(FAR_S, work()))
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
