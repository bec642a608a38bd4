"""Admission: a workspace with too many unfinished runs is told so; counting costs no create a query of its own."""

import asyncio
from typing import Any

import pytest

from headrace.clock import SystemClock
from headrace.config import read
from headrace.errors import RateLimitedError, UnavailableError, ValidationError
from headrace.log.memory import MemoryLog
from headrace.testing.virtual import VirtualClock, in_virtual_time
from headrace_planner.catalogue.admission import COUNT_KEPT_S, RETRY_AFTER_S, Admission


class Counter(MemoryLog):
    """A log that says how many runs are unfinished, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.runs: dict[str, int] = {}
        self.asked: list[Any] = []
        self.slow_s = 0.0
        self.away = False

    async def count(self, table: str, where: Any) -> int:
        self.asked.append((table, where))
        await asyncio.sleep(self.slow_s)
        if self.away:
            message = "the log does not answer"
            raise UnavailableError(message)
        return self.runs.get(where["workspace"], 0)


@in_virtual_time
async def test_a_workspace_at_its_limit_is_told_so_with_the_setting_and_when_to_come_again() -> None:
    log = Counter()
    log.runs = {"full": 3, "other": 2}
    admission = Admission(log, VirtualClock(), 3)
    with pytest.raises(
        RateLimitedError, match=r"'full' has 3 unfinished runs, and at most 3.*UNFINISHED_RUNS_MAX"
    ) as told:
        await admission.admit("full")
    assert told.value.details["retry_after_s"] == RETRY_AFTER_S
    assert told.value.status == 429
    await admission.admit("other")
    with pytest.raises(RateLimitedError):
        await admission.admit("other")
    assert log.asked[0] == ("runs", {"workspace": "full", "status": ["queued", "running", "waiting"]})


@in_virtual_time
async def test_runs_are_counted_once_a_second_and_those_let_in_since_are_added() -> None:
    log = Counter()
    admission = Admission(log, VirtualClock(), 100)
    for _ in range(100):
        await admission.admit("w")
    assert len(log.asked) == 1
    with pytest.raises(RateLimitedError):
        await admission.admit("w")
    log.runs["w"] = 40
    await asyncio.sleep(COUNT_KEPT_S)
    await admission.admit("w")
    assert len(log.asked) == 2


@in_virtual_time
async def test_while_one_create_counts_the_others_do_not_wait() -> None:
    log = Counter()
    admission = Admission(log, VirtualClock(), 100)
    await admission.admit("w")
    await asyncio.sleep(COUNT_KEPT_S)
    log.slow_s = 5.0
    async with asyncio.TaskGroup() as group:
        group.create_task(admission.admit("w"))
        await asyncio.sleep(0)
        async with asyncio.timeout(0.1):
            for _ in range(10):
                await admission.admit("w")
    assert len(log.asked) == 2


@in_virtual_time
async def test_a_count_that_failed_is_made_again() -> None:
    log = Counter()
    admission = Admission(log, VirtualClock(), 100)
    log.runs["w"] = 100
    log.away = True
    with pytest.raises(UnavailableError):
        await admission.admit("w")
    log.away = False
    await asyncio.sleep(COUNT_KEPT_S)
    with pytest.raises(RateLimitedError):
        await admission.admit("w")


def test_the_limit_is_set_by_the_environment() -> None:
    assert read({}).unfinished_runs_max == 20_000
    assert read({"HEADRACE_UNFINISHED_RUNS_MAX": "5"}).unfinished_runs_max == 5
    with pytest.raises(ValidationError, match="HEADRACE_UNFINISHED_RUNS_MAX"):
        read({"HEADRACE_UNFINISHED_RUNS_MAX": "many"})


@in_virtual_time
async def test_who_is_let_in_at_once_counts_like_the_others_and_none_is_before_runs_were_counted() -> None:
    log, clock = Counter(), VirtualClock()
    admission = Admission(log, clock, 3)
    assert not admission.at_once("w")
    await admission.admit("w")
    assert admission.at_once("w")
    await admission.admit("w")
    with pytest.raises(RateLimitedError):
        admission.at_once("w")
    await clock.sleep(COUNT_KEPT_S)
    assert not admission.at_once("w")
    assert len(log.asked) == 1
