"""The checks of a whole installation, after a round: `check(log, history, now_ms=…)` gives every broken promise.

It reads through the reader port alone, so that it serves PostgresLog and MemoryLog alike. What FACTS C asks for:
1 acknowledged is kept, 2 an effect at most once a key, 3 no run stuck, 4 histories whole and chained, 5 rebuilt equals
live, 6 readers saw everything, 7 bounded, 8 (`History.missing`) every planned fault fired.
"""

import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from headrace.log import rebuild
from headrace.log.chain import Link
from headrace.log.port import ReadLog, Recorded
from headrace.testing.checker import projections, promises
from headrace.testing.checker.histories import HISTORY, Watch
from headrace.testing.checker.history import Finding, History

PAGE: Final = 1_000
LINKS_PAGE: Final = 256
Rooms = Callable[[Any], Sequence[Any]]


class Checked(ReadLog, Protocol):
    """A log as the checker reads it."""

    async def links(self, log: str, partition: int, after: int, limit: int) -> list[Link]:
        """Read a partition's links that begin after a position, in order."""
        ...

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Give the bodies that are known."""
        ...


async def check(
    log: Any, history: History, *, now_ms: int, rooms: Rooms | None = None, seen: Watch | None = None
) -> list[Finding]:
    """Check everything. `rooms` makes the rooms for a rebuild in place (None: not rebuilt); nobody may own meanwhile.

    `seen` is a watch that has seen every event as it took hold, and said what was wrong with it.

    Raises UnavailableError when the log does not answer.
    """
    found: list[Finding] = []
    events: list[Recorded] = []
    last: dict[tuple[str, int], int] = {}
    for row in await log.partitions():
        read, broken = await _partition(log, row)
        events += read
        found += broken
        last[row["log"], row["partition"]] = row["last_position"]
    watch = seen
    if watch is None:
        plans = await _plans(log, events)
        watch = Watch(plans.get)
        for recorded in sorted(events, key=lambda one: (_ORDER.get(one.log, 0), one.partition, one.position)):
            found += watch.see(recorded)
    elif watch.seen != len(events):
        found.append(Finding(HISTORY, f"{len(events)} events are on record, and {watch.seen} took hold"))
    found += await settled(log, now_ms)
    found += promises.answers(history, watch)
    found += promises.effects(history, watch)
    found += promises.children(watch)
    found += promises.taken_back(watch)
    found += promises.readings(history, last, watch)
    found += promises.bounds(history)
    found += await projections.compare(log, watch)
    if rooms is not None:
        report = await rebuild.rebuild(log, rooms)
        found += [Finding("rebuilt equals live", example) for example in report.examples]
    return found


_ORDER: Final = {"approvals": -1}
"""Approvals are read first: a run's own history refers to what they became."""


async def settled(log: ReadLog, now_ms: int) -> list[Finding]:
    """Find runs that neither ended nor wait for something named that is really still to come."""
    found: list[Finding] = []
    after: str | None = None
    while True:
        rows = await log.rows("runs", {"status": promises.OPEN}, order="id", descending=False, after=after, limit=PAGE)
        for row in rows:
            why = await _stuck(log, row, now_ms)
            if why is not None:
                found.append(Finding("no run stuck", why, row["id"]))
        if len(rows) < PAGE:
            return found
        after = rows[-1]["id"]


async def _stuck(log: ReadLog, row: dict[str, Any], now_ms: int) -> str | None:
    """Say why an open run counts as stuck; None when it waits, named, for somebody outside."""
    named = [waits["for"] for waits in (row["detail"] or {}).get("waiting", ())]
    waits = row["waiting_for"] or (named[0] if named else None)
    if row["status"] == "queued" and waits == "concurrency":
        return await _held_up(log, row)
    if row["status"] != "waiting":
        return f"it is {row['status']}"
    if waits == "approval":
        asked = await log.rows("approvals", {"subject": row["id"], "status": "pending"}, limit=1)
        return None if asked else "it waits for an approval that nobody can give"
    if waits == "concurrency":
        return await _held_up(log, row)
    if waits == "resume":
        return await _rests_alone(log, row)
    if waits in promises.OUTSIDE:
        return None
    if waits in promises.CLOCKED and row["wake_at"] is not None and row["wake_at"] > now_ms:
        return f"it waits for {waits} until {row['wake_at']} (now {now_ms}), which is still to come"
    return f"it waits for {waits}, due at {row['wake_at']}, now {now_ms}"


async def _rests_alone(log: ReadLog, row: dict[str, Any]) -> str | None:
    """Say why a run that rests with its parent is stuck: the parent does not rest."""
    held_by = [known["parent_id"] for known in row["detail"]["waiting"] if known.get("parent_id")]
    for run_id in held_by:
        parent = await log.row("runs", {"id": run_id})
        rests = parent is not None and any(each["for"] == "resume" for each in parent["detail"]["waiting"])
        if not rests:
            return f"it rests with its parent {run_id}, which goes on"
    return None


async def _held_up(log: ReadLog, row: dict[str, Any]) -> str | None:
    """Say why a run that waits for a key is stuck: nobody who is named as its holder is still open."""
    named = [holder for waits in (row["detail"] or {}).get("waiting", ()) for holder in waits.get("held_by", ())]
    for run_id in named:
        holder = await log.row("runs", {"id": run_id})
        if holder is not None and holder["status"] == "waiting" and holder["waiting_for"] != "concurrency":
            return None
    return f"it waits for a key that is held by {', '.join(named) or 'nobody'}"


async def _plans(log: Checked, events: Sequence[Recorded]) -> dict[str, bytes]:
    digests = sorted({promises.plan_digest(one) for one in events if one.type == "run.queued"})
    found: dict[str, bytes] = {}
    for start in range(0, len(digests), PAGE):
        found |= await log.get_blobs(digests[start : start + PAGE])
    return found


# the chain, hashed anew from what docs/architecture says of it


async def _partition(log: Checked, row: dict[str, Any]) -> tuple[list[Recorded], list[Finding]]:
    name, partition, last = str(row["log"]), int(row["partition"]), int(row["last_position"])
    events: list[Recorded] = []
    while len(events) < last:
        page = await log.read(name, partition, events[-1].position if events else 0, PAGE)
        if not page:
            break
        events += page
    where = f"{name}/{partition}"
    if [one.position for one in events] != list(range(1, last + 1)):
        return events, [Finding("history", f"{where}: positions are not 1 to {last}")]
    links: list[Link] = []
    while not links or links[-1].last < last:
        page_of_links = await log.links(name, partition, links[-1].last if links else 0, LINKS_PAGE)
        if not page_of_links:
            break
        links += page_of_links
    previous, position = bytes(32), 0
    for link in links:
        leaves = b"".join(_leaf(one) for one in events[position : link.last])
        if link.first != position + 1 or link.leaves != leaves:
            return events, [Finding("history", f"{where}: the chain breaks at {position + 1}")]
        previous, position = hashlib.sha256(previous + leaves).digest(), link.last
        if link.hash != previous:
            return events, [Finding("history", f"{where}: the link up to {position} does not follow")]
    if position != last or (last and previous.hex() != row["hash"]):
        return events, [Finding("history", f"{where}: the chain ends at {position}, the partition at {last}")]
    return events, []


def _leaf(event: Recorded) -> bytes:
    texts = (event.stream_id, event.type, event.workspace)
    fields = [*(text.encode() for text in texts), event.data, event.meta]
    head = struct.pack(">qiiq", event.position, event.version, event.schema, event.at)
    return hashlib.sha256(head + b"".join(struct.pack(">i", len(field)) + field for field in fields)).digest()
