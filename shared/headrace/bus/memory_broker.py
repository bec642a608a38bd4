"""What stands between several MemoryBus clients: streams, consumers and core subjects in memory, and faults on order.

Nothing here is random and nothing reads a clock but the loop's own, so that a test under virtual time repeats exactly.
`fate` is asked about every message that is published and says how often it arrives and when.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from headrace.bus.limits import INBOX_UNSETTLED_MAX
from headrace.bus.port import OTHER_EVENT, Delivery, Published
from headrace.errors import UnprocessableError


class Client(Protocol):
    """What the broker has to know of a client: whether anything reaches it."""

    @property
    def connected(self) -> bool:
        """Tell whether it is reached."""
        ...


class Fate(msgspec.Struct, frozen=True):
    """What becomes of one published message: how many copies arrive (0: it is lost) and after how many seconds."""

    copies: int = 1
    delay_s: float = 0.0


ARRIVES = Fate()
LOST = Fate(copies=0)
TWICE = Fate(copies=2)


def late(seconds: float) -> Fate:
    """Let a message arrive later, and so perhaps behind others."""
    return Fate(delay_s=seconds)


class Listener(msgspec.Struct, eq=False):
    """A core subscription of one client."""

    bus: Client
    hear: Callable[[bytes, Callable[[bytes], None]], None]


class InboxStream(msgspec.Struct, eq=False):
    """The inbox of a partition: what is not settled yet, and the owner of the newest epoch."""

    messages: dict[int, Delivery] = {}
    last: int = 0
    settled: int = 0
    handed: int = 0
    epoch: int = -1
    owner: Client | None = None
    deliver: Callable[[Delivery], None] | None = None

    def add(self, data: bytes, at: int) -> None:
        """Take a message in and hand out what may be handed out."""
        self.last += 1
        self.messages[self.last] = Delivery(data, self.last, at=at)
        self.hand_out()

    def hand_out(self) -> None:
        """Hand messages to the owner while it has fewer than INBOX_UNSETTLED_MAX unsettled."""
        while (
            self.owner is not None
            and self.owner.connected
            and self.deliver is not None
            and self.handed < self.last
            and self.handed - self.settled < INBOX_UNSETTLED_MAX
        ):
            self.handed += 1
            message = self.messages.get(self.handed)
            if message is not None:
                self.deliver(message)

    def settle(self, sequence: int) -> None:
        """Forget all messages up to a sequence."""
        for number in [number for number in self.messages if number <= sequence]:
            del self.messages[number]
        self.settled = max(self.settled, min(sequence, self.handed))
        self.hand_out()

    def again(self) -> None:
        """Let what was handed out and not settled come again."""
        self.handed = self.settled
        self.hand_out()

    def wipe(self) -> None:
        """Lose everything. Sequences go on, as the real bus's inbox makes them do."""
        self.messages.clear()
        self.settled = self.handed = self.last


class Credit(msgspec.Struct, eq=False):
    """What one worker still wants from a pool."""

    bus: Client
    deliver: Callable[[Delivery], None]
    wanted: int = 0


class WorkStream(msgspec.Struct, eq=False):
    """The work of a pool: handed out once, to workers in turn, as far as they want more."""

    made: int
    backlog: deque[Delivery] = msgspec.field(default_factory=deque)
    last: int = 0
    delivered: int = 0
    workers: deque[Credit] = msgspec.field(default_factory=deque)

    def add(self, data: bytes, at: int) -> None:
        """Take an order in."""
        self.last += 1
        self.backlog.append(Delivery(data, self.last, at=at))
        self.hand_out()

    def hand_out(self) -> None:
        """Hand orders to workers in turn until there are no more orders or nobody wants one."""
        while self.backlog and (worker := self._next()) is not None:
            order = self.backlog.popleft()
            self.delivered = order.sequence
            worker.wanted -= 1
            worker.deliver(order)

    def _next(self) -> Credit | None:
        for _ in range(len(self.workers)):
            worker = self.workers[0]
            self.workers.rotate(-1)
            if worker.wanted > 0 and worker.bus.connected:
                return worker
        return None

    def wipe(self, made: int) -> None:
        """Lose everything; the stream that stands there afterwards is a new one."""
        self.backlog.clear()
        self.last = self.delivered = 0
        self.made = made


class SharedStream(msgspec.Struct, eq=False):
    """Trigger events, or lines: kept until a handler has returned, each handed to one of the readers."""

    waiting: deque[Delivery] = msgspec.field(default_factory=deque)
    underway: dict[int, Delivery] = {}
    last: int = 0
    seen: dict[str, Delivery] = {}
    trimmed: set[int] = set()
    changed: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    def add(self, data: bytes, at: int, *, subject: str = "", message_id: str = "") -> int:
        """Keep a message. Gives the sequence."""
        self.last += 1
        self.waiting.append(Delivery(data, self.last, subject, message_id, at))
        self.changed.set()
        return self.last

    def add_once(self, event: Delivery) -> Published:
        """Keep an event unless one is known under its id; raises UnprocessableError when that was another one."""
        known = self.seen.get(event.message_id)
        if known is None:
            sequence = self.add(event.data, event.at, subject=event.subject, message_id=event.message_id)
            if event.message_id:
                self.seen[event.message_id] = msgspec.structs.replace(event, sequence=sequence)
            return Published(sequence)
        if known.sequence in self.trimmed:
            return Published(known.sequence, unsaid=True)
        if (known.subject, known.data) != (event.subject, event.data):
            raise UnprocessableError(OTHER_EVENT.format(event.message_id))
        return Published(known.sequence)

    def trim(self) -> None:
        """Delete what is settled, as the real bus does now and then: of ids that were used only that is known."""
        here = {message.sequence for message in self.waiting} | self.underway.keys()
        self.trimmed |= {known.sequence for known in self.seen.values()} - here

    def give_back(self, sequence: int) -> None:
        """Let a message come again whose handling failed."""
        message = self.underway.pop(sequence, None)
        if message is not None:
            self.waiting.append(message)
            self.changed.set()

    def wipe(self) -> None:
        """Lose everything."""
        self.waiting.clear()
        self.underway.clear()
        self.seen.clear()
        self.trimmed.clear()


class MemoryBroker:
    """The world between clients. `fate`, `inbox_messages_max` and `wipe` are for tests."""

    def __init__(self) -> None:
        self.fate: Callable[[str, bytes], Fate] = lambda _subject, _data: ARRIVES
        self.inbox_messages_max = 100_000
        self.inboxes: dict[str, InboxStream] = {}
        self.works: dict[str, WorkStream] = {}
        self.listeners: dict[str, list[Listener]] = {}
        self.triggers = SharedStream()
        self.lines = SharedStream()
        self._made = 0

    def inbox(self, subject: str) -> InboxStream:
        """Give the inbox of a subject."""
        return self.inboxes.setdefault(subject, InboxStream())

    def work(self, subject: str, now_ms: int) -> WorkStream:
        """Give the work stream of a subject."""
        stream = self.works.get(subject)
        if stream is None:
            stream = self.works[subject] = WorkStream(self._next_made(now_ms))
        return stream

    def arrive(self, subject: str, data: bytes, arrival: Callable[[], object]) -> int:
        """Let a message arrive as its fate says; gives the number of copies."""
        fate = self.fate(subject, data)
        loop = asyncio.get_running_loop()
        for _ in range(fate.copies):
            if fate.delay_s > 0:
                loop.call_later(fate.delay_s, arrival)
            else:
                loop.call_soon(arrival)
        return fate.copies

    def hear(self, subject: str, data: bytes, respond: Callable[[bytes], None], *, everybody: bool) -> None:
        """Let the listeners of a core subject hear a message: all, or one of those who answer."""
        for listener in list(self.listeners.get(subject, [])):
            if listener.bus.connected:
                listener.hear(data, respond)
                if not everybody:
                    return

    def heard(self, subject: str) -> bool:
        """Tell whether anybody would hear a message on a core subject."""
        return any(listener.bus.connected for listener in self.listeners.get(subject, []))

    def wipe(self, now_ms: int = 0) -> None:
        """Come back empty, as a NATS server that lost its disk."""
        for inbox in self.inboxes.values():
            inbox.wipe()
        for work in self.works.values():
            work.wipe(self._next_made(now_ms))
        self.triggers.wipe()
        self.lines.wipe()

    def _next_made(self, now_ms: int) -> int:
        self._made = max(self._made + 1, now_ms)
        return self._made
