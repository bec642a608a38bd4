"""The stand that workloads run on: a fresh installation as shipped, a worker for the no-op tools, and meters.

Everything is as `headrace up` starts it: embedded Postgres with fsync, embedded NATS with JetStream on disk, one process
a service. Figures of one machine are comparable only with others measured on it in the same hour.
"""

import asyncio
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from headrace.client.client import Client
from headrace.clock import SystemClock
from headrace.config import Config, environment, from_env
from headrace.dev.embedded import free_port
from headrace.dev.leash import Leash
from headrace.dev.stack import Stack, running

TOOLS: Final = Path(__file__).with_name("tools.py")
UNFINISHED_MAX: Final = 10_000_000
"""A full store holds more parked runs than a workspace may have by default."""
SLOTS: Final = 64
TOOL: Final = "plus_one"
WAIT_S: Final = 30.0
LOOK_S: Final = 0.05
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
TICKS: Final = os.sysconf("SC_CLK_TCK")

TRANSACTIONS: Final = "select xact_commit from pg_stat_database where datname = current_database()"
COUNTS: Final = "BENCH_COUNTS"
"""Where the counting tool leaves its lines."""

Figures = dict[str, Any]
Workload = Callable[["Stand", int], Coroutine[Any, Any, Figures]]


class Stand:
    """A running installation, its client, and what its processes cost."""

    def __init__(self, stack: Stack, client: Client, start_worker: Callable[[], Leash]) -> None:
        self.stack, self.client, self._start_worker = stack, client, start_worker
        self.worker = start_worker()

    @property
    def token(self) -> str:
        """Give the first token of the installation."""
        return self.stack.home.token() or ""

    @property
    def url(self) -> str:
        """Give the address of the api."""
        return self.stack.config.base_url

    def kill_worker(self) -> None:
        """Kill the worker as kill -9 does, and start another one in its place."""
        os.kill(self.worker.pid, signal.SIGKILL)
        self.worker.stop()
        self.worker = self._start_worker()

    async def statements(self) -> int:
        """Count the transactions of the database; every statement of headrace is one of its own."""
        connection = await asyncpg.connect(self.stack.database_url)
        try:
            return int(await connection.fetchval(TRANSACTIONS))
        finally:
            await connection.close()

    def pids(self) -> dict[str, int]:
        """Give the processes of headrace and its servers by name."""
        found = {name: self.stack.supervisor.pid(name) for name in self.stack.programs}
        found["worker"] = self.worker.pid
        for name, server in (("postgres", self.stack.postgres), ("nats", self.stack.nats)):
            if server is not None and server.pid is not None:
                found[name] = server.pid
        return found

    def memory_mb(self, name: str) -> float:
        """Give the resident memory of a process in MB."""
        pages = int(Path(f"/proc/{self.pids()[name]}/statm").read_text().split()[1])
        return pages * PAGE / 1_000_000

    def peak_mb(self, name: str) -> float:
        """Give the most memory that a process has had, in MB."""
        status = Path(f"/proc/{self.pids()[name]}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1_000

    def cpu_s(self) -> dict[str, float]:
        """Give the CPU seconds that each process, with its children, has used."""
        return {name: _cpu_s(pid) for name, pid in self.pids().items()}

    async def metric(self, service: str, name: str) -> float:
        """Read the sum of a metric's samples from a service's own /metrics."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.stack.programs[service].ready_port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.partition("{")[0].partition(" ")[0] == name
        )


def _cpu_s(pid: int) -> float:
    total = 0.0
    for one in (pid, *_children(pid)):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15]) / TICKS
    return total


def _children(pid: int) -> list[int]:
    try:
        direct = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*direct, *(below for child in direct for below in _children(child))]


@asynccontextmanager
async def stand(**settings: str) -> AsyncIterator[Stand]:
    """Give a fresh stand for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        config = msgspec.structs.replace(
            from_env(),
            data_dir=Path(folder) / ".headrace",
            api_port=free_port(),
            api_url=None,
            file_root=Path(folder),
            unfinished_runs_max=UNFINISHED_MAX,
        )
        async with (
            running(config, SystemClock(), _quiet) as stack,
            Client(config.base_url, stack.home.token()) as client,
        ):
            made = Stand(stack, client, lambda: _worker(stack, config, settings))
            try:
                await _announced(client)
                yield made
            finally:
                await asyncio.to_thread(made.worker.stop)


def _quiet(_said: str) -> None:
    """Say nothing: the output of a benchmark is its figures."""


def _worker(stack: Stack, config: Config, settings: Mapping[str, str]) -> Leash:
    env = {
        **environment(),
        "HEADRACE_DATA_DIR": str(config.data_dir),
        "HEADRACE_NATS_URL": stack.nats.url if stack.nats else config.nats_url or "",
        "HEADRACE_API_URL": config.base_url,
        "HEADRACE_SECRET_FILE": str(stack.home.secret_file),
        "HEADRACE_DATABASE_URL": "",
        "MAX_CONCURRENT": str(SLOTS),
        COUNTS: str(stack.home.folder / "counts"),
        **settings,
    }
    command = [sys.executable, "-m", "headrace.cli.main", "worker", str(TOOLS)]
    return Leash(command, env=env, output=(stack.home.logs / "worker.log").open("ab"))


async def _announced(client: Client) -> None:
    async with asyncio.timeout(WAIT_S):
        while not any(tool["name"] == TOOL for tool in (await client.get("/tools", limit=100))["items"]):  # noqa: ASYNC110  (no push tells of tools)
            await asyncio.sleep(LOOK_S)


def chain(steps: int, tool: str = TOOL, *, fuse: bool = False, **more: Any) -> dict[str, Any]:
    """Give a workflow of no-op steps, each of which takes the number that the one before it gave.

    Each is dispatched on its own, unless they are to be fused.
    """
    made: list[dict[str, Any]] = [{"id": "s0", "tool": tool, "with": {"n": "{{ inputs.n }}"}}]
    made.extend(
        {"id": f"s{place}", "tool": tool, "with": {"n": f"{{{{ steps.s{place - 1}.output.n }}}}"}}
        for place in range(1, steps)
    )
    inputs = {"n": {"type": "integer", "default": 0}}
    outputs = f"{{{{ steps.s{steps - 1}.output.n }}}}"
    return workflow(f"chain-{steps}", made, inputs=inputs, outputs=outputs, fuse=fuse, **more)


def workflow(name: str, steps: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    """Give a document."""
    body = {"steps": steps, **spec}
    return {"apiVersion": "headrace/v1", "kind": "Workflow", "metadata": {"name": name}, "spec": body}


def machine() -> dict[str, Any]:
    """Say what was measured on."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "fsync": "on",
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
