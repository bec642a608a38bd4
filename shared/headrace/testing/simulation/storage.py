"""The simulated way to the log: the memory twin, reached over a network that loses calls and answers.

A call that has left its process takes hold although the process was paused or killed meanwhile, as with a database;
what a process does with the answer waits until the process goes on.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

from headrace import ids
from headrace.clock import Clock
from headrace.decider import AnyRow, Laid
from headrace.errors import HeadraceError, UnavailableError
from headrace.log import rows as projection
from headrace.log.memory import MemoryLog
from headrace.log.port import Appended, Batch, Break, DataError, Holdings, Recorded
from headrace.log.tables import TABLES
from headrace.testing.simulation.loop import Process
from headrace.testing.simulation.weather import CALM, Weather
from headrace.testing.views import at_once
from headrace.vocabulary import LOG_APPROVALS, LOG_CATALOGUE, LOG_FLOW, LOG_PARTITIONS, LOG_RUNS

SILENT_S: Final = 1.0
"""How long a silent log keeps a caller waiting before the connection breaks."""
FAR: Final = 0.15
"""The share of reads that take a way of their own; the others are answered in the same turn, which is cheaper."""
PARTITIONS: Final = {LOG_RUNS: 3, LOG_CATALOGUE: 1, LOG_APPROVALS: 2, LOG_FLOW: 2}
"""Partitions of a simulated installation: enough for owners to share, few enough for runs to share one."""
APPEND_S: Final = 0.08
"""How long an append takes at most."""
LATE_S: Final = 9.0
"""How long it takes at most when it is late: longer than a lease."""

NOTICED: Final = 0.6
"""The share of sessions whose end the log notices at once."""


TOOLS: Final = "tools"
_shown_once = functools.lru_cache(maxsize=64)(projection.shown)


@contextmanager
def small() -> Iterator[None]:
    """Let every new database have PARTITIONS for a while, as everybody in a schedule is to believe."""
    before = dict(LOG_PARTITIONS)
    LOG_PARTITIONS.update(PARTITIONS)
    try:
        yield
    finally:
        LOG_PARTITIONS.update(before)


class Rows(dict[tuple[Any, ...], Any]):
    """The rows of a table. They are made storable when somebody reads them: most are written again before."""

    def __init__(self, rows: Mapping[tuple[Any, ...], Any] | None = None) -> None:
        super().__init__(rows or {})
        self.fresh: dict[tuple[Any, ...], AnyRow] = {}

    def settle(self) -> "Rows":
        """Make storable what was written since the last time."""
        if self.fresh:
            self.update({key: projection.values(row) for key, row in self.fresh.items()})
            self.fresh.clear()
        return self

    def values(self) -> Any:
        """Give all rows."""
        self.settle()
        return super().values()


class World(MemoryLog):
    """The one log of a schedule. `committed` hears of every event as it takes hold."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, partitions=PARTITIONS)
        self._rows = {name: Rows() for name in TABLES}
        self.committed: Callable[[Recorded], None] = lambda _event: None
        self.overtaken: list[str] = []
        """Appends that took hold although one of a later epoch had, or behind another position than they name."""
        self._newest: dict[tuple[str, int], int] = {}

    def fork(self, clock: Clock) -> "World":
        """Give a log of its own that begins with what this one holds."""
        copy = World(clock)
        for place, part in self._parts.items():
            other = copy._parts[place]
            other.epoch, other.format = part.epoch, part.format
            other.events, other.links = list(part.events), list(part.links)
        copy._streams = {key: list(events) for key, events in self._streams.items()}
        copy._rows = {name: Rows(cast("Rows", rows).settle()) for name, rows in self._rows.items()}
        copy._answers = dict(self._answers)
        copy._blobs = dict(self._blobs)
        return copy

    def _shown(self, table: str, row: projection.Values) -> dict[str, Any]:
        """Tools are announced once for all schedules, and read again and again."""
        return dict(_shown_once(table, row)) if table == TOOLS else projection.shown(table, row)

    def store(self, bodies: Mapping[str, bytes]) -> None:
        """Keep bodies whose digests are known to be right."""
        self._blobs.update(bodies)

    def body(self, digest: str) -> bytes | None:
        """Give a body, for those who watch from outside."""
        return self._blobs.get(digest)

    def _check(self, batch: Batch) -> None:
        """Check what a mistake in the host would break; bytes that our own encoder made are not read again."""
        versions: dict[str, int] = {}
        for event in batch.events:
            stream = (batch.log, event.stream_id)
            before = versions.get(event.stream_id)
            if before is None:
                before = len(self._streams.get(stream, ()))
            if event.version != before + 1 or ids.partition_of(event.stream_id) != batch.partition:
                message = f"version {event.version} of {event.stream_id} does not follow {before} here"
                raise DataError(message)
            versions[event.stream_id] = event.version

    async def append_events(self, batches: Sequence[Batch]) -> Appended:
        """Commit all batches that are not stale, as its twin does, but leave rows as they came."""
        good = [batch for batch in batches if self._stands(batch)]
        stale = tuple((batch.log, batch.partition) for batch in batches if batch not in good)
        if kept := self._repeated(good):
            return Appended({}, stale, kept)
        for batch in good:
            self._check(batch)
        for batch in good:
            for row in batch.rows:
                key = (
                    projection.key_of(row.table, row.values)
                    if isinstance(row, Laid)
                    else tuple(row.columns[column] for column in TABLES[row.table].key)
                )
                cast("Rows", self._rows[row.table]).fresh[key] = row
            self._commit(batch, {})
        positions = {(batch.log, batch.partition): batch.expected_position + len(batch.events) for batch in good}
        return Appended(positions, stale)

    def _commit(self, batch: Batch, tables: Any) -> None:
        place = batch.log, batch.partition
        before = self._parts[place].last
        if batch.epoch < self._newest.get(place, 0) or before != batch.expected_position:
            told = f"epoch {batch.epoch} behind position {batch.expected_position}, after epoch {self._newest.get(place)} behind {before}"
            self.overtaken.append(f"{batch.log}/{batch.partition}: an append of {told}")
        self._newest[place] = max(batch.epoch, self._newest.get(place, 0))
        super()._commit(batch, tables)
        for recorded in self._parts[batch.log, batch.partition].events[before:]:
            self.committed(recorded)


class SimLog:
    """One process's connection to the log. Once `cut`, nothing of the process reaches it any more."""

    def __init__(self, log: World, process: Process, weather: Weather) -> None:
        self.incarnation = log.incarnation
        self.cut = False
        self._log = log
        self._process = process
        self._weather = weather

    @property
    def away(self) -> bool:
        """Tell whether the process does not reach the log now."""
        return self.cut or self._weather.log_away

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._log, name)

        async def call(*given: Any, **named: Any) -> Any:
            rates = self._weather.rates
            if self.away or self._weather.happens("log silent", rates.log_silent):
                await asyncio.sleep(SILENT_S)
                message = "the log does not answer"
                raise UnavailableError(message)
            if rates is not CALM and self._weather.drawn() < FAR:
                return await self._travel(lambda: method(*given, **named))
            return await method(*given, **named)

        setattr(self, name, call)
        return call

    async def heartbeat(
        self, owner: str, formats: Mapping[str, int], *, lease_s: float, ended: Callable[[], None] | None = None
    ) -> Holdings:
        """Renew leases. A call that is given up breaks the session it was made on, or does not."""
        if self.away or self._weather.happens("heartbeat lost", self._weather.rates.log_silent):
            if not self.away:
                self.part(owner)
            await asyncio.sleep(SILENT_S)
            message = "the log does not answer"
            raise UnavailableError(message)
        heard = None if ended is None else partial(self._process.post, ended)
        found: Holdings = await self._travel(lambda: self._log.heartbeat(owner, formats, lease_s=lease_s, ended=heard))
        return found

    def part(self, owner: str) -> None:
        """Let the log notice that an owner's session has ended; or not, so that its lease runs out."""
        if self._weather.happens("session ended", NOTICED):
            self._log.end_session(owner)

    async def append_events(self, batches: Sequence[Batch]) -> Appended:
        """Append: it can fail before it takes hold, and after."""
        weather = self._weather
        if self.away or weather.happens("append refused", weather.rates.append_refused):
            message = "the log did not answer, and wrote nothing"
            raise UnavailableError(message)
        unknown = weather.happens("append unknown", weather.rates.append_unknown)
        late = weather.happens("append late", weather.rates.append_late)
        way_s = weather.drawn() * (LATE_S if late else APPEND_S / 2)
        done: Appended = await self._travel(lambda: self._log.append_events(batches), way_s)
        if unknown:
            message = "the log has written, but its answer got lost"
            raise UnavailableError(message)
        return done

    def verify(self) -> AsyncIterator[Break | tuple[str, int, int]]:
        """Walk every chain."""
        return self._log.verify()

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _travel(self, call: Callable[[], Awaitable[Any]], way_s: float = 0.0) -> Any:
        """Let the world carry a call there and its answer back."""
        loop, weather = self._process.loop, self._weather
        answer: asyncio.Future[Any] = loop.create_future()

        def arrive() -> None:
            found: Any = None
            problem: HeadraceError | None = None
            try:
                found = at_once(call())  # type: ignore[arg-type]  # the memory log's are coroutines
            except HeadraceError as raised:
                problem = raised
            self._process.post_later(min(way_s, APPEND_S), _settle, answer, found, problem)

        loop.later(way_s or weather.delay_s(), arrive)
        return await answer


def _settle(answer: asyncio.Future[Any], found: Any, problem: HeadraceError | None) -> None:
    if answer.done():
        return
    if problem is None:
        answer.set_result(found)
    else:
        answer.set_exception(problem)
