"""A real worker beside the world of the api's tests: its connection can be cut, and its tools wait for the test."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from headrace.bus.memory import MemoryBus
from headrace.config import Config
from headrace.ports.tool import ToolContext
from headrace.worker.decorator import tool
from headrace.worker.loop import WorkerLoop
from headrace.worker.processes import run_process
from headrace.worker.registry import Registry
from headrace.worker.service import make_worker
from headrace.worker.twins import MemoryBlobs
from tests.api.kit import World, until

let_go = threading.Event()
begun: list[str] = []
seen_cancelled: list[str] = []


def fresh() -> None:
    """Forget what tools did in another test."""
    let_go.clear()
    begun.clear()
    seen_cancelled.clear()


@tool(pool="mine")
async def waits(context: ToolContext) -> dict[str, str]:
    """Wait until the test lets go, and say how far it is."""
    begun.append(context.attempt_id)
    context.progress(0.4, "nearly half")
    while not let_go.is_set():  # noqa: ASYNC110  (let go from a thread's event)
        await asyncio.sleep(0.01)
    return {"said": "done"}


@tool(pool="mine")
def waits_in_thread(context: ToolContext) -> dict[str, str]:
    """Wait in a thread until it is told to stop."""
    begun.append(context.attempt_id)
    while not context.cancelled and not let_go.is_set():
        let_go.wait(0.01)
    if context.cancelled:
        seen_cancelled.append(context.attempt_id)
    return {"said": "done"}


@tool(pool="mine")
async def waits_in_process(context: ToolContext) -> dict[str, int]:
    """Run a program that does not heed SIGTERM, beside a child of its own."""
    begun.append(context.attempt_id)
    script = "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000"
    return {"exit_code": (await run_process(context, ["/bin/sh", "-c", script], cwd=context.root)).exit_code}


@tool(pool="mine", effect="write", idempotent=False)
async def writes(context: ToolContext) -> dict[str, str]:
    """Act on the world, slowly, and never twice."""
    begun.append(context.attempt_id)
    while not let_go.is_set():  # noqa: ASYNC110  (let go from a thread's event)
        await asyncio.sleep(0.01)
    return {"said": "written"}


TOOLS = (waits, waits_in_thread, waits_in_process, writes)


class Live:
    """A real worker of the pool `mine`, whose connection can be cut."""

    def __init__(self, worker: WorkerLoop, bus: MemoryBus, task: asyncio.Task[None]) -> None:
        self.worker, self.bus, self.task = worker, bus, task
        self.id = worker.beat().worker

    async def stop(self) -> None:
        """End it, as SIGTERM does."""
        self.task.cancel()
        await asyncio.wait({self.task})


@contextlib.asynccontextmanager
async def live(world: World, root: Path, *, drain_s: float = 0.4, slots: int = 2) -> AsyncIterator[Live]:
    """Run a worker beside the world's own, and wait until its tools are known."""
    bus = MemoryBus(world.clock, world.bus.broker)
    worker = make_worker(
        service="mine",
        bus=bus,
        clock=world.clock,
        config=Config(keys=world.keys, file_root=root, slots=slots),
        registry=Registry(TOOLS),
        blobs=MemoryBlobs(),
        drain_s=drain_s,
    )

    async def known() -> bool:
        return len(await world.log.rows("tools", {"workspace": "default", "pool": "mine"})) == len(TOOLS)

    async with asyncio.TaskGroup() as group:
        made = Live(worker, bus, group.create_task(worker.run()))
        try:
            await until(known)
            await until(lambda: world.desk.presence.worker(made.id))
            yield made
        finally:
            await made.stop()
    await bus.close()
