"""A partition while this process holds it: its epoch, its lease, its inbox, and the states of its streams."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from headrace import ids
from headrace.bus.port import Inbox, Subscription
from headrace.log.port import KeptAnswer, Tenure


class Progress:
    """How far an inbox is done: messages may be done out of order, but are settled in order.

    A message of several parts is done when all of them are.
    """

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._known: set[int] = set()
        self._done: set[int] = set()
        self._parts: dict[int, int] = {}
        self._settled = 0

    def arrived(self, sequence: int) -> bool:
        """Note a message that was delivered; False when it is under way or settled already."""
        if sequence <= self._settled or sequence in self._known:
            return False
        self._open.append(sequence)
        self._known.add(sequence)
        return True

    def parted(self, sequence: int, parts: int) -> None:
        """Note that a message has several parts, each of which will be done."""
        self._parts[sequence] = parts

    def done(self, sequence: int) -> int | None:
        """Note a message, or a part of it, as committed; gives the sequence up to which all are, when that moved."""
        if self._parts:
            left = self._parts.pop(sequence, 1) - 1
            if left:
                self._parts[sequence] = left
                return None
        self._done.add(sequence)
        before = self._settled
        while self._open and self._open[0] in self._done:
            self._settled = self._open.popleft()
            self._done.discard(self._settled)
            self._known.discard(self._settled)
        return self._settled if self._settled > before else None


@dataclass(slots=True, eq=False)
class Held:
    """A tenure of one partition. Once `over`, nothing of it is decided, committed, published or answered any more.

    `position` is the last committed one, `drafted` the last one decided. `answering` are answers under idempotency keys
    that are decided and not yet committed. `poisoned` names streams whose own steps fail, with the error. `unproven` are streams
    that were under way when the tenure began and were not set going again yet: whatever they dispatch may be out already;
    they are known once it is `surveyed`.
    """

    log: str
    partition: int
    epoch: int
    position: int
    lease_until: float
    room: Any
    preparer: Any = None
    over: bool = False
    draining: bool = False
    drain_until: float = 0.0
    drafted: int = 0
    opened: bool = False
    inbox: Inbox | None = None
    subscriptions: list[Subscription] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    answering: dict[str, KeptAnswer] = field(default_factory=dict)
    poisoned: dict[str, str] = field(default_factory=dict)
    unproven: set[str] = field(default_factory=set)
    surveyed: bool = False

    @classmethod
    def begin(cls, tenure: Tenure, lease_until: float, room: Any, preparer: Any) -> "Held":
        """Begin a tenure that a heartbeat gave."""
        return cls(
            tenure.log,
            tenure.partition,
            tenure.epoch,
            tenure.last_position,
            lease_until,
            room,
            preparer,
            drafted=tenure.last_position,
        )

    @property
    def renews(self) -> bool:
        """Tell whether what is over here begins anew, in another stream, when it is spoken to again."""
        return getattr(self.room, "renews", False)

    def address(self, stream_id: str) -> str:
        """Give the id under which a stream of the log is spoken to."""
        return ids.address(stream_id) if self.renews else stream_id

    @property
    def place(self) -> tuple[str, int]:
        """Name the partition."""
        return self.log, self.partition

    def live(self, monotonic: float) -> bool:
        """Tell whether this process may still act for the partition: not after its lease, however late it wakes up."""
        return not self.over and monotonic < self.lease_until

    def settle(self, sequence: int) -> None:
        """Settle an inbox message that is committed, as soon as all before it are."""
        upto = self.progress.done(sequence)
        if upto is not None and self.inbox is not None:
            self.inbox.settle(upto)


@dataclass(slots=True, eq=False)
class Stream:
    """A stream's state in memory. `touched` is the number of the last draft that changed it; `weight` its bytes.

    `kept_version` is that of its last snapshot, of `kept_bytes`; `since` counts what has happened after it, of events
    that stand for several each of those. `name` is the stream's id in the log where that is not `stream_id`, under which
    it is spoken to: of what begins anew now and then.
    """

    held: Held
    stream_id: str
    state: Any
    version: int
    workspace: str
    weight: int
    touched: int = 0
    kept_version: int = 0
    kept_bytes: int = 0
    since: int = 0
    name: str = ""

    @property
    def in_log(self) -> str:
        """Give the stream's id in the log."""
        return self.name or self.stream_id
