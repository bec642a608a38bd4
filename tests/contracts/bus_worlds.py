"""The two buses as worlds that make clients: what the contract suite runs on."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

from headrace.bus import subjects
from headrace.bus.jetstream import JetStreamBus
from headrace.bus.memory import MemoryBus
from headrace.bus.memory_broker import MemoryBroker
from headrace.bus.port import Bus
from headrace.clock import SystemClock
from headrace.vocabulary import MESSAGE_BYTES_MAX

DEADLINE_S = 20.0
MESSAGE = b"x" * (MESSAGE_BYTES_MAX - 1_000)


async def until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait until something is so; fail after a while."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110  (any condition, also one that no event tells of)
                await asyncio.sleep(0.005)
    except TimeoutError:
        message = f"never happened: {what or condition}"
        raise AssertionError(message) from None


async def until_async(condition: Callable[[], Awaitable[bool]], what: str = "") -> None:
    """Wait until something is so that must be asked for."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await condition():  # noqa: ASYNC110  (any condition, also one that no event tells of)
                await asyncio.sleep(0.01)
    except TimeoutError:
        message = f"never happened: {what or condition}"
        raise AssertionError(message) from None


class World(Protocol):
    """A server, or what stands for one, and its clients."""

    async def client(self) -> Bus:
        """Connect one more client."""
        ...

    async def fill_inbox(self, bus: Bus, log: str, partition: int) -> None:
        """Leave no room in an inbox."""
        ...

    async def close(self) -> None:
        """Close all clients."""
        ...


class MemoryWorld:
    """Clients of one memory broker."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.clients: list[MemoryBus] = []

    async def client(self) -> MemoryBus:
        bus = MemoryBus(SystemClock(), self.broker)
        self.clients.append(bus)
        return bus

    async def fill_inbox(self, bus: Bus, log: str, partition: int) -> None:
        self.broker.inbox_messages_max = 3
        for _ in range(3):
            await bus.tell(log, partition, b"x")
        await until(lambda: any(len(inbox.messages) == 3 for inbox in self.broker.inboxes.values()))

    async def close(self) -> None:
        for bus in self.clients:
            await bus.close()


class JetStreamWorld:
    """Clients of one NATS server, under an incarnation of their own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.incarnation = uuid.uuid4().hex
        self.clients: list[JetStreamBus] = []

    async def client(self) -> JetStreamBus:
        bus = await JetStreamBus.connect(self.url, self.incarnation, SystemClock())
        self.clients.append(bus)
        return bus

    async def fill_inbox(self, bus: Bus, log: str, partition: int) -> None:
        await asyncio.gather(*(bus.tell(log, partition, MESSAGE) for _ in range(32)))

    async def close(self) -> None:
        if self.clients and self.clients[0].connected:
            await self._delete_streams(self.clients[0])
        for bus in self.clients:
            await bus.close()

    async def _delete_streams(self, bus: JetStreamBus) -> None:
        """Leave nothing behind on a server that other tests use too."""
        for each in self.clients:
            await each.guardian.close()
        answer = await bus.connection.api(subjects.api("STREAM.NAMES"), {"offset": 0})
        for name in answer["streams"] or []:
            await bus.connection.api(subjects.api("STREAM.DELETE", name))
