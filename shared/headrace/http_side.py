"""The HTTP side of every process: its port, the application with health, metrics and contract, and its web server.

The application is FastStream's; the bus rides on the connection of its broker, so that a process has one connection to
NATS. A service that brings an application of its own (the api) is served behind the shell's routes on one port.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headrace import codec
from headrace.clock import Clock, mint
from headrace.config import Config
from headrace.errors import ConflictError, HeadraceError, ValidationError
from headrace.health import ASGIApp, Health, Receive, Scope, Send, routes
from headrace.ids import REQUEST

if TYPE_CHECKING:
    import uvicorn
    from faststream.asgi import AsgiFastStream

    from headrace.bus.connection import Connection

OWN_PATHS: Final = ("/healthz", "/readyz", "/metrics", "/asyncapi")
HTTP_GRACE_S: Final = 3
"""How long open requests (a followed stream of events) may go on when the process stops."""
BACKLOG: Final = 512
DATE_S: Final = 1.0
"""How old the Date header of an answer may be."""
HEAD_S: Final = 20.0
"""How long the head of a request may take to arrive, from its first byte, or from when the connection was made."""
SILENCE_S: Final = 30.0
"""How long the body of a request may stand still."""
HEAD_BYTES_MAX: Final = 64 * 1024
"""How much of a head may have arrived without its end."""


class Patience(NamedTuple):
    """How long is waited for a request: for its head, and for the next piece of its body."""

    head_s: float = HEAD_S
    silence_s: float = SILENCE_S


def front(app: ASGIApp, asgi: ASGIApp | None) -> ASGIApp:
    """Put the shell's routes before the application that the service brings."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if asgi is None or (scope["type"] == "http" and scope["path"] in OWN_PATHS):
            await app(scope, receive, send)
        else:
            await asgi(scope, receive, send)

    return answer


def application(name: str, health: Health, connection: "Connection") -> "AsgiFastStream":
    """Make the FastStream application, and let the connection dial through its broker.

    No FastStream subscriber runs on the broker, so it is connected and never started: the hot loops use nats-py.
    """
    from faststream.asgi import AsgiFastStream
    from faststream.nats import NatsBroker

    from headrace.bus.quick import QuickClient, connect

    class Broker(NatsBroker):
        """A broker on our own client."""

        async def _connect(self) -> QuickClient:
            made = await connect(**self._connection_kwargs)
            self.config.connect(made)
            return made

    def describe() -> Any:
        from headrace.bus.contract import specification

        return specification(connection.url).to_specification().to_jsonable()

    broker = Broker(**connection.options, logger=None)

    async def dial(options: dict[str, Any]) -> QuickClient:
        async with asyncio.timeout(None):  # for ever: this is what waits for NATS to come up
            client = await broker.connect()
            return client if isinstance(client, QuickClient) and not client.is_closed else await connect(**options)

    connection.dial = dial
    return AsgiFastStream(broker, asgi_routes=routes(name, health, describe), logger=None)


def server(
    app: ASGIApp, leaving: asyncio.Event, clock: Clock, *, lifespan: bool, patience: Patience | None = None
) -> "uvicorn.Server":
    """Make a server that leaves signals to us and logs no requests; `leaving` is set once it should exit.

    With `patience` requests that do not arrive are given up; it needs httptools, which the api brings.
    """
    import uvicorn
    from uvicorn.server import ServerState

    class State(ServerState):
        """A server's state that makes the Date header when an answer wants it, not every tenth of a second."""

        def __init__(self) -> None:
            self._dated: list[tuple[bytes, bytes]] = []
            self._stale_at = 0.0
            super().__init__()

        @property
        def default_headers(self) -> list[tuple[bytes, bytes]]:
            """Give the headers of every answer."""
            now = clock.monotonic()
            if now >= self._stale_at:
                date = formatdate(clock.now_ms() / 1_000, usegmt=True).encode()
                self._dated, self._stale_at = [(b"date", date)], now + DATE_S
            return self._dated

        @default_headers.setter
        def default_headers(self, _headers: list[tuple[bytes, bytes]]) -> None:
            """Let nobody else set them."""

    class Server(uvicorn.Server):
        """Uvicorn without its signal handlers, and without a look at the clock ten times a second."""

        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            self.server_state = State()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leave signals alone."""
            yield

        async def main_loop(self) -> None:
            """Serve until told to exit."""
            await leaving.wait()

    return Server(
        uvicorn.Config(
            app,
            lifespan="on" if lifespan else "off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=HTTP_GRACE_S,
            server_header=False,
            http=_protocol(clock, patience) if patience else "auto",
        )
    )


class Arriving:
    """How far a request has come on its connection, and when it is given up."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self.begun = self.headed = False
        self.done = False
        """Whether nothing is waited for: what came was whole."""
        self.head_bytes = 0

    @property
    def wants_head(self) -> bool:
        """Tell whether a head is waited for."""
        return not (self.done or self.headed)

    def came(self, count: int, give_up: Callable[[], None], *, waited_for_head: bool) -> bool:
        """Take note of bytes that were read, and wait for what they leave open; False for a head without an end."""
        if self.done:
            self.stop()
        elif self.headed or not waited_for_head:
            self.wait(give_up)
        else:  # a head has its time once, however many pieces it comes in
            self.head_bytes += count
        return self.head_bytes <= HEAD_BYTES_MAX

    def wait(self, give_up: Callable[[], None]) -> None:
        """Wait for the rest, anew."""
        self.stop()
        seconds = self._patience.silence_s if self.headed else self._patience.head_s
        self._timer = asyncio.get_running_loop().call_later(seconds, give_up)

    def stop(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _protocol(clock: Clock, patience: Patience) -> "type[asyncio.Protocol]":
    """Make the server's side of a connection: it gives up what does not arrive, and refuses in the error envelope."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        """Uvicorn's, which waits for ever and refuses what is no HTTP with a text."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
            super().connection_made(transport)
            self.arriving = Arriving(patience)
            self.arriving.wait(self.give_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self.arriving.stop()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            arriving = self.arriving
            arriving.begun, arriving.headed, arriving.done, arriving.head_bytes = True, False, False, 0
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self.arriving.headed = True
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self.arriving.done = True
            super().on_message_complete()

        def data_received(self, data: bytes) -> None:
            waited_for_head = self.arriving.wants_head
            super().data_received(data)
            if not self.arriving.came(len(data), self.give_up, waited_for_head=waited_for_head):
                message = f"the head of the request is over the limit of {HEAD_BYTES_MAX} bytes"
                self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, ValidationError(message))

        def give_up(self) -> None:
            cycle: Any = self.cycle  # None before the first request
            under_way = cycle is not None and not cycle.response_complete
            if self.flow.read_paused or (under_way and not self.arriving.headed):
                self.arriving.wait(self.give_up)  # it is we who read nothing, or answer what came before
            elif self.arriving.begun:
                self.refuse(HTTPStatus.REQUEST_TIMEOUT, ValidationError("the request did not arrive in time"))
            else:
                self.transport.close()

        def send_400_response(self, msg: str) -> None:
            self.refuse(HTTPStatus.BAD_REQUEST, ValidationError(f"this is no request of HTTP/1.1: {msg}"))

        def refuse(self, status: HTTPStatus, error: HeadraceError) -> None:
            cycle: Any = self.cycle
            begun = cycle is not None and cycle.response_started and not cycle.response_complete
            if not begun and not self.transport.is_closing():
                self.transport.write(_refusal(status, error, mint(clock, REQUEST), clock.now_ms()))
            self.transport.close()

    return Protocol


def _refusal(status: HTTPStatus, error: HeadraceError, request_id: str, now_ms: int) -> bytes:
    """Write a whole answer, for a request that no application gets to see."""
    at = datetime.fromtimestamp(now_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = codec.dumps({"error": {**error.envelope(), "timestamp": at, "request_id": request_id}})
    head = (
        f"HTTP/1.1 {int(status)} {status.phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"connection: close\r\nx-request-id: {request_id}\r\nx-content-type-options: nosniff\r\n\r\n"
    )
    return head.encode() + body


def bind(config: Config, *, api: bool) -> socket.socket:
    """Take the port; raises ConflictError that names it when it is taken."""
    port, variable = (config.api_port, "HEADRACE_API_PORT") if api else (config.health_port, "HEADRACE_HEALTH_PORT")
    family = socket.AF_INET6 if ":" in config.api_host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named TCP, else asyncio leaves Nagle on
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.api_host, port))
        listener.listen(BACKLOG)
    except OSError as problem:
        listener.close()
        message = f"cannot listen on {config.api_host}:{port} ({problem.strerror}); set {variable} to a free port"
        raise ConflictError(message) from problem
    listener.setblocking(False)
    return listener
