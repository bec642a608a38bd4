"""Reports on their way to their owners: kept until the bus has them, and those of writes until the owner recorded them.

The bus may lose what it acknowledged (a wiped server): a read is then dispatched again by its owner, but a write must
not be. So the report of a write is sent again, with growing pauses, until the feed shows an event that names its
attempt, at most CONFIRM_S.
"""

import asyncio
import logging
from typing import Final

import msgspec

from headrace import ids
from headrace.bus.port import Bus, Subscription
from headrace.clock import Clock
from headrace.codec import Raw, encode
from headrace.errors import UnavailableError
from headrace.keys import POOL, Keys
from headrace.messages import ReportAttempt, Told
from headrace.vocabulary import LOG_RUNS
from headrace.wire import FeedEvent, WorkOrder
from headrace.worker.waiting import within

IN_FLIGHT_MAX: Final = 256
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
CONFIRM_FIRST_S: Final = 2.0
CONFIRM_MAX_S: Final = 30.0
CONFIRM_S: Final = 120.0
WRITE_CLAIMED: Final = "write.claimed"

log = logging.getLogger(__name__)
_feed_decoder = msgspec.json.Decoder(list[FeedEvent])


class Outbox:
    """Sends reports, many at a time, without holding up the next attempt."""

    def __init__(self, bus: Bus, keys: Keys, clock: Clock) -> None:
        self._bus, self._keys, self._clock = bus, keys, clock
        self._in_flight = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._unconfirmed: dict[str, asyncio.Event] = {}
        self._feed: Subscription | None = None
        self._opening = asyncio.Lock()

    async def expect(self, attempt_id: str) -> None:
        """Watch the feed for an attempt that will act on the world, from before it acts."""
        self._unconfirmed[attempt_id] = asyncio.Event()
        async with self._opening:
            if self._feed is None:
                try:
                    self._feed = await self._bus.open_feed(LOG_RUNS, self._seen)
                except UnavailableError as problem:  # then the report is sent more often than it need be
                    log.info("the feed cannot be watched for the write %s: %s", attempt_id, problem.message)

    def forget(self, attempt_id: str) -> None:
        """Watch no longer: nothing was performed."""
        self._unconfirmed.pop(attempt_id, None)

    def pack(self, order: WorkOrder, report: ReportAttempt) -> bytes:
        """Make the message of a report, sealed with the pool's key."""
        told = Told(
            stream_id=report.run_id,
            body=Raw(encode(report)),
            workspace=order.workspace,
            traceparent=order.traceparent,
        )
        return self._keys.pack(POOL + order.pool, encode(told))

    async def deliver(self, report: ReportAttempt, packed: bytes) -> None:
        """Send a report until the bus has it."""
        async with self._in_flight:
            await self._tell(ids.partition_of(report.run_id), packed)

    async def confirm(self, report: ReportAttempt, packed: bytes) -> None:
        """Send a write's report again until its owner has it on record; nothing for what was not expected."""
        confirmed = self._unconfirmed.get(report.attempt_id)
        if confirmed is not None:
            await self._confirm(report, ids.partition_of(report.run_id), packed, confirmed)

    async def rest(self) -> None:
        """Close the feed while no write is under way."""
        async with self._opening:
            if self._feed is not None and not self._unconfirmed:
                feed, self._feed = self._feed, None
                await feed.close()

    async def _tell(self, partition: int, packed: bytes) -> None:
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                await self._bus.tell(LOG_RUNS, partition, packed)
            except UnavailableError:
                await self._clock.sleep(backoff_s)
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)
            else:
                return

    async def _confirm(self, report: ReportAttempt, partition: int, packed: bytes, confirmed: asyncio.Event) -> None:
        pause_s, waited_s = CONFIRM_FIRST_S, 0.0
        try:
            while not await within(self._clock, confirmed, pause_s):
                waited_s += pause_s
                if waited_s >= CONFIRM_S:
                    log.warning("no event of the write %s within %g s of its report", report.attempt_id, waited_s)
                    return
                pause_s = min(CONFIRM_MAX_S, pause_s * 2)
                await self._tell(partition, packed)
        finally:
            self._unconfirmed.pop(report.attempt_id, None)

    def _seen(self, data: bytes) -> None:
        """Look through committed events for the attempts that are waited for; most batches hold none."""
        named = [attempt_id for attempt_id in self._unconfirmed if attempt_id.encode() in data]
        if not named:
            return
        try:
            events = _feed_decoder.decode(data)
        except msgspec.DecodeError:
            log.warning("a batch of the feed cannot be read")
            return
        for event in events:
            if event.type == WRITE_CLAIMED:
                continue
            for attempt_id in named:
                if attempt_id.encode() in bytes(event.data):
                    self._unconfirmed[attempt_id].set()
