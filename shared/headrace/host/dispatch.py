"""Dispatch: from orders to published messages, and again when one was lost.

An order waits here until its pool's window has room. Published, it is looked after until its result is committed: it is
published again only when no live worker says that it holds it, and the pool's consumer has passed it or the stream was
made anew. So a lost message is repaired and a backlog is not flooded. Orders of a new tenure that may be out already
are suspects: their holders are asked to speak, and then they are judged by the same rule.
"""

import logging
from collections.abc import Callable

import msgspec

from headrace import codec
from headrace.bus.port import Bus, Passed
from headrace.clock import Clock
from headrace.decider import Dispatch, Stop, Unchain
from headrace.errors import ForbiddenError
from headrace.events.base import ErrorInfo
from headrace.host import metrics
from headrace.host.cadence import HASTE_S, SUSPECT_GRACE_S, SUSPECT_WRITE_GRACE_S, UNHELD_GRACE_S
from headrace.host.deadlines import Deadlines
from headrace.host.pools import Order, Waiting, Window
from headrace.host.presence import Presence
from headrace.host.stops import Stops
from headrace.host.tenure import Held
from headrace.keys import POOL, Keys
from headrace.messages import LoseAttempt, ReportAttempt, Wake
from headrace.steering import DropAttempt, OverdueAttempt
from headrace.vocabulary import (
    BAD_POOL,
    MESSAGE_BYTES_MAX,
    POOL_GATES,
    POOL_INTEGRATIONS,
    POOL_NAME,
    POOL_RUNNER,
    AttemptStatus,
    Effect,
)
from headrace.waits import Pulse
from headrace.wire import BeatNow, EndChain, Interrupt, WorkOrder

MARK_AFTER_S = 1.0
"""How long after publishing the pool's last sequence is read: by then the order is counted in it."""
BLOB_TOKEN_SPARE_MS = 3_600_000
POOLS = (POOL_RUNNER, POOL_GATES, POOL_INTEGRATIONS)

_logger = logging.getLogger(__name__)


class Pool:
    """The orders of one pool: waiting, out, or suspected to be out."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.waiting = Waiting()
        self.out: dict[str, Order] = {}
        self.suspects: dict[str, Order] = {}
        self.window = Window(now)
        self.asked = True

    def may_be_out(self, attempt_id: str) -> bool:
        """Tell whether an attempt was published, by this tenure or perhaps by the one before."""
        return attempt_id in self.out or attempt_id in self.suspects

    def watched(self) -> list[Order]:
        """Give the orders that may be out."""
        return [*self.out.values(), *self.suspects.values()]


class Dispatcher:
    """The orders of all partitions that this process holds. `send` hands a command to a stream of this process."""

    def __init__(
        self, bus: Bus, clock: Clock, keys: Keys, presence: Presence, send: Callable[[Held, str, object], None]
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._keys = keys
        self._presence = presence
        self._send = send
        self._pools: dict[str, Pool] = {}
        self._orders: dict[str, Order] = {}
        self._streams: dict[str, set[str]] = {}
        self._unperformed: set[str] = set()
        """Streams that think that nobody performs anything of theirs, and are woken when somebody does."""
        self._stops = Stops(clock)
        self._deadlines = Deadlines(clock, presence)
        self._doubted_at = -HASTE_S
        self.doubted = Pulse()
        """Wakes whoever waits for it when the first order of new tenures comes that may be out already."""

    @property
    def hasty(self) -> bool:
        """Tell whether tenures began lately, and orders of theirs may be out already."""
        lately = self._clock.monotonic() - self._doubted_at < HASTE_S
        return lately and any(pool.suspects for pool in self._pools.values())

    @property
    def busy(self) -> bool:
        """Tell whether any order is looked after, or anybody is still to heed that it must stop."""
        return bool(self._orders or self._stops)

    def knows(self, attempt_id: str) -> bool:
        """Tell whether an attempt is looked after already."""
        return attempt_id in self._orders

    def pool_of(self, attempt_id: str) -> str | None:
        """Give the pool that an attempt was ordered from."""
        known = self._orders.get(attempt_id)
        return None if known is None else known.order.pool

    def performed_ms(self, stream_id: str) -> int | None:
        """Give how long living workers have been performing attempts of a stream, 0 if none does; None without attempts."""
        attempts = self._streams.get(stream_id)
        if attempts is None:
            return None
        performed_ms = self._presence.performed_ms(attempts)
        if not performed_ms:
            self._unperformed.add(stream_id)
        return performed_ms

    def offer(self, held: Held, dispatch: Dispatch, *, suspect: bool) -> None:
        """Take an order on; again is nothing. A suspect is not published before it is judged."""
        order = dispatch.order
        if order.attempt_id in self._orders:
            return
        if not POOL_NAME.fullmatch(order.pool):
            self._send(held, order.run_id, _refused(order, BAD_POOL.format(order.pool)))
            return
        now = self._clock.monotonic()
        pool = self._pools.get(order.pool)
        if pool is None:
            pool = self._pools[order.pool] = Pool(order.pool, now)
        known = Order(held, order, dispatch.priority, suspect, at=now, ready_at=self._clock.now_ms())
        self._orders[order.attempt_id] = known
        self._streams.setdefault(order.run_id, set()).add(order.attempt_id)
        if dispatch.waits:
            self._unperformed.add(order.run_id)
        self._deadlines.note(order.attempt_id, dispatch.queue_until)
        if suspect:
            if not self.hasty:
                self.doubted.send()
            self._doubted_at = now
            pool.suspects[order.attempt_id] = known
            pool.asked = False
        elif dispatch.held_by or self._presence.holder(order.attempt_id) is not None:
            pool.out[order.attempt_id] = known  # a worker has come to it in a chain: it is judged like any that is out
        else:
            pool.waiting.put(known)

    def over(self, attempt_id: str, *, answered: bool = False, performed_s: float = 0.0) -> None:
        """Forget an attempt: its result is committed, or it is lost or stopped. It was performed for `performed_s`."""
        known = self._orders.pop(attempt_id, None)
        if known is None:
            return
        pool = self._pools[known.order.pool]
        if answered and attempt_id in pool.out:
            now = self._clock.monotonic()
            pool.window.finished(now, now - known.at - performed_s)
        if pool.out.pop(attempt_id, None) is None and pool.suspects.pop(attempt_id, None) is None:
            pool.waiting.withdraw(known)
        attempts = self._streams.get(known.order.run_id)
        if attempts is not None:
            attempts.discard(attempt_id)
            if not attempts:
                del self._streams[known.order.run_id]
                self._unperformed.discard(known.order.run_id)

    def finished(self, stream_id: str) -> None:
        """Forget all attempts of a stream that is over."""
        for attempt_id in list(self._streams.get(stream_id, ())):
            self.over(attempt_id)

    def drop(self, held: Held) -> None:
        """Forget all attempts of a tenure that is over."""
        for attempt_id, known in list(self._orders.items()):
            if known.held is held:
                self.over(attempt_id)

    def stop(self, stop: Stop) -> None:
        """End an attempt: silently while it waits here, by an interrupt once it may be out.

        Its run is told at once when no live worker holds it, if it asked: then nobody else will say that it ended.
        """
        attempt_id = stop.interrupt.attempt_id
        known = self._orders.get(attempt_id)
        name = known.order.pool if known is not None else stop.pool
        pool = self._pools.get(name)
        queued = pool is not None and known is not None and not pool.may_be_out(attempt_id)
        unheld = known is not None and not known.suspect and self._presence.holder(attempt_id) is None
        self.over(attempt_id)
        if name and not queued:
            self._interrupt(name, stop.interrupt)
        if stop.confirm and known is not None and (queued or unheld):
            self._send(known.held, known.order.run_id, _dropped(known.order))

    def unchain(self, unchain: Unchain) -> None:
        """Let nothing begin after an attempt in its chain: neither here, nor at the worker that may have it."""
        known = self._orders.get(unchain.end.attempt_id)
        if known is not None:
            known.order = msgspec.structs.replace(known.order, chain=(), scope=codec.NULL)
        pool = self._pools.get(unchain.pool)
        if known is None or (pool is not None and pool.may_be_out(unchain.end.attempt_id)):
            self._control(unchain.pool, unchain.end)

    def rescue(self, worker: str) -> int:
        """Give up what a worker holds, as if it were dead, and tell it so; gives how many attempts that were."""
        given_up = [
            known
            for pool in self._pools.values()
            for known in pool.watched()
            if self._presence.last_holder(known.order.attempt_id) == worker
        ]
        for known in given_up:
            interrupt = Interrupt(attempt_id=known.order.attempt_id, reason="its worker was given up for dead")
            self._interrupt(known.order.pool, interrupt)
            self._lose(known, worker)
        return len(given_up)

    def ask_beats(self) -> None:
        """Ask the workers of all pools known here to say at once what they hold."""
        for name in sorted({*POOLS, *self._pools, *self._presence.pools()}):
            self._control(name, BeatNow())

    def _interrupt(self, pool: str, interrupt: Interrupt) -> None:
        self._stops.told(pool, interrupt)
        self._control(pool, interrupt)

    def _control(self, pool: str, message: Interrupt | EndChain | BeatNow) -> None:
        self._bus.publish_control(self._keys.pack(POOL + pool, codec.encode(message)))

    def pump(self) -> None:
        """Publish what the windows have room for, and ask who holds what may be out already."""
        for pool in self._pools.values():
            if not pool.asked:
                pool.asked = True
                self._control(pool.name, BeatNow())
        slots: dict[str, int] | None = None
        for pool in self._pools.values():
            waiting = pool.waiting
            if len(waiting):
                slots = self._presence.pools() if slots is None else slots
                room = pool.window.room(len(pool.out), slots.get(pool.name, 0))
                while room > 0 and (order := waiting.take()) is not None:
                    self._publish(pool, order)
                    room -= 1
            pool.window.full = len(waiting) > 0

    def _publish(self, pool: Pool, known: Order) -> None:
        now = self._clock.monotonic()
        if not known.held.live(now):
            pool.suspects[known.order.attempt_id] = known  # nothing may leave any more: it goes when its tenure ends
            return
        order = self._stamped(known)
        data = self._keys.pack(POOL + pool.name, codec.encode(order))
        pool.out[order.attempt_id] = known
        known.at, known.mark, known.unheld_since, known.suspect = now, None, None, False
        if len(data) > MESSAGE_BYTES_MAX:
            message = f"the order takes {len(data)} bytes, and a message carries {MESSAGE_BYTES_MAX}"
            self._send(known.held, order.run_id, _refused(order, message))
            return
        metrics.count("dispatched")
        self._bus.publish_work(pool.name, data)

    def _stamped(self, known: Order) -> WorkOrder:
        """Say when an order was ready, and let the worker put and get blobs for as long as the attempt may take."""
        order = known.order
        longest_s = max(order.timeout_s, *(each.timeout_s for each in order.chain)) if order.chain else order.timeout_s
        until = self._clock.now_ms() + int(longest_s * 1000) + BLOB_TOKEN_SPARE_MS
        named = [digest for digest in (order.arguments_blob, order.evidence_blob) if digest is not None]
        try:
            token = self._keys.blob_token(order.attempt_id, order.workspace, until, named)
        except ForbiddenError:
            token = ""
        return msgspec.structs.replace(order, ready_at=known.ready_at, bundles=True, blob_token=token)

    # judging what is out

    def watched_pools(self) -> list[str]:
        """Give the pools with something out whose consumer must be asked how far it has come."""
        return [pool.name for pool in self._pools.values() if any(self._in_doubt(order) for order in pool.watched())]

    def _in_doubt(self, order: Order) -> bool:
        if self._presence.holder(order.order.attempt_id) is not None:
            order.unheld_since = None
            return False
        return self._clock.monotonic() - order.at >= MARK_AFTER_S or order.suspect

    def tick(self) -> None:
        """Let windows shrink that bring nothing, lose the attempts of lost workers, and insist on what must stop."""
        now = self._clock.monotonic()
        for name, interrupt in self._stops.unheeded(self._presence):
            self._control(name, interrupt)
        for known in self._deadlines.untaken(self._orders):
            self._send(known.held, known.order.run_id, _dropped(known.order))
        for pool in self._pools.values():
            metrics.waits(pool.name, len(pool.waiting))
            pool.window.tick(len(pool.out), now)
            for known in pool.watched():
                if (holder := self._deadlines.overdue(known)) is not None:
                    self._overdue(known, holder)
                    continue
                if known.begun_at is not None and known.order.run_id in self._unperformed:
                    self._performed(known)
                worker = self._presence.last_holder(known.order.attempt_id)
                if worker is not None and self._presence.is_lost(worker):
                    self._lose(known, worker)

    def judge(self, name: str, passed: Passed) -> None:
        """Publish again what was lost: nobody holds it, and the consumer has passed it or the stream is a new one."""
        pool = self._pools[name]
        again: list[Order] = []
        for known in pool.watched():
            if not self._in_doubt(known) or not known.held.opened:  # what came of it may wait in an inbox not yet open
                continue
            if known.mark is None:
                known.mark, known.made = passed.last, passed.made
            if passed.made == known.made and passed.delivered < known.mark:
                known.unheld_since = None
            elif known.unheld_since is None:
                known.unheld_since = self._presence.proven
            elif self._presence.proven - known.unheld_since >= _grace_s(known):
                again.append(known)
        for known in again:
            if known.order.effect != Effect.READ:
                # whoever claimed it may have acted: the run decides what is known of it, and orders anew if it is safe
                self._lose(known, "")
                continue
            metrics.count("dispatched_again")
            _logger.info("%s is nowhere: published again", known.order.attempt_id)
            pool.out.pop(known.order.attempt_id, None)
            pool.suspects.pop(known.order.attempt_id, None)
            pool.waiting.put(known, first=True)
        if again:
            self.pump()

    def _performed(self, known: Order) -> None:
        """Tell a stream that a worker has begun: it counts from then on."""
        self._unperformed.discard(known.order.run_id)
        performed_ms = self._presence.performed_ms(self._streams[known.order.run_id])
        self._send(known.held, known.order.run_id, Wake(performed_ms=performed_ms))

    def _overdue(self, known: Order, worker: str) -> None:
        order = known.order
        known.begun_at = None  # said once: should it be refused, it is said again after as long a time
        self._interrupt(order.pool, Interrupt(attempt_id=order.attempt_id, reason="it is over its time"))
        found = OverdueAttempt(
            step=order.step, attempt=order.attempt, attempt_id=order.attempt_id, worker=worker, index=order.index
        )
        self._send(known.held, order.run_id, found)

    def _lose(self, known: Order, worker: str) -> None:
        order = known.order
        metrics.lost(order.pool)
        lost = LoseAttempt(
            step=order.step, attempt=order.attempt, attempt_id=order.attempt_id, worker=worker, index=order.index
        )
        self.over(order.attempt_id)
        self._send(known.held, order.run_id, lost)


def _grace_s(known: Order) -> float:
    if not known.suspect:
        return UNHELD_GRACE_S
    return SUSPECT_GRACE_S if known.order.effect == Effect.READ else SUSPECT_WRITE_GRACE_S


def _dropped(order: WorkOrder) -> DropAttempt:
    return DropAttempt(step=order.step, attempt=order.attempt, attempt_id=order.attempt_id, index=order.index)


def _refused(order: WorkOrder, message: str) -> ReportAttempt:
    """Make the report of an order that no message can carry to a worker."""
    return ReportAttempt(
        run_id=order.run_id,
        step=order.step,
        index=order.index,
        attempt=order.attempt,
        attempt_id=order.attempt_id,
        status=AttemptStatus.FAILED.value,
        worker="",
        error=ErrorInfo(type="validation_error", message=message),
        retryable=False,
    )
