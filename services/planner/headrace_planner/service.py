"""The planner: compiles specs into plans, owns the logs of runs, of shared keys and of the catalogue, starts runs."""

import asyncio
from collections.abc import Sequence
from typing import Any

from headrace import ids
from headrace.bus.port import Bus
from headrace.clock import Clock, SystemClock, mint
from headrace.config import Config
from headrace.host.library import CachedLibrary
from headrace.host.owner import OwnerHost
from headrace.host.presence import Presence
from headrace.keys import Keys
from headrace.log.retention import Keeper
from headrace.serving import Running, serve
from headrace.vocabulary import LOG_CATALOGUE, LOG_RUNS, UNFINISHED_RUNS_MAX
from headrace_planner.catalogue.admission import Admission
from headrace_planner.catalogue.admit import RunPreparer
from headrace_planner.catalogue.prepare import CataloguePreparer
from headrace_planner.catalogue.recompile import Recompiler
from headrace_planner.catalogue.room import CatalogueRoom
from headrace_planner.compile import compiler
from headrace_planner.flow.room import FlowRoom
from headrace_planner.runs.room import RunRoom
from headrace_planner.triggers.router import TriggerRouter


class PlannerService:
    """The service `planner`."""

    name = "planner"

    def rooms(self, library: Any) -> Sequence[Any]:
        """Give the rooms of runs, of shared keys and of the catalogue."""
        return RunRoom(library), FlowRoom(), CatalogueRoom(library)

    def preparers(
        self,
        log: Any,
        *,
        clock: Clock | None = None,
        presence: Presence | None = None,
        unfinished_runs_max: int = UNFINISHED_RUNS_MAX,
    ) -> dict[str, Any]:
        """Give the preparer of each log; `presence` is the one that the owner host listens with."""
        clock = clock or SystemClock()
        admission = Admission(log, clock, unfinished_runs_max)
        return {
            LOG_RUNS: RunPreparer(log, presence or Presence(clock), admission),
            LOG_CATALOGUE: CataloguePreparer(log, clock, compiler.compile),
        }

    def companions(
        self, log: Any, bus: Bus, keys: Keys, clock: Clock, preparers: dict[str, Any]
    ) -> Sequence[TriggerRouter | Recompiler]:
        """Give what runs beside the owner host: what triggers set going, and what a changed tool does."""
        return (
            TriggerRouter(log, bus, keys, clock),
            Recompiler(log, bus, keys, clock, preparers[LOG_CATALOGUE]),
        )

    async def run(self, config: Config) -> None:
        """Serve until cancelled, then drain."""
        await serve(self.name, config, main=self._main, database=True)

    async def _main(self, running: Running) -> None:
        log, bus, clock, keys = running.log, running.bus, running.clock, running.config.keys
        library, presence = CachedLibrary(), Presence(clock)
        limit = running.config.unfinished_runs_max
        preparers = self.preparers(log, clock=clock, presence=presence, unfinished_runs_max=limit)
        host = OwnerHost(
            log,
            bus,
            clock=clock,
            keys=keys,
            rooms=self.rooms(library),
            preparers=preparers,
            owner_id=mint(clock, ids.WORKER),
            library=library,
            presence=presence,
        )
        running.health.add("partitions", lambda: host.ready)
        async with asyncio.TaskGroup() as group:
            group.create_task(host.run())
            for companion in self.companions(log, bus, keys, clock, preparers):
                group.create_task(companion.run())
            if running.config.database_url:
                keeper = Keeper(running.config.database_url, clock, running.config.retention_months)
                group.create_task(keeper.run(log))


service = PlannerService()
