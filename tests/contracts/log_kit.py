"""What the suites over logs share."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from headrace.clock import SystemClock
from headrace.decider import AnyRow
from headrace.log.port import Batch, Break, Log, NewEvent, Tenure

LEASE_S = 30.0
SHORT_S = 0.2
DEADLINE_S = 20.0
RUNS = {"runs": 1}
CLOCK = SystemClock()


async def claim(log: Log, owner: str = "one", lease_s: float = LEASE_S) -> dict[int, Tenure]:
    holdings = await log.heartbeat(owner, RUNS, lease_s=lease_s)
    return {tenure.partition: tenure for tenure in holdings.tenures}


def event(stream_id: str, version: int, data: bytes = b"{}", name: str = "run.queued") -> NewEvent:
    return NewEvent(stream_id, version, name, 1, "default", CLOCK.now_ms(), data, b"{}")


def batch(tenure: Tenure, *events: NewEvent, after: int = 0, rows: Sequence[AnyRow] = ()) -> Batch:
    return Batch(
        log=tenure.log,
        partition=tenure.partition,
        epoch=tenure.epoch,
        expected_position=after,
        events=list(events),
        rows=list(rows),
    )


async def eventually(attempt: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await attempt():  # noqa: ASYNC110  (a database's clock has no event to wait for)
            await asyncio.sleep(0.02)


async def breaks(log: Log) -> list[Break]:
    return [found async for found in log.verify() if isinstance(found, Break)]
