"""The worker loop: takes orders by credit, performs them in its slots, reports, and can stop at any time.

An order is this worker's once delivered: it stands in every beat until its report is on the bus. Whatever comes twice
is answered with what it got the first time.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from headrace import telemetry
from headrace.bus.port import Bus, Delivery, Subscription, WorkSource
from headrace.clock import Clock
from headrace.errors import TooLargeError, UnavailableError
from headrace.keys import POOL, Keys
from headrace.messages import ReportAttempt
from headrace.vocabulary import DRAIN_S, MESSAGE_BYTES_MAX, WORKSPACE_DEFAULT, AttemptStatus
from headrace.wire import Beat, Holding, Interrupt, WorkOrder
from headrace.worker import orders
from headrace.worker.credit import Credit
from headrace.worker.done import Done, Recent
from headrace.worker.lines import LineSender
from headrace.worker.outbox import Outbox
from headrace.worker.presence import Presence
from headrace.worker.tool_runner import ACTS, Performance, ToolRunner
from headrace.worker.waiting import within

STOP_MARGIN_S: Final = 5.0
"""Of DRAIN_S, kept for sending the last reports."""
REST_INTERVAL_S: Final = 10.0
OPEN_RETRY_S: Final = 0.5
INTERRUPTED_MAX: Final = 4_096
REPLAY: Final = "replay"

log = logging.getLogger(__name__)


class Held:
    """An order of this worker, from its delivery until its report is on the bus."""

    def __init__(self, order: WorkOrder, since: int) -> None:
        self.order = order
        self.since = since
        self.performance: Performance | None = None
        self.task: asyncio.Task[None] | None = None
        self.stopping: tuple[AttemptStatus, str] | None = None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a worker is."""

    worker: str
    service: str
    host: str
    pools: tuple[str, ...]
    slots: int
    workspace: str = WORKSPACE_DEFAULT


class WorkerLoop:
    """One worker on a bus. `run` serves until cancelled or told to drain, and finishes what it holds within DRAIN_S."""

    def __init__(
        self,
        *,
        bus: Bus,
        keys: Keys,
        clock: Clock,
        runner: ToolRunner,
        lines: LineSender,
        outbox: Outbox,
        identity: Identity,
    ) -> None:
        self._bus, self._clock, self._runner, self._lines = bus, clock, runner, lines
        self._identity, self._keys, self._outbox = identity, keys, outbox
        for pool in identity.pools:
            keys.key(POOL + pool)  # a worker without its pool's key could believe nothing: say so now
        self._started_at = clock.now_ms()
        self._credits = {pool: Credit(identity.slots) for pool in identity.pools}
        self._sources: dict[str, WorkSource] = {}
        self._arrived: deque[tuple[str, bytes]] = deque()
        self._interrupts: deque[Interrupt] = deque()
        self._interrupted: OrderedDict[str, str] = OrderedDict()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._draining = asyncio.Event()
        self._queue: deque[Held] = deque()
        self._held: dict[str, Held] = {}
        self._recent = Recent()
        self._running = self._done_total = self._failed_total = 0
        self._reports: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._presence = Presence(
            bus=bus,
            keys=keys,
            clock=clock,
            registry=runner.registry,
            pools=identity.pools,
            worker=identity.worker,
            workspace=identity.workspace,
            beat=self.beat,
            listener=self,
        )

    async def run(self) -> None:
        """Serve. Cancelled, it drains first; cancelled again, it stops at once."""
        stopped = False
        async with asyncio.TaskGroup() as group:
            self._group = group
            background = [
                group.create_task(work)
                for work in (
                    self._lines.run(),
                    self._dispatch(),
                    self._presence.run_beats(),
                    self._presence.run_announcements(),
                    self._rest(),
                )
            ]
            opened = await self._open()
            try:
                await self._draining.wait()
            except asyncio.CancelledError:
                stopped = True
                current = asyncio.current_task()
                assert current is not None
                current.uncancel()
            await self._drain(opened)
            for task in (*background, *self._reports, *(held.task for held in self._held.values() if held.task)):
                task.cancel()
        if stopped:
            raise asyncio.CancelledError

    def beat(self) -> Beat:
        """Give what this worker says of itself now."""
        return Beat(
            worker=self._identity.worker,
            service=self._identity.service,
            host=self._identity.host,
            pools=self._identity.pools,
            slots=self._identity.slots,
            holding=tuple(
                Holding(attempt_id=attempt_id, tool=held.order.tool, since=held.since)
                for attempt_id, held in self._held.items()
            ),
            started_at=self._started_at,
            at=self._clock.now_ms(),
            draining=self._draining.is_set(),
            done_total=self._done_total,
            failed_total=self._failed_total,
            tools=self._runner.registry.show(),
        )

    def interrupt(self, interrupt: Interrupt) -> None:
        """Stop an attempt, soon; called by the bus, so it only queues."""
        self._interrupts.append(interrupt)
        self._wake.set()

    def drain(self) -> None:
        """Take no more work and end when none is held."""
        self._draining.set()

    async def _open(self) -> list[Subscription]:
        """Open everything that delivers, again while the bus does not answer."""
        opened: list[Subscription] = []
        while len(opened) <= len(self._identity.pools):
            try:
                if not opened:
                    opened.append(await self._presence.open())
                    continue
                pool = self._identity.pools[len(opened) - 1]
                source = await self._bus.open_work(pool, self._receiver(pool))
                self._sources[pool] = source
                opened.append(source)
            except UnavailableError as problem:
                log.info("waiting for the bus: %s", problem.message)
                await self._clock.sleep(OPEN_RETRY_S)
        self._wake.set()
        return opened

    def _receiver(self, pool: str) -> Callable[[Delivery], None]:
        def deliver(delivery: Delivery) -> None:
            self._arrived.append((pool, delivery.data))
            self._wake.set()

        return deliver

    async def _dispatch(self) -> None:
        """Drain what arrived, stop what was interrupted, start what fits into the slots, and ask for more."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._arrived:
                self._take(*self._arrived.popleft())
            while self._interrupts:
                self._stop(self._interrupts.popleft())
            while self._queue and self._running < self._identity.slots:
                self._start(self._queue.popleft())
            if not self._draining.is_set():
                for pool, source in self._sources.items():
                    more = self._credits[pool].wanted()
                    if more:
                        source.want(more)

    def _take(self, pool: str, packed: bytes) -> None:
        credit = self._credits[pool]
        credit.arrived()
        try:
            order = orders.read(packed, pool, self._keys)
            known = self._known(order)
        except orders.RefusedOrderError as problem:
            log.warning("a message in the pool %s was refused, no tool was called: %s", pool, problem.message)
            telemetry.message_refused("work", problem.why)
            credit.settled(None)
            return
        if known:
            credit.settled(None)
            return
        held = Held(order, self._clock.now_ms())
        self._held[order.attempt_id] = held
        reason = self._interrupted.pop(order.attempt_id, None)
        if reason is None:
            self._queue.append(held)
        else:
            self._finish(held, self._ended(held, AttemptStatus.CANCELLED, reason), None)

    def _known(self, order: WorkOrder) -> bool:
        """Tell whether the order came before; what is over is reported again. Raises for a replay that differs."""
        held, done = self._held.get(order.attempt_id), self._recent.get(order.attempt_id)
        before = held.order.arguments_digest if held else done.arguments_digest if done else None
        if before is None:
            return False
        if before != order.arguments_digest:
            message = f"attempt {order.attempt_id} came again with other arguments"
            raise orders.RefusedOrderError(REPLAY, message)
        if done is not None and held is None and self._group is not None:
            self._group.create_task(self._outbox.deliver(done.report, done.packed))
        return True

    def _start(self, held: Held) -> None:
        assert self._group is not None
        self._running += 1
        held.performance = self._runner.begin(held.order)
        held.task = self._group.create_task(self._perform(held, held.performance))

    async def _perform(self, held: Held, performance: Performance) -> None:
        began_s = self._clock.monotonic()
        try:
            if held.order.effect in ACTS:
                await self._outbox.expect(held.order.attempt_id)
            report = await self._runner.run(performance)
            if not performance.called:
                self._outbox.forget(held.order.attempt_id)
        except asyncio.CancelledError:
            if held.stopping is None:
                raise
            report = self._ended(held, *held.stopping)
        finally:
            self._running -= 1
        self._finish(held, report, self._clock.monotonic() - began_s)

    def _ended(self, held: Held, status: AttemptStatus, reason: str) -> ReportAttempt:
        performance = held.performance or self._runner.begin(held.order)
        return self._runner.ended(performance, status, reason)

    def _stop(self, interrupt: Interrupt) -> None:
        held = self._held.get(interrupt.attempt_id)
        if held is None:
            if self._recent.get(interrupt.attempt_id) is None:
                self._interrupted[interrupt.attempt_id] = interrupt.reason
                while len(self._interrupted) > INTERRUPTED_MAX:
                    self._interrupted.popitem(last=False)
            return
        self._end(held, AttemptStatus.CANCELLED, interrupt.reason)

    def _end(self, held: Held, status: AttemptStatus, reason: str) -> None:
        """Stop an attempt: at once while it waits, by cancelling its task while it runs."""
        if held.task is None and held.performance is None:
            if held in self._queue:
                self._queue.remove(held)
                self._finish(held, self._ended(held, status, reason), None)
        elif held.task is not None and held.stopping is None:
            held.stopping = (status, reason)
            if held.performance is not None:
                held.performance.cancel()
            held.task.cancel()

    def _finish(self, held: Held, report: ReportAttempt, duration_s: float | None) -> None:
        assert self._group is not None
        if report.status == AttemptStatus.SUCCEEDED:
            self._done_total += 1
        else:
            self._failed_total += 1
        packed = self._outbox.pack(held.order, report)
        if len(packed) > MESSAGE_BYTES_MAX:
            message = f"the result makes a message of {len(packed)} bytes, over {MESSAGE_BYTES_MAX}"
            report = self._runner.failed(held.performance or self._runner.begin(held.order), TooLargeError(message))
            packed = self._outbox.pack(held.order, report)
        self._recent.keep(Done(held.order.arguments_digest, report, packed))
        held.stopping = held.stopping or (AttemptStatus(report.status), "")  # over: nothing is left to stop
        held.task = self._group.create_task(self._report(held, report, packed, duration_s))
        self._reports.add(held.task)
        held.task.add_done_callback(self._reports.discard)
        self._wake.set()

    async def _report(self, held: Held, report: ReportAttempt, packed: bytes, duration_s: float | None) -> None:
        await self._outbox.deliver(report, packed)
        self._held.pop(held.order.attempt_id, None)
        self._credits[held.order.pool].settled(duration_s)
        self._wake.set()
        if not self._held:
            self._empty.set()
        await self._outbox.confirm(report, packed)

    async def _drain(self, opened: Sequence[Subscription]) -> None:
        """Let go of the pools, finish what is held, and give back what cannot finish in time."""
        self._draining.set()
        for subscription in opened:
            await subscription.close()
        self._presence.beat_now()
        self._wake.set()
        if not await self._all_sent(DRAIN_S - STOP_MARGIN_S):
            for held in list(self._held.values()):
                self._end(held, AttemptStatus.LOST, "the worker was stopped before the attempt was over")
            if not await self._all_sent(STOP_MARGIN_S):
                log.warning("%d reports could not be sent before the end", len(self._held))
        await self._lines.flush()
        self._presence.say()

    async def _all_sent(self, seconds: float) -> bool:
        self._empty.clear()
        return not self._held or await within(self._clock, self._empty, seconds)

    async def _rest(self) -> None:
        while True:
            await self._clock.sleep(REST_INTERVAL_S)
            await self._outbox.rest()
