"""What a bus can do: the contract that JetStream and its memory twin are held to by one suite.

Nothing here promises delivery: a message may be lost, repeated, delayed or reordered, and everything may be gone after
a restart. Only a trigger that JetStream acknowledged is kept by it until a planner has committed its run.
Bodies are bytes (at most MESSAGE_BYTES_MAX); seals and decoding are the callers' business. Callbacks are synchronous
and must not block: they queue.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

OTHER_EVENT: Final = "the message id {!r} was used for another trigger event: send this one under an id of its own"


class Delivery(msgspec.Struct, frozen=True):
    """A message that arrived, with its sequence in its stream."""

    data: bytes
    sequence: int
    subject: str = ""
    message_id: str = ""
    at: int = 0


class Subscription(Protocol):
    """Something that delivers until it is closed."""

    async def close(self) -> None:
        """Stop delivering."""
        ...


class Inbox(Subscription, Protocol):
    """The inbox of one partition, opened by its owner of one epoch: it starts after what the owner before settled."""

    def settle(self, sequence: int) -> None:
        """Say that this message and all before it are committed; sent without waiting."""
        ...


class WorkSource(Subscription, Protocol):
    """Work of one pool, by credit: nothing is delivered that was not wanted."""

    def want(self, count: int) -> None:
        """Let `count` more orders come. An order is this worker's once delivered: the owner repairs what is lost."""
        ...


class Passed(msgspec.Struct, frozen=True):
    """How far a pool's consumer has come: `last` was published, `delivered` was handed out; `made` tells a new stream."""

    last: int
    delivered: int
    made: int


class Published(msgspec.Struct, frozen=True):
    """A trigger event that is kept, with its sequence.

    `unsaid`: an event was kept under its id before, and settled since, so that nobody can tell whether it was the same.
    """

    sequence: int
    unsaid: bool = False


class Beside(Protocol):
    """A way to speak and to listen that does not need the loop of its bus: opened and used on another thread's loop."""

    @property
    def connected(self) -> bool:
        """Tell whether the server answers now."""
        ...

    async def open(self) -> None:
        """Begin to connect, on the running loop."""
        ...

    async def close(self) -> None:
        """Flush, then let go of the connection."""
        ...

    def publish_presence(self, data: bytes) -> None:
        """Say that this worker lives, without waiting."""
        ...

    async def open_control(self, deliver: Callable[[bytes], None]) -> Subscription:
        """Receive what is told to every process."""
        ...


class Bus(Protocol):
    """A bus."""

    @property
    def connected(self) -> bool:
        """Tell whether the server answers now."""
        ...

    @property
    def refusing(self) -> tuple[str, ...]:
        """Name the streams that take no writes and can only be mended by an operator."""
        ...

    async def close(self) -> None:
        """Flush, then let go of the connection."""
        ...

    # owners

    async def open_inbox(self, log: str, partition: int, epoch: int, deliver: Callable[[Delivery], None]) -> Inbox:
        """Take over a partition's inbox. At most INBOX_UNSETTLED_MAX messages are delivered and not yet settled."""
        ...

    async def serve_commands(
        self, log: str, partition: int, handle: Callable[[bytes, Callable[[bytes], None]], None]
    ) -> Subscription:
        """Receive commands to a partition, each with the function that answers it (any time later, without waiting).

        That function never raises: an answer that no message carries is logged, and the asker gets none.
        """
        ...

    async def serve_claims(
        self, log: str, partition: int, handle: Callable[[bytes, Callable[[bytes], None]], None]
    ) -> Subscription:
        """Receive claims of workers to act on the world."""
        ...

    def publish_work(self, pool: str, data: bytes) -> None:
        """Publish an order without waiting for anything."""
        ...

    async def passed(self, pool: str) -> Passed:
        """Read how far a pool's consumer has come; raises UnavailableError."""
        ...

    def publish_feed(self, log: str, data: bytes) -> None:
        """Publish committed events without waiting for anything."""
        ...

    def publish_end(self, place: str, data: bytes) -> None:
        """Tell a process of an end that it waits for, without waiting for anything."""
        ...

    def push(self) -> None:
        """Let what was published so far go out now, ahead of what this turn of the loop still does."""
        ...

    # anyone

    async def tell(self, log: str, partition: int, data: bytes) -> None:
        """Put a message into a partition's inbox and wait until the server has it.

        Many may be under way at once, bounded. Raises UnavailableError when no ack came in time (also when the inbox is
        full): the caller keeps the message and tries again, or lets the sweeper repair it.
        """
        ...

    async def command(self, log: str, partition: int, data: bytes, *, timeout_s: float) -> bytes:
        """Ask a partition's owner and wait for its answer; raises UnavailableError (nobody there, or no answer)."""
        ...

    async def claim(self, log: str, partition: int, data: bytes, *, timeout_s: float) -> bytes:
        """Ask a partition's owner for permission to act; raises UnavailableError."""
        ...

    async def open_feed(self, log: str, deliver: Callable[[bytes], None]) -> Subscription:
        """Receive the feed from now on; gaps are the reader's to fill from the log."""
        ...

    async def open_ends(self, place: str, deliver: Callable[[bytes], None]) -> Subscription:
        """Receive what this process is told of ends at a place of its own; what is lost is to be read."""
        ...

    def publish_control(self, data: bytes) -> None:
        """Tell every process something, without waiting."""
        ...

    async def open_control(self, deliver: Callable[[bytes], None]) -> Subscription:
        """Receive what is told to every process."""
        ...

    def publish_presence(self, data: bytes) -> None:
        """Say that this worker lives, without waiting."""
        ...

    async def open_presence(self, deliver: Callable[[bytes], None]) -> Subscription:
        """Receive the beats of all workers, and owners' probes of this very path."""
        ...

    def beside(self) -> Beside | None:
        """Give a second way, for a thread of its own; None where there is only one loop (in memory)."""
        ...

    # workers

    async def open_work(self, pool: str, deliver: Callable[[Delivery], None]) -> WorkSource:
        """Become one of a pool's workers."""
        ...

    async def publish_lines(self, data: bytes) -> None:
        """Put lines on their way to the api and wait until the server has them; raises UnavailableError."""
        ...

    async def open_lines(self, deliver: Callable[[Delivery], Awaitable[None]]) -> Subscription:
        """Receive lines; a message is settled when `deliver` returns, and comes again when it raises."""
        ...

    # triggers

    async def publish_trigger(self, name: str, data: bytes, *, message_id: str | None = None) -> Published:
        """Publish a trigger event and wait until JetStream has it on disk.

        One under a `message_id` of the last TRIGGER_DUPLICATES_S is not kept again: its sequence is that of the first.
        Raises UnprocessableError when that was another event, UnavailableError without an ack.
        """
        ...

    async def open_triggers(self, deliver: Callable[[Delivery], Awaitable[None]]) -> Subscription:
        """Receive trigger events, shared among planners; settled when `deliver` returns, again later when it raises.

        `subject` is the trigger's name; `message_id` is the Nats-Msg-Id, else empty (then stream and sequence name it).
        """
        ...
