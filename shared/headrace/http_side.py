"""The HTTP side of every process: its port, the application with health, metrics and contract, and its web server.

The application is FastStream's; the bus rides on the connection of its broker, so that a process has one connection to
NATS. A service that brings an application of its own (the api) is served behind the shell's routes on one port.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from headrace.clock import Clock
from headrace.config import Config
from headrace.errors import ConflictError
from headrace.health import ASGIApp, Health, Receive, Scope, Send, routes

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


def server(app: ASGIApp, leaving: asyncio.Event, clock: Clock, *, lifespan: bool) -> "uvicorn.Server":
    """Make a server that leaves signals to us and logs no requests; `leaving` is set once it should exit."""
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
        )
    )


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
