"""The topology guardian: declares streams and consumers until they stand, and again whenever they do not.

It works on start, on each reconnect, and at once when the server says that a stream was deleted or somebody reports that
a stream or consumer is missing. So a NATS that lost its disk heals without a restart. Twice a minute one request lists
the names of all streams, for what nobody is told of: a server of a cluster, not ours, that came back without its disk.
What stands and takes no writes is found by `writes`, and made anew here.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

from nats.aio.msg import Msg

from headrace import telemetry
from headrace.bus import subjects, topology
from headrace.bus.answers import ApiError
from headrace.bus.background import Background
from headrace.bus.connection import Connection
from headrace.bus.opening import until_open
from headrace.bus.writes import Writes
from headrace.clock import Clock, until_tick, within
from headrace.errors import HeadraceError, UnavailableError

logger = logging.getLogger(__name__)
CHECK_EVERY_S: Final = 30.0
RETRY_WAIT_S: Final = 0.5
"""How long after a check that failed, or after the last report, it is tried again."""


class Kept(Protocol):
    """A consumer that the guardian declares together with its stream."""

    stream: str

    async def declare(self) -> object:
        """Make it stand. Again: nothing but a request."""
        ...


class Guardian:
    """Keeps what was given to it standing."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self.declared = 0
        """Streams and consumers that had to be declared, since the start."""
        self.on_made: list[Callable[[str], None]] = []
        """Told the name of each stream that was made anew."""
        self._connection = connection
        self._clock = clock
        self._streams: dict[str, topology.Body] = {}
        self._kept: list[Kept] = []
        self._missing: set[str] = set()
        self._all = True
        self._wake = asyncio.Event()
        self._background = Background()
        self._checking = asyncio.Lock()
        self._changing: dict[str, asyncio.Lock] = {}
        """Who makes a stream or its consumers does so alone; those of others wait for nothing: in a cluster that has lost a
        server each takes seconds."""
        self.writes = Writes(connection, clock, self._streams, self._remake)

    @property
    def dirty(self) -> bool:
        """Tell whether something was reported that has not been mended yet."""
        return self._all or bool(self._missing) or self._checking.locked()

    async def open(self) -> None:
        """Begin to watch."""
        await self._background.open()
        self._connection.on_connect.append(self.check_all)
        self._background.start(self._watch(), "topology guardian")
        self._background.start(self._hear_of_deleted(), "deleted streams")
        self._background.start(self.writes.watch(), "writes of streams")

    def watch_triggers(self) -> None:
        """Hear of what others write to the stream of triggers, so that one that takes nothing is noticed by us as well."""
        self._background.start(self._hear_of_triggers(), "triggers of others")

    async def close(self) -> None:
        """Stop watching; everything stays as it is."""
        if self.check_all in self._connection.on_connect:
            self._connection.on_connect.remove(self.check_all)
        await self._background.close()

    def keep_stream(self, body: topology.Body) -> None:
        """Keep a stream standing from the next check on; known streams cost nothing."""
        if body["name"] not in self._streams:
            self._streams[body["name"]] = body
            self.missing(body["name"])

    async def keep(self, kept: Kept) -> None:
        """Declare a consumer now and keep it standing; raises UnavailableError."""
        self._kept.append(kept)
        async with self._alone(kept.stream):
            await self._declare_stream(kept.stream, there=await self._stands(kept.stream))
            await kept.declare()
            self.declared += 1

    def keep_soon(self, kept: Kept) -> None:
        """Declare a consumer with the next check and keep it standing."""
        self._kept.append(kept)
        self.missing(kept.stream)

    def release(self, kept: Kept) -> None:
        """Keep a consumer no more."""
        if kept in self._kept:
            self._kept.remove(kept)

    def missing(self, stream: str) -> None:
        """Take note that a stream, or a consumer of it, does not stand; it is mended soon."""
        self._missing.add(stream)
        self._wake.set()

    def vanished(self, stream: str) -> None:
        """Take note that a consumer is gone that stood: somebody may have had reason to make its stream anew."""
        self.missing(stream)
        self.writes.suspect(subjects.TRIGGER_STREAM)

    def check_all(self) -> None:
        """Declare everything again soon."""
        self._all = True
        self._wake.set()

    async def ensure(self) -> None:
        """Check once: declare the streams that are not there, and their consumers. Raises UnavailableError, ApiError."""
        async with self._checking:
            everything, reported = self._all, self._missing
            self._all, self._missing = False, set()
            try:
                await self._ensure(reported, everything=everything)
            except BaseException:
                self._all, self._missing = self._all or everything, self._missing | reported
                raise

    async def _ensure(self, reported: set[str], *, everything: bool) -> None:
        there = await self._stream_names()
        names = [name for name in self._streams if everything or name not in there]
        answers = await _each(self._declare_alone(name, there=name in there) for name in names)
        made = {name for name, answer in zip(names, answers, strict=True) if answer is True}
        wanted = [kept for kept in self._kept if everything or kept.stream in made or kept.stream in reported]
        declared = await _each(self._declare(kept) for kept in wanted)
        self.declared += sum(not isinstance(each, HeadraceError) for each in declared)
        for name in made:
            for tell in self.on_made:
                tell(name)
        for answer in (*answers, *declared):
            if isinstance(answer, HeadraceError):
                raise answer

    def _alone(self, stream: str) -> asyncio.Lock:
        return self._changing.setdefault(stream, asyncio.Lock())

    async def _declare(self, kept: Kept) -> None:
        async with self._alone(kept.stream):
            await kept.declare()

    async def _declare_alone(self, name: str, *, there: bool) -> bool:
        async with self._alone(name):
            return await self._declare_stream(name, there=there)

    async def _remake(self, name: str) -> None:
        """Delete a stream and have it made anew; nothing that is only in it is lost but telemetry."""
        async with self._alone(name):
            try:
                await self._connection.api(subjects.api("STREAM.DELETE", name))
            except (ApiError, UnavailableError) as problem:
                logger.warning("stream %s could not be deleted: %s", name, problem)
        self.missing(name)

    async def _watch(self) -> None:
        said = ""
        while True:
            await within(self._wake, until_tick(self._clock.monotonic(), CHECK_EVERY_S))
            self._wake.clear()
            if not self._connection.connected:
                continue
            try:
                await self.ensure()
            except UnavailableError as problem:
                if problem.message != said:
                    said = problem.message
                    logger.warning("the topology on NATS could not be checked: %s; it is tried until it can", said)
                self._wake.set()
            except HeadraceError as problem:
                logger.error("the topology on NATS cannot be declared: %s", problem)  # noqa: TRY400  (no traceback)
            else:
                said = ""
            await asyncio.sleep(RETRY_WAIT_S)

    async def _hear_of_deleted(self) -> None:
        def hear(message: Msg) -> None:
            name = message.subject.removeprefix(subjects.STREAM_DELETED)
            if name in self._streams:
                self.missing(name)

        await until_open(lambda: self._connection.listen(subjects.STREAMS_DELETED, hear), self._clock)

    async def _hear_of_triggers(self) -> None:
        def hear(message: Msg) -> None:
            if message.subject != subjects.PROBE_TRIGGER:
                self.writes.said(subjects.TRIGGER_STREAM)

        await until_open(lambda: self._connection.listen(subjects.TRIGGERS, hear), self._clock)

    async def _stream_names(self) -> set[str]:
        names: set[str] = set()
        while True:
            answer = await self._connection.api(subjects.api("STREAM.NAMES"), {"offset": len(names)})
            page = answer.get("streams") or []
            names.update(page)
            if not page or len(names) >= answer.get("total", 0):
                return names

    async def _stands(self, name: str) -> bool:
        try:
            await self._connection.api(subjects.api("STREAM.INFO", name))
        except ApiError as problem:
            if problem.code != topology.STREAM_NOT_FOUND:
                raise
            return False
        return True

    async def _declare_stream(self, name: str, *, there: bool) -> bool:
        """Make a stream stand; True when it was not `there`. NATS itself says of a standing one that it made it."""
        body = topology.fit(self._streams[name], self._connection.version, self._connection.replicas)
        try:
            await self._connection.api(subjects.api("STREAM.CREATE", name), body)
        except ApiError as problem:
            if problem.code != topology.STREAM_NAME_IN_USE:
                raise
            if not await self._change_stream(name, body):
                return False
            there = False
        if there:
            return False
        self.declared += 1
        telemetry.bus_declared()
        logger.info("stream %s was made", name)
        return True

    async def _change_stream(self, name: str, body: topology.Body) -> bool:
        """Bring a standing stream to what it shall be; True when that took making it anew."""
        stands = (await self._connection.api(subjects.api("STREAM.INFO", name))).get("config", {})
        if topology.must_be_remade(stands, body):
            logger.info("stream %s is made anew: it has %s replicas", name, body["num_replicas"])
            await self._connection.api(subjects.api("STREAM.DELETE", name))
            await self._connection.api(subjects.api("STREAM.CREATE", name), body)
            return True
        try:
            await self._connection.api(subjects.api("STREAM.UPDATE", name), body)
        except ApiError as problem:
            logger.warning("stream %s stays as it is: %s", name, problem)
        return False


async def _each(works: Iterable[Coroutine[Any, Any, object]]) -> list[object]:
    """Do all at once: a stream of a cluster whose server has just died keeps no other waiting. Refusals are results."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_told(work)) for work in works]
    return [task.result() for task in tasks]


async def _told(work: Coroutine[Any, Any, object]) -> object:
    try:
        return await work
    except HeadraceError as problem:
        return problem
