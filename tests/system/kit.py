"""Real processes for tests: `headrace up` as a child, its services by name, and what it leaves behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from headrace.client.client import Client
from headrace.client.streams import Event
from headrace.dev.embedded import EmbeddedNats, EmbeddedPostgres, free_port
from headrace.events.parts import parts_of
from headrace.keys import Keys

ROOT = Path(__file__).parents[2]
READY_S = 60.0
SETTLED_S = 30.0
FILES = 40
SERVICES = ("api", "gatekeeper", "integrations", "planner", "runner")


async def until(look: Callable[[], Any], what: str, within_s: float = SETTLED_S) -> Any:
    """Look, perhaps asynchronously, until something is there, and give it; fails saying `what` was waited for."""
    deadline = time.monotonic() + within_s
    while True:
        looked = look()
        seen = await looked if isinstance(looked, Awaitable) else looked
        if seen:
            return seen
        assert time.monotonic() < deadline, f"waited {within_s:g} s in vain for {what}"
        await asyncio.sleep(0.05)


def gone(processes: list[psutil.Process], within_s: float = SETTLED_S) -> list[psutil.Process]:
    """Give those processes that are still there after a while."""
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    return [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


def command_of(process: psutil.Process) -> list[str]:
    """Give the command line of a process, empty when it has just ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def clean_environment(**more: str) -> dict[str, str]:
    """Give this process's environment without headrace's own variables, and some more."""
    return {**{key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}, **more}


class Command:
    """A `headrace` command as a child process, in a session of its own, its output in a file."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.output = folder / "output.txt"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace.cli.main", *arguments],
                cwd=ROOT,
                env=clean_environment(**env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.tree = psutil.Process(self.process.pid)

    @property
    def said(self) -> str:
        """Give everything it printed so far."""
        return self.output.read_text()

    def family(self) -> list[psutil.Process]:
        """Give it and all its descendants."""
        return [self.tree, *self.tree.children(recursive=True)]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, within_s: float = SETTLED_S) -> int:
        """Wait for its end and give the exit code."""
        return await asyncio.to_thread(self.process.wait, within_s)


class Up(Command):
    """A running `headrace up`."""

    def __init__(self, folder: Path, file_root: Path, **env: str) -> None:
        self.home = folder / "home"
        self.port = int(env.setdefault("HEADRACE_API_PORT", str(free_port())))
        env = {"HEADRACE_DATA_DIR": str(self.home), "HEADRACE_FILE_ROOT": str(file_root), **env}
        super().__init__(folder, "up", **env)
        self.url = f"http://127.0.0.1:{self.port}"

    async def ready(self) -> None:
        """Wait until it says that it is ready."""

        def look() -> bool:
            assert self.process.poll() is None, self.said
            return "headrace is ready" in self.said

        await until(look, "headrace up to be ready", READY_S)

    def client(self, token: str | None = None) -> Client:
        """Give a client for the first token, or another."""
        return Client(self.url, token or (self.home / "token").read_text().strip())

    def service(self, name: str) -> psutil.Process:
        """Give the process of a service; raises LookupError while there is none."""
        for child in self.tree.children(recursive=True):
            if command_of(child)[-2:] == ["serve", name] and "leash.py" not in " ".join(command_of(child)):
                return child
        raise LookupError(name)

    def log_of(self, name: str) -> str:
        """Give what a service logged."""
        return (self.home / "logs" / f"{name}.log").read_text()


@dataclass
class Site:
    """A whole installation over servers of the tests' own."""

    up: Up
    postgres: EmbeddedPostgres
    nats: EmbeddedNats
    root: Path

    @property
    def keys(self) -> Keys:
        """Give the installation's keys."""
        return Keys(master=bytes.fromhex((self.up.home / "secret").read_text().strip()))

    async def rows(self, query: str, *given: object) -> list[dict[str, Any]]:
        """Ask the database."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            return [dict(row) for row in await connection.fetch(query, *given)]
        finally:
            await connection.close()

    async def finished(self, client: Client, run_id: str, within_s: float = 60.0) -> list[Event]:
        """Follow a run to its end, and give its events; it must have succeeded, each step just once."""
        async with asyncio.timeout(within_s):
            told = [event async for event in client.run_events(run_id)]
        *events, complete = told
        assert complete.data["status"] == "succeeded", complete.data
        assert [int(event.id or 0) for event in events] == list(range(1, len(events) + 1))
        done = [
            (data["step"], data.get("index"))
            for event in events
            for kind, data in parts_of(event.event, event.data["data"])
            if kind == "step.succeeded"
        ]
        assert len(done) == len(set(done))
        return events


@contextmanager
def running_up(folder: Path, file_root: Path, **env: str) -> Iterator[Up]:
    """Start `headrace up`; afterwards stop it, and make sure that nothing of it is left."""
    up = Up(folder, file_root, **env)
    try:
        yield up
    finally:
        family = up.family() if up.process.poll() is None else []
        up.send(signal.SIGINT)
        left = gone(family)
        for each in left:
            each.kill()
        up.process.wait(5)
        assert not left, f"left running: {left}\n{up.said}"


@contextmanager
def beside(site: Site, name: str) -> Iterator[psutil.Process]:
    """Start a second process of a service beside the one that `up` keeps, and kill it afterwards."""
    given = site.up.service(name).environ()
    env = clean_environment(**{key: value for key, value in given.items() if key.startswith("HEADRACE_")})
    with (site.up.home / "logs" / f"second_{name}.log").open("ab") as log:
        process = psutil.Popen(
            [sys.executable, "-m", "headrace.cli.main", "serve", name],
            cwd=ROOT,
            env={**env, "HEADRACE_HEALTH_PORT": "0", "MAX_CONCURRENT": given.get("MAX_CONCURRENT", "")},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.kill()
        process.wait()


async def owners(site: Site) -> dict[str, int]:
    """Give how many partitions of runs each owner holds."""
    found = await site.rows(
        "select owner, count(*) as held from headrace.partitions p join headrace.owners o using (log, owner)"
        " where log = 'runs' and o.lease_until > extract(epoch from clock_timestamp()) * 1000 group by 1"
    )
    return {row["owner"]: row["held"] for row in found}


async def shares(site: Site, *held: int) -> dict[str, int]:
    """Wait until the partitions of runs are shared just so, and give how many each owner holds."""

    async def look() -> dict[str, int] | None:
        found = await owners(site)
        return found if sorted(found.values()) == sorted(held) else None

    given: dict[str, int] = await until(look, f"partitions to be held as {held}", 60)
    return given


@asynccontextmanager
async def installation(folder: Path, root: Path, **env: str) -> AsyncIterator[Site]:
    """Give a whole installation over servers of the tests' own, with `FILES` modules under its file root."""
    for number in range(FILES):
        (root / f"module_{number:03}.py").write_text(f"def function_{number}() -> None: ...\n")
    with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedNats(folder / "nats") as nats:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("alter database headrace set track_functions = 'all'")
        await connection.close()
        urls = {"HEADRACE_DATABASE_URL": postgres.url, "HEADRACE_NATS_URL": nats.url}
        with running_up(folder, root, **urls, **env) as up:
            await up.ready()
            yield Site(up=up, postgres=postgres, nats=nats, root=root)


class Load:
    """Runs of one spec that are created one after the other until it is told to stop."""

    def __init__(self, client: Client, spec: str, pause_s: float) -> None:
        self._client, self._spec, self._pause_s = client, spec, pause_s
        self._stopping = False
        self.runs: list[str] = []

    async def run(self) -> None:
        """Create runs."""
        while not self._stopping:
            self.runs.append((await self._client.create_run(spec=self._spec)).id)
            await asyncio.sleep(self._pause_s)

    async def more(self, count: int) -> None:
        """Wait for so many more runs to be created."""
        wanted = len(self.runs) + count
        await until(lambda: len(self.runs) >= wanted, f"{wanted} runs to be created", 60)

    def stop(self) -> None:
        """Create no more."""
        self._stopping = True
