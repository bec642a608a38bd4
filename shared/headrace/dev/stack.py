"""Everything on one machine: servers, migrations, one process a service, and the first access token."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from headrace.clock import Clock
from headrace.config import Config, environment
from headrace.dev import children, first_token
from headrace.dev.embedded import HOST, EmbeddedNats, EmbeddedPostgres, PortTakenError, free_port, refuse_taken
from headrace.dev.home import Home, Servers
from headrace.dev.keeper import Keeper
from headrace.dev.supervisor import Supervisor, last_said
from headrace.errors import UnavailableError
from headrace.log.migrate import check, migrate
from headrace.service import installed

READY_S: Final = 60.0
LOOK_S: Final = 0.02
STARTS_MAX: Final = 3
"""A service that ends this often before it was ever ready is not started again."""
PROBE_S: Final = 2.0
READY_PATH: Final = "/readyz"
LOOPBACK: Final = "127.0.0.1"
ANYWHERE: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104  (recognised here, bound elsewhere)
POSTGRES: Final = "PostgreSQL"
NATS: Final = "nats-server"
LISTENS: Final = re.compile(rf'listen: "{re.escape(HOST)}:(\d+)"')
STOP_ORDER: Final = (("api",), ("runner", "integrations"), ("gatekeeper", "planner"))
"""First nobody comes in, then workers finish what they hold, then owners take their results and let go."""


class Stack:
    """An installation that runs: where it is, and its programs."""

    def __init__(self, config: Config, clock: Clock, say: Callable[[str], None]) -> None:
        self.config, self._clock = config, clock
        self.home = Home(config.data_dir)
        self.supervisor = Supervisor(self.home.logs, clock, say)
        self.programs: dict[str, children.Program] = {}
        self.postgres = None if config.database_url else EmbeddedPostgres(self.home.folder / "postgres")
        nats = self.home.folder / "nats"
        self.nats = None if config.nats_url else EmbeddedNats(nats, port_before(nats))
        given = {POSTGRES: self.postgres, NATS: self.nats}
        self._embedded = {name: server for name, server in given.items() if server is not None}
        self.keeper = Keeper(self._embedded, clock, say)

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Start all, and come back when every service says that it is ready and a token is there."""
        _refuse_taken_port(self.config)
        servers = await self._start_servers()
        for name in self._embedded:
            group.create_task(self.keeper.keep(name))
        await migrate(servers.database_url)
        incarnation = await check(servers.database_url)  # a copy that nobody adopted is refused here, in one line
        place = children.Place(
            database_url=servers.database_url,
            nats_url=servers.nats_url,
            secret_file=self.home.secret_file,
            keys=self.home.keys(),
            incarnation=incarnation,
        )
        env = environment()
        for name in sorted(installed()):
            program = children.service(name, self.config, place, env, free_port())
            self.programs[name] = program
            group.create_task(self.supervisor.keep(program))
        for name in self.programs:
            await self.until_ready(name)
        await first_token.ensure(self.home, place, self.config.workspace, self._clock)
        self.home.tell(self.config.base_url, servers)

    async def until_ready(self, name: str) -> None:
        """Wait until a service says that it is ready; raises UnavailableError naming its log."""
        program = self.programs[name]
        host = LOOPBACK if name != children.API or self.config.api_host in ANYWHERE else self.config.api_host
        try:
            async with asyncio.timeout(READY_S):
                while not await _says_ready(host, program.ready_port):
                    self._refuse_crash_loop(name)
                    await self._clock.sleep(LOOK_S)
        except TimeoutError as problem:
            message = f"{name} is not ready after {READY_S:g} s; see {self.home.logs / f'{name}.log'}"
            raise UnavailableError(message) from problem

    def _refuse_crash_loop(self, name: str) -> None:
        if self.supervisor.restarts.get(name, 0) >= STARTS_MAX:
            log = self.home.logs / f"{name}.log"
            message = f"{name} does not start: {last_said(log)} (see {log})"
            raise UnavailableError(message)

    @property
    def database_url(self) -> str:
        """Give the URL of the database."""
        return self.postgres.local_url if self.postgres else self.config.database_url or ""

    async def stop_services(self) -> None:
        """Stop the services in order; the servers stay."""
        await self.supervisor.stop((*STOP_ORDER, tuple(self.programs)))

    async def stop(self) -> None:
        """Stop services in order, then the servers beneath them."""
        await self.stop_services()
        await asyncio.to_thread(self.supervisor.close)
        await self.keeper.stop()
        self.home.untell()

    async def _start_servers(self) -> Servers:
        """Start those servers that are not given, side by side."""
        async with asyncio.TaskGroup() as group:
            for server in self._embedded.values():
                group.create_task(asyncio.to_thread(server.start))
        return Servers(self.database_url, self.nats.url if self.nats else self.config.nats_url or "")


@asynccontextmanager
async def running(
    config: Config, clock: Clock, say: Callable[[str], None], *, fresh: bool = False
) -> AsyncIterator[Stack]:
    """Run an installation for as long as the block lasts, in an emptied data folder if it shall be `fresh`.

    Raises HeadraceError for what its user can mend.
    """
    stack = Stack(config, clock, say)
    stack.home.lock()
    if fresh:
        stack.home.clear()
    try:
        async with asyncio.TaskGroup() as group:
            try:
                await stack.start(group)
                yield stack
            finally:
                await stack.stop()
    except BaseExceptionGroup as many:
        raise _first_of(many) from None
    finally:
        stack.home.unlock()


def _first_of(many: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the error itself where task groups wrapped just one."""
    first = many.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


def port_before(data_dir: Path) -> int:
    """Give the port of the nats-server that had this data folder before, for those who still look for it there.

    0 when there was none, or somebody else has the port now.
    """
    settings = data_dir / "nats.conf"
    told = LISTENS.search(settings.read_text()) if settings.is_file() else None
    if told is None:
        return 0
    try:
        refuse_taken(int(told[1]))
    except PortTakenError:
        return 0
    return int(told[1])


def _refuse_taken_port(config: Config) -> None:
    try:
        refuse_taken(config.api_port)
    except UnavailableError as problem:
        message = f"{problem.message} (HEADRACE_API_PORT)"
        raise UnavailableError(message) from problem


async def _says_ready(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {READY_PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
