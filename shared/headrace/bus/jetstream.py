"""The bus on NATS JetStream. The parts have rooms of their own: connection, guardian, pull, inbox, work, reader."""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from nats.aio.msg import Msg

from headrace.bus import limits, subjects, topology
from headrace.bus.answers import ApiError, NobodyError, answer_of, raise_refusal
from headrace.bus.background import Background
from headrace.bus.beside import JetStreamBeside
from headrace.bus.connection import Connection
from headrace.bus.guardian import Guardian
from headrace.bus.hello import Hello, learn_incarnation
from headrace.bus.inbox import JetStreamInbox
from headrace.bus.listening import Listening
from headrace.bus.port import OTHER_EVENT, Delivery, Passed, Published
from headrace.bus.pull import PullHub
from headrace.bus.reader import MESSAGE_ID, JetStreamReader
from headrace.bus.work import JetStreamWork, WorkConsumer
from headrace.clock import Clock
from headrace.errors import UnavailableError, UnprocessableError, ValidationError
from headrace.vocabulary import POOL_GATES, POOL_INTEGRATIONS, POOL_RUNNER

logger = logging.getLogger(__name__)
POOLS_STANDING: Final = (POOL_RUNNER, POOL_GATES, POOL_INTEGRATIONS)
OPEN_RETRY_S: Final = 0.5


class JetStreamBus:
    """A client of NATS. Make it with `connect`."""

    def __init__(self, connection: Connection, names: subjects.Names, clock: Clock, incarnation: str) -> None:
        self.connection = connection
        self.names = names
        self.incarnation = incarnation
        self.guardian = Guardian(connection, clock)
        self.hub = PullHub(connection, self.guardian, clock)
        self._hello: Hello | None = None
        self._background = Background()
        self._places = asyncio.Semaphore(limits.TELLS_MAX)
        self._pools: set[str] = set()
        self._readers: list[JetStreamReader] = []

    @classmethod
    async def connect(
        cls, url: str, incarnation: str | None, clock: Clock, *, wait: bool = True, name: str = "headrace"
    ) -> "JetStreamBus":
        """Connect to a server and declare what has to stand on it; as `over` with a connection of its own."""
        return await cls.over(Connection(url, clock, name=name), incarnation, clock, wait=wait)

    @classmethod
    async def over(
        cls, connection: Connection, incarnation: str | None, clock: Clock, *, wait: bool = True
    ) -> "JetStreamBus":
        """Open a connection and declare what has to stand on the server.

        Without an `incarnation` (a process without a database) it is learnt from those who have one, however long
        that takes. `wait=False` returns at once and goes on connecting: until then everything that needs the server
        raises UnavailableError, and everything that is opened waits. Raises ConflictError when two databases share
        the server.
        """
        await connection.open()
        try:
            known = incarnation or await learn_incarnation(connection)
        except BaseException:
            await connection.close()
            raise
        bus = cls(connection, subjects.Names(known), clock, known)
        try:
            await bus._begin(wait=wait, says=incarnation is not None)
        except BaseException:
            await bus.close()
            raise
        return bus

    @property
    def connected(self) -> bool:
        """Tell whether the server answers now."""
        return self.connection.connected

    @property
    def refusing(self) -> tuple[str, ...]:
        """Name the streams that take no writes and can only be mended by an operator."""
        return self.guardian.writes.refusing

    async def close(self) -> None:
        """Flush, then let go of the connection."""
        readers, self._readers = self._readers, []
        for reader in readers:
            await reader.close()
        await self._background.close()
        if self._hello is not None:
            await self._hello.close()
        await self.guardian.close()
        await self.hub.close()
        await self.connection.close()

    async def open_inbox(
        self, log: str, partition: int, epoch: int, deliver: Callable[[Delivery], None]
    ) -> JetStreamInbox:
        """Take over a partition's inbox; raises UnavailableError."""
        await self.connection.wait()
        stream = self.names.inbox_stream(log, partition)
        self.guardian.keep_stream(topology.inbox_stream(self.names, log, partition))
        inbox = JetStreamInbox(self.connection, self.guardian, self.hub, stream, epoch, deliver)
        await self._keep(inbox, inbox.close)
        return inbox

    async def serve_commands(
        self, log: str, partition: int, handle: Callable[[bytes, Callable[[bytes], None]], None]
    ) -> Listening:
        """Receive commands to a partition."""
        return await self._answer(self.names.command(log, partition), handle)

    async def serve_claims(
        self, log: str, partition: int, handle: Callable[[bytes, Callable[[bytes], None]], None]
    ) -> Listening:
        """Receive claims of workers to act on the world."""
        return await self._answer(self.names.claim(log, partition), handle)

    def publish_work(self, pool: str, data: bytes) -> None:
        """Publish an order without waiting. A pool unknown so far gets its stream; orders until then are lost."""
        if pool not in self._pools:
            self._keep_pool(pool)
        self.guardian.writes.said(self.names.work_stream(pool))
        self.connection.send(self.names.work(pool), data)

    async def passed(self, pool: str) -> Passed:
        """Read how far a pool's consumer has come; raises UnavailableError."""
        stream = self.names.work_stream(pool)
        try:
            info = await self.connection.api(subjects.api("STREAM.INFO", stream))
            consumer = await self.connection.api(subjects.api("CONSUMER.INFO", stream, subjects.READERS))
        except ApiError as problem:
            self.guardian.missing(stream)
            raise UnavailableError(problem.message) from problem
        state = info["state"]
        return Passed(
            last=int(state["last_seq"]),
            delivered=max(int(consumer["delivered"]["stream_seq"]), int(state["first_seq"]) - 1),
            made=int(datetime.fromisoformat(info["created"]).timestamp() * 1_000),
        )

    def publish_feed(self, log: str, data: bytes) -> None:
        """Publish committed events without waiting."""
        self.guardian.writes.said(subjects.FEED_STREAM)
        self.connection.send(subjects.feed(log), data)

    def publish_end(self, place: str, data: bytes) -> None:
        """Tell a process of an end that it waits for, without waiting."""
        self.connection.send(self.names.ends(place), data)

    def push(self) -> None:
        """Write what was published so far."""
        self.connection.push()

    async def tell(self, log: str, partition: int, data: bytes) -> None:
        """Put a message into a partition's inbox and wait for the ack; raises UnavailableError."""
        subject, stream = self.names.inbox(log, partition), self.names.inbox_stream(log, partition)
        async with self._places:
            await self._publish(subject, stream, data, limits.TELL_TIMEOUT_S)

    async def command(self, log: str, partition: int, data: bytes, *, timeout_s: float) -> bytes:
        """Ask a partition's owner and wait for its answer; raises UnavailableError."""
        return await self._request(self.names.command(log, partition), data, timeout_s)

    async def claim(self, log: str, partition: int, data: bytes, *, timeout_s: float) -> bytes:
        """Ask a partition's owner for permission to act; raises UnavailableError."""
        return await self._request(self.names.claim(log, partition), data, timeout_s)

    async def open_feed(self, log: str, deliver: Callable[[bytes], None]) -> Listening:
        """Receive the feed from now on."""
        return await self._hear(subjects.feed(log), deliver)

    async def open_ends(self, place: str, deliver: Callable[[bytes], None]) -> Listening:
        """Receive what this process is told of ends."""
        return await self._hear(self.names.ends(place), deliver)

    def publish_control(self, data: bytes) -> None:
        """Tell every process something, without waiting."""
        self.connection.send(self.names.control, data)

    async def open_control(self, deliver: Callable[[bytes], None]) -> Listening:
        """Receive what is told to every process."""
        return await self._hear(self.names.control, deliver)

    def publish_presence(self, data: bytes) -> None:
        """Say that this worker lives, without waiting."""
        self.connection.send(self.names.presence, data)

    async def open_presence(self, deliver: Callable[[bytes], None]) -> Listening:
        """Receive the beats of all workers, and owners' probes."""
        return await self._hear(self.names.presence, deliver)

    def beside(self) -> JetStreamBeside:
        """Give a connection of its own for presence and control, to be opened on the loop of another thread."""
        return JetStreamBeside(self.connection.sibling("presence"), self.names)

    async def open_work(self, pool: str, deliver: Callable[[Delivery], None]) -> JetStreamWork:
        """Become one of a pool's workers; raises UnavailableError."""
        await self.connection.wait()
        stream = self.names.work_stream(pool)
        self.guardian.keep_stream(topology.work_stream(self.names, pool))
        work = JetStreamWork(self.connection, self.guardian, self.hub, stream, deliver)
        await self._keep(work, work.close)
        return work

    async def publish_lines(self, data: bytes) -> None:
        """Put lines on their way to the api and wait for the ack; raises UnavailableError."""
        async with self._places:
            await self._publish(self.names.lines, self.names.lines_stream, data, limits.TELL_TIMEOUT_S)

    async def open_lines(self, deliver: Callable[[Delivery], Awaitable[None]]) -> JetStreamReader:
        """Receive lines, shared among those who store them."""
        return await self._read(self.names.lines_stream, subjects.READERS, "lines", deliver)

    async def publish_trigger(self, name: str, data: bytes, *, message_id: str | None = None) -> Published:
        """Publish a trigger event and wait until it is on disk; raises UnavailableError, UnprocessableError."""
        headers = {MESSAGE_ID: message_id} if message_id else None
        subject = subjects.trigger(name)
        ack = await self._publish(subject, subjects.TRIGGER_STREAM, data, limits.TRIGGER_TIMEOUT_S, headers)
        sequence = int(ack["seq"])
        if not ack.get("duplicate"):
            return Published(sequence)
        kept = await self._kept(subjects.TRIGGER_STREAM, sequence)
        if kept is not None and kept != (subject, data):
            raise UnprocessableError(OTHER_EVENT.format(message_id))
        return Published(sequence, unsaid=kept is None)

    async def _kept(self, stream: str, sequence: int) -> tuple[str, bytes] | None:
        """Read a message of a stream, its subject and what it says; None when it was settled and deleted."""
        try:
            answer = await self.connection.api(subjects.api("STREAM.MSG.GET", stream), {"seq": sequence})
        except ApiError as problem:
            if problem.code == topology.MESSAGE_NOT_FOUND:
                return None
            raise UnavailableError(problem.message) from problem
        message = answer["message"]
        return message["subject"], base64.b64decode(message.get("data", ""))

    async def open_triggers(self, deliver: Callable[[Delivery], Awaitable[None]]) -> JetStreamReader:
        """Receive trigger events, shared among planners."""
        return await self._read(subjects.TRIGGER_STREAM, self.names.planners, "trigger", deliver)

    async def _begin(self, *, wait: bool, says: bool) -> None:
        for body in topology.standing_streams(self.names):
            self.guardian.keep_stream(body)
        for pool in POOLS_STANDING:
            self._keep_pool(pool)
        await self._background.open()
        await self.guardian.open()
        await self.hub.open()
        if wait:
            await self.connection.wait()
            await self._ensure()
        if says:
            self.guardian.watch_triggers()
            self._hello = Hello(self.connection, self.incarnation)
            self._background.start(self._hello.open(), "hello")

    async def _ensure(self) -> None:
        """Declare everything, however long the server takes to come up."""
        while True:
            try:
                await self.guardian.ensure()
            except UnavailableError as problem:
                logger.warning("NATS is not ready yet: %s", problem)
                await asyncio.sleep(OPEN_RETRY_S)
            else:
                return

    def _keep_pool(self, pool: str) -> None:
        self._pools.add(pool)
        stream = self.names.work_stream(pool)
        self.guardian.keep_stream(topology.work_stream(self.names, pool))
        self.guardian.keep_soon(WorkConsumer(self.connection, stream))

    async def _keep(self, kept: Any, close: Callable[[], Awaitable[None]]) -> None:
        try:
            await self.guardian.keep(kept)
        except BaseException:
            await close()
            raise

    async def _read(
        self, stream: str, consumer: str, kind: str, deliver: Callable[[Delivery], Awaitable[None]]
    ) -> JetStreamReader:
        await self.connection.wait()
        reader = JetStreamReader(self.connection, self.guardian, self.hub, stream, consumer, kind, deliver)
        await self._keep_reader(reader)
        return reader

    async def _keep_reader(self, reader: JetStreamReader) -> None:
        try:
            await reader.open()
        except BaseException:
            await reader.close()
            raise
        self._readers.append(reader)

    async def _hear(self, subject: str, deliver: Callable[[bytes], None]) -> Listening:
        def hear(message: Msg) -> None:
            deliver(message.data)

        return await self.connection.listen(subject, hear)

    async def _request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """Ask whoever serves a subject, for a moment also when nobody seems to.

        A server that has confirmed a subscription to its own client may still tell another one for some milliseconds
        that nobody listens (nats-server 2.15: about 1 in 100 requests sent right after the confirmation).
        """
        for pause_s in limits.NOBODY_GRACE_S:
            try:
                return (await self.connection.ask(subject, data, timeout_s)).data
            except NobodyError:
                await asyncio.sleep(pause_s)
        return (await self.connection.ask(subject, data, timeout_s)).data

    async def _answer(self, subject: str, handle: Callable[[bytes, Callable[[bytes], None]], None]) -> Listening:
        def hear(message: Msg) -> None:
            reply = message.reply

            def respond(body: bytes) -> None:
                if not reply:
                    return
                try:
                    self.connection.send(reply, body)
                except ValidationError as problem:
                    logger.error("who asked on %s gets no answer: %s", subject, problem)  # noqa: TRY400  (no traceback)

            handle(message.data, respond)

        # no queue group: an owner that is paused or was taken over must not swallow what its successor would answer
        return await self.connection.listen(subject, hear)

    async def _publish(
        self, subject: str, stream: str, data: bytes, timeout_s: float, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Publish to a stream and wait for its ack, which is given."""
        try:
            reply = await self.connection.ask(subject, data, timeout_s, headers)
            answer = answer_of(reply, subject, "seq")
            raise_refusal(answer, subject)
        except NobodyError as problem:
            self.guardian.missing(stream)
            message = f"stream {stream} does not stand yet"
            raise UnavailableError(message) from problem
        except ApiError as problem:
            raise UnavailableError(problem.message) from problem
        except UnavailableError:
            self.guardian.writes.suspect(stream)
            raise
        return answer
