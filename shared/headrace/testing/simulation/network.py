"""The simulated bus: the memory twin, where every delivery is a callback of the process that receives it.

What travels belongs to the world: it arrives although its sender was killed or is paused, and waits at a receiver that
is paused. Requests, answers and acknowledgements can each get lost by themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.bus.limits import ACK_WAIT_S, TELL_TIMEOUT_S
from headrace.bus.memory import MemoryBus, MemoryInbox, MemorySubscription, MemoryWork
from headrace.bus.memory_broker import InboxStream, MemoryBroker, SharedStream
from headrace.bus.port import Delivery
from headrace.clock import Clock
from headrace.errors import UnavailableError
from headrace.testing.simulation.loop import Process, SimLoop
from headrace.testing.simulation.weather import Weather


class SimBroker(MemoryBroker):
    """What stands between the processes: its arrivals are the world's doing."""

    def __init__(self, loop: SimLoop, weather: Weather) -> None:
        super().__init__()
        self.weather = weather
        self._loop = loop

    def arrive(self, subject: str, data: bytes, arrival: Callable[[], object]) -> int:
        """Let a message arrive as is drawn for it; gives the number of copies."""
        fate = self.weather.fate()
        for copy in range(fate.copies):
            delay_s = self.weather.delay_s() + (fate.delay_s if copy == fate.copies - 1 else 0.0)
            if delay_s > 0:
                self._loop.later(delay_s, arrival)
            else:
                arrival()
        return fate.copies


class SimBus(MemoryBus):
    """One process's way to the broker."""

    broker: SimBroker

    def __init__(self, clock: Clock, broker: SimBroker, process: Process) -> None:
        super().__init__(clock, broker)
        self._process = process
        self._loop = process.loop
        self._weather = broker.weather

    async def open_inbox(
        self, log: str, partition: int, epoch: int, deliver: Callable[[Delivery], None]
    ) -> MemoryInbox:
        """Take over an inbox."""
        post = self._process.post
        return await super().open_inbox(log, partition, epoch, lambda delivery: post(deliver, delivery))

    async def open_work(self, pool: str, deliver: Callable[[Delivery], None]) -> MemoryWork:
        """Become one of a pool's workers."""
        post = self._process.post
        return await super().open_work(pool, lambda delivery: post(deliver, delivery))

    async def tell(self, log: str, partition: int, data: bytes) -> None:
        """Put a message into an inbox; raises UnavailableError when it, or its acknowledgement, gets lost."""
        self._need_broker()
        stream = self.broker.inbox(self._names.inbox(log, partition))
        acked: asyncio.Future[None] = self._loop.create_future()
        if self._weather.happens("acknowledgement lost", self._weather.rates.unacked):
            arrival: Callable[[], object] = lambda: self._keep(stream, data)  # noqa: E731  (two ways to arrive)
        else:
            arrival = lambda: self._keep(stream, data, acked)  # noqa: E731  (two ways to arrive)
        self.broker.arrive("", data, arrival)
        late = f"the inbox of {log}/{partition} did not acknowledge within {TELL_TIMEOUT_S:.0f} s"
        await self._within(acked, TELL_TIMEOUT_S, late)

    def _keep(self, stream: InboxStream, data: bytes, acked: asyncio.Future[None] | None = None) -> None:
        stream.add(data, self._clock.now_ms())
        if acked is not None and self._connected:
            self._process.post_later(self._weather.delay_s(), _acknowledge, acked)

    def _listen(self, subject: str, hear: Callable[[bytes, Callable[[bytes], None]], None]) -> MemorySubscription:
        post = self._process.post
        return super()._listen(subject, lambda data, respond: post(hear, data, respond))

    async def _ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        self._need_broker()
        if not self.broker.heard(subject):
            message = f"nobody answers on {subject}"
            raise UnavailableError(message)
        answer: asyncio.Future[bytes] = self._loop.create_future()

        def respond(body: bytes) -> None:
            if not self._weather.happens("answer lost", self._weather.rates.unacked):
                self.broker.arrive(subject, body, lambda: self._process.post(_answer, answer, body))

        self.broker.arrive(subject, data, lambda: self.broker.hear(subject, data, respond, everybody=False))
        return await self._within(answer, timeout_s, f"no answer on {subject} within {timeout_s:g} s")

    async def _within[T](self, answer: asyncio.Future[T], seconds: float, late: str) -> T:
        """Wait for what belongs to this call alone; raises UnavailableError. It costs a third of `asyncio.timeout`."""
        limit = self._process.post_later(seconds, _fail, answer, late)
        try:
            return await answer
        finally:
            limit.cancel()

    async def _handle(
        self,
        stream: SharedStream,
        message: Delivery,
        deliver: Callable[[Delivery], Awaitable[None]],
        places: asyncio.Semaphore,
        what: str,
    ) -> None:
        self._loop.later(ACK_WAIT_S, stream.give_back, message.sequence)  # nothing, unless its handler died
        await super()._handle(stream, message, deliver, places, what)


def _acknowledge(acked: asyncio.Future[None]) -> None:
    if not acked.done():
        acked.set_result(None)


def _fail(answer: asyncio.Future[Any], late: str) -> None:
    if not answer.done():
        answer.set_exception(UnavailableError(late))


def _answer(answer: asyncio.Future[bytes], body: bytes) -> None:
    if not answer.done():
        answer.set_result(body)
