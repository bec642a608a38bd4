"""A NATS that is away for longer than a worker may be silent, and comes back empty: nobody is lost."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from headrace import codec
from headrace.bus.jetstream import JetStreamBus
from headrace.clock import SystemClock
from headrace.config import Config
from headrace.decider import Dispatch, Effect
from headrace.dev.embedded import EmbeddedNats
from headrace.events.base import Event
from headrace.host.library import CachedLibrary
from headrace.host.owner import OwnerHost
from headrace.keys import COMMANDS
from headrace.log.memory import MemoryLog
from headrace.messages import Command
from headrace.vocabulary import LOG_RUNS, PRESENCE_LOST_S
from headrace.worker.decorator import tool
from headrace.worker.registry import Registry
from headrace.worker.service import make_worker
from headrace.worker.twins import MemoryBlobs
from tests.shared.host_toy import ANNA, KEYS, Add, Counter, Toy
from tests.shared.worker_kit import until

AWAY_S = PRESENCE_LOST_S + 2.0
INCARNATION = "away"
begun: list[str] = []
let_go = threading.Event()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    begun.clear()
    let_go.clear()


@tool(pool="slow")
def patient() -> dict[str, str]:
    """Go on until the test lets go, whatever becomes of NATS."""
    begun.append("begun")
    let_go.wait(120)
    return {"said": "done"}


class Ordering(Toy):
    """The toy room, whose orders are for a tool that is there."""

    def __init__(self, library: CachedLibrary, registry: Registry) -> None:
        super().__init__(library)
        self._record = registry.get("patient")

    def react(self, state: Counter, event: Event) -> Iterable[Effect]:
        return map(self._fitted, super().react(state, event))

    def outstanding(self, state: Counter, now: int) -> Iterable[Effect]:
        return map(self._fitted, super().outstanding(state, now))

    def _fitted(self, effect: Effect) -> Effect:
        if not isinstance(effect, Dispatch):
            return effect
        order = msgspec.structs.replace(
            effect.order, tool="patient", pool="slow", manifest_digest=self._record.digest, timeout_s=300.0
        )
        return Dispatch(order, effect.priority)


@pytest.fixture
def server(nats_server: Callable[[], EmbeddedNats]) -> Iterator[EmbeddedNats]:
    yield nats_server()
    let_go.set()


async def test_a_nats_that_is_cut_wiped_and_back_makes_nobody_lost(server: EmbeddedNats, tmp_path: Path) -> None:
    clock, registry, library = SystemClock(), Registry([patient]), CachedLibrary()
    log = MemoryLog(clock, partitions={LOG_RUNS: 1})
    owner_bus = await JetStreamBus.connect(server.url, INCARNATION, clock)
    worker_bus = await JetStreamBus.connect(server.url, INCARNATION, clock)
    host = OwnerHost(
        log, owner_bus, clock=clock, keys=KEYS, rooms=[Ordering(library, registry)], owner_id="a", library=library
    )
    worker = make_worker(
        service="slow",
        bus=worker_bus,
        clock=clock,
        config=Config(keys=KEYS, file_root=tmp_path, slots=2),
        registry=registry,
        blobs=MemoryBlobs(),
    )
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(host.run()), group.create_task(worker.run())]
        await until(lambda: host.ready and bool(list(host.tenures)) and bool(host.presence.workers()))
        body = Command(body=codec.raw(Add(orders=1)), actor=ANNA, workspace="default")
        await owner_bus.command(LOG_RUNS, 0, KEYS.pack(COMMANDS, codec.encode(body)), timeout_s=10)
        await until(lambda: begun)
        (held,) = worker.beat().holding
        await until(lambda: host.presence.holder(held.attempt_id) is not None)

        await asyncio.to_thread(server.kill)
        server.wipe()
        await clock.sleep(AWAY_S)  # the very thing: silence for longer than a worker may be silent
        await asyncio.to_thread(server.start)
        back_s = clock.monotonic()
        await until(lambda: any(seen.at_s > back_s for seen in host.presence.workers()), PRESENCE_LOST_S * 2)
        assert host.presence.holder(held.attempt_id) == worker.beat().worker
        let_go.set()
        stream = held.run_id
        await until(lambda: not worker.beat().holding)

        async def done() -> bool:
            return len(await log.stream(LOG_RUNS, stream)) >= 2

        async with asyncio.timeout(20):
            while not await done():  # noqa: ASYNC110  (what is committed tells nobody here)
                await asyncio.sleep(0.05)
        assert [event.type for event in await log.stream(LOG_RUNS, stream)] == ["step.succeeded", "step.succeeded"]
        assert begun == ["begun"]
        for task in tasks:
            task.cancel()
    await worker_bus.close()
    await owner_bus.close()
