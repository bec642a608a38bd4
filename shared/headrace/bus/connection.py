"""One connection to NATS that never gives up: publishing without waiting, requests with one reply subscription.

nats-py beneath gives up after 60 attempts by default and closes for good on some errors; here neither happens. What is
published while there is no connection is dropped: nothing on the bus is a promise, and a beat or an order that waited
through an outage would only mislead.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from headrace import telemetry
from headrace.bus.answers import NobodyError, answer_of, raise_refusal
from headrace.bus.background import Background
from headrace.bus.limits import FLUSH_TIMEOUT_S, REQUEST_TIMEOUT_S, UNSENT_BYTES_MAX
from headrace.bus.listening import Listening
from headrace.bus.quick import QuickClient, connect
from headrace.bus.topology import REPLICAS_IN_A_CLUSTER
from headrace.clock import Clock
from headrace.errors import UnavailableError, ValidationError
from headrace.vocabulary import MESSAGE_BYTES_MAX

logger = logging.getLogger(__name__)

Dial = Callable[[dict[str, Any]], Awaitable[QuickClient]]
RECONNECT_WAIT_S: Final = 1
CONNECT_TIMEOUT_S: Final = 3
PING_INTERVAL_S: Final = 10
PINGS_OUTSTANDING_MAX: Final = 2
SAY_AGAIN_S: Final = 30.0
"""How often the same trouble is said again."""
NO_RESPONDERS: Final = "503"
STATUS: Final = "Status"


class Connection:
    """A connection; `on_connect` is called after each connect and reconnect."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        name: str = "headrace",
        replicas: int = 0,
        dial: Dial | None = None,
        main: bool = True,
    ) -> None:
        self.url = url
        self._replicas = replicas
        self._main = main
        """Whether this is the connection of which a process's metric and log speak."""
        self.on_connect: list[Callable[[], None]] = []
        self.dropped = 0
        self.session = 0
        """Counts connects and reconnects: whatever the server held for us before is gone or unsure."""
        self._clock = clock
        self._name = name
        self.dial: Dial = dial or _dial
        """Makes a client with `options`; may be replaced before `open`."""
        self._client: QuickClient | None = None
        self._background = Background()
        self._limit = MESSAGE_BYTES_MAX
        self._up = asyncio.Event()
        self._ended = asyncio.Event()
        self._closing = False
        self._listening: list[Listening] = []
        self._asked: dict[str, asyncio.Future[Msg]] = {}
        self._count = 0
        self._inbox = f"_INBOX.headrace{clock.entropy().hex()}"
        self._said: tuple[str, float] = ("", 0.0)
        self._deaf_at = -1
        """How much was heard when a server was waited for in vain."""

    def sibling(self, purpose: str) -> "Connection":
        """Make a second connection to the same server, of which neither metric nor log of the process speaks."""
        return Connection(self.url, self._clock, name=f"{self._name}-{purpose}", replicas=self._replicas, main=False)

    @property
    def clock(self) -> Clock:
        """Give the clock that it was made with."""
        return self._clock

    @property
    def connected(self) -> bool:
        """Tell whether the server answers now."""
        return self._client is not None and self._client.is_connected and self._up.is_set()

    @property
    def gone(self) -> bool:
        """Tell whether there is no client to speak to."""
        return self._client is None or self._client.is_closed

    @property
    def version(self) -> tuple[int, int]:
        """Give the server's version."""
        client = self._client
        return (
            (0, 0) if client is None else (client.connected_server_version.major, client.connected_server_version.minor)
        )

    @property
    def replicas(self) -> int:
        """Give how many servers shall keep each stream: as many as was said, else three in a cluster and one elsewhere."""
        clustered = self._client is not None and self._client.clustered
        return self._replicas or (REPLICAS_IN_A_CLUSTER if clustered else 1)

    async def open(self) -> None:
        """Begin to connect; `wait` tells when it is done."""
        await self._background.open()
        self._background.start(self._stay_connected(), "NATS connection")

    async def wait(self) -> None:
        """Wait until the server answers, however long that takes."""
        await self._up.wait()

    async def close(self) -> None:
        """Send what waits to be sent, then let go."""
        if self._closing:
            return
        self._closing = True
        client = self._client
        if client is not None and client.is_connected:
            try:
                await self.handled()
            except (NatsError, OSError, TimeoutError) as problem:
                logger.warning("NATS: not everything was sent before closing: %s", str(problem) or "no answer in time")
        await self._background.close()
        if client is not None and not client.is_closed:
            try:
                async with asyncio.timeout(FLUSH_TIMEOUT_S):
                    await client.close()
            except (NatsError, OSError, TimeoutError) as problem:
                logger.info("NATS: the connection was gone before it was closed: %s", problem)

    def send(self, subject: str, data: bytes, reply: str = "") -> None:
        """Publish without waiting; raises ValidationError when the body is over the limit."""
        client = self._client
        if self._fits(data) and client and self.connected and client.pending_data_size < UNSENT_BYTES_MAX:
            client.post(subject, data, reply)
        else:
            self._drop()

    def push(self) -> None:
        """Write what was sent, now instead of at the end of this turn of the loop."""
        if self._client is not None and self.connected:
            self._client.push()

    async def ask(self, subject: str, data: bytes, timeout_s: float, headers: dict[str, str] | None = None) -> Msg:
        """Send a request and wait for its answer.

        Raises NobodyError when nobody listens, UnavailableError when there is no connection or no answer in time.
        """
        client = self._client
        if not self._fits(data):
            message = (
                f"NATS at {self.url} takes no message of {len(data)} bytes: raise its max_payload of {self._limit}"
            )
            raise UnavailableError(message)
        if client is None or not self.connected:
            message = f"NATS at {self.url} does not answer"
            raise UnavailableError(message)
        self._count += 1
        number = str(self._count)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            async with asyncio.timeout(timeout_s):
                if headers:
                    await client.publish(subject, data, f"{self._inbox}.{number}", headers)
                else:
                    client.post(subject, data, f"{self._inbox}.{number}", at_once=True)
                reply = await answer
        except TimeoutError:
            message = f"no answer on {subject} within {timeout_s:g} s"
            raise UnavailableError(message) from None
        except (NatsError, OSError) as problem:
            message = f"NATS: {problem}"
            raise UnavailableError(message) from problem
        finally:
            self._asked.pop(number, None)
        if reply.headers and not reply.data and reply.headers.get(STATUS) == NO_RESPONDERS:
            message = f"nobody answers on {subject}"
            raise NobodyError(message)
        return reply

    async def api(
        self, subject: str, body: dict[str, Any] | None = None, *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> dict[str, Any]:
        """Ask JetStream's API; raises ApiError when it refuses, UnavailableError when it does not answer."""
        data = msgspec.json.encode(body) if body is not None else b""
        reply = await self.ask(subject, data, timeout_s)
        answer = answer_of(reply, subject)
        raise_refusal(answer, subject)
        return answer

    async def listen(self, subject: str, hear: Callable[[Msg], None]) -> Listening:
        """Subscribe, as soon as there is a connection; the server knows of it on return. Raises UnavailableError."""
        await self.wait()
        listening = Listening(self, subject, hear)
        self._listening.append(listening)
        client = self._client
        assert client is not None
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await listening.begin(client)
                await client.flush(FLUSH_TIMEOUT_S)
        except asyncio.CancelledError:
            await listening.abandon()
            raise
        except (NatsError, OSError, TimeoutError) as problem:
            await listening.abandon()
            message = f"NATS: cannot subscribe to {subject}: {str(problem) or 'no answer in time'}"
            raise UnavailableError(message) from problem
        return listening

    @property
    def silent(self) -> bool:
        """Tell whether nothing was heard since a server was last waited for in vain: one that hangs is waited for once."""
        return self._client is not None and self._client.heard == self._deaf_at

    async def handled(self) -> None:
        """Wait until the server has handled all that was sent: a request after an unsubscribe then finds nobody.

        Raises TimeoutError, at once while the server is silent: much is ended where a process ends, one after the other.
        """
        client = self._client
        if client is None or not client.is_connected:
            return
        if self.silent:
            message = "the server is silent"
            raise TimeoutError(message)
        heard = client.heard
        try:
            await client.flush(FLUSH_TIMEOUT_S)
        except TimeoutError:
            self._deaf_at = heard
            raise

    def forget(self, listening: Listening) -> None:
        """Do not subscribe again."""
        if listening in self._listening:
            self._listening.remove(listening)

    def _fits(self, data: bytes) -> bool:
        """Tell whether the server takes a body; raises ValidationError when it is over our own limit."""
        if len(data) > MESSAGE_BYTES_MAX:
            message = f"a message of {len(data)} bytes is over the limit of {MESSAGE_BYTES_MAX} bytes"
            raise ValidationError(message)
        return len(data) <= self._limit

    async def _stay_connected(self) -> None:
        """Dial, and dial again with a new client whenever one was closed for good."""
        while True:
            self._ended.clear()
            try:
                client = await self.dial(self.options)
            except (NatsError, OSError, TimeoutError) as problem:
                await self._on_error(problem)
                await asyncio.sleep(RECONNECT_WAIT_S)
                continue
            self._client = client
            try:
                async with asyncio.timeout(FLUSH_TIMEOUT_S):
                    await client.hear(f"{self._inbox}.*", self._on_answer)
                    for listening in list(self._listening):
                        await listening.begin(client)
            except (NatsError, OSError, TimeoutError) as problem:
                await self._on_error(problem)
                with contextlib.suppress(NatsError, OSError, TimeoutError):  # it is of no use any more, closed or not
                    async with asyncio.timeout(FLUSH_TIMEOUT_S):
                        await client.close()
                await asyncio.sleep(RECONNECT_WAIT_S)
                continue
            await self._on_up()
            await self._ended.wait()

    @property
    def options(self) -> dict[str, Any]:
        """Give what a client has to be made with to be ridden on."""
        return {
            "servers": self.url.split(","),
            "name": self._name,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_down,
            "reconnected_cb": self._on_up,
            "closed_cb": self._on_closed,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_WAIT_S,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "ping_interval": PING_INTERVAL_S,
            "max_outstanding_pings": PINGS_OUTSTANDING_MAX,
            "flush_timeout": FLUSH_TIMEOUT_S,
        }

    def _drop(self, count: int = 1) -> None:
        self.dropped += count
        telemetry.bus_dropped(count)

    def _on_answer(self, message: Msg) -> None:
        answer = self._asked.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _on_up(self) -> None:
        logger.log(self._level(logging.INFO), "NATS: connected to %s", self.url)
        self._said = ("", 0.0)
        self.session += 1
        if self._client is not None:
            self._limit = self._client.max_payload
            if self._limit < MESSAGE_BYTES_MAX:
                message = (
                    "NATS at %s takes messages of %d bytes: raise its max_payload to %d, else what is larger is lost"
                )
                logger.error(message, self.url, self._limit, MESSAGE_BYTES_MAX)
        self._up.set()
        if self._main:
            telemetry.bus_connected(connected=True)
        for tell in self.on_connect:
            tell()

    async def _on_down(self) -> None:
        self._up.clear()
        if self._main:
            telemetry.bus_connected(connected=False)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(UnavailableError("the connection to NATS was lost before the answer came"))
        if not self._closing:
            level = self._level(logging.WARNING)
            logger.log(level, "NATS: lost the connection to %s; trying again until it is back", self.url)

    async def _on_closed(self) -> None:
        self._up.clear()
        self._ended.set()

    def _level(self, level: int) -> int:
        """Give the level at which the state of this connection is said: once a process is enough."""
        return level if self._main else logging.DEBUG

    async def _on_error(self, problem: Exception) -> None:
        """Say what went wrong, and the same thing again only after a while."""
        text = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
        now = self._clock.monotonic()
        said, at = self._said
        if self._closing or (text == said and now - at < SAY_AGAIN_S):
            return
        self._said = (text, now)
        if isinstance(problem, OSError) or not self._up.is_set():
            level = self._level(logging.WARNING)
            logger.log(level, "NATS at %s does not answer (%s); trying again until it does", self.url, text)
        else:
            logger.error("NATS: %s", text)


async def _dial(options: dict[str, Any]) -> QuickClient:
    return await connect(**options)
