"""Trigger events and lines: shared among processes, each message settled by itself once its handler has returned."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from nats.aio.msg import Msg

from headrace.bus import subjects, topology
from headrace.bus.answers import ApiError
from headrace.bus.background import Background
from headrace.bus.connection import Connection
from headrace.bus.consumers import Consumer
from headrace.bus.guardian import Guardian
from headrace.bus.handling import handle
from headrace.bus.limits import HANDLED_AT_ONCE_MAX, REDELIVER_AFTER_S
from headrace.bus.port import Delivery
from headrace.bus.pull import PullHub
from headrace.errors import UnavailableError

MESSAGE_ID: Final = "Nats-Msg-Id"
LATER: Final = b'-NAK {"delay":%d}' % int(REDELIVER_AFTER_S * topology.NANOSECONDS)
NOW: Final = b"-NAK"
TRIM_EVERY: Final = 500
"""After how many settled messages those that every consumer has settled are deleted from the stream."""

_logger = logging.getLogger(__name__)


class JetStreamReader:
    """A share of a consumer's messages, at most HANDLED_AT_ONCE_MAX at a time; kept standing by the guardian."""

    def __init__(
        self,
        connection: Connection,
        guardian: Guardian,
        hub: PullHub,
        stream: str,
        consumer: str,
        kind: str,
        deliver: Callable[[Delivery], Awaitable[None]],
    ) -> None:
        self.stream = stream
        self._connection = connection
        self._guardian = guardian
        self._consumer = Consumer(connection, stream)
        self._body = topology.shared_consumer(consumer)
        self._kind = kind
        self._deliver = deliver
        self._lane = hub.lane(stream, consumer, self._on_message)
        self._lane.credit = HANDLED_AT_ONCE_MAX
        self._background = Background()
        self._handled = 0

    async def open(self) -> None:
        """Begin; raises UnavailableError."""
        await self._background.open()
        await self._guardian.keep(self)

    async def declare(self) -> None:
        """Make the consumer stand."""
        self._lane.resume(anew=await self._consumer.stand(self._body))

    async def close(self) -> None:
        """Stop; what is being handled is handed back at once."""
        self._guardian.release(self)
        await self._lane.end()
        await self._background.close()

    def _on_message(self, delivery: Delivery, message: Msg) -> None:
        if delivery.data == topology.PROBE:
            self._connection.send(message.reply, b"")
            self._lane.want(1)
            return
        full = Delivery(
            data=delivery.data,
            sequence=delivery.sequence,
            subject=subjects.trigger_name(delivery.subject),
            message_id=(message.headers or {}).get(MESSAGE_ID, ""),
            at=delivery.at,
        )
        self._background.start(self._handle(full, message.reply), f"handler of {self.stream}")

    async def _handle(self, delivery: Delivery, reply: str) -> None:
        verdict = NOW
        try:
            verdict = b"" if await handle(self._deliver, delivery, self._kind) else LATER
        except asyncio.CancelledError:
            self._connection.send(reply, NOW)
            raise
        self._connection.send(reply, verdict)
        self._lane.want(1)
        self._handled += 1
        if self._handled % TRIM_EVERY == 0:
            self._background.start(self._trim(), f"trim of {self.stream}")

    async def _trim(self) -> None:
        """Delete what every consumer of the stream has settled, so that `full` means not handled yet."""
        try:
            answer = await self._connection.api(subjects.api("CONSUMER.LIST", self.stream), {"offset": 0})
            floors = [int(info["ack_floor"]["stream_seq"]) for info in answer.get("consumers") or []]
            if floors and answer.get("total", 0) == len(floors):
                await self._connection.api(subjects.api("STREAM.PURGE", self.stream), {"seq": min(floors) + 1})
        except (UnavailableError, ApiError) as problem:
            _logger.info("%s is trimmed later: %s", self.stream, problem)
