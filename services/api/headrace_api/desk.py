"""What the routes work with: log, bus, feed, presence, tokens and the way to owners, wired once."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from headrace.bus.opening import until_open
from headrace.bus.port import Bus, Delivery, Subscription
from headrace.clock import Clock
from headrace.errors import NotFoundError
from headrace.keys import Keys
from headrace.log.months import Away, Straggler
from headrace.log.port import DataError, Log, Parked, Recorded
from headrace.plans import model
from headrace.vocabulary import LOG_CATALOGUE
from headrace.wire import Line
from headrace_api.admission import Tokens
from headrace_api.commands import Commander
from headrace_api.endings import Endings
from headrace_api.feed import Feed, lines_of
from headrace_api.presence import Presence
from headrace_api.turns import Turns

PLANS_CACHED_MAX: Final = 256

_log = logging.getLogger(__name__)
_lines = msgspec.json.Decoder(list[Line])


class Desk:
    """The api's working parts. It keeps nothing that is not in the log, but what makes answers fast."""

    def __init__(
        self,
        log: Log,
        bus: Bus,
        keys: Keys,
        clock: Clock,
        *,
        commander: Commander | None = None,
        stragglers: Callable[[], Awaitable[Sequence[Straggler]]] | None = None,
        gone: Callable[[str, str], Awaitable[Recorded | Away | None]] | None = None,
    ) -> None:
        self.log, self.bus, self.keys, self.clock = log, bus, keys, clock
        self.stragglers = stragglers or _nobody
        self.gone = gone or _nothing
        """Tells why a run or an approval of a workspace has no row: as `PostgresLog.gone` says."""
        self.commander = commander or Commander(bus, keys, clock)
        self.tokens = Tokens(log, clock)
        self.presence = Presence(clock, keys)
        self.presence.served = self.commander.ask_again
        self.feed = Feed()
        self.turns = Turns()
        self.endings = Endings(clock)
        self.feed.each(lambda event: self.tokens.forget(event) if event.log == LOG_CATALOGUE else None)
        self._plans: dict[str, model.Plan] = {}
        self.ending = False
        """Whether this api ends: whoever follows something here is told to come again."""

    async def open(self) -> Sequence[Subscription]:
        """Begin to listen: feed, presence, lines. Reads work before this, and while the bus is away.

        Again until log and bus answer: an api that begins while one of them breaks is there when they are back.
        """
        counts: dict[str, int] = {}
        for row in await until_open(self.log.partitions, self.clock):
            counts[row["log"]] = counts.get(row["log"], 0) + 1
        self.commander.partitions.update(counts)
        ways: list[Callable[[], Awaitable[Subscription]]] = [
            *self.feed.ways(self.bus),
            partial(self.bus.open_ends, self.endings.place, self.endings.deliver),
            partial(self.bus.open_presence, self.presence.deliver),
            partial(self.bus.open_lines, self._keep_lines),
        ]
        opened = [await until_open(way, self.clock) for way in ways]
        self.endings.listening = True
        return opened

    def end(self) -> None:
        """Let everybody go who waits or follows: this api ends."""
        self.ending = True
        self.feed.wake_all()

    async def _keep_lines(self, delivery: Delivery) -> None:
        """Store lines; what is none is parked, and a store that is away makes the message come again."""
        try:
            lines = _lines.decode(delivery.data)
            await self.log.put_lines(lines)
        except (msgspec.ValidationError, msgspec.DecodeError, DataError) as problem:
            _log.warning("lines that cannot be kept are parked: %s", problem)
            parked = Parked(source="lines", error=str(problem), body=delivery.data, at=self.clock.now_ms())
            await self.log.park(parked)
            return
        for run_id in {line.run_id for line in lines}:
            self.feed.notify(lines_of(run_id))

    async def plan(self, digest: str) -> model.Plan | None:
        """Give a plan by its digest; plans never change, so they are kept."""
        known = self._plans.get(digest)
        if known is None:
            body = (await self.log.get_blobs([digest])).get(digest)
            if body is None:
                return None
            known = model.parse(body)
            if len(self._plans) >= PLANS_CACHED_MAX:
                self._plans.pop(next(iter(self._plans)))
            self._plans[digest] = known
        return known

    async def check_own(self, digest: str, workspace: str) -> None:
        """Refuse a body that was not put for this workspace, as if there were none; raises NotFoundError."""
        if digest not in await self.log.blobs_of(workspace, [digest]):
            message = f"there is no body {digest} in this workspace"
            raise NotFoundError(message)

    async def own_row(self, table: str, key: dict[str, Any], workspace: str) -> dict[str, Any] | None:
        """Read a projection row, if it is the workspace's own."""
        row = await self.log.row(table, key)
        return row if row is not None and row["workspace"] == workspace else None


async def _nobody() -> Sequence[Straggler]:
    """Name no stream that holds a month in the log: a log without months."""
    return ()


async def _nothing(_: str, __: str) -> Recorded | Away | None:
    """Know nothing of what has no row: a log without months."""
    return None
