"""Whether streams still take what is written to them, and what is done about one that does not.

nats-server 2.15 refuses every later write to a stream of which one write failed, also when its disk has room again: it
answers nothing, refuses to purge, and goes on like that until it is restarted or the stream is made anew (measured).
Whoever publishes and hears nothing says so (`suspect`); of orders and the feed, which are published without an ack,
`said` is held against the stream's last sequence; so are events of triggers that other clients publish, which reach
us whether or not their stream keeps them. A suspected stream is written to: an answer clears it. One that
answers nothing for `Patience.stuck_s`, although the server tells of it and nobody else gets anything into it, is stuck. What the
log can say again (work, inboxes, the feed; lines, which are telemetry) is deleted and made anew. Trigger events of users
exist nowhere else: their stream is left alone, and `refusing` names it until it takes writes again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from headrace import telemetry
from headrace.bus import subjects, topology
from headrace.bus.answers import ApiError, answer_of
from headrace.bus.connection import Connection
from headrace.clock import Clock, until_tick
from headrace.errors import UnavailableError

logger = logging.getLogger(__name__)
REMEDY: Final = (
    "restart nats-server once its disk has room: nothing that it has acknowledged is lost by that, and until then no "
    "trigger event is taken"
)
FULL_BY_LIMIT: Final = "maximum"
"""How NATS begins to describe that a stream is at its own limit: such a stream is well."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """In seconds: how long a stream must answer no write to count as stuck, and how often and how long it is asked."""

    stuck_s: float = 20.0
    look_every_s: float = 5.0
    probe_s: float = 5.0


class Suspicion(msgspec.Struct):
    """A stream that may be stuck: since when (monotonic seconds), made when, and its last sequence then."""

    since: float
    made: str
    last: int


class Writes:
    """Looks after the streams that a guardian keeps."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        streams: dict[str, topology.Body],
        remake: Callable[[str], Awaitable[None]],
    ) -> None:
        self.patience = Patience()
        self.remade = 0
        """Streams that were deleted and made anew because they took no writes, since the start."""
        self._connection = connection
        self._clock = clock
        self._streams = streams
        self._remake = remake
        self._said: set[str] = set()
        self._last: dict[str, int] = {}
        self._suspects: dict[str, Suspicion | None] = {}
        self._refusing: set[str] = set()
        self._wake = asyncio.Event()
        self._looks = False
        """Whether a look at what was published is planned."""

    @property
    def refusing(self) -> tuple[str, ...]:
        """Name the streams that take no writes and may not be made anew."""
        return tuple(sorted(self._refusing))

    def said(self, stream: str) -> None:
        """Take note that something was published to a stream without waiting for its ack."""
        self._said.add(stream)
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(
                until_tick(self._clock.monotonic(), self.patience.look_every_s), self._wake.set
            )

    def suspect(self, stream: str) -> None:
        """Take note that something published to a stream was not answered."""
        if stream in self._streams and stream not in self._suspects:
            self._suspects[stream] = None
            self._wake.set()

    async def watch(self) -> None:
        """Look every few seconds at the streams of which there is any sign; without one it sleeps."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._looks = False
            if not self._connection.connected:
                await self._clock.sleep(self.patience.look_every_s)
                self._wake.set()
                continue
            await self._compare()
            async with asyncio.TaskGroup() as group:
                for stream in list(self._suspects):
                    group.create_task(self._look(stream), name=f"look at {stream}")
            if self._suspects:
                await self._clock.sleep(self.patience.look_every_s)
                self._wake.set()

    async def _compare(self) -> None:
        """Suspect the streams to which something was published that does not show in their last sequence."""
        said, self._said = self._said, set()
        for stream in said & self._streams.keys():
            try:
                last = (await self._state(stream))[1]
            except (UnavailableError, ApiError):
                continue  # it does not stand, or the server is away: the guardian's business
            if self._last.get(stream) == last:
                self.suspect(stream)
            self._last[stream] = last

    async def _look(self, stream: str) -> None:
        """Write to a suspected stream, and do about it what is to be done."""
        now = self._clock.monotonic()
        try:
            takes = await self._takes(stream)
            made, last = await self._state(stream)
        except (UnavailableError, ApiError):
            self._suspects[stream] = None  # nothing can be said of a stream while the server does not tell of it
            return
        known = self._suspects.get(stream)
        if takes:
            self._clear(stream)
        elif known is None or (known.made, known.last) != (made, last):
            self._suspects[stream] = Suspicion(since=now, made=made, last=last)
        elif self._clock.monotonic() - known.since >= self.patience.stuck_s:
            await self._stuck(stream)

    async def _takes(self, stream: str) -> bool:
        """Tell whether a stream takes a write; raises UnavailableError when it does not stand."""
        subject, body = topology.probe(self._streams[stream])
        try:
            reply = await self._connection.ask(subject, body, self.patience.probe_s)
            refusal = answer_of(reply, subject).get("error")
        except UnavailableError:
            return False
        return refusal is None or str(refusal.get("description", "")).startswith(FULL_BY_LIMIT)

    async def _state(self, stream: str) -> tuple[str, int]:
        info = await self._connection.api(subjects.api("STREAM.INFO", stream))
        return str(info["created"]), int(info["state"]["last_seq"])

    async def _stuck(self, stream: str) -> None:
        for other in self._streams:
            self.suspect(other)  # a disk that was full has seldom stopped one stream alone
        if topology.may_be_remade(self._streams[stream]):
            logger.error("stream %s takes no writes since %.0f s: it is made anew", stream, self.patience.stuck_s)
            await self._remake(stream)
            self.remade += 1
            self._clear(stream)
        elif stream not in self._refusing:
            logger.error("stream %s takes no writes since %.0f s; %s", stream, self.patience.stuck_s, REMEDY)
            self._refusing.add(stream)
            telemetry.bus_refusing(len(self._refusing))

    def _clear(self, stream: str) -> None:
        self._suspects.pop(stream, None)
        self._last.pop(stream, None)
        if stream in self._refusing:
            logger.info("stream %s takes writes again", stream)
            self._refusing.discard(stream)
            telemetry.bus_refusing(len(self._refusing))
