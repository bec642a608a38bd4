"""The worker loop: takes orders by credit, performs them in its slots, reports, and can stop at any time.

An order is this worker's once delivered: it stands in every beat until its report is on the bus. Whatever comes twice
is answered with what it got the first time.
"""

import asyncio
import logging
from collections import deque
from typing import Final

import msgspec

from headrace import telemetry
from headrace.bus.port import Bus
from headrace.clock import Clock, until_tick, within
from headrace.errors import TooLargeError
from headrace.keys import POOL, Keys
from headrace.messages import ReportAttempt
from headrace.vocabulary import DRAIN_S, MESSAGE_BYTES_MAX
from headrace.waits import Signal
from headrace.wire import Beat, EndChain, Interrupt, WorkOrder
from headrace.worker import orders
from headrace.worker.announcing import Announcer
from headrace.worker.apart import Across, Apart
from headrace.worker.chains import SEND_BYTES_MAX, Chain, size_of
from headrace.worker.current import working_for
from headrace.worker.done import Done
from headrace.worker.held import Attempts, Held, Identity, Tally
from headrace.worker.lines import LineSender
from headrace.worker.outbox import Outbox, Parcel
from headrace.worker.presence import Listener, Presence, Way
from headrace.worker.sources import Sources
from headrace.worker.tool_runner import ACTS, Performance, ToolRunner
from headrace.worker.watchdog import BLOCKED_AFTER_S, Watchdog

STOP_MARGIN_S: Final = 5.0
"""Of DRAIN_S, kept for sending the last reports, and half of it for the last lines."""
HEED_S: Final = 0.7
"""How long a stopped tool may take to clean up before its attempt is reported without it."""
LEAVE_S: Final = 2.0
REST_INTERVAL_S: Final = 10.0

log = logging.getLogger(__name__)


class WorkerLoop:
    """One worker on a bus. `run` serves until cancelled, and finishes what it has begun within DRAIN_S."""

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
        drain_s: float = DRAIN_S,
        blocked_after_s: float = BLOCKED_AFTER_S,
    ) -> None:
        self._bus, self._clock, self._runner, self._lines = bus, clock, runner, lines
        self._identity, self._keys, self._outbox = identity, keys, outbox
        self._drain_s, self._blocked_after_s = drain_s, blocked_after_s
        for pool in identity.pools:
            keys.key(POOL + pool)  # a worker without its pool's key could believe nothing: say so now
        self._started_at = clock.now_ms()
        self._holdings = runner.holdings
        self._interrupts: deque[Interrupt | EndChain] = deque()
        self._wake = Signal()
        self._empty = asyncio.Event()
        self._sources = Sources(bus, clock, identity.pools, identity.slots, self._wake.set)
        self._queue: deque[Held] = deque()
        self._attempts = Attempts()
        self._running = 0
        self._tally = Tally()
        self._ending = False
        self._confirms: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._presence: Presence | Apart | None = None
        self._watchdog: Watchdog | None = None
        self._announcer = Announcer(
            bus=bus,
            keys=keys,
            registry=runner.registry,
            pools=identity.pools,
            worker=identity.worker,
            workspace=identity.workspace,
        )

    async def run(self) -> None:
        """Serve. Cancelled, it drains first; cancelled again, it stops at once."""
        presence = self._presence = self._make_presence()
        async with asyncio.TaskGroup() as group:
            self._group = group
            seen = group.create_task(presence.run())
            works = (self._lines, self._sources, self._announcer, self._outbox)
            background = [group.create_task(work.run()) for work in works]
            background += [group.create_task(self._dispatch()), group.create_task(self._rest())]
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if any(task.done() and not task.cancelled() for task in (seen, *background)):
                    raise  # a part of this worker failed: that is what there is to tell; owners repair what it held
                current = asyncio.current_task()
                assert current is not None
                current.uncancel()
            await self._drain()
            presence.leave()
            if isinstance(presence, Apart):
                await asyncio.wait({seen}, timeout=LEAVE_S)
            begun = [held.task for held in self._attempts.held.values() if held.task]
            for task in (seen, *background, *self._confirms, *begun):
                task.cancel()
            await self._sources.close()
        raise asyncio.CancelledError

    def beat(self) -> Beat:
        """Give what this worker says of itself now; from any thread."""
        return Beat(
            worker=self._identity.worker,
            service=self._identity.service,
            host=self._identity.host,
            pools=self._identity.pools,
            slots=self._identity.slots,
            holding=self._holdings.all(),
            started_at=self._started_at,
            at=self._clock.now_ms(),
            draining=not self._sources.taking,
            done_total=self._tally.done,
            failed_total=self._tally.failed,
            cancelled_total=self._tally.cancelled,
            tools=self._runner.registry.told(),
            blocked=self._watchdog.blocked if self._watchdog is not None else None,
            abandoned=self._runner.threads.abandoned(),
        )

    def interrupt(self, interrupt: Interrupt) -> None:
        """Stop an attempt, soon; called by the bus, so it only queues."""
        self._interrupts.append(interrupt)
        self._wake.set()

    def unchain(self, end: EndChain) -> None:
        """Let a chain end with what is performed now, soon; called by the bus, so it only queues."""
        self._interrupts.append(end)
        self._wake.set()

    def drain(self, *, resume: bool) -> None:
        """Take no more work and finish what is begun, or take work again. A worker that ends takes none."""
        if not self._ending:
            self._sources.take(work=resume)
            self._beat_now()

    def reconnected(self) -> None:
        """Announce the tools again: the bus was away."""
        self._announcer.announce_now()

    def _make_presence(self) -> Presence | Apart:
        """Let presence live apart from the loop that tools share, where the bus has a second way for it."""
        beside = self._bus.beside()
        if beside is None:
            return self._present(self._bus, self)
        self._watchdog = Watchdog(self._clock, self._holdings, self._beat_now, blocked_after_s=self._blocked_after_s)
        across = Across(self, self._heed)
        return Apart(beside, lambda way: self._present(way, across), self._watchdog)

    def _present(self, way: Way, listener: Listener) -> Presence:
        return Presence(
            way,
            keys=self._keys,
            clock=self._clock,
            pools=self._identity.pools,
            worker=self._identity.worker,
            beat=self.beat,
            listener=listener,
        )

    def _beat_now(self) -> None:
        if self._presence is not None:
            self._presence.beat_now()

    def _heed(self, attempt_id: str) -> None:
        """Let a tool that looks see that it is stopped; from any thread."""
        held = self._attempts.find(attempt_id)
        if held is not None and held.performance is not None:
            held.performance.cancel()

    async def _dispatch(self) -> None:
        """Drain what arrived, stop what was interrupted, start what fits into the slots, and ask for more.

        Nothing begins once a drain shows in beats, not even what was asked for before and comes now.
        """
        while True:
            await self._wake.wait()
            while self._sources.arrived:
                self._take(*self._sources.arrived.popleft())
            while self._interrupts:
                self._stop(self._interrupts.popleft())
            while self._queue and self._sources.shut_now:
                self._put_back(self._queue.popleft())
            while self._queue and self._sources.taking and self._running < self._identity.slots:
                self._start(self._queue.popleft())
            self._sources.ask()

    def _take(self, pool: str, packed: bytes) -> None:
        credit = self._sources.credits[pool]
        credit.arrived()
        try:
            order = orders.read(packed, pool, self._keys)
            known = self._attempts.known(order)
        except orders.RefusedOrderError as problem:
            log.warning("a message in the pool %s was refused, no tool was called: %s", pool, problem.message)
            telemetry.message_refused("work", problem.why)
            credit.settled(None)
            return
        if known is not None:
            if isinstance(known, Done):
                alone = known.alone
                parcel = known.parcel if alone is None else self._outbox.pack(order, alone)
                self._outbox.put(msgspec.structs.replace(parcel, sent=None))
            credit.settled(None)
            return
        held = Held(order, packed)
        self._attempts.held[order.attempt_id] = held
        self._holdings.taken(order, self._clock.now_ms())
        reason = self._attempts.interrupted.take(order.attempt_id)
        if reason is None:
            self._queue.append(held)
        else:
            held.stopping = (reason, False)
            self._finish(held, self._stopped(held), None)

    def _put_back(self, held: Held) -> None:
        """Give an order back that was not begun: it is nobody's loss, and the next worker of its pool takes it."""
        self._sources.put_back(held.order.pool, held.packed)
        self._let_go(held, None)

    def _start(self, held: Held) -> None:
        assert self._group is not None
        self._running += 1
        now_ms = self._clock.now_ms()
        if held.order.ready_at:
            telemetry.attempt_started(held.order.pool, max(now_ms - held.order.ready_at, 0) / 1_000)
        self._holdings.begun(held.order.attempt_id, now_ms)
        held.performance = self._runner.begin(held.order, now_ms, checked=True)
        if held.order.chain:
            held.chain = self._chain(held)
        held.task = self._group.create_task(self._perform(held, held.performance))

    async def _perform(self, held: Held, performance: Performance) -> None:
        """Perform an order, and the steps of its chain after it."""
        began_s = performance.began_s = self._clock.monotonic()
        report = await self._performed(held, performance)
        while not held.over and (following := self._follow(held, report)) is not None:
            after = held.chain.after if held.chain is not None else ""
            performance = self._runner.begin(following, report.finished_at, checked=True, after=after)
            held.performance = performance
            report = await self._performed(held, performance)
        if not held.over:
            self._finish(held, report, self._clock.monotonic() - began_s)

    async def _performed(self, held: Held, performance: Performance) -> ReportAttempt:
        attempt_id = performance.order.attempt_id
        working_for(attempt_id)
        try:
            if performance.order.effect in ACTS:
                await self._outbox.expect(attempt_id)
            elif held.chain is not None and held.chain.hogs:
                await held.chain.breathe()
            report = await self._runner.run(performance)
            if not performance.called:
                self._outbox.forget(attempt_id)
        except asyncio.CancelledError:
            if held.stopping is None:
                raise
            report = self._stopped(held)
        return report

    def _chain(self, held: Held) -> Chain:
        def settled() -> None:
            self._attempts.unchain(held)
            self._let_go(held, chain.performed_s)

        chain = Chain(
            held.order, self._outbox, self._holdings, self._attempts.recent, self._clock, self._attempts.free, settled
        )
        chain.cut = self._attempts.unchained.take(held.order.attempt_id) is not None
        return chain

    def _follow(self, held: Held, report: ReportAttempt) -> WorkOrder | None:
        """Keep a result of a chain and give the order that follows; None, and nothing kept, where the chain ends."""
        chain = held.chain
        if chain is None or held.stopping is not None or not self._sources.taking or size_of(report) > SEND_BYTES_MAX:
            return None
        following = chain.follow(report)
        if following is not None:
            self._attempts.chained[following.attempt_id] = held
            self._tally.count(report)
            chain.keep(report)
        return following

    def _stopped(self, held: Held) -> ReportAttempt:
        assert held.stopping is not None
        reason, leaving = held.stopping
        return self._runner.ended(held.performance or self._runner.begin(held.order), reason, leaving=leaving)

    def _stop(self, told: Interrupt | EndChain) -> None:
        held = self._attempts.find(told.attempt_id)
        if isinstance(told, Interrupt):
            if held is not None:
                self._end(held, told.reason)
            elif self._attempts.recent.get(told.attempt_id) is None:
                self._attempts.interrupted.note(told.attempt_id, told.reason)
        elif held is not None and held.chain is not None:
            held.chain.cut = True
        else:  # its order waits here, or is on its way
            self._attempts.unchained.note(told.attempt_id, told.reason)

    def _end(self, held: Held, reason: str, *, leaving: bool = False) -> None:
        """Stop an attempt: at once while it waits, by cancelling its task while it runs."""
        if held.over or held.stopping is not None:
            return
        held.stopping = (reason, leaving)
        if held.performance is None or held.task is None:
            self._queue.remove(held)
            self._finish(held, self._stopped(held), None)
            return
        assert self._group is not None
        held.performance.cancel()
        held.task.cancel()
        self._group.create_task(self._insist(held))

    async def _insist(self, held: Held) -> None:
        """Report an attempt as stopped whose tool does not heed it: what it still does is its own, and changes nothing."""
        await self._clock.sleep(HEED_S)
        if not held.over:
            log.warning("%s of %s goes on although it was stopped", held.order.tool, held.order.attempt_id)
            self._finish(held, self._stopped(held), None)

    def _finish(self, held: Held, report: ReportAttempt, duration_s: float | None) -> None:
        held.over = True
        if held.performance is not None:
            self._running -= 1
        self._tally.count(report)
        parcel = self._outbox.pack(held.order, report)
        if parcel.size > MESSAGE_BYTES_MAX:
            message = f"the result makes a message of {parcel.size} bytes, over {MESSAGE_BYTES_MAX}"
            report = self._runner.failed(held.performance or self._runner.begin(held.order), TooLargeError(message))
            parcel = self._outbox.pack(held.order, report)
        if held.chain is not None:
            held.chain.end(report, duration_s)
        else:
            self._attempts.recent.keep(report.attempt_id, Done(held.order.arguments_digest, parcel))
            parcel.sent = lambda: self._sent(held, parcel, duration_s)
            self._outbox.put(parcel)
        self._wake.set()

    def _sent(self, held: Held, parcel: Parcel, duration_s: float | None) -> None:
        """Let go of an attempt whose report the bus has; that of a write has to be confirmed."""
        parcel.sent = None
        self._let_go(held, duration_s)
        if self._outbox.expects(parcel.attempt_id):
            assert self._group is not None
            task = self._group.create_task(self._outbox.confirm(parcel))
            self._confirms.add(task)
            task.add_done_callback(self._confirms.discard)

    def _let_go(self, held: Held, duration_s: float | None) -> None:
        self._attempts.held.pop(held.order.attempt_id, None)
        self._holdings.let_go(held.order.attempt_id)
        self._sources.credits[held.order.pool].settled(duration_s)
        self._wake.set()
        if not self._attempts.held:
            self._empty.set()

    async def _drain(self) -> None:
        """Let go of the pools, finish what is begun, and hand back what is not or cannot be finished in time."""
        self._ending = True
        ends_s, margin_s = self._clock.monotonic() + self._drain_s, min(STOP_MARGIN_S, self._drain_s / 2)
        await self._sources.shut()
        self._beat_now()
        if not await self._all_sent(ends_s - margin_s):
            for held in list(self._attempts.held.values()):
                self._end(held, "the worker stopped before the attempt was over, and handed it back", leaving=True)
            if not await self._all_sent(ends_s - margin_s / 2):
                log.warning("%d reports could not be sent before the end", len(self._attempts.held))
        await self._lines.flush(max(ends_s - self._clock.monotonic(), margin_s / 2))

    async def _all_sent(self, until_s: float) -> bool:
        self._empty.clear()
        return not self._attempts.held or await within(self._empty, max(until_s - self._clock.monotonic(), 0.0))

    async def _rest(self) -> None:
        while True:
            await self._clock.sleep(until_tick(self._clock.monotonic(), REST_INTERVAL_S))
            await self._outbox.rest()
