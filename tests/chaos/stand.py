"""The installation that is broken: nine programs on a supervisor, each behind links of its own to Postgres and NATS."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
import msgspec
import psutil

from headrace.client.client import Client
from headrace.clock import SystemClock
from headrace.config import Config, environment
from headrace.dev import children, first_token
from headrace.dev.embedded import EmbeddedNats, EmbeddedPostgres, free_port
from headrace.dev.home import Home
from headrace.dev.leash import Leash
from headrace.dev.supervisor import Supervisor
from headrace.errors import HeadraceError, NotFoundError
from headrace.log.migrate import check, migrate
from headrace.vocabulary import WORKSPACE_DEFAULT
from tests.chaos import either, tools
from tests.chaos.proxy import Link
from tests.chaos.schedule import DATABASE_USERS, SERVICES

ROOT: Final = Path(__file__).parents[2]
READY_S: Final = 120.0
LOOK_S: Final = 0.1
SLOTS: Final = "6"
DISK_BYTES: Final = {"postgres": 4 << 30, "nats": 3 << 30}
"""Sizes of the servers' disks; no more memory is taken than is written."""
DISK_LEFT_BYTES: Final = 64 << 10
FAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
ENDED: Final = re.compile(r"(?P<name>\w+) ended \((?P<how>[^)]*)\)")
CLOCKED: Final = "planner_2"
"""The one process whose clock jumps."""
STOP_ORDER: Final = (("api",), ("runner_1", "runner_2", "integrations"), ("gatekeeper", "planner_1", "planner_2"))


class Server:
    """An embedded server that is killed and started again; one at a time does something to it."""

    def __init__(self, name: str, embedded: EmbeddedPostgres | EmbeddedNats, say: Callable[[str], None]) -> None:
        self.name, self.embedded, self.turn = name, embedded, asyncio.Lock()
        self._say = say

    @property
    def alive(self) -> bool:
        """Tell whether its process runs."""
        try:
            return psutil.Process(self.embedded.pid).status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, HeadraceError):
            return False

    async def kill(self) -> None:
        """End it with SIGKILL."""
        await asyncio.to_thread(self.embedded.kill)

    async def start(self, *, patience_s: float = READY_S) -> None:
        """Start it over what it left, as often as it takes; raises UnavailableError after a while."""
        until = asyncio.get_running_loop().time() + patience_s
        while True:
            try:
                await asyncio.to_thread(self.embedded.start)
            except HeadraceError as problem:
                if asyncio.get_running_loop().time() > until:
                    raise
                self._say(f"{self.name} does not start yet: {problem.message.splitlines()[-1][:160]}")
                await asyncio.sleep(0.5)
            else:
                return

    async def ensure(self) -> None:
        """See to it that it runs."""
        async with self.turn:
            if not self.alive:
                await self.kill()
                await self.start()


class Disk:
    """A small disk of a server's own: a tmpfs, where we are root; else a plain folder that is never full."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self._size = folder, size
        folder.mkdir(parents=True, exist_ok=True)
        self.own = os.geteuid() == 0 and self._mount("mode=755", size)

    def fill(self) -> bool:
        """Shrink it to what is on it, so that nothing more fits; tells whether that succeeded."""
        return self._mount("remount", shutil.disk_usage(self.folder).used + DISK_LEFT_BYTES)

    def free(self) -> None:
        """Give it its size again."""
        if self.own:
            self._mount("remount", self._size)

    def _mount(self, options: str, size: int) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", f"{options},size={size}", "chaos", str(self.folder)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def remove(self) -> None:
        """Let go of it."""
        if self.own:
            subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)


class Stand:
    """Everything that runs, and the ways to it. With `other`, a checkout, versions change while it is broken."""

    def __init__(self, folder: Path, say: Callable[[str], None], other: Path | None = None) -> None:
        self.folder, self.say, self.other, self.clock = folder, say, other, SystemClock()
        self.home = Home(folder / "home")
        self.disks = {name: Disk(folder / name, size) for name, size in DISK_BYTES.items()}
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.nats = EmbeddedNats(folder / "nats")
        self.servers = {"postgres": Server("postgres", self.postgres, say), "nats": Server("nats", self.nats, say)}
        self.links: dict[str, Link] = {}
        self.programs: dict[str, children.Program] = {}
        self.ledger_file, self.ledger_port = folder / "ledger.jsonl", free_port()
        self.config = Config(
            data_dir=self.home.folder, api_port=free_port(), file_root=folder / "root", log_level="info"
        )
        self.faketime = FAKETIME if FAKETIME.is_file() else None
        self.clock_file = folder / "clock"
        self.fallen: list[str] = []

    @property
    def url(self) -> str:
        """Give the address of the api."""
        return self.config.base_url

    def client(self, token: str | None = None, *, patience_s: float = 20.0) -> Client:
        """Give a client for the first token, or another."""
        return Client(self.url, token or self.home.token(), patience_s=patience_s)

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Start servers, links and programs, and wait until all are ready."""
        self.home.lock()
        (self.folder / "root").mkdir()
        self.clock_file.write_text("+0\n")
        plugins = tools.install(self.folder / "plugins")
        for server in self.servers.values():
            await server.start()
        await migrate(self.postgres.url)
        self.supervisor = Supervisor(self.home.logs, self.clock, self._hear)
        self.place = children.Place(
            database_url=self.postgres.url,
            nats_url=self.nats.url,
            secret_file=self.home.secret_file,
            keys=self.home.keys(),
            incarnation=await check(self.postgres.url),
        )
        await self._open_links(group)
        self.path = os.pathsep.join(filter(None, [str(plugins), str(ROOT), environment().get("PYTHONPATH", "")]))
        inherited = {**environment(), "PYTHONPATH": self.path}
        self._ledger = self._leash_ledger(inherited)
        for name in SERVICES:
            self.programs[name] = self._program(name, inherited)
            group.create_task(self.supervisor.keep(self.programs[name]))
        for name in SERVICES:
            await self.until_ready(name)
        await first_token.ensure(self.home, self.place, WORKSPACE_DEFAULT, self.clock)

    def _hear(self, text: str) -> None:
        """Note the programs that ended although nobody killed or stopped them."""
        self.say(f"    {text}")
        known = ENDED.match(text)  # one that is starting dies of the signals that it does not handle yet
        if known and known["how"] not in {"SIGKILL", "SIGUSR2", "SIGTERM", "exit code 0"}:
            self.fallen.append(text)

    def _leash_ledger(self, env: dict[str, str]) -> Leash:
        command = [sys.executable, "-m", "tests.chaos.ledger", str(self.ledger_port), str(self.ledger_file)]
        with (self.home.logs / "ledger.log").open("ab") as output:
            return Leash(command, env=env, output=output, cwd=ROOT)

    async def _open_links(self, group: asyncio.TaskGroup) -> None:
        for name in SERVICES:
            self.links[f"{name} nats"] = Link(f"{name} nats", lambda: self.nats.port)
            if name in DATABASE_USERS:
                self.links[f"{name} postgres"] = Link(f"{name} postgres", lambda: self.postgres.port)
        for link in self.links.values():
            group.create_task(link.serve())
        for link in self.links.values():
            await link.ready.wait()

    def _program(self, name: str, inherited: dict[str, str]) -> children.Program:
        """Give a service's program as `headrace up` makes it, over links, with crash points and the chaos tools."""
        service = name.partition("_")[0]
        place = msgspec.structs.replace(self.place, nats_url=f"nats://127.0.0.1:{self.links[f'{name} nats'].port}")
        if name in DATABASE_USERS:
            port = self.links[f"{name} postgres"].port
            url = self.place.database_url.replace(f":{self.postgres.port}/", f":{port}/")
            place = msgspec.structs.replace(place, database_url=url)
        made = children.service(service, self.config, place, inherited, free_port())
        env = {**made.env, "MAX_CONCURRENT": SLOTS}
        if service == "runner":
            env[tools.PORT] = str(self.ledger_port)
        served = ("tests.chaos.served",) if self.other is None else ("tests.chaos.either", str(self.other))
        command: tuple[str, ...] = (sys.executable, "-m", *served, service, str(self.folder / name))
        if name == CLOCKED and self.faketime is not None:
            faked = {
                "LD_PRELOAD": str(self.faketime),
                "FAKETIME_TIMESTAMP_FILE": str(self.clock_file),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
            command = ("env", *(f"{key}={value}" for key, value in faked.items()), *command)  # not for its leash
        return msgspec.structs.replace(made, name=name, command=command, env=env)

    def pid(self, name: str) -> int | None:
        """Give the process id of a program, None while there is none."""
        try:
            return self.supervisor.pid(name)
        except NotFoundError:
            return None

    def send(self, name: str, number: signal.Signals) -> int | None:
        """Send a program a signal and give the process id it went to; None while there is none."""
        try:
            return self.supervisor.kill(name, number)
        except NotFoundError:
            return None

    async def is_ready(self, name: str) -> bool:
        """Ask a program whether it is ready."""
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.programs[name].ready_port)
                try:
                    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    async def until_ready(self, name: str, within_s: float = READY_S) -> None:
        """Wait until a program says that it is ready; raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while not await self.is_ready(name):  # noqa: ASYNC110  (another process says nothing of itself)
                await asyncio.sleep(LOOK_S)

    async def keep_metrics(self) -> None:
        """Keep what every program counted, for whoever looks for the cause of something."""
        async with httpx2.AsyncClient(timeout=5) as http:
            for name, program in self.programs.items():
                try:
                    said = (await http.get(f"http://127.0.0.1:{program.ready_port}/metrics")).content
                except httpx2.HTTPError as problem:
                    said = repr(problem).encode()
                (self.home.logs / f"{name}.metrics").write_bytes(said)

    async def calm(self) -> None:
        """Undo every fault that still lasts, and wait until everything is ready again."""
        self.clock_file.write_text("+0\n")
        for disk in self.disks.values():
            disk.free()
        for link in self.links.values():
            link.heal()
        for name in SERVICES:
            self.send(name, signal.SIGCONT)
        for server in self.servers.values():
            await server.ensure()
        if self.other is not None:
            await self._upgrade()
        for name in SERVICES:
            await self.until_ready(name)

    async def _upgrade(self) -> None:
        """End the change of versions: what still runs the other one stops in order, and starts again as this one."""
        (self.folder / either.UPGRADED).touch()
        for name in SERVICES:
            await self.until_ready(name)
            if either.versions(self.folder / name)[-1] == either.OURS:
                continue
            self.send(name, signal.SIGTERM)
            async with asyncio.timeout(READY_S):
                while either.versions(self.folder / name)[-1] != either.OURS:  # noqa: ASYNC110  (another process)
                    await asyncio.sleep(LOOK_S)

    def starts(self) -> dict[str, int]:
        """Count the starts of programs by version; none where all are of one."""
        told = [version for name in SERVICES for version in either.versions(self.folder / name)]
        return {f"starts of {version} version": told.count(version) for version in sorted(set(told))}

    async def stop_services(self) -> None:
        """Stop all programs in order; the servers stay."""
        for name in SERVICES:
            self.send(name, signal.SIGCONT)
        await self.supervisor.stop((*STOP_ORDER, SERVICES))

    async def stop(self) -> None:
        """Stop everything that is left."""
        if self.programs:
            await self.stop_services()
            await asyncio.to_thread(self.supervisor.close)
        if hasattr(self, "_ledger"):
            await asyncio.to_thread(self._ledger.stop)
        for server in self.servers.values():
            async with server.turn:
                await asyncio.to_thread(server.embedded.stop)
        for disk in self.disks.values():
            log = disk.folder / "server.log"
            if log.is_file():
                shutil.copy(log, self.home.logs / f"{disk.folder.name}.log")
            disk.remove()
        self.home.unlock()


@asynccontextmanager
async def standing(folder: Path, say: Callable[[str], None], other: Path | None = None) -> AsyncIterator[Stand]:
    """Give a stand that is ready, and stop it afterwards."""
    stand = Stand(folder, say, other)
    async with asyncio.TaskGroup() as group:
        try:
            await stand.start(group)
            yield stand
        finally:
            await stand.stop()
            for link in stand.links.values():
                link.close()
