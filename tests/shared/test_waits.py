"""Waiting again and again: a flag that is lowered once it was seen, a pulse, and a limit whose timer stays."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from headrace import telemetry
from headrace.testing.virtual import VirtualLoop
from headrace.waits import Limit, Pulse, Signal


def virtually(scenario: Callable[[], Awaitable[None]]) -> None:
    async def lived() -> None:
        await scenario()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(lived())


def now_s() -> float:
    return asyncio.get_running_loop().time()


def test_a_signal_wakes_whoever_waits_and_is_remembered_for_whoever_comes() -> None:
    async def scenario() -> None:
        signal = Signal()
        asyncio.get_running_loop().call_later(3.0, signal.set)
        await signal.wait()
        assert now_s() == pytest.approx(3.0)
        assert not await signal.wait_for(1.0)  # it was lowered
        signal.set()
        signal.set()
        assert await signal.wait_for(1.0)
        assert now_s() == pytest.approx(4.0)

    virtually(scenario)


def test_a_pulse_wakes_all_who_wait_just_now_and_nobody_who_comes_later() -> None:
    async def scenario() -> None:
        pulse = Pulse()
        woken: list[float] = []

        async def waits(seconds: float) -> None:
            await pulse.wait_for(seconds)
            woken.append(now_s())

        async with asyncio.TaskGroup() as group:
            for seconds in (1.0, 5.0, 9.0):
                group.create_task(waits(seconds))
            asyncio.get_running_loop().call_later(3.0, pulse.send)
        assert woken == pytest.approx([1.0, 3.0, 3.0])
        await pulse.wait_for(2.0)  # the one that was sent is over
        assert now_s() == pytest.approx(5.0)

    virtually(scenario)


def test_a_limit_ends_a_wait_that_is_over_its_time_however_old_its_timer_is() -> None:
    async def scenario() -> None:
        limit = Limit(10.0)
        for _ in range(4):  # each makes the timer older, and none is over its time
            with limit:
                await asyncio.sleep(4.0)
        with pytest.raises(TimeoutError), limit:
            await asyncio.Event().wait()
        assert now_s() == pytest.approx(26.0)
        with limit:
            await asyncio.sleep(9.0)

    virtually(scenario)


def test_a_limit_passes_on_what_is_raised_within_it_and_who_cancels_its_task_is_obeyed() -> None:
    async def scenario() -> None:
        limit = Limit(10.0)
        with pytest.raises(KeyError), limit:
            raise KeyError
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_held(limit))
            await asyncio.sleep(1.0)
            task.cancel()
        assert task.cancelled()
        assert now_s() == pytest.approx(1.0)

    virtually(scenario)


async def _held(limit: Limit) -> None:
    with limit:
        await asyncio.Event().wait()


def test_what_is_measured_is_told_in_the_bucket_it_falls_into() -> None:
    before = _told()
    for seconds in (0.001, 0.0011, 3.0, 99.0):
        telemetry.appended(2, seconds)
    after = _told()
    more = {name: after[name] - before.get(name, 0.0) for name in after}
    name = "headrace_append_duration_seconds"
    assert [more[f'{name}_bucket{{le="{bound}"}}'] for bound in ("0.001", "0.0025", "2.5", "5.0", "+Inf")] == [
        1,
        2,
        2,
        3,
        4,
    ]
    assert more[f"{name}_count"] == 4
    assert more[f"{name}_sum"] == pytest.approx(102.0021)
    assert more['headrace_append_events_bucket{le="2.0"}'] == 4


def _told() -> dict[str, float]:
    body, _ = telemetry.render("text/plain")
    lines = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}
