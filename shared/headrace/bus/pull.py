"""Standing pull requests of all consumers of a process, on one subscription.

A request (`$JS.API.CONSUMER.MSG.NEXT`) lets a number of messages come and stands until they came or it expires; it is
renewed when the server says so. Nothing polls: a consumer that is missing answers "no responders" once, its guardian is
told, and the next request waits for the guardian or for a growing delay. In a cluster a consumer's leader holds its
requests: when it dies they are gone without a word, so what is asked for is asked again as soon as another one is
elected, and the guardian looks at what is not heard of after elections elsewhere: perhaps nobody can lead it. `fetch()`
of nats-py costs 14 to 50 µs a message and one subscription a consumer; this costs about 5 (measured,
peers/limits_nats.py).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from nats.aio.msg import Msg

from headrace.bus import subjects
from headrace.bus.background import Background
from headrace.bus.connection import STATUS, Connection
from headrace.bus.guardian import Guardian
from headrace.bus.listening import Listening
from headrace.bus.opening import until_open
from headrace.bus.port import Delivery
from headrace.clock import Clock, until_tick

logger = logging.getLogger(__name__)
EXPIRES_S: Final = 60.0
"""Requests end at multiples of this, all at once, so that what the server says of them comes together."""
HEARTBEAT_S: Final = 15
SILENT_S: Final = HEARTBEAT_S * 2.5
BACK_OFF_FIRST_S: Final = 0.25
BACK_OFF_MAX_S: Final = 15.0
BATCH_MAX: Final = 1_024
SHORT_ACK_TOKENS: Final = 9
PENDING: Final = "Nats-Pending-Messages"
LEADER_S: Final = 1.0
"""What was asked for so short a time before an election is heard of may be with the new leader: electing takes longer."""
ELECTIONS_S: Final = 10.0
"""How long after an election those of other consumers have ended: of one that died, each takes 4 to 9 s."""
EXPIRES_S_MIN: Final = 2 * HEARTBEAT_S
"""The server's own bound."""


class Lane:
    """One consumer's way through the hub. `standing` keeps its credit; otherwise each message uses some up."""

    def __init__(
        self, hub: "PullHub", stream: str, consumer: str, deliver: Callable[[Delivery, Msg], None], *, standing: bool
    ) -> None:
        self.stream = stream
        self.key = f"{stream}.{consumer}"
        self.subject = subjects.api("CONSUMER.MSG.NEXT", stream, consumer)
        self.deliver = deliver
        self.standing = standing
        self.credit = 0
        self.outstanding = 0
        self.generation = 0
        self.seen = 0.0
        self.asked = 0.0
        self.back_off_s = 0.0
        self.waits = False
        self.paused = True
        self.session = -1
        self.number = hub.number()
        self._hub = hub

    def want(self, count: int) -> None:
        """Let `count` more messages come."""
        self.credit += count
        self._hub.soon(self)

    def resume(self, *, anew: bool = False) -> None:
        """Ask for what is wanted: the consumer stands now. Requests stand on, unless it was made `anew`."""
        if anew or self.paused or self.waits or self.session != self._hub.session:
            self.restart()

    def restart(self) -> None:
        """Ask for everything anew: no request stands any more."""
        self.paused = False
        self.waits = False
        self.outstanding = 0
        self.generation += 1
        self._hub.soon(self)

    def pause(self) -> None:
        """Ask for nothing until `resume`, and heed nothing that is said of requests before."""
        self.paused = True
        self.generation += 1

    def close(self) -> None:
        """Forget this lane; what the server still sends for it is dropped."""
        self.pause()
        self._hub.remove(self)

    async def end(self) -> None:
        """Take back what is asked for, deliver what is on its way already, then forget this lane."""
        self.pause()
        await self._hub.move()
        self._hub.remove(self)


class PullHub:
    """Owns the subscription and the requests of all lanes. `requests` and `refusals` count what was asked and refused."""

    def __init__(self, connection: Connection, guardian: Guardian, clock: Clock) -> None:
        self.requests = 0
        self.refusals = 0
        self._connection = connection
        self._guardian = guardian
        self._clock = clock
        self._root = f"_INBOX.pull{clock.entropy().hex()}"
        self._prefix = ""
        self._moves = 0
        self._moving = asyncio.Lock()
        self._lanes: dict[str, Lane] = {}
        self._by_number: dict[str, Lane] = {}
        self._count = 0
        self._soon: set[Lane] = set()
        self._planned = False
        self._elections: float | None = None
        """Since when servers elect leaders, if they do, in monotonic seconds."""
        self._listening: Listening | None = None
        self._background = Background()

    @property
    def session(self) -> int:
        """Count connects: requests of an older one are gone."""
        return self._connection.session

    async def open(self) -> None:
        """Subscribe once there is a connection, and watch for silence."""
        await self._background.open()
        self._background.start(self._subscribe(), "pull subscription")
        self._background.start(self._watch_silence(), "pull heartbeats")
        self._background.start(self._hear_of_leaders(), "leaders of consumers")

    async def close(self) -> None:
        """Take nothing more."""
        await self._background.close()
        if self._listening is not None:
            await self._listening.close()

    def lane(
        self, stream: str, consumer: str, deliver: Callable[[Delivery, Msg], None], *, standing: bool = False
    ) -> Lane:
        """Make a lane; it asks for nothing before its consumer stands and `resume` was called."""
        lane = Lane(self, stream, consumer, deliver, standing=standing)
        self._lanes[lane.key] = lane
        self._by_number[str(lane.number)] = lane
        return lane

    def number(self) -> int:
        """Give the next lane its number."""
        self._count += 1
        return self._count

    def remove(self, lane: Lane) -> None:
        """Forget a lane."""
        if self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]
        self._by_number.pop(str(lane.number), None)
        self._soon.discard(lane)

    def soon(self, lane: Lane) -> None:
        """Ask for what a lane wants at the end of this turn of the loop: several wishes become one request."""
        self._soon.add(lane)
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._ask_all)

    async def move(self) -> None:
        """End all requests by leaving the subject that they answer on, and ask again on another.

        JetStream has no request that takes a pull request back; it forgets those whose subject nobody listens to.
        """
        async with self._moving:
            held, self._listening = self._listening, None
            if held is None or not self._connection.connected:
                self._listening = held
                return
            try:
                await held.drain()
            finally:  # whoever waits for this may give up: the other lanes must go on
                self._background.start(self._subscribe(), "pull subscription")

    async def _subscribe(self) -> None:
        """Listen, again until it works: every lane of the process hangs on it."""
        self._moves += 1
        self._prefix = f"{self._root}{self._moves}"
        subject = f"{self._prefix}.*"
        self._listening = await self._hear(subject, self._on_message)
        for lane in self._lanes.values():
            if not lane.paused:
                lane.restart()

    def _ask_all(self) -> None:
        self._planned = False
        lanes, self._soon = self._soon, set()
        for lane in sorted(lanes, key=lambda each: each.number):
            self._ask(lane)

    def _ask(self, lane: Lane) -> None:
        if lane.paused or lane.waits or self._listening is None or not self._connection.connected:
            return
        lacking = lane.credit - lane.outstanding
        if lacking <= 0 or (lane.standing and lacking * 2 < lane.credit):
            return
        if lane.outstanding <= 0:
            lane.seen = self._clock.monotonic()
        lane.outstanding = lane.credit
        lane.session = self.session
        lane.asked = self._clock.monotonic()
        reply = f"{self._prefix}.{lane.number}_{lane.generation}"
        tail = self._tail()
        while lacking > 0:
            batch = min(lacking, BATCH_MAX)
            lacking -= batch
            self.requests += 1
            self._connection.send(lane.subject, b'{"batch":%d,%s' % (batch, tail), reply)

    def _tail(self) -> bytes:
        """Write the end of a request that is made now."""
        left = EXPIRES_S - self._clock.monotonic() % EXPIRES_S
        until_s = left if left >= EXPIRES_S_MIN else left + EXPIRES_S
        return b'"expires":%d,"idle_heartbeat":%d000000000}' % (int(until_s * 1_000_000_000), HEARTBEAT_S)

    def _on_message(self, message: Msg) -> None:
        parts = message.reply.split(".")
        if parts[0] != "$JS":
            self._on_status(message)
            return
        first = 2 if len(parts) == SHORT_ACK_TOKENS else 4
        lane = self._lanes.get(f"{parts[first]}.{parts[first + 1]}")
        if lane is None:
            return
        lane.outstanding -= 1
        lane.back_off_s = 0.0
        if lane.standing:
            if (lane.credit - lane.outstanding) * 2 >= lane.credit:
                self.soon(lane)
        else:
            lane.credit -= 1
        lane.seen = self._clock.monotonic()
        lane.deliver(
            Delivery(
                data=message.data,
                sequence=int(parts[first + 3]),
                subject=message.subject,
                at=int(parts[first + 5]) // 1_000_000,
            ),
            message,
        )

    def _on_status(self, message: Msg) -> None:
        number, _, generation = message.subject.rpartition(".")[2].partition("_")
        lane = self._by_number.get(number)
        headers = message.headers or {}
        if lane is None or generation != str(lane.generation):
            return
        lane.seen = self._clock.monotonic()
        match headers.get(STATUS):
            case "100":
                pass
            case "408":
                lane.back_off_s = 0.0
                lane.outstanding -= int(headers.get(PENDING, "0"))
                self.soon(lane)
            case status:
                self.refusals += 1
                logger.info("%s: pull request ended: %s %s", lane.key, status, str(headers.get("Description")).strip())
                self._back_off(lane)
                self._guardian.vanished(lane.stream)

    def _back_off(self, lane: Lane) -> None:
        """Ask again later, each time later; the guardian resumes the lane sooner when it has mended the consumer."""
        lane.outstanding = 0
        lane.generation += 1
        if lane.waits:
            return
        lane.waits = True
        lane.back_off_s = min(max(lane.back_off_s * 2, BACK_OFF_FIRST_S), BACK_OFF_MAX_S)
        asyncio.get_running_loop().call_later(lane.back_off_s, self._try_again, lane, lane.generation)

    def _try_again(self, lane: Lane, generation: int) -> None:
        if lane.generation == generation and lane.waits:
            lane.waits = False
            self.soon(lane)

    async def _hear_of_leaders(self) -> None:
        await self._hear(subjects.LEADERS_ELECTED, self._on_leader)
        await self._hear(subjects.STREAM_LEADERS_ELECTED, self._on_stream_leader)

    async def _hear(self, subject: str, hear: Callable[[Msg], None]) -> Listening:
        return await until_open(lambda: self._connection.listen(subject, hear), self._clock)

    def _on_stream_leader(self, message: Msg) -> None:
        stream = message.subject.removeprefix(subjects.STREAM_LEADER_ELECTED)
        if self._elections is None and any(lane.stream == stream for lane in self._lanes.values()):
            self._elections = self._clock.monotonic()
            asyncio.get_running_loop().call_later(ELECTIONS_S, self._look_after_elections)

    def _look_after_elections(self) -> None:
        """Have those looked at of which nothing was heard since a server died that led some of them."""
        since, self._elections = self._elections or 0.0, None
        for lane in self._lanes.values():
            if not lane.paused and max(lane.seen, lane.asked) < since:
                self._guardian.missing(lane.stream)

    def _on_leader(self, message: Msg) -> None:
        lane = self._lanes.get(message.subject.removeprefix(subjects.LEADER_ELECTED))
        if lane is None or lane.paused:
            return
        if lane.waits or self._clock.monotonic() - lane.asked > LEADER_S:
            logger.info("%s: another server leads; what is wanted is asked for again", lane.key)
            lane.restart()

    async def _watch_silence(self) -> None:
        """Mend what no status tells of: a request that the server has forgotten."""
        while True:
            await asyncio.sleep(until_tick(self._clock.monotonic(), HEARTBEAT_S))
            now = self._clock.monotonic()
            for lane in list(self._lanes.values()):
                if not lane.paused and lane.outstanding > 0 and now - lane.seen > SILENT_S:
                    logger.warning("%s: no heartbeat for %.0f s", lane.key, now - lane.seen)
                    self._back_off(lane)
                    self._guardian.missing(lane.stream)
