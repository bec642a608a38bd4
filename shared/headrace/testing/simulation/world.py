"""The simulated installation: owners and workers of the installed services, each a process that can break."""

import asyncio
import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from headrace.clock import astray_ms
from headrace.config import Config
from headrace.errors import HeadraceError, UnavailableError
from headrace.host.cadence import Cadence
from headrace.host.library import CachedLibrary
from headrace.host.owner import OwnerHost
from headrace.host.presence import Presence
from headrace.keys import COMMANDS, OWNERS, POOL, Keys
from headrace.testing.processes import LogBlobs, installed
from headrace.testing.simulation.bounds import bounded
from headrace.testing.simulation.chance import Chance
from headrace.testing.simulation.loop import Process, SimLoop
from headrace.testing.simulation.network import SimBroker, SimBus
from headrace.testing.simulation.storage import SimLog, World
from headrace.testing.simulation.tools import Ledger, tools
from headrace.testing.simulation.weather import Weather
from headrace.testing.virtual import BEGINNING_MS
from headrace.vocabulary import LOG_CATALOGUE, POOL_GATES, POOL_RUNNER
from headrace.worker.registry import Registry
from headrace.worker.service import make_worker

PLANNER: Final = "planner"
GATEKEEPER: Final = "gatekeeper"
WORKER: Final = "worker"
CADENCE: Final = Cadence(refill_s=8.0, probe_s=3.0, judge_s=3.0, answers_kept_s=0.5, wary_s=0.5)
"""As in production, but quiet things are done less often: a schedule's virtual minute should cost little."""
_MASTER: Final = Keys(master=b"a key of the simulation, no secret".ljust(32, b"."))
KEYS: Final = Keys(
    master=_MASTER.master,
    single={label: _MASTER.key(label) for label in (COMMANDS, OWNERS, POOL + POOL_RUNNER, POOL + POOL_GATES)},
)
"""The keys, with those that are used most made already."""
SLOTS: Final = 2
ENTROPY_BYTES: Final = 16


class SimClock:
    """One process's clock: the world's time, wrong by `skew_ms` until the database's time steers it."""

    def __init__(self, loop: SimLoop, seed: str) -> None:
        self.skew_ms = 0
        self.monotonic: Callable[[], float] = loop.time
        """Give the virtual time in seconds."""
        self._loop = loop
        self._chance = Chance(seed)

    def now_ms(self) -> int:
        """Give milliseconds since 1970."""
        return BEGINNING_MS + int(self._loop.now * 1000) + self.skew_ms

    def steer(self, database_now_ms: int, took_ms: int) -> None:
        """Be set right by the database's time."""
        self.skew_ms -= astray_ms(self.now_ms(), database_now_ms, took_ms)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def entropy(self) -> bytes:
        """Give 16 bytes, the same ones in the same order for the same seed."""
        return self._chance.randbytes(ENTROPY_BYTES)


class Machine:
    """A process with its ways to bus and log, and how it is started again."""

    def __init__(self, kind: str, process: Process, bus: SimBus, log: SimLog, clock: SimClock) -> None:
        self.kind, self.process, self.bus, self.log, self.clock = kind, process, bus, log, clock
        self.host: OwnerHost | None = None

    def vanish(self) -> None:
        """End as by SIGKILL: it never does anything again, and nothing reaches it."""
        self.process.pause()
        self.bus.disconnect()
        self.log.cut = True


class Installation:
    """All processes of one schedule. What ended although it should not have is in `fallen`."""

    def __init__(self, loop: SimLoop, log: World, weather: Weather, seed: str) -> None:
        self.loop, self.log, self.weather = loop, log, weather
        self.clock = SimClock(loop, seed)
        self.broker = SimBroker(loop, weather)
        self.ledger = Ledger(self.clock.now_ms)
        self.machines: list[Machine] = []
        self.processes: list[Process] = []
        self.fallen: list[str] = []
        self._seed = seed
        self._config = Config(file_root=Path("/"), keys=KEYS, slots=SLOTS)

    def machine(self, kind: str) -> Machine:
        """Make a process that nothing runs in yet."""
        name = f"{kind}-{len(self.processes) + 1}"
        process = self.loop.spawn(name)
        self.processes.append(process)
        clock = SimClock(self.loop, f"{self._seed}/{name}")
        bus = SimBus(clock, self.broker, process)
        return Machine(kind, process, bus, SimLog(self.log, process, self.weather), clock)

    def start(self, kind: str) -> Machine:
        """Start a process of a kind."""
        machine = self.machine(kind)
        make = self._worker if kind == WORKER else self._owner
        machine.process.start(self._supervised(machine, make))
        self.machines.append(machine)
        return machine

    def replace(self, machine: Machine) -> None:
        """Start another process in place of one that is gone."""
        if machine in self.machines:
            self.machines.remove(machine)
        self.start(machine.kind)

    def of(self, kind: str) -> list[Machine]:
        """Give the living processes of a kind, the oldest first."""
        return [machine for machine in self.machines if machine.kind == kind]

    def crashed(self) -> list[str]:
        """Say which processes ended with an error that nobody expected."""
        roots = [process.root for process in self.processes if process.root is not None and process.root.done()]
        problems = [(root.get_name(), root.exception()) for root in roots if not root.cancelled()]
        return [f"{name} ended: {_innermost(problem)!r}" for name, problem in problems if problem is not None]

    def close(self) -> None:
        """End every task of everybody, so that nothing is left for the garbage collector."""
        for machine in self.machines:
            machine.bus.disconnect()
            machine.log.cut = True
        self.loop.unwind(self.processes)

    def _owner(self, machine: Machine) -> Coroutine[Any, Any, None]:
        service, clock = installed(machine.kind), machine.clock
        library, presence = CachedLibrary(), Presence(clock, CADENCE)
        preparers = service.preparers(machine.log, clock=clock, presence=presence)
        if LOG_CATALOGUE in preparers:
            preparers[LOG_CATALOGUE]._kept = COMPILED  # noqa: SLF001  (by document and tools: what it gives never changes)
        host = machine.host = OwnerHost(
            machine.log,
            machine.bus,
            clock=clock,
            keys=KEYS,
            rooms=bounded(service.rooms(library)),
            preparers=preparers,
            owner_id=machine.process.name,
            library=library,
            presence=presence,
            cadence=CADENCE,
        )
        beside = service.companions(machine.log, machine.bus, KEYS, clock, preparers)
        return _together([host.run, *(each.run for each in beside)])

    def _worker(self, machine: Machine) -> Coroutine[Any, Any, None]:
        worker = make_worker(
            service=WORKER,
            bus=machine.bus,
            clock=machine.clock,
            config=self._config,
            registry=registry(self.ledger),
            blobs=LogBlobs(self.log),
            pools=(POOL_RUNNER, POOL_GATES),
        )
        return worker.run()

    async def _supervised(self, machine: Machine, make: Callable[[Machine], Coroutine[Any, Any, None]]) -> None:
        """Run a process; one that ends by itself is written down and started again, as a supervisor does."""
        try:
            await make(machine)
        except* UnavailableError as problems:
            if not machine.log.cut:
                self._fell(machine, problems)
        except* HeadraceError as problems:
            self._fell(machine, problems)
        if machine in self.machines and not machine.log.cut:
            self.loop.later(1.0, self.replace, machine)

    def _fell(self, machine: Machine, problems: BaseExceptionGroup[Any]) -> None:
        self.fallen.append(f"{machine.process.name} ended: {_innermost(problems)!r}")


def _innermost(problem: BaseException) -> BaseException:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


async def _together(works: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work())


COMPILED: Final[OrderedDict[tuple[str, str], Any]] = OrderedDict()
"""What the planners of all schedules have compiled, so that each document is compiled once a process."""


def registry(ledger: Ledger) -> Registry:
    """Give a worker's tools. Their manifests are made once a process: they take longer than a schedule."""
    made = Registry()
    for name, record in _master()._records.items():  # noqa: SLF001  (copied, so that schemas are made once)
        own = made._records[name] = copy.copy(record)  # noqa: SLF001  (copied, so that schemas are made once)
        if hasattr(own.tool, "_ledger"):
            own.tool = copy.copy(own.tool)
            own.tool._ledger = ledger  # noqa: SLF001  (a tool of the simulation)
            own.perform = own.tool.perform
    return made


@functools.cache
def _master() -> Registry:
    gates = installed(GATEKEEPER).tools(Config())
    expression = next(gate for gate in gates if gate.name == "expression")
    return Registry([*tools(Ledger(lambda: 0)), expression])
