"""One workspace has ten thousand runs queued: how long does another one's first run take?

Both share a pool of two slots whose tool takes NAP_S. The quiet workspace creates one run while the noisy one is still
creating, and some more, one after the other, once its ten thousand are queued.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.stand import Figures, Stand
from headrace.client.client import Client
from headrace.clock import SystemClock
from headrace.config import environment
from headrace.dev import first_token
from headrace.dev.children import Place
from headrace.dev.stack import Stack
from headrace.log.migrate import check

RUNS: Final = 10_000
CREATORS: Final = 48
MEASURED: Final = 10
NAP_S: Final = 0.05
READY_S: Final = 60.0
DURING_S: Final = 3.0
NOISY: Final = "noisy"
QUIET: Final = "quiet"
TOOL: Final = f'''
import asyncio
import headrace

@headrace.tool(pool="naps")
async def nap() -> dict[str, bool]:
    """Sleep a little."""
    await asyncio.sleep({NAP_S})
    return {{"slept": True}}
'''
SPEC: Final = {
    "apiVersion": "headrace/v1",
    "kind": "Workflow",
    "metadata": {"name": "nap"},
    "spec": {"steps": [{"id": "nap", "tool": "nap", "with": {}}]},
}


async def fairness(stand: Stand, scale: int) -> Figures:
    """Measure what a workspace with one run waits for behind another one's ten thousand."""
    with tempfile.TemporaryDirectory(prefix="headrace-naps-") as folder:
        (Path(folder) / "naps.py").write_text(TOOL)
        async with AsyncExitStack() as workers:
            clients = [await _client(stand.stack, workspace) for workspace in (NOISY, QUIET)]
            for workspace in (NOISY, QUIET):
                workers.push_async_callback(_stop, await _worker(folder, stand.stack, workspace))
            async with clients[0] as noisy, clients[1] as quiet:
                return await _measured(noisy, quiet, RUNS // scale)


async def _client(stack: Stack, workspace: str) -> Client:
    place = Place(
        database_url=stack.database_url,
        nats_url=_nats_url(stack),
        secret_file=stack.home.secret_file,
        keys=stack.home.keys(),
        incarnation=await check(stack.database_url),
    )
    return Client(stack.config.base_url, await first_token.mint(place, workspace, SystemClock()))


def _nats_url(stack: Stack) -> str:
    return stack.nats.url if stack.nats else stack.config.nats_url or ""


async def _worker(folder: str, stack: Stack, workspace: str) -> asyncio.subprocess.Process:
    """Start a worker of one slot, which announces the tool to its workspace and serves the pool for both."""
    given = {
        **environment(),
        "HEADRACE_DATA_DIR": str(stack.config.data_dir),
        "HEADRACE_NATS_URL": _nats_url(stack),
        "HEADRACE_API_URL": stack.config.base_url,
        "HEADRACE_SECRET_FILE": str(stack.home.secret_file),
        "HEADRACE_DATABASE_URL": "",
        "HEADRACE_WORKSPACE": workspace,
        "MAX_CONCURRENT": "1",
    }
    quiet = asyncio.subprocess.DEVNULL
    command = (str(Path(sys.executable).with_name("headrace")), "worker", str(Path(folder) / "naps.py"))
    return await asyncio.create_subprocess_exec(*command, env=given, stdout=quiet, stderr=quiet)


async def _stop(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


async def _plan(client: Client) -> str:
    """Record the plan as soon as the tool is announced."""
    async with asyncio.timeout(READY_S):
        while not [one async for one in client.pages("/tools") if one["name"] == "nap"]:  # noqa: ASYNC110  (the worker announces it)
            await asyncio.sleep(0.2)
    return str((await client.record_plan(SPEC))["digest"])


async def _once(client: Client, digest: str) -> float:
    """Give the seconds from submit to done of one run."""
    began = time.perf_counter()
    run = await client.create_run(plan_digest=digest, wait_s=60.0)
    assert run.status == "succeeded", run
    return time.perf_counter() - began


async def _measured(noisy: Client, quiet: Client, runs: int) -> Figures:
    loud, calm = await _plan(noisy), await _plan(quiet)
    alone = [await _once(quiet, calm) for _ in range(MEASURED)]
    left = iter(range(runs))

    async def create() -> None:
        for _ in left:
            await noisy.create_run(plan_digest=loud)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CREATORS):
            group.create_task(create())
        await asyncio.sleep(DURING_S)
        during = await _once(quiet, calm)
    took = time.perf_counter() - began
    behind = [await _once(quiet, calm) for _ in range(MEASURED)]
    return {
        "runs_queued": await _left(noisy),
        "secs_alone": statistics.median(alone),
        "secs_during_burst": during,
        "creates_per_s": runs / took,
        "secs_behind": statistics.median(behind),
        "secs_behind_worst": max(behind),
    }


async def _left(client: Client) -> int:
    """Count the runs of a workspace that are not over."""
    body: dict[str, Any] = await client.get("/workers")
    return int(body["active_runs"]) + int(body["queued_runs"])
