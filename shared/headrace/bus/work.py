"""Work of one pool, taken by credit from the consumer that all its workers share."""

from collections.abc import Callable

from nats.aio.msg import Msg

from headrace.bus import subjects, topology
from headrace.bus.connection import Connection
from headrace.bus.consumers import Consumer
from headrace.bus.guardian import Guardian
from headrace.bus.port import Delivery
from headrace.bus.pull import PullHub


class WorkConsumer:
    """A pool's consumer; also processes that only publish keep it, so that orders wait for the first worker."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self.stream = stream
        self._consumer = Consumer(connection, stream)

    async def declare(self) -> bool:
        """Make it stand; True when it was made anew."""
        return await self._consumer.stand(topology.work_consumer())


class JetStreamWork:
    """One worker's credit at its pool; kept standing by the guardian."""

    def __init__(
        self,
        connection: Connection,
        guardian: Guardian,
        hub: PullHub,
        stream: str,
        deliver: Callable[[Delivery], None],
    ) -> None:
        self.stream = stream
        self._consumer = WorkConsumer(connection, stream)
        self._guardian = guardian
        self._deliver = deliver
        self._lane = hub.lane(stream, subjects.READERS, self._on_message)

    async def declare(self) -> None:
        """Make the pool's consumer stand and ask for what is wanted."""
        self._lane.resume(anew=await self._consumer.declare())

    def want(self, count: int) -> None:
        """Let `count` more orders come."""
        self._lane.want(count)

    async def close(self) -> None:
        """Want nothing any more."""
        self._guardian.release(self)
        await self._lane.end()

    def _on_message(self, delivery: Delivery, _message: Msg) -> None:
        if delivery.data == topology.PROBE:
            self._lane.want(1)
            return
        self._deliver(delivery)
