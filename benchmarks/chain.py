"""One workflow of 40 steps in a chain, from submit to done, and where the time goes.

Each step is a `file_read` of a small file, performed by the runner; nothing can overlap, so a run costs 40 round trips
of: decide and append (one fsync), dispatch over NATS, perform, report over NATS.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.client.client import Client
from headrace.client.streams import COMPLETE
from headrace.clock import SystemClock
from headrace.config import Config, from_env
from headrace.dev.embedded import free_port
from headrace.dev.stack import Stack, running

STEPS: Final = 40
RUNS: Final = 10
WARM_UP: Final = 2


def spec() -> dict[str, Any]:
    """Give the chain as a document."""
    steps = [
        {
            "id": f"s{number}",
            "tool": "file_read",
            "with": {"path": "small.txt"},
            **({"depends_on": [f"s{number - 1}"]} if number else {}),
        }
        for number in range(STEPS)
    ]
    return {
        "apiVersion": "headrace/v1",
        "kind": "Workflow",
        "metadata": {"name": "chain"},
        "spec": {"steps": steps, "fuse": False},
    }


async def chain() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        (root / "small.txt").write_text("small\n")
        async with running(_config(Path(folder), root), SystemClock(), print) as stack:
            await _measure(stack)


def _config(folder: Path, root: Path) -> Config:
    return msgspec.structs.replace(
        from_env(), data_dir=folder / "home", api_port=free_port(), api_url=None, file_root=root
    )


async def _measure(stack: Stack) -> None:
    async with Client(stack.config.base_url, stack.home.token()) as client:
        digest = (await client.record_plan(spec()))["digest"]
        for _ in range(WARM_UP):
            await _one(client, digest)
        appends, spent = await _appends(stack)
        told = [await _one(client, digest) for _ in range(RUNS)]
        appends_after, spent_after = await _appends(stack)
    seconds = [each[0] for each in told]
    a_step = statistics.mean(seconds) * 1000 / STEPS
    performed = statistics.mean(each[1] for each in told) / STEPS
    appending = (spent_after - spent) * 1000 / RUNS / STEPS
    print(f"chain of {STEPS} steps, fsync on, {RUNS} runs one after the other:")
    print(
        f"  submit to done   median {statistics.median(seconds):.3f} s, best {min(seconds):.3f}, worst {max(seconds):.3f}"
    )
    print(f"  a step           {a_step:6.2f} ms, of which")
    print(f"    performed      {performed:6.2f} ms (the worker's own times)")
    print(
        f"    appended       {appending:6.2f} ms ({(appends_after - appends) / RUNS / STEPS:.2f} appends a step, fsync included)"
    )
    print(
        f"    the rest       {a_step - performed - appending:6.2f} ms (NATS both ways, decide, seals, checks, event stream)"
    )


async def _one(client: Client, digest: str) -> tuple[float, float]:
    """Run once; gives the seconds from submit to done, and the milliseconds in which steps were performed."""
    began = time.perf_counter()
    run = await client.create_run(plan_digest=digest)
    events = [event async for event in client.run_events(run.id)]
    seconds = time.perf_counter() - began
    assert events[-1].event == COMPLETE
    assert events[-1].data["status"] == "succeeded", events[-1].data
    results = [event.data["data"] for event in events if event.event == "step.succeeded"]
    assert len(results) == STEPS
    return seconds, sum(data["finished_at"] - data["started_at"] for data in results)


async def _appends(stack: Stack) -> tuple[float, float]:
    """Read how many appends the planner has made, and the seconds they took, from its own metrics."""
    port = stack.programs["planner"].ready_port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    found = {name: value for name, _, value in (line.partition(" ") for line in text.splitlines())}
    name = "headrace_append_duration_seconds"
    return float(found[f"{name}_count"]), float(found[f"{name}_sum"])
