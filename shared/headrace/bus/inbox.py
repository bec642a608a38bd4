"""The inbox of a partition in the hands of one epoch's owner.

Each epoch reads with a consumer of its own, which starts behind what the epochs before settled; making it deletes
theirs, so that an owner that was overtaken gets nothing more. Sequences that leave this room never go back, also when
the stream was made anew and counts from one again.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from nats.aio.msg import Msg

from headrace.bus import subjects, topology
from headrace.bus.connection import Connection
from headrace.bus.consumers import Consumer, delete
from headrace.bus.guardian import Guardian
from headrace.bus.limits import INBOX_BYTES_MAX, INBOX_UNSETTLED_MAX
from headrace.bus.port import Delivery
from headrace.bus.pull import PullHub

logger = logging.getLogger(__name__)
CREDIT: Final = INBOX_UNSETTLED_MAX // 2
PURGE_BYTES: Final = INBOX_BYTES_MAX // 128
"""Settled messages are deleted once they take up this much room, and when an inbox is closed: else the inbox would look
full, and after a reconnect or a restart of the server all of them would come again."""
ELECTING_S: Final = 4.0
"""How long its consumer may be led by nobody until it is made anew, which costs nothing but what comes again. Each look
takes a server 4 s more."""
NOTHING: Final[dict[str, Any]] = {"ack_floor": {"stream_seq": 0}}


class JetStreamInbox:
    """An open inbox; kept standing by the guardian."""

    def __init__(
        self,
        connection: Connection,
        guardian: Guardian,
        hub: PullHub,
        stream: str,
        epoch: int,
        deliver: Callable[[Delivery], None],
    ) -> None:
        self.stream = stream
        self._connection = connection
        self._consumer = Consumer(connection, stream, electing_s=ELECTING_S)
        self._guardian = guardian
        self._epoch = epoch
        self._deliver = deliver
        self._lane = hub.lane(stream, subjects.epoch_consumer(epoch), self._on_message, standing=True)
        self._lane.credit = CREDIT
        self._seen: tuple[str, int] | None = None
        """The stream that was read (by when it was made) and the session in which it was."""
        self._base = 0
        """What is added to the stream's sequences: as far as we were when it was made anew."""
        self._last = 0
        self._settled = 0
        self._unsettled: deque[tuple[int, str, int]] = deque()
        self._settled_bytes = 0
        self._probes: set[int] = set()
        """Sequences of what only tried whether the stream takes writes: settled as soon as what came before is."""

    async def declare(self) -> None:
        """Make this epoch's consumer stand, behind what is settled, unless a newer epoch has taken over."""
        consumers, leaderless = await self._consumers()
        if any(epoch > self._epoch for epoch in consumers):
            logger.warning("inbox %s: epoch %d was overtaken", self.stream, self._epoch)
            self._guardian.release(self)
            self._lane.pause()
            return
        info = await self._connection.api(subjects.api("STREAM.INFO", self.stream))
        seen = (info["created"], self._connection.session)
        if self._epoch in consumers and self._seen == seen:
            if self._epoch not in leaderless:
                self._consumer.is_led()
                self._lane.resume()
                return
            self._consumer.is_not_led(subjects.epoch_consumer(self._epoch))
        self._lane.pause()
        state = info["state"]
        first, last = int(state["first_seq"]), int(state["last_seq"])
        if self._seen and self._seen != seen:
            # The server may have lost the newest messages and given their numbers out again, so nothing that was
            # known about sequences holds: begin with everything that is there. Repeats change nothing.
            self._base = self._settled = self._last
            consumers = dict.fromkeys(consumers, NOTHING)
        self._seen = seen
        floor = max((self._floor(consumer) for consumer in consumers.values()), default=0)
        floor = max(min(floor, last), self._settled - self._base, first - 1, 0)
        for epoch in consumers:
            name = subjects.epoch_consumer(epoch)
            await delete(self._connection, self.stream, name, led=epoch not in leaderless)
        self._unsettled.clear()
        self._probes.clear()
        self._settled = max(self._settled, self._base + floor)
        await self._consumer.stand(topology.epoch_consumer(self._epoch, floor + 1, self._connection.replicas))
        self._lane.resume()

    def settle(self, sequence: int) -> None:
        """Say that this message and all before it are committed: one ack for all of them."""
        ack = ""
        while self._unsettled and (self._unsettled[0][0] <= sequence or self._unsettled[0][0] in self._probes):
            settled, reply, size = self._unsettled.popleft()
            self._settled_bytes += size
            self._probes.discard(settled)
            if settled >= self._settled:  # what took long was delivered again meanwhile, and stands here a second time
                self._settled, ack = settled, reply
        if not ack:
            return
        self._connection.send(ack, b"")
        if self._settled_bytes >= PURGE_BYTES:
            self._purge()

    def _purge(self) -> None:
        """Delete what is settled."""
        self._settled_bytes = 0
        purge = b'{"seq":%d}' % (self._settled - self._base + 1)
        self._connection.send(subjects.api("STREAM.PURGE", self.stream), purge)

    async def close(self) -> None:
        """Stop delivering; what is not settled waits for the next epoch."""
        if self._settled_bytes and self._seen is not None and self._seen[1] == self._connection.session:
            self._purge()
        self._guardian.release(self)
        self._lane.close()

    def _on_message(self, delivery: Delivery, message: Msg) -> None:
        sequence = self._base + delivery.sequence
        if sequence <= self._settled:
            return
        self._last = max(self._last, sequence)
        self._unsettled.append((sequence, message.reply, len(delivery.data)))
        if delivery.data == topology.PROBE:
            self._probes.add(sequence)
            self.settle(self._settled)
            return
        self._deliver(Delivery(delivery.data, sequence, delivery.subject, delivery.message_id, delivery.at))

    async def _consumers(self) -> tuple[dict[int, dict[str, Any]], set[int]]:
        """Read the consumers of all epochs, and which of them no server leads."""
        found: dict[int, dict[str, Any]] = {}
        leaderless: set[int] = set()
        offset = 0
        while True:
            answer = await self._connection.api(subjects.api("CONSUMER.LIST", self.stream), {"offset": offset})
            page = answer.get("consumers") or []
            missing = answer.get("missing") or []
            offset += len(page) + len(missing)
            for name in missing:
                epoch = subjects.epoch_of(name)
                if epoch is not None:
                    found[epoch] = NOTHING
                    leaderless.add(epoch)
            for info in page:
                epoch = subjects.epoch_of(info["name"])
                if epoch is not None:
                    found[epoch] = info
            if not (page or missing) or offset >= answer.get("total", 0):
                return found, leaderless

    @staticmethod
    def _floor(consumer: dict[str, Any]) -> int:
        return int(consumer["ack_floor"]["stream_seq"])
