"""The shell around every service: connections that are waited for, health, metrics, signals, logs, the outer boundary.

A service brings `main`; the shell gives it a `Running` with the bus (and the log, for services that own or read one).
Health, metrics and whatever the service answers over HTTP are served by `http_side` for as long as it lives.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final

from headrace import http_side
from headrace.clock import SystemClock
from headrace.config import Config
from headrace.errors import HeadraceError, UnavailableError, ValidationError
from headrace.health import ASGIApp, Health
from headrace.logs import configure_logging
from headrace.vocabulary import DRAIN_S, GC_THRESHOLDS

if TYPE_CHECKING:
    from headrace.bus.connection import Connection
    from headrace.bus.jetstream import JetStreamBus
    from headrace.log.postgres import PostgresLog

logger = logging.getLogger(__name__)

RETRY_S: Final = 1.0
OPEN_TIMEOUT_S: Final = 20.0
SAY_AGAIN_S: Final = 30.0
LAST_GRACE_S: Final = 5.0
EXIT_REFUSED: Final = 1
EXIT_DEFECT: Final = 70
EXIT_KILLED: Final = 130


class Running:
    """What `main` gets. `port` is where the process's HTTP side listens."""

    def __init__(
        self,
        name: str,
        config: Config,
        clock: SystemClock,
        health: Health,
        *,
        bus: "JetStreamBus",
        log: "PostgresLog | None",
        port: int,
    ) -> None:
        self.name = name
        self.config = config
        self.clock = clock
        self.health = health
        self.bus = bus
        self.port = port
        self._log = log

    @property
    def log(self) -> "PostgresLog":
        """Give the log; raises ValidationError in a process that was started without a database."""
        if self._log is None:
            message = f"{self.name} was started without a database"
            raise ValidationError(message)
        return self._log


Main = Callable[[Running], Awaitable[None]]


async def serve(name: str, config: Config, *, main: Main, asgi: ASGIApp | None = None, database: bool = False) -> None:
    """Serve until cancelled, signalled, or `main` ends; then drain within DRAIN_S.

    `database=True` opens the log first. With `asgi` (the api) that application is served on the api's own address,
    beside the shell's routes, and `main` begins before NATS answers; everywhere else `main` waits for it.
    Raises HeadraceError for what an operator can mend.
    """
    shell = _Shell(name, config, main, asgi, database=database)
    try:
        await shell.run()
    except* HeadraceError as group:
        raise _first(group) from None


def run(name: str, config: Config) -> int:
    """Run an installed service in this process until it ends; gives the exit code. The outermost boundary."""
    from headrace import service

    configure_logging(name, config.log_level)
    gc.disable()  # nothing of what is being loaded is garbage; `run_loop` has it collected again
    try:
        run_loop(service.load(name).run(config))
    except HeadraceError as problem:
        logger.error("%s ends: %s", name, problem.message)  # noqa: TRY400  (an operator's matter: no traceback)
        return EXIT_REFUSED
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_KILLED
    except Exception:
        logger.exception("%s ends by a defect", name)
        return EXIT_DEFECT
    return 0


def run_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run a program to its end, on the quickest loop there is."""
    gc.freeze()  # what is loaded by now stays: it need not be looked through again and again
    gc.enable()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        import uvloop
    except ImportError:  # Windows has none
        asyncio.run(work)
    else:
        uvloop.run(work)


class _Shell:
    """One run of a service."""

    def __init__(self, name: str, config: Config, main: Main, asgi: ASGIApp | None, *, database: bool) -> None:
        self._name = name
        self._config = config
        self._main = main
        self._asgi = asgi
        self._database = database
        self._clock = SystemClock()
        self._health = Health()
        self._port = 0
        self._log: PostgresLog | None = None
        self._signals = 0
        self._started = False
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve HTTP around the service's life."""
        from headrace.bus.connection import Connection

        config = self._config
        if not config.nats_url:
            message = "HEADRACE_NATS_URL is not set"
            raise ValidationError(message)
        listener = http_side.bind(config, api=self._asgi is not None)
        self._port = listener.getsockname()[1]
        connection = Connection(
            config.nats_url, self._clock, name=f"headrace-{self._name}", replicas=config.nats_replicas
        )
        front = http_side.front(http_side.application(self._name, self._health, connection), self._asgi)
        leaving = asyncio.Event()
        patience = http_side.Patience() if self._asgi is not None else None
        server = http_side.server(front, leaving, self._clock, lifespan=self._asgi is not None, patience=patience)
        with self._handling_signals(), contextlib.closing(listener):
            async with asyncio.TaskGroup() as group:
                http = group.create_task(server.serve(sockets=[listener]), name="http")
                logger.info("%s: http on %s:%d", self._name, config.api_host, self._port)
                try:
                    await self._live(connection)
                finally:
                    server.should_exit = True
                    leaving.set()
                    await asyncio.wait({http})

    async def _live(self, connection: "Connection") -> None:
        """Live until `main` ends or a signal comes; then give it DRAIN_S to end."""
        async with asyncio.TaskGroup() as group:
            life = group.create_task(self._service(connection), name=self._name)
            stopper = group.create_task(self._stop.wait(), name="signals")
            try:
                await asyncio.wait({life, stopper}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._health.draining = True
                stopper.cancel()
                life.cancel()
                with _last_resort(self._name):
                    await asyncio.wait({life})

    async def _service(self, connection: "Connection") -> None:
        """Connect, run `main`, and let go of everything in turn."""
        from headrace.bus.jetstream import JetStreamBus

        self._health.add("database", lambda: not self._database or self._log is not None)
        self._health.add("started", lambda: self._started)
        self._health.add("bus", lambda: connection.connected, required=self._asgi is None)
        async with contextlib.AsyncExitStack() as stack:
            incarnation = self._config.incarnation
            if self._database:
                self._log = await _open_log(self._config.database_url, self._clock)
                stack.push_async_callback(self._log.close)
                incarnation = self._log.incarnation
            bus = await JetStreamBus.over(connection, incarnation, self._clock, wait=self._asgi is None)
            stack.push_async_callback(bus.close)
            self._health.add("streams", lambda: not bus.refusing, required=False)
            self._started = True
            logger.info("%s: started", self._name)
            await self._main(
                Running(
                    self._name,
                    self._config,
                    self._clock,
                    self._health,
                    bus=bus,
                    log=self._log,
                    port=self._port,
                )
            )

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """Drain at the first SIGTERM or SIGINT; end at once at the second."""
        loop = asyncio.get_running_loop()
        handled = (signal.SIGTERM, signal.SIGINT)
        try:
            for number in handled:
                loop.add_signal_handler(number, self._on_signal, number)
        except (NotImplementedError, RuntimeError, ValueError):  # not the main thread, or Windows
            yield
            return
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:
            logger.warning("%s: %s again: ending at once", self._name, number.name)
            os._exit(EXIT_KILLED)
        logger.info("%s: %s: draining for at most %.0f s", self._name, number.name, DRAIN_S)
        self._stop.set()


@contextlib.contextmanager
def _last_resort(name: str) -> Iterator[None]:
    """End the process when it does not drain in time: what it held is repaired by others."""

    def end() -> None:
        logger.error("%s did not drain within %.0f s; ending at once", name, DRAIN_S)
        os._exit(EXIT_DEFECT)

    timer = asyncio.get_running_loop().call_later(DRAIN_S + LAST_GRACE_S, end)
    try:
        yield
    finally:
        timer.cancel()


async def _open_log(url: str | None, clock: SystemClock) -> "PostgresLog":
    """Open the log, however long the database takes to come up. What it refuses is an operator's matter."""
    from headrace.log.postgres import PostgresLog

    if not url:
        message = "HEADRACE_DATABASE_URL is not set"
        raise ValidationError(message)
    said = 0.0
    while True:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                return await PostgresLog.open(url, clock)
        except (UnavailableError, OSError, TimeoutError) as problem:
            if not said or clock.monotonic() - said >= SAY_AGAIN_S:
                said = clock.monotonic()
                logger.warning("the database does not answer (%s); trying again until it does", problem)
            await asyncio.sleep(RETRY_S)


def _first(group: BaseExceptionGroup[HeadraceError]) -> HeadraceError:
    """Give the first error of a group, however deep it sits."""
    problem = group.exceptions[0]
    return _first(problem) if isinstance(problem, BaseExceptionGroup) else problem
