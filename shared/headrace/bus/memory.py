"""The bus in memory: JetStream's twin for tests and for the engine in one process. One suite holds both to the port."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from headrace.bus import subjects
from headrace.bus.background import Background
from headrace.bus.handling import handle
from headrace.bus.limits import HANDLED_AT_ONCE_MAX, REDELIVER_AFTER_S, TELL_TIMEOUT_S
from headrace.bus.memory_broker import Credit, InboxStream, Listener, MemoryBroker, SharedStream, WorkStream
from headrace.bus.port import Delivery, Passed, Published
from headrace.clock import Clock
from headrace.errors import UnavailableError, ValidationError
from headrace.vocabulary import MESSAGE_BYTES_MAX

INCARNATION: Final = "memory"

_logger = logging.getLogger(__name__)


class MemorySubscription:
    """Something that is undone by closing it."""

    def __init__(self, undo: Callable[[], None], background: Background | None = None) -> None:
        self._undo = undo
        self._background = background

    async def close(self) -> None:
        """Stop delivering."""
        self._undo()
        if self._background is not None:
            await self._background.close()


class MemoryInbox:
    """A partition's inbox in the hands of one epoch."""

    def __init__(self, stream: InboxStream, epoch: int) -> None:
        self._stream = stream
        self._epoch = epoch

    def settle(self, sequence: int) -> None:
        """Forget all messages up to a sequence, if this epoch is still the owner's."""
        if self._stream.epoch == self._epoch:
            self._stream.settle(sequence)

    async def close(self) -> None:
        """Stop delivering; what is not settled waits for the next owner."""
        if self._stream.epoch == self._epoch:
            self._stream.owner = self._stream.deliver = None


class MemoryWork:
    """One worker's source of work."""

    def __init__(self, stream: WorkStream, credit: Credit) -> None:
        self._stream = stream
        self._credit = credit

    def want(self, count: int) -> None:
        """Let `count` more orders come, from the next turn of the loop on."""
        self._credit.wanted += count
        asyncio.get_running_loop().call_soon(self._stream.hand_out)

    async def close(self) -> None:
        """Want nothing any more."""
        self._credit.wanted = 0
        if self._credit in self._stream.workers:
            self._stream.workers.remove(self._credit)


class MemoryBus:
    """One client of a MemoryBroker; without one it has a broker of its own."""

    def __init__(self, clock: Clock, broker: MemoryBroker | None = None) -> None:
        self.broker = broker or MemoryBroker()
        self._clock = clock
        self._names = subjects.Names(INCARNATION)
        self._connected = True
        self._inboxes: list[tuple[InboxStream, int]] = []
        self._open: list[MemorySubscription | MemoryWork | MemoryInbox] = []

    @property
    def connected(self) -> bool:
        """Tell whether this client reaches the broker."""
        return self._connected

    @property
    def refusing(self) -> tuple[str, ...]:
        """Name nothing: memory takes every write."""
        return ()

    def disconnect(self) -> None:
        """Lose the broker: what is published is lost, and core messages pass by."""
        self._connected = False

    def reconnect(self) -> None:
        """Reach the broker again: what was handed out and not settled comes again."""
        self._connected = True
        for stream, epoch in self._inboxes:
            if stream.epoch == epoch:
                stream.again()
        for work in self.broker.works.values():
            work.hand_out()
        self.broker.triggers.changed.set()
        self.broker.lines.changed.set()

    async def close(self) -> None:
        """Let go of everything that was opened here."""
        for each in self._open:
            await each.close()
        self._open.clear()

    async def open_inbox(
        self, log: str, partition: int, epoch: int, deliver: Callable[[Delivery], None]
    ) -> MemoryInbox:
        """Take over an inbox; an older epoch's owner gets nothing from now on."""
        stream = self.broker.inbox(self._names.inbox(log, partition))
        inbox = MemoryInbox(stream, epoch)
        self._open.append(inbox)
        if epoch >= stream.epoch:
            stream.epoch, stream.owner, stream.deliver = epoch, self, deliver
            self._inboxes.append((stream, epoch))
            asyncio.get_running_loop().call_soon(stream.again)
        return inbox

    async def serve_commands(
        self, log: str, partition: int, handle: Callable[[bytes, Callable[[bytes], None]], None]
    ) -> MemorySubscription:
        """Receive commands to a partition."""
        return self._listen(self._names.command(log, partition), handle)

    async def serve_claims(
        self, log: str, partition: int, handle: Callable[[bytes, Callable[[bytes], None]], None]
    ) -> MemorySubscription:
        """Receive claims to a partition."""
        return self._listen(self._names.claim(log, partition), handle)

    def publish_work(self, pool: str, data: bytes) -> None:
        """Publish an order."""
        subject = self._names.work(pool)
        stream = self.broker.work(subject, self._clock.now_ms())
        self._send(subject, data, lambda: stream.add(data, self._clock.now_ms()))

    async def passed(self, pool: str) -> Passed:
        """Read how far a pool's consumer has come; raises UnavailableError."""
        self._need_broker()
        stream = self.broker.work(self._names.work(pool), self._clock.now_ms())
        return Passed(last=stream.last, delivered=stream.delivered, made=stream.made)

    def publish_feed(self, log: str, data: bytes) -> None:
        """Publish committed events."""
        self._tell_all(subjects.feed(log), data)

    def publish_end(self, place: str, data: bytes) -> None:
        """Tell a process of an end."""
        self._tell_all(self._names.ends(place), data)

    def push(self) -> None:
        """Do nothing: nothing waits to be written."""

    async def tell(self, log: str, partition: int, data: bytes) -> None:
        """Put a message into an inbox; raises UnavailableError when it is lost on the way or the inbox is full."""
        _check_size(data)
        self._need_broker()
        subject = self._names.inbox(log, partition)
        stream = self.broker.inbox(subject)
        if len(stream.messages) >= self.broker.inbox_messages_max:
            message = f"the inbox of {log}/{partition} is full"
            raise UnavailableError(message)
        if not self._send(subject, data, lambda: stream.add(data, self._clock.now_ms())):
            await asyncio.sleep(TELL_TIMEOUT_S)
            message = f"the inbox of {log}/{partition} did not acknowledge within {TELL_TIMEOUT_S:.0f} s"
            raise UnavailableError(message)
        await asyncio.sleep(0)

    async def command(self, log: str, partition: int, data: bytes, *, timeout_s: float) -> bytes:
        """Ask a partition's owner; raises UnavailableError."""
        return await self._ask(self._names.command(log, partition), data, timeout_s)

    async def claim(self, log: str, partition: int, data: bytes, *, timeout_s: float) -> bytes:
        """Ask a partition's owner for permission; raises UnavailableError."""
        return await self._ask(self._names.claim(log, partition), data, timeout_s)

    async def open_feed(self, log: str, deliver: Callable[[bytes], None]) -> MemorySubscription:
        """Receive the feed from now on."""
        return self._listen(subjects.feed(log), lambda data, _: deliver(data))

    async def open_ends(self, place: str, deliver: Callable[[bytes], None]) -> MemorySubscription:
        """Receive what this process is told of ends."""
        return self._listen(self._names.ends(place), lambda data, _: deliver(data))

    def publish_control(self, data: bytes) -> None:
        """Tell every process something."""
        self._tell_all(self._names.control, data)

    async def open_control(self, deliver: Callable[[bytes], None]) -> MemorySubscription:
        """Receive what is told to every process."""
        return self._listen(self._names.control, lambda data, _: deliver(data))

    def publish_presence(self, data: bytes) -> None:
        """Say that this worker lives."""
        self._tell_all(self._names.presence, data)

    async def open_presence(self, deliver: Callable[[bytes], None]) -> MemorySubscription:
        """Receive beats and probes."""
        return self._listen(self._names.presence, lambda data, _: deliver(data))

    def beside(self) -> None:
        """Give nothing: everything in memory lives on one loop."""

    async def open_work(self, pool: str, deliver: Callable[[Delivery], None]) -> MemoryWork:
        """Become one of a pool's workers."""
        stream = self.broker.work(self._names.work(pool), self._clock.now_ms())
        credit = Credit(self, deliver)
        stream.workers.append(credit)
        source = MemoryWork(stream, credit)
        self._open.append(source)
        return source

    async def publish_lines(self, data: bytes) -> None:
        """Put lines on their way; raises UnavailableError."""
        _check_size(data)
        self._need_broker()
        if not self._send(self._names.lines, data, lambda: self.broker.lines.add(data, self._clock.now_ms())):
            await asyncio.sleep(TELL_TIMEOUT_S)
            message = "the lines were not acknowledged"
            raise UnavailableError(message)

    async def open_lines(self, deliver: Callable[[Delivery], Awaitable[None]]) -> MemorySubscription:
        """Receive lines."""
        return await self._read(self.broker.lines, deliver, "lines")

    async def publish_trigger(self, name: str, data: bytes, *, message_id: str | None = None) -> Published:
        """Publish a trigger event; what is acknowledged here is kept until it is settled."""
        _check_size(data)
        self._need_broker()
        subject = subjects.trigger(name)
        fate = self.broker.fate(subject, data)
        if not fate.copies:
            await asyncio.sleep(TELL_TIMEOUT_S)
            message = f"trigger {name!r} was not acknowledged"
            raise UnavailableError(message)
        event = Delivery(data, 0, name, message_id or "", self._clock.now_ms())
        published = [self.broker.triggers.add_once(event) for _ in range(fate.copies)]
        return published[0]

    async def open_triggers(self, deliver: Callable[[Delivery], Awaitable[None]]) -> MemorySubscription:
        """Receive trigger events, shared among planners."""
        return await self._read(self.broker.triggers, deliver, "trigger")

    def _need_broker(self) -> None:
        if not self._connected:
            message = "the bus does not answer"
            raise UnavailableError(message)

    def _send(self, subject: str, data: bytes, arrival: Callable[[], object]) -> bool:
        _check_size(data)
        return self._connected and self.broker.arrive(subject, data, arrival) > 0

    def _tell_all(self, subject: str, data: bytes) -> None:
        self._send(subject, data, lambda: self.broker.hear(subject, data, _nobody_listens, everybody=True))

    def _listen(self, subject: str, hear: Callable[[bytes, Callable[[bytes], None]], None]) -> MemorySubscription:
        listeners = self.broker.listeners.setdefault(subject, [])
        listener = Listener(self, hear)
        listeners.append(listener)
        subscription = MemorySubscription(lambda: listeners.remove(listener) if listener in listeners else None)
        self._open.append(subscription)
        return subscription

    async def _ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        _check_size(data)
        self._need_broker()
        if not self.broker.heard(subject):
            message = f"nobody answers on {subject}"
            raise UnavailableError(message)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def respond(body: bytes) -> None:
            if len(body) > MESSAGE_BYTES_MAX:
                _logger.error("who asked on %s gets no answer: it takes %d bytes", subject, len(body))
            elif self._connected and not answer.done():
                answer.set_result(body)

        self._send(subject, data, lambda: self.broker.hear(subject, data, respond, everybody=False))
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            message = f"no answer on {subject} within {timeout_s:g} s"
            raise UnavailableError(message) from None

    async def _read(
        self, stream: SharedStream, deliver: Callable[[Delivery], Awaitable[None]], name: str
    ) -> MemorySubscription:
        background = Background()
        await background.open()
        background.start(self._pass_on(stream, deliver, name, background), f"memory {name}")
        subscription = MemorySubscription(lambda: None, background)
        self._open.append(subscription)
        return subscription

    async def _pass_on(
        self, stream: SharedStream, deliver: Callable[[Delivery], Awaitable[None]], name: str, background: Background
    ) -> None:
        places = asyncio.Semaphore(HANDLED_AT_ONCE_MAX)
        while True:
            await places.acquire()
            while not (stream.waiting and self._connected):
                stream.changed.clear()
                await stream.changed.wait()
            message = stream.waiting.popleft()
            stream.underway[message.sequence] = message
            background.start(self._handle(stream, message, deliver, places, name), f"memory {name}")

    async def _handle(
        self,
        stream: SharedStream,
        message: Delivery,
        deliver: Callable[[Delivery], Awaitable[None]],
        places: asyncio.Semaphore,
        what: str,
    ) -> None:
        done = False
        try:
            done = await handle(deliver, message, what)
        finally:
            places.release()
            if done:
                stream.underway.pop(message.sequence, None)
            else:
                asyncio.get_running_loop().call_later(REDELIVER_AFTER_S, stream.give_back, message.sequence)


def _check_size(data: bytes) -> None:
    if len(data) > MESSAGE_BYTES_MAX:
        message = f"a message of {len(data)} bytes is over the limit of {MESSAGE_BYTES_MAX} bytes"
        raise ValidationError(message)


def _nobody_listens(_answer: bytes) -> None:
    """Swallow an answer to what asked for none."""
