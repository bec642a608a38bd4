"""What the engine runs: owners and workers of the installed services, each with a connection of its own to lose."""

import asyncio
import functools
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headrace import codec, service
from headrace.bus.memory import MemoryBus
from headrace.bus.memory_broker import MemoryBroker
from headrace.bus.port import Delivery
from headrace.clock import Clock
from headrace.config import Config
from headrace.errors import NotFoundError, UnavailableError
from headrace.host.cadence import Cadence
from headrace.host.library import CachedLibrary
from headrace.host.owner import OwnerHost
from headrace.host.presence import Presence
from headrace.log.memory import MemoryLog
from headrace.testing.cut import CutLog
from headrace.wire import Line
from headrace.worker.adapter import adapt
from headrace.worker.loop import WorkerLoop
from headrace.worker.preconditions import check
from headrace.worker.registry import Registry
from headrace.worker.service import make_worker
from headrace.worker.tool_runner import Precheck

SERVICES: Final = ("planner", "gatekeeper", "runner", "integrations")
PLANNER: Final = "planner"
OWN_TOOLS: Final = "own tools"
REFILL_S: Final = 0.5
CADENCE: Final = Cadence(refill_s=REFILL_S)
"""As in production, but what is due is looked up more often: after a leap of the calendar it is met at once."""

_lines = msgspec.json.Decoder(list[Line])


class LogBlobs:
    """Bodies of workers, straight in the engine's log."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def put(self, body: bytes, token: str) -> str:
        """Keep a body and give its digest."""
        digest = codec.sha256(body)
        await self._log.put_blob(digest, body)
        return digest

    async def get(self, digest: str, token: str) -> bytes:
        """Give a body; raises NotFoundError."""
        found = await self._log.get_blobs([digest])
        if digest not in found:
            message = f"there is no body {digest}"
            raise NotFoundError(message)
        return found[digest]

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class Owner:
    """A process that owns partitions: its host, what runs beside it, and its ways to bus and log."""

    def __init__(self, id: str, name: str, host: OwnerHost, beside: Sequence[Any], bus: MemoryBus, log: CutLog) -> None:
        self.id, self.name, self.host = id, name, host
        self._beside, self._bus, self._log = beside, bus, log
        self._task: asyncio.Task[None] | None = None

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin."""
        self._task = group.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for each in (self.host, *self._beside):
                    group.create_task(each.run())
        except* UnavailableError:
            if not self._log.cut:  # the killed may stumble over what they lost
                raise

    def stop(self) -> None:
        """Leave in order, as after SIGTERM."""
        if self._task is not None:
            self._task.cancel()

    def kill(self) -> None:
        """Vanish as after SIGKILL: nothing of it reaches anybody from now on, and its leases have to lapse."""
        self._bus.disconnect()
        self._log.cut = True
        self.stop()


class Processes:
    """Starts and ends what the engine runs."""

    def __init__(
        self, log: MemoryLog, broker: MemoryBroker, clock: Clock, config: Config, precheck: Precheck = check
    ) -> None:
        self._log, self._broker, self._clock, self._config, self._precheck = log, broker, clock, config, precheck
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[Any]] = []
        self._workers: list[WorkerLoop] = []
        self._bus = MemoryBus(clock, broker)
        self._started = 0
        self.owners: list[Owner] = []
        self.tools: set[str] = set()
        """The names of the tools that the workers started so far announce."""

    async def open(self) -> None:
        """Let processes be started, and keep what they print."""
        await self._group.__aenter__()
        await self._bus.open_lines(self._keep_lines)

    async def close(self) -> None:
        """End everything; raises what a process ended with that should not have ended."""
        for owner in self.owners:
            owner.stop()
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)
        await self._bus.close()

    @property
    def busy(self) -> bool:
        """Tell whether a worker performs something now."""
        return any(worker.beat().holding for worker in self._workers)

    @property
    def ready(self) -> bool:
        """Tell whether every owner receives the messages of what it holds."""
        return all(owner.host.ready for owner in self.owners)

    def planners(self) -> list[Owner]:
        """Give the planner processes, the oldest first."""
        return [owner for owner in self.owners if owner.name == PLANNER]

    def start_owner(self, name: str) -> Owner:
        """Start a process of a service, as far as it owns logs."""
        self._started += 1
        bus, log = MemoryBus(self._clock, self._broker), CutLog(self._log)
        library, presence = CachedLibrary(), Presence(self._clock, CADENCE)
        found = installed(name)
        preparers = found.preparers(log, clock=self._clock, presence=presence)
        owner_id = f"{name}-{self._started}"
        host = OwnerHost(
            log,
            bus,
            clock=self._clock,
            keys=self._config.keys,
            rooms=found.rooms(library),
            preparers=preparers,
            owner_id=owner_id,
            library=library,
            presence=presence,
            cadence=CADENCE,
        )
        beside = found.companions(log, bus, self._config.keys, self._clock, preparers)
        owner = Owner(owner_id, name, host, beside, bus, log)
        owner.start(self._group)
        self.owners.append(owner)
        return owner

    def kill(self, owner: Owner) -> None:
        """Let an owner vanish."""
        self.owners.remove(owner)
        owner.kill()

    def start_workers(self, names: Sequence[str], plugins: Sequence[Any]) -> None:
        """Start a worker of each service, and one for plug-ins whose pools no service works for.

        A plug-in that bears the name of an installed tool stands in for it.
        """
        own = [adapt(plugin) for plugin in plugins]
        taken = {tool.name for tool in own}
        for name in names:
            found = installed(name)
            others = [tool for tool in map(adapt, found.tools(self._config)) if tool.name not in taken]
            joining = [tool for tool in own if tool.pool in found.pools()]
            own = [tool for tool in own if tool not in joining]
            self._start_worker(name, [*joining, *others], found.pools())
        if own:
            self._start_worker(OWN_TOOLS, own, ())

    def _start_worker(self, name: str, tools: Sequence[Any], pools: Sequence[str]) -> None:
        registry = Registry(tools)
        worker = make_worker(
            service=name,
            bus=MemoryBus(self._clock, self._broker),
            clock=self._clock,
            config=self._config,
            registry=registry,
            blobs=LogBlobs(self._log),
            pools=pools,
            precheck=self._precheck,
        )
        self.tools.update(record.manifest.name for record in registry.records())
        self._workers.append(worker)
        self._tasks.append(self._group.create_task(worker.run()))

    async def _keep_lines(self, delivery: Delivery) -> None:
        await self._log.put_lines(_lines.decode(delivery.data))


@functools.cache
def installed(name: str) -> Any:
    """Load an installed service, once a process: looking for entry points takes most of an engine's start otherwise."""
    return service.load(name)


def offering(part: str) -> list[str]:
    """Give the names of the engine's services that are installed and have a part: `rooms` or `tools`."""
    known = _names()
    return [name for name in SERVICES if name in known and hasattr(installed(name), part)]


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(service.installed())
