"""What the worker services share: from tools and a configuration to a worker that serves."""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from headrace import clock as clocks
from headrace import ids
from headrace.bus.port import Bus
from headrace.clock import Clock
from headrace.config import Config
from headrace.errors import ValidationError
from headrace.vocabulary import DRAIN_S
from headrace.worker.blobs import BlobClient, HttpBlobs
from headrace.worker.claims import BusClaimer
from headrace.worker.held import Identity
from headrace.worker.lines import LineSender
from headrace.worker.loop import WorkerLoop
from headrace.worker.outbox import Outbox
from headrace.worker.preconditions import check
from headrace.worker.registry import Registry
from headrace.worker.tool_runner import Precheck, Secrets, ToolRunner
from headrace.worker.watchdog import BLOCKED_AFTER_S


def make_worker(
    *,
    service: str,
    bus: Bus,
    clock: Clock,
    config: Config,
    registry: Registry,
    blobs: BlobClient,
    pools: Sequence[str] = (),
    secrets: Secrets | None = None,
    drain_s: float = DRAIN_S,
    blocked_after_s: float = BLOCKED_AFTER_S,
    precheck: Precheck = check,
) -> WorkerLoop:
    """Put a worker together. `pools` empty means those of its tools; HEADRACE_POOLS narrows them.

    Raises ValidationError when no pool is left, ForbiddenError when a pool's key is missing.
    """
    offered = tuple(pools) or registry.pools()
    served = tuple(pool for pool in offered if not config.pools or pool in config.pools)
    if not served:
        message = f"{service}: no pool to work for; its tools belong to: {', '.join(offered) or 'none'}"
        raise ValidationError(message)
    worker_id = clocks.mint(clock, ids.WORKER)
    lines = LineSender(bus, clock)
    runner = ToolRunner(
        registry=registry,
        clock=clock,
        blobs=blobs,
        claimer=BusClaimer(bus, config.keys, clock, worker_id),
        lines=lines,
        root=config.file_root.resolve(),
        worker=worker_id,
        secrets=secrets,
        precheck=precheck,
    )
    identity = Identity(
        worker=worker_id,
        service=service,
        host=socket.gethostname(),
        pools=served,
        slots=config.slots or os.cpu_count() or 1,
        workspace=config.workspace,
    )
    outbox = Outbox(bus, config.keys, clock)
    return WorkerLoop(
        bus=bus,
        keys=config.keys,
        clock=clock,
        runner=runner,
        lines=lines,
        outbox=outbox,
        identity=identity,
        drain_s=drain_s,
        blocked_after_s=blocked_after_s,
    )


async def run_worker(
    running: Any, service: str, registry: Registry, *, pools: Sequence[str] = (), secrets: Secrets | None = None
) -> None:
    """Serve as a worker beside whatever else a service does, until cancelled; `running` is serving's `Running`."""
    async with AsyncExitStack() as stack:
        blobs = await stack.enter_async_context(HttpBlobs(running.config.base_url, running.clock))
        worker = make_worker(
            service=service,
            bus=running.bus,
            clock=running.clock,
            config=running.config,
            registry=registry,
            blobs=blobs,
            pools=pools,
            secrets=secrets,
        )
        await worker.run()


async def run_worker_service(
    name: str,
    pools: Sequence[str],
    tools: Callable[[Config], Sequence[Any]],
    config: Config,
    *,
    plugins: str | None = None,
    secrets: Secrets | None = None,
) -> None:
    """Serve a service that is nothing but a worker; `plugins` names an entry point group whose tools it adds."""
    from headrace import serving

    registry = Registry(tools(config))
    if plugins is not None:
        registry.load(plugins)

    async def main(running: serving.Running) -> None:
        await run_worker(running, name, registry, pools=pools, secrets=secrets)

    await serving.serve(name, config, main=main)
