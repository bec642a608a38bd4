"""Waking: whoever's time has come is woken then, whatever else is overdue."""

import asyncio
from typing import Any, Self, cast

from headrace import ids
from headrace.errors import UnavailableError
from headrace.host.cadence import QUICK
from headrace.host.tenure import Held
from headrace.host.wakeups import WAKEUPS_MAX, Wakeups
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
        self.rows_due, self.reads, self.silent = sorted(due, key=lambda one: (one.wake_at, one.stream_id)), 0, False

    async def due(self, log: str, partitions: Any, until: int, limit: int, after: Due | None = None) -> list[Due]:
        self.reads += 1
        if self.silent:
            message = "the log does not answer"
            raise UnavailableError(message)
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
        self.tenure = Tenure()
        held = self.held = cast("Held", self.tenure)
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

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.waking.run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    def stream(self, name: str) -> str:
        return ids.derive(ids.RUN, self.clock.now_ms(), 3, name)

    def set(self, name: str, after_ms: int) -> str:
        """Let a stream want to be woken, as one that changed says."""
        stream, at = self.stream(name), self.clock.now_ms() + after_ms
        self.timers[stream] = at
        self.wakeups.note(self.held, stream, at, self.clock.now_ms())
        self.waking.stir()
        return stream

    def late(self) -> dict[str, list[int]]:
        """Give how late streams with a timer were woken, in ms."""
        return {stream: [at - due for at in self.woken.get(stream, [])] for stream, due in self.timers.items()}


def on_time(late: dict[str, list[int]]) -> bool:
    return all(len(each) == 1 and 0 <= each[0] < 100 for each in late.values())


@on_virtual_time
async def test_a_timer_is_not_late_however_many_streams_wait_for_somebody_who_is_away() -> None:
    async with Desk(REFILL_MAX + 10, {"soon": 10_000, "later": 60_000}) as desk:
        await asyncio.sleep(100)
        assert on_time(desk.late()), desk.late()
        assert desk.log.reads < 30, "what is known is not read again every second"


@on_virtual_time
async def test_timers_are_met_at_their_time_in_any_order_and_nothing_is_looked_at_in_between() -> None:
    async with Desk(0, {"far": 300_000, "near": 21_000}) as desk:
        await asyncio.sleep(5)
        desk.set("later", 9_000)
        desk.set("a_little_sooner", 8_500)
        desk.set("sooner", 2_000)  # before what it sleeps for
        await asyncio.sleep(400)
        assert on_time(desk.late()), desk.late()
        assert desk.log.reads < 30


@on_virtual_time
async def test_what_a_stream_wants_no_more_is_not_kept_and_what_it_wants_instead_is() -> None:
    async with Desk(0, {}) as desk:
        stream = desk.set("moved", 5_000)
        desk.set("moved", 8_000)
        gone = desk.set("gone", 3_000)
        desk.wakeups.note(desk.held, gone, None, desk.clock.now_ms())
        distant = desk.set("distant", 3_000)
        desk.wakeups.note(desk.held, distant, desk.clock.now_ms() + HOUR_MS, desk.clock.now_ms())
        await asyncio.sleep(20)
        assert list(desk.woken) == [stream]
        assert on_time({stream: desk.late()[stream]})
        assert len(desk.wakeups) == 0


@on_virtual_time
async def test_a_partition_that_is_new_here_is_read_at_once_when_it_is_surveyed_and_never_once_its_tenure_is_over() -> (
    None
):
    async with Desk(0, {}) as desk:
        desk.tenure.surveyed = False
        await asyncio.sleep(21)
        stream = desk.stream("overdue")
        desk.timers[stream] = desk.clock.now_ms()
        desk.log.rows_due = [Due(stream, desk.clock.now_ms())]
        desk.waking.stir(refill=True)
        await asyncio.sleep(0.5)
        assert desk.woken == {}
        desk.tenure.surveyed = True
        desk.waking.stir(refill=True)
        await asyncio.sleep(0.1)
        assert list(desk.woken) == [stream]
        other = desk.set("other", 1_000)
        desk.tenure.over = True
        await asyncio.sleep(30)
        assert other not in desk.woken


@on_virtual_time
async def test_a_log_that_does_not_answer_is_asked_again_soon() -> None:
    desk = Desk(0, {"due": 0})
    desk.log.silent = True
    async with desk:
        await asyncio.sleep(3.5)
        assert 3 <= desk.log.reads <= 5
        desk.log.silent = False
        await asyncio.sleep(1.1)
        assert list(desk.woken) == list(desk.timers)
        desk.log.reads = 0
        await asyncio.sleep(60)
        assert desk.log.reads <= 4


def test_what_is_put_off_is_known_and_what_is_known_is_not_taken_over_again() -> None:
    wakeups, held, other = Wakeups(30_000), cast("Held", Tenure()), cast("Held", Tenure())
    wakeups.put_off(held, "run_x", 0, changed=False)
    assert not wakeups.found(held, "run_x", 0)
    assert wakeups.take_due(1_999) == []
    assert wakeups.take_due(2_000) == [(held, "run_x")]
    assert wakeups.take_due(9_000) == [], "it is on its way: it is woken once"
    wakeups.put_off(held, "run_x", 2_000, changed=False)
    wakeups.put_off(held, "run_x", 6_000, changed=True)
    assert wakeups.take_due(8_000) == [(held, "run_x")], "it moved: what it waits for is asked for as at first"
    for _ in range(2):
        wakeups.note(held, "run_x", 8_500, 8_000)
        assert wakeups.take_due(8_500) == [(held, "run_x")], "what stays due after it was woken is woken again"
    assert wakeups.found(other, "run_y", 9_000)
    wakeups.drop(held)
    assert (len(wakeups), wakeups.next_at()) == (1, 9_000)
    wakeups.drop(other)
    assert (len(wakeups), wakeups.next_at()) == (0, None)


def test_of_very_many_streams_no_more_are_taken_over_than_memory_is_for() -> None:
    wakeups, held = Wakeups(30_000), cast("Held", Tenure())
    assert all(wakeups.found(held, f"run_{number}", 1) for number in range(WAKEUPS_MAX))
    assert wakeups.full
    assert not wakeups.found(held, "run_more", 1)
    assert len(wakeups) == WAKEUPS_MAX
