"""Proof that a log is what was written: walk each partition's chain, and name the first place where it does not hold."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from headrace.log.chain import GENESIS, HASH_BYTES, Link, follow, leaf
from headrace.log.port import Break, Recorded

LINKS_PAGE: Final = 64
Ranges = Sequence[tuple[int, int]]
"""Positions in order: from the first to the second, both included."""
Archived = Callable[[str, int], Awaitable[Ranges]]
"""Tells which positions of a partition were archived: their events are away, and the chain's leaf stands for each."""


class Chained(Protocol):
    """A log whose chain can be read."""

    async def partitions(self) -> list[dict[str, Any]]:
        """Read partitions, with `last_position` and the chain's `hash` as hex digits."""
        ...

    async def links(self, log: str, partition: int, after: int, limit: int) -> list[Link]:
        """Read a partition's links that begin after a position, in order."""
        ...

    async def read(self, log: str, partition: int, after: int, limit: int) -> list[Recorded]:
        """Read a partition's events after a position, in order."""
        ...


async def nothing_archived(_log: str, _partition: int) -> Ranges:
    """Say that every event is in the log."""
    return ()


async def verify(
    chained: Chained, archived: Archived = nothing_archived
) -> AsyncIterator[Break | tuple[str, int, int]]:
    """Walk every partition up to where it stands now; yields as `Log.verify` says."""
    for row in await chained.partitions():
        log, partition, last = str(row["log"]), int(row["partition"]), int(row["last_position"])
        walk = _Walk(chained, log, partition, await archived(log, partition))
        yield await walk.to(last, str(row["hash"])) or (log, partition, last)


class _Walk:
    """The walk of one partition's chain."""

    def __init__(self, chained: Chained, log: str, partition: int, archived: Ranges) -> None:
        self._chained, self._log, self._partition = chained, log, partition
        self._archived = deque(archived)
        self._position, self._previous = 0, GENESIS

    async def to(self, last: int, head: str) -> Break | None:
        """Walk to where the partition stands."""
        while self._position < last:
            links = await self._chained.links(self._log, self._partition, self._position, LINKS_PAGE)
            if not links:
                return self._break(self._position + 1, f"the chain ends here, the partition at {last}")
            size = links[-1].last - self._position
            read = await self._chained.read(self._log, self._partition, self._position, size)
            events = {event.position: event for event in read}
            for link in links:
                if self._position == last:
                    break
                problem = self._check(link, events)
                if problem is not None:
                    return self._break(*problem)
                self._position, self._previous = link.last, link.hash
        if self._position != last:
            return self._break(last, f"an append runs past the partition's last position, to {self._position}")
        if self._previous.hex() != head:
            return self._break(last, "the partition's hash is not the last link's")
        return None

    def _break(self, position: int, reason: str) -> Break:
        return Break(self._log, self._partition, position, reason)

    def _check(self, link: Link, events: dict[int, Recorded]) -> tuple[int, str] | None:
        """Check one link against its events: the first position that does not hold, and why."""
        if link.first != self._position + 1:
            return self._position + 1, "the chain has no link for this position"
        if len(link.leaves) != (link.last - link.first + 1) * HASH_BYTES or (
            follow(self._previous, link.leaves) != link.hash
        ):
            first_wrong = next(self._wrong(link, events), None)
            return first_wrong or (link.first, "the link does not follow from the one before it")
        return next(self._wrong(link, events), None)

    def _wrong(self, link: Link, events: dict[int, Recorded]) -> Iterator[tuple[int, str]]:
        """Give the positions of a link whose events are not what its leaves say."""
        for number, place in enumerate(range(link.first, link.last + 1)):
            event = events.get(place)
            if event is None:
                if not self._away(place):
                    yield place, "the event is missing"
            elif leaf(place, event) != link.leaves[number * HASH_BYTES : (number + 1) * HASH_BYTES]:
                yield place, f"the event ({event.type} of {event.stream_id}) is not what was written"

    def _away(self, position: int) -> bool:
        """Tell whether the event of a position is archived; positions are asked for in order."""
        while self._archived and self._archived[0][1] < position:
            self._archived.popleft()
        return bool(self._archived) and self._archived[0][0] <= position
