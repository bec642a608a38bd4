"""Deadlines of orders, stops that nobody hears, and wake-ups that a missing receipt does not put off."""

import asyncio
from typing import Any

import msgspec

from headrace.bus.memory import MemoryBus
from headrace.decider import Dispatch, Stop
from headrace.host.cadence import QUICK
from headrace.host.dispatch import Dispatcher
from headrace.host.presence import Presence
from headrace.host.stops import Stops
from headrace.host.wakeups import Wakeups
from headrace.messages import Wake
from headrace.steering import DropAttempt, OverdueAttempt
from headrace.testing.virtual import VirtualClock
from headrace.vocabulary import ATTEMPT_GRACE_S, TELL_REPEAT_S
from headrace.wire import Beat, Control, Holding, Interrupt, WorkOrder
from tests.shared.host_toy import KEYS, POOL_NAME, on_virtual_time, order


class Tenure:
    """A tenure that lasts."""

    def live(self, _now: float) -> bool:
        return True


TENURE: Any = Tenure()
CONTROLS: Any = msgspec.json.Decoder(Control)


class Desk:
    """A dispatcher by hand: `said` is what it told the streams."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.presence = Presence(self.clock, QUICK)
        self.said: list[Any] = []
        self.bus = MemoryBus(self.clock)
        self.controls: list[bytes] = []
        self.dispatcher = Dispatcher(
            self.bus, self.clock, KEYS, self.presence, lambda _held, _stream, said: self.said.append(said)
        )

    def offer(
        self, one: WorkOrder, *, queue_s: float | None = None, suspect: bool = False, waits: bool = False
    ) -> None:
        until = None if queue_s is None else self.clock.now_ms() + int(queue_s * 1000)
        self.dispatcher.offer(TENURE, Dispatch(one, queue_until=until, waits=waits), suspect=suspect)
        self.dispatcher.pump()

    async def listen(self) -> None:
        """Hear what workers are told."""
        await self.bus.open_control(self.controls.append)

    def told(self) -> list[Interrupt]:
        """Give what workers were told to stop."""
        said = [CONTROLS.decode(KEYS.unpack(each)[1]) for each in self.controls]
        return [each for each in said if isinstance(each, Interrupt)]

    def beat(self, *attempts: str, begun: bool = True) -> None:
        held = tuple(Holding(attempt_id=each, tool="t", since=0, begun=begun) for each in attempts)
        beat = Beat(worker="wrk_1", service="s", host="h", pools=(POOL_NAME,), slots=4, holding=held)
        self.presence.heard(beat)

    def pass_time(self, seconds: float, *holding: str, begun: bool = True) -> None:
        """Let time go by, second by second, while the worker beats and probes return."""
        for _ in range(int(seconds)):
            self.clock.leap(1.0)
            self.presence.proven += 1.0
            self.beat(*holding, begun=begun)
            self.dispatcher.tick()


@on_virtual_time
async def test_an_order_that_nobody_takes_in_its_time_is_reported_once() -> None:
    desk = Desk()
    one = order("run_x", "w", 1)
    desk.offer(one, queue_s=10)
    desk.pass_time(12)
    assert desk.said == [], "who began it just now has the time of a beat to say so"
    desk.pass_time(20)
    assert desk.said == [DropAttempt(step=one.step, attempt=one.attempt, attempt_id=one.attempt_id, index=one.index)]


@on_virtual_time
async def test_an_order_that_a_worker_performs_waits_no_more_and_one_in_a_busy_workers_hand_does() -> None:
    desk = Desk()
    one, other = order("run_x", "w", 1), order("run_x", "w", 2)
    desk.offer(one, queue_s=10)
    desk.pass_time(25, one.attempt_id)
    assert desk.said == []
    desk.offer(other, queue_s=10)
    desk.pass_time(25, other.attempt_id, begun=False)
    assert [said.attempt_id for said in desk.said] == [other.attempt_id]


@on_virtual_time
async def test_a_new_owner_lets_holders_speak_before_it_says_that_nobody_took_an_order() -> None:
    desk = Desk()
    one = order("run_x", "w", 1)
    desk.offer(one, queue_s=-5, suspect=True)
    desk.dispatcher.tick()
    assert desk.said == []
    desk.pass_time(3, one.attempt_id)
    assert desk.said == []


@on_virtual_time
async def test_a_living_worker_that_is_silent_about_an_attempt_beyond_its_time_is_reported() -> None:
    desk = Desk()
    await desk.listen()
    one = order("run_x", "w", 1)
    desk.offer(one)
    desk.pass_time(one.timeout_s + 100, one.attempt_id, begun=False)
    assert desk.said == [], "it was taken, and its own time has not begun"
    desk.pass_time(one.timeout_s + ATTEMPT_GRACE_S, one.attempt_id)
    assert desk.said == []
    desk.pass_time(2, one.attempt_id)
    (said,) = desk.said
    assert isinstance(said, OverdueAttempt)
    assert (said.attempt_id, said.worker) == (one.attempt_id, "wrk_1")
    await asyncio.sleep(0)
    assert desk.told() == [Interrupt(attempt_id=one.attempt_id, reason="it is over its time")], (
        "at once, whatever its run says"
    )
    await asyncio.sleep(10)
    desk.dispatcher.tick()
    await asyncio.sleep(0)
    assert len(desk.told()) == 2, "again, while it holds it"


@on_virtual_time
async def test_a_stream_that_was_told_that_it_queues_is_woken_when_a_worker_begins_whoever_told_it() -> None:
    desk = Desk()
    one, other = order("run_x", "w", 1), order("run_y", "w", 2)
    desk.offer(one)
    assert desk.dispatcher.performed_ms("run_x") == 0
    desk.pass_time(100, one.attempt_id, begun=False)
    assert desk.said == []
    desk.pass_time(5, one.attempt_id)
    assert [(type(said), said.performed_ms > 0) for said in desk.said] == [(Wake, True)], "once"
    desk.said.clear()
    desk.offer(other, suspect=True, waits=True)  # a new owner knows it from the stream
    desk.pass_time(5, other.attempt_id)
    assert [type(said) for said in desk.said] == [Wake]


@on_virtual_time
async def test_a_stop_of_what_nobody_holds_is_confirmed_at_once_and_of_what_is_held_by_its_worker() -> None:
    desk = Desk()
    free, held, suspect = (order("run_x", "w", number) for number in range(3))
    desk.offer(free)
    desk.offer(held)
    desk.offer(suspect, suspect=True)
    desk.beat(held.attempt_id)
    for one in (free, held, suspect):
        interrupt = Interrupt(attempt_id=one.attempt_id, reason="cancelled")
        desk.dispatcher.stop(Stop(interrupt, POOL_NAME, confirm=True))
    assert [said.attempt_id for said in desk.said] == [free.attempt_id]


@on_virtual_time
async def test_who_joins_a_pool_later_is_told_what_was_stopped_while_nobody_served_it() -> None:
    clock = VirtualClock()
    presence, stops = Presence(clock, QUICK), Stops(clock)
    interrupt = Interrupt(attempt_id="att_1", reason="cancelled")
    stops.told(POOL_NAME, interrupt)
    for _ in range(600):
        await asyncio.sleep(1.0)
        assert stops.unheeded(presence) == []
    held = (Holding(attempt_id="att_1", tool="t", since=0, begun=True),)
    presence.heard(Beat(worker="wrk_1", service="s", host="h", pools=(POOL_NAME,), slots=4))
    await asyncio.sleep(1.0)
    assert stops.unheeded(presence) == []
    presence.heard(Beat(worker="wrk_1", service="s", host="h", pools=(POOL_NAME,), slots=4, holding=held))
    await asyncio.sleep(2.5)
    assert stops.unheeded(presence) == [(POOL_NAME, interrupt)]
    presence.heard(Beat(worker="wrk_1", service="s", host="h", pools=(POOL_NAME,), slots=4))
    await asyncio.sleep(20.0)
    stops.unheeded(presence)
    assert not stops, "what nobody holds is forgotten"


def test_what_is_overdue_is_put_off_longer_each_time_but_never_past_what_is_due_sooner() -> None:
    wakeups = Wakeups(30_000)
    repeat = int(TELL_REPEAT_S * 1000)
    wakeups.put_off(TENURE, "run_x", 0, changed=False)
    assert wakeups.next_at() == repeat
    wakeups.put_off(TENURE, "run_x", repeat, changed=False, latest=repeat + 500)
    assert wakeups.take_due(repeat + 499) == []
    assert wakeups.take_due(repeat + 500) == [(TENURE, "run_x")]
    wakeups.put_off(TENURE, "run_x", repeat + 500, changed=False)
    assert wakeups.take_due(repeat + 500 + 4 * repeat - 1) == [], "it goes on doubling"
    assert wakeups.take_due(repeat + 500 + 4 * repeat) == [(TENURE, "run_x")]
