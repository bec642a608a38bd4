"""Waking: whoever's time has come is woken then, whatever else is overdue."""

import asyncio
from typing import Any, cast

from headrace import ids
from headrace.host.cadence import QUICK
from headrace.host.tenure import Held
from headrace.host.wakeups import Wakeups
from headrace.host.waking import REFILL_MAX, Waking
from headrace.log.memory import MemoryLog
from headrace.log.port import Due, Log
from headrace.testing.virtual import VirtualClock
from headrace.vocabulary import LOG_RUNS
from tests.shared.host_toy import on_virtual_time

HOUR_MS = 3_600_000


class Rows(MemoryLog):
    """A log of which only what is due is asked, and how often."""

    def __init__(self, clock: VirtualClock, due: list[Due]) -> None:
        super().__init__(clock)
        self.rows_due, self.reads = sorted(due, key=lambda one: (one.wake_at, one.stream_id)), 0

    async def due(self, log: str, partitions: Any, until: int, limit: int, after: Due | None = None) -> list[Due]:
        self.reads += 1
        place = (-1, "") if after is None else (after.wake_at, after.stream_id)
        follow = [one for one in self.rows_due if (one.wake_at, one.stream_id) > place and one.wake_at <= until]
        return follow[:limit]


class Tenure:
    """A tenure that lasts."""

    log, partition, surveyed, over = LOG_RUNS, 3, True, False

    def address(self, stream_id: str) -> str:
        return stream_id


class Desk:
    """Waking by hand: what is woken before its time comes again stays overdue, as one that waits for a receipt."""

    def __init__(self, stuck: int, timers: dict[str, int]) -> None:
        self.clock = VirtualClock()
        now = self.clock.now_ms()
        waiting = [Due(ids.derive(ids.RUN, now, 3, "stuck", str(number)), now - HOUR_MS) for number in range(stuck)]
        self.timers = {ids.derive(ids.RUN, now, 3, name): now + after for name, after in timers.items()}
        self.log = Rows(self.clock, [*waiting, *(Due(stream, at) for stream, at in self.timers.items())])
        self.wakeups = Wakeups(int(QUICK.wake_window_s * 1000))
        self.woken: dict[str, list[int]] = {}
        held = cast("Held", Tenure())
        self.waking = Waking(
            cast("Log", self.log),
            clock=self.clock,
            wakeups=self.wakeups,
            held=lambda: [held],
            send=self._send,
            cadence=QUICK,
        )

    def _send(self, held: Held, stream_id: str) -> None:
        now = self.clock.now_ms()
        self.woken.setdefault(stream_id, []).append(now)
        if stream_id in self.timers:
            self.log.rows_due = [one for one in self.log.rows_due if one.stream_id != stream_id]
            self.wakeups.note(held, stream_id, None, now)
        else:
            self.wakeups.put_off(held, stream_id, now, changed=False)

    async def run(self, seconds: float) -> None:
        task = asyncio.create_task(self.waking.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait({task})


@on_virtual_time
async def test_a_timer_is_not_late_however_many_streams_wait_for_somebody_who_is_away() -> None:
    desk = Desk(REFILL_MAX + 10, {"soon": 10_000, "later": 60_000})
    await desk.run(100)
    late = {stream: [at - desk.timers[stream] for at in desk.woken.get(stream, [])] for stream in desk.timers}
    assert all(len(each) == 1 and 0 <= each[0] < 100 for each in late.values()), late
    assert desk.log.reads < 30, "what is known is not read again every second"
