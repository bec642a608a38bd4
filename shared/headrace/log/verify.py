"""Proof that a log is what was written: walk each partition's chain, and name the first place where it does not hold."""

from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

from headrace.log.chain import GENESIS, Link, follow, leaf
from headrace.log.port import Break, Recorded

LINKS_PAGE: Final = 64


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


async def verify(chained: Chained) -> AsyncIterator[Break | tuple[str, int, int]]:
    """Walk every partition up to where it stands now; yields as `Log.verify` says."""
    for row in await chained.partitions():
        log, partition, last = str(row["log"]), int(row["partition"]), int(row["last_position"])
        yield await _walk(chained, log, partition, last, str(row["hash"])) or (log, partition, last)


async def _walk(chained: Chained, log: str, partition: int, last: int, head: str) -> Break | None:
    position, previous = 0, GENESIS
    while position < last:
        links = await chained.links(log, partition, position, LINKS_PAGE)
        if not links:
            return Break(log, partition, position + 1, f"the chain ends here, the partition at {last}")
        events = await chained.read(log, partition, position, links[-1].last - position)
        for link in links:
            if position == last:
                break
            problem = _check(link, position, previous, events[: link.last - position])
            if problem is not None:
                return Break(log, partition, *problem)
            events = events[link.last - position :]
            position, previous = link.last, link.hash
    if position != last:
        return Break(log, partition, last, f"an append runs past the partition's last position, to {position}")
    if previous.hex() != head:
        return Break(log, partition, last, "the partition's hash is not the last link's")
    return None


def _check(link: Link, position: int, previous: bytes, events: list[Recorded]) -> tuple[int, str] | None:
    """Check one link against its events: the first position that does not hold, and why."""
    if link.first != position + 1:
        return position + 1, "the chain has no link for this position"
    leaves = b""
    for place in range(link.first, link.last + 1):
        event = events[place - link.first] if place - link.first < len(events) else None
        if event is None or event.position != place:
            return place, "the event is missing"
        found = leaf(place, event)
        if found != link.leaves[len(leaves) : len(leaves) + len(found)]:
            return place, f"the event ({event.type} of {event.stream_id}) is not what was written"
        leaves += found
    if leaves != link.leaves or follow(previous, leaves) != link.hash:
        return link.first, "the link does not follow from the one before it"
    return None
