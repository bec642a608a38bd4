"""States of streams: from memory, else folded from the log, all that a batch lacks in one query a log."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headrace import ids
from headrace.decider import MissingError
from headrace.events import registry
from headrace.host.cache import STATES_BYTES_MAX, STATES_MAX, WeightedCache
from headrace.host.cadence import READ_TIMEOUT_S
from headrace.host.calling import guarded
from headrace.host.failures import PoisonError, SpoiltError
from headrace.host.items import Item
from headrace.host.library import CachedLibrary
from headrace.host.tenure import Held, Stream
from headrace.log.port import History, Log, Recorded

STREAM_BYTES_MIN = 2_048
"""What a state without history is taken to weigh."""
RESTING_MAX = 2_000
"""States that are let go at once because nothing happens to them: more would hold up the loop that decides."""
SNAPSHOT_EVENTS = 200
"""Events after which a stream's state is kept again, if it is small."""
SNAPSHOT_EVENTS_MAX = 5_000
"""Events that a takeover folds at most behind a snapshot: a tenth of a second."""
EVENT_BYTES = 400
"""What an event takes in the log, about."""
FOLDED_BYTES_MAX = 256 * 1024
"""Events of one stream that are folded in one go: about 20 ms. Leases are renewed, and beats heard, in between."""
SNAPSHOT_SEPARATOR = b"\n"


class States:
    """The states that this process has in memory, and how it makes more."""

    def __init__(
        self, log: Log, library: CachedLibrary, *, entries_max: int = STATES_MAX, bytes_max: int = STATES_BYTES_MAX
    ) -> None:
        self._log = log
        self._library = library
        self._cache = WeightedCache[str, Stream](entries_max=entries_max, weight_max=bytes_max)
        self._histories: dict[str, History] = {}
        self._names: dict[str, str] = {}
        self._pinned: set[str] = set()
        self._read: set[str] = set()

    def __len__(self) -> int:
        return len(self._cache)

    async def load(self, items: Sequence[Item]) -> None:
        """Read the histories of all streams that are not in memory, and fold the long ones; raises UnavailableError.

        Until the next call the streams of these items stay in memory.
        """
        lacking: dict[str, tuple[Any, set[str]]] = {}
        self._histories.clear()
        self._names.clear()
        self._pinned = {item.stream_id for item in items}
        self._read = {item.stream_id for item in items if item.minted}
        for item in items:
            if not item.minted and not item.held.over and item.stream_id not in self._cache:
                lacking.setdefault(item.held.log, (item.held.room, set()))[1].add(item.stream_id)
        for log, (room, stream_ids) in lacking.items():
            async with asyncio.timeout(READ_TIMEOUT_S):
                if getattr(room, "renews", False):
                    await self._load_uses(log, room, sorted(stream_ids))
                else:
                    self._histories.update(await self._log.histories(log, room.fingerprint, sorted(stream_ids)))
            self._read |= stream_ids
        long = {name: history for name, history in self._histories.items() if _bytes(history) > FOLDED_BYTES_MAX}
        holders = {item.stream_id: item.held for item in items if item.stream_id in long and not item.held.over}
        for stream_id, held in holders.items():
            await self._fold(held, stream_id, long[stream_id])

    async def _load_uses(self, log: str, room: Any, addresses: Sequence[str]) -> None:
        """Read the histories of the streams in which these are used now, if any is."""
        names = await self._log.uses(log, addresses)
        if names:
            found = await self._log.histories(log, room.fingerprint, sorted(names.values()))
            self._histories.update({address: found[name] for address, name in names.items()})
        self._names.update(names)

    def stream(self, held: Held, stream_id: str, workspace: str, now: int = 0) -> Stream:
        """Give a stream's state; raises MissingError while folding it needs a body.

        What is over and begins anew does so in a stream of `now`.
        Raises SpoiltError when its history was not read: then all is to be done again.
        """
        known = self._cache.get(stream_id)
        if known is not None and known.held is held:
            renews = held.renews and (known.version == 0 or held.room.finished(known.state))
            return self.renewed(known, workspace, now) if renews else known
        if stream_id not in self._read:
            raise SpoiltError(RuntimeError(f"the history of {stream_id} was not read"))
        name = self._names.get(stream_id) or (ids.use(stream_id, now) if held.renews else "")
        fold = _Fold(held, stream_id, workspace, self._histories.get(stream_id), name)
        for recorded in fold.events:
            fold.add(recorded)
        return self._made(fold)

    def renewed(self, before: Stream, workspace: str, now: int) -> Stream:
        """Give the stream in which what is over in `before` goes on from `now`."""
        at = max(now, ids.millis_of(before.in_log) + 1)
        return self._made(_Fold(before.held, before.stream_id, workspace, None, ids.use(before.stream_id, at)))

    def _made(self, fold: "_Fold") -> Stream:
        made = fold.stream()
        self._cache.put(made.stream_id, made, made.weight)
        return made

    async def _fold(self, held: Held, stream_id: str, history: History) -> None:
        """Fold a long history, and let others have the loop now and then; what is amiss with it `stream` says again."""
        try:
            fold = guarded(_Fold, held, stream_id, "", history, self._names.get(stream_id, ""))
            size = 0
            for recorded in fold.events:
                size += len(recorded.data)
                if size > FOLDED_BYTES_MAX:
                    size = 0
                    await asyncio.sleep(0)
                    if held.over:
                        return
                while True:
                    try:
                        guarded(fold.add, recorded)
                    except MissingError as missing:
                        if await self.fetch(missing.digests):
                            return
                    else:
                        break
        except (PoisonError, SpoiltError):
            return
        if not held.over:  # it may have ended while a body was fetched
            self._made(fold)

    def grown(self, stream: Stream, weight: int, parts: int) -> None:
        """Note that a state weighs more now, by so many events."""
        stream.weight += weight
        stream.since += parts
        self._cache.put(stream.stream_id, stream, stream.weight)

    def measured(self, stream: Stream, body: int) -> None:
        """Note what a state weighs that was just written: all that it has forgotten counts no more."""
        stream.kept_version, stream.kept_bytes, stream.since = stream.version, body, 0
        stream.weight = STREAM_BYTES_MIN + body
        self._cache.put(stream.stream_id, stream, stream.weight)

    def forget(self, stream_id: str) -> None:
        """Let one state go that is not what will be committed."""
        self._cache.pop(stream_id)
        self._histories.pop(stream_id, None)
        self._read.discard(stream_id)

    def retire(self, stream: Stream) -> None:
        """Let one state go that is over, unless it is just being used; not that in which its address is used again."""
        if stream.stream_id not in self._pinned and self._cache.get(stream.stream_id) is stream:
            self._cache.pop(stream.stream_id)

    def drop(self, held: Held) -> None:
        """Let all states of a tenure go."""
        self._cache.drop(lambda stream: stream.held is held)

    @property
    def full(self) -> bool:
        """Tell whether there are more states than are to be kept."""
        return self._cache.full

    def trim(self, committed: int) -> list[Stream]:
        """Evict the oldest beyond the bounds, but none that a draft after `committed` has touched; gives them."""
        return [stream for _, stream in self._cache.trim(self._may_go(committed))]

    def rest(self, committed: int) -> list[Stream]:
        """Evict some that nothing has happened to for a while: what is parked costs no memory; gives them."""
        return [stream for _, stream in self._cache.grow_old(self._may_go(committed), RESTING_MAX)]

    def _may_go(self, committed: int) -> Callable[[Stream], bool]:
        return lambda stream: stream.touched <= committed and stream.stream_id not in self._pinned

    def keep(self, bodies: Mapping[str, bytes]) -> None:
        """Bring bodies into the library that are on their way to the log: the next decision may need them before."""
        self._library.add(bodies)

    async def fetch(self, digests: Iterable[str]) -> set[str]:
        """Bring bodies into the library; gives the digests that are in no store. Raises UnavailableError."""
        wanted = sorted(set(digests))
        async with asyncio.timeout(READ_TIMEOUT_S):
            found = await self._log.get_blobs(wanted)
        self._library.add(found)
        return set(wanted) - found.keys()


def is_due(stream: Stream) -> bool:
    """Tell whether a state is to be kept again: a large one less often, so that it costs no more than its events do."""
    events = min(max(SNAPSHOT_EVENTS, stream.kept_bytes // EVENT_BYTES), SNAPSHOT_EVENTS_MAX)
    return stream.since >= events


def snapshot(stream: Stream) -> tuple[int, bytes]:
    """Write a state for the snapshot cache: its version, and its bytes behind its workspace."""
    body = stream.held.room.snapshot(stream.state)
    return stream.version, stream.workspace.encode() + SNAPSHOT_SEPARATOR + body


class _Fold:
    """A state that is made of its snapshot and the events after it, which stand in `events`."""

    def __init__(self, held: Held, stream_id: str, workspace: str, history: History | None, name: str = "") -> None:
        self.held, self.stream_id, self.workspace, self._name = held, stream_id, workspace, name
        self.events = history.events if history is not None else ()
        self._version = self._kept_version = self._kept_bytes = self._bytes = self._since = 0
        if history is not None and history.snapshot is not None:
            owner, _, body = history.snapshot.partition(SNAPSHOT_SEPARATOR)
            self.workspace, self._state = owner.decode(), held.room.restore(body)
            self._version = self._kept_version = history.snapshot_version
            self._kept_bytes, self._bytes = len(history.snapshot), len(body)
            return
        if self.events:
            self.workspace = self.events[0].workspace
        self._state = held.room.initial(name or stream_id, self.workspace)

    def add(self, recorded: Recorded) -> None:
        """Fold an event; what it raises leaves the state as it was."""
        event = registry.read(recorded)
        self._state = self.held.room.evolve(self._state, event, recorded.at)
        self._since += len(event.parts)
        self._bytes, self._version = self._bytes + len(recorded.data), recorded.version

    def stream(self) -> Stream:
        """Give what is folded."""
        return Stream(
            self.held,
            self.stream_id,
            self._state,
            self._version,
            self.workspace,
            STREAM_BYTES_MIN + self._bytes,
            kept_version=self._kept_version,
            kept_bytes=self._kept_bytes,
            since=self._since,
            name=self._name,
        )


def _bytes(history: History) -> int:
    return sum(len(recorded.data) for recorded in history.events)
