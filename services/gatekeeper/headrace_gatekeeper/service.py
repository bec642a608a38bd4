"""The gatekeeper: owns the log of approvals, and performs gates as the worker pool `gates`."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from headrace import ids
from headrace.clock import mint
from headrace.config import Config
from headrace.host.library import CachedLibrary
from headrace.host.owner import OwnerHost
from headrace.host.presence import Presence
from headrace.serving import Running, serve
from headrace.vocabulary import POOL_GATES
from headrace.worker.registry import Registry
from headrace.worker.service import run_worker
from headrace_gatekeeper.approvals.room import ApprovalRoom
from headrace_gatekeeper.gates import artifact_exists, content_check, expression, file_exists, metric_threshold

GATES: Final = "headrace.gates"
"""The entry point group in which this service's own gates stand too, beside those of plug-ins."""


class GatekeeperService:
    """The service `gatekeeper`."""

    name = "gatekeeper"

    def rooms(self, library: Any) -> Sequence[Any]:
        """Give the room of approvals."""
        return (ApprovalRoom(),)

    def preparers(self, log: Any, **shell: Any) -> dict[str, Any]:
        """Give no preparers: an approval needs nothing from outside."""
        return {}

    def companions(self, *shell: Any) -> Sequence[Any]:
        """Give nothing: the owner host is all that approvals need."""
        return ()

    def pools(self) -> Sequence[str]:
        """Give the pool of gates."""
        return (POOL_GATES,)

    def tools(self, config: Config) -> Sequence[Any]:
        """Give its own gates."""
        return (
            file_exists.gate,
            content_check.gate,
            content_check.sections_exist,
            artifact_exists.gate,
            metric_threshold.gate,
            metric_threshold.jury_score,
            expression.gate,
            expression.custom,
        )

    async def run(self, config: Config) -> None:
        """Serve until cancelled, then drain."""
        await serve(self.name, config, main=self._main, database=True)

    async def _main(self, running: Running) -> None:
        registry = Registry()
        registry.load(GATES)
        library, presence = CachedLibrary(), Presence(running.clock)
        host = OwnerHost(
            running.log,
            running.bus,
            clock=running.clock,
            keys=running.config.keys,
            rooms=self.rooms(library),
            preparers=self.preparers(running.log),
            owner_id=mint(running.clock, ids.WORKER),
            library=library,
            presence=presence,
        )
        running.health.add("partitions", lambda: host.ready)
        async with asyncio.TaskGroup() as group:
            group.create_task(host.run())
            group.create_task(run_worker(running, self.name, registry, pools=self.pools()))


service = GatekeeperService()
