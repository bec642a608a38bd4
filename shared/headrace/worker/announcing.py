"""Announcing tools: every worker says which tools it brings, at the start, after a lost connection, and now and then."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from headrace import ids
from headrace.bundles import bundles
from headrace.bus.port import Bus
from headrace.clock import within
from headrace.codec import encode
from headrace.errors import HeadraceError, UnavailableError
from headrace.keys import POOL, Keys
from headrace.vocabulary import LOG_CATALOGUE
from headrace.worker.manifests import announcement
from headrace.worker.registry import Registry

ANNOUNCE_INTERVAL_S: Final = 300.0
"""For what the bus forgot without anybody noticing: an inbox that had to be made anew."""
ANNOUNCE_RETRY_S: Final = 1.0

log = logging.getLogger(__name__)


class Announcer:
    """Tells the catalogue of a worker's tools; a repeat is nothing there."""

    def __init__(
        self,
        *,
        bus: Bus,
        keys: Keys,
        registry: Registry,
        pools: Sequence[str],
        worker: str,
        workspace: str,
    ) -> None:
        self._bus, self._keys, self._registry = bus, keys, registry
        self._pools, self._worker, self._workspace = tuple(pools), worker, workspace
        self._now = asyncio.Event()

    def announce_now(self) -> None:
        """Announce at once: the bus was away, and may have forgotten."""
        self._now.set()

    async def run(self) -> None:
        """Announce until cancelled."""
        while True:
            self._now.clear()
            pause_s = ANNOUNCE_INTERVAL_S
            try:
                await self._announce()
            except UnavailableError as problem:
                log.info("the tools could not be announced yet: %s", problem.message)
                pause_s = ANNOUNCE_RETRY_S
            await within(self._now, pause_s)

    async def _announce(self) -> None:
        """Say all there is to say once; raises UnavailableError when some of it has to be said again."""
        places: dict[tuple[str, int], list[bytes]] = {}
        for record in self._registry.records():
            if record.manifest.pool in self._pools:
                told = announcement(record.manifest, self._worker, self._workspace)
                place = record.manifest.pool, ids.partition_of(told.stream_id)
                places.setdefault(place, []).append(encode(told))
        unsaid: UnavailableError | None = None
        for (pool, partition), parts in places.items():
            for body in bundles(parts):
                try:
                    await self._bus.tell(LOG_CATALOGUE, partition, self._keys.pack(POOL + pool, body))
                except UnavailableError as problem:  # what follows must not wait for it: the server may refuse it alone
                    unsaid = problem
                except HeadraceError as problem:
                    log.error("tools of pool %s cannot be announced: %s", pool, problem.message)  # noqa: TRY400  (said in full)
        if unsaid is not None:
            raise unsaid
