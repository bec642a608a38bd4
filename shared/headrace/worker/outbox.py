"""Reports on their way to their owners: kept until the bus has them, and those of writes until the owner recorded them.

What is ready at the same time for one partition travels in one message, sealed and acknowledged once. Nothing waits for
company while few messages are under way; while LANE_MESSAGES_MAX are, what becomes ready goes with the next.

The bus may lose what it acknowledged (a wiped server): a read is then dispatched again by its owner, but a write must
not be. So the report of a write is sent again, with growing pauses, until the feed shows an event that names its
attempt, at most CONFIRM_S.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from headrace import ids
from headrace.bundles import BUNDLE_BYTES_MAX, BUNDLE_MAX, bundle
from headrace.bus.port import Bus, Subscription
from headrace.clock import Clock, within
from headrace.codec import Raw, encode
from headrace.errors import UnavailableError
from headrace.keys import POOL, SEAL_BYTES, Keys
from headrace.messages import ReportAttempt, Told
from headrace.vocabulary import LOG_RUNS
from headrace.wire import FeedEvent, WorkOrder

LANE_MESSAGES_MAX: Final = 2
"""Messages of one pool to one partition that are under way at once."""
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
CONFIRM_FIRST_S: Final = 2.0
CONFIRM_MAX_S: Final = 30.0
CONFIRM_S: Final = 120.0
WRITE_CLAIMED: Final = "write.claimed"

log = logging.getLogger(__name__)
_feed_decoder = msgspec.json.Decoder(list[FeedEvent])


class Parcel(msgspec.Struct):
    """A report to be sent: `told` is its message without a seal, `sent` is called once the bus has it."""

    pool: str
    run_id: str
    attempt_id: str
    told: bytes
    bundles: bool
    sent: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """Give how many bytes its message takes, if it goes alone."""
        return len(self.told) + SEAL_BYTES + len(POOL) + len(self.pool) + 1


class Lane:
    """What waits for one partition, of one pool."""

    def __init__(self, label: str, partition: int) -> None:
        self.label = label
        self.partition = partition
        self.waiting: deque[Parcel] = deque()
        self.under_way = 0
        self.leaving = False
        """Whether a message is about to take what waits."""

    def take(self) -> list[Parcel]:
        """Take what goes into the next message: one, or several where all of their owners take several."""
        taken = [self.waiting.popleft()]
        size = len(taken[0].told)
        while self.waiting and taken[0].bundles and self.waiting[0].bundles and len(taken) < BUNDLE_MAX:
            size += len(self.waiting[0].told) + 1
            if size > BUNDLE_BYTES_MAX:
                break
            taken.append(self.waiting.popleft())
        return taken


class Outbox:
    """Sends reports, many at a time, without holding up the next attempt. `run` serves until cancelled."""

    def __init__(self, bus: Bus, keys: Keys, clock: Clock) -> None:
        self._bus, self._keys, self._clock = bus, keys, clock
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._group: asyncio.TaskGroup | None = None
        self._unconfirmed: dict[str, asyncio.Event] = {}
        self._feed: Subscription | None = None
        self._opening = asyncio.Lock()

    async def run(self) -> None:
        """Send what is put, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for lane in self._lanes.values():
                self._stir(lane)
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def put(self, parcel: Parcel) -> None:
        """Send a report, with what else is ready."""
        lane = self._lane(parcel)
        lane.waiting.append(parcel)
        self._stir(lane)

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

    def expects(self, attempt_id: str) -> bool:
        """Tell whether a report has to be confirmed."""
        return attempt_id in self._unconfirmed

    def pack(self, order: WorkOrder, report: ReportAttempt) -> Parcel:
        """Make the message of a report."""
        told = Told(
            stream_id=report.run_id,
            body=Raw(encode(report)),
            workspace=order.workspace,
            traceparent=order.traceparent,
        )
        return Parcel(order.pool, report.run_id, report.attempt_id, encode(told), order.bundles)

    async def deliver(self, lane: Lane, parcels: Sequence[Parcel]) -> None:
        """Send one message until the bus has it."""
        told = [parcel.told for parcel in parcels]
        packed = self._keys.pack(lane.label, bundle(told))
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                await self._bus.tell(LOG_RUNS, lane.partition, packed)
            except UnavailableError:
                await self._clock.sleep(backoff_s)
                backoff_s = min(BACKOFF_MAX_S, backoff_s * 2)
            else:
                return

    async def confirm(self, parcel: Parcel) -> None:
        """Send a write's report again until its owner has it on record; nothing for what was not expected."""
        confirmed = self._unconfirmed.get(parcel.attempt_id)
        if confirmed is None:
            return
        pause_s, waited_s = CONFIRM_FIRST_S, 0.0
        try:
            while not await within(confirmed, pause_s):
                waited_s += pause_s
                if waited_s >= CONFIRM_S:
                    log.warning("no event of the write %s within %g s of its report", parcel.attempt_id, waited_s)
                    return
                pause_s = min(CONFIRM_MAX_S, pause_s * 2)
                await self.deliver(self._lane(parcel), [parcel])
        finally:
            self._unconfirmed.pop(parcel.attempt_id, None)

    async def rest(self) -> None:
        """Close the feed while no write is under way."""
        async with self._opening:
            if self._feed is not None and not self._unconfirmed:
                feed, self._feed = self._feed, None
                await feed.close()

    def _lane(self, parcel: Parcel) -> Lane:
        key = (parcel.pool, ids.partition_of(parcel.run_id))
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(POOL + parcel.pool, key[1])
        return lane

    def _stir(self, lane: Lane) -> None:
        """Let a message leave in the loop's next turn, with all that is ready by then."""
        if lane.waiting and not lane.leaving and lane.under_way < LANE_MESSAGES_MAX and self._group is not None:
            lane.leaving = True
            lane.under_way += 1
            self._group.create_task(self._send(lane))

    async def _send(self, lane: Lane) -> None:
        lane.leaving = False
        parcels = lane.take()
        self._stir(lane)
        await self.deliver(lane, parcels)
        lane.under_way -= 1
        self._stir(lane)
        for parcel in parcels:
            if parcel.sent is not None:
                parcel.sent()

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
