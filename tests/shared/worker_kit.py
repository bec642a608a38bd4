"""A worker on a memory bus, and the owner that it works for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from headrace import codec, ids
from headrace.bus.memory import MemoryBus
from headrace.bus.port import Bus, Delivery
from headrace.clock import SystemClock
from headrace.codec import Raw, encode
from headrace.config import Config
from headrace.keys import POOL, Keys
from headrace.messages import AnnounceTool, ClaimWrite, ReportAttempt, Told
from headrace.wire import Beat, ClaimGrant, FeedEvent, Line, WorkOrder
from headrace.worker.loop import WorkerLoop
from headrace.worker.registry import Registry
from headrace.worker.service import make_worker
from headrace.worker.twins import MemoryBlobs, order_for

KEYS = Keys(master=b"m" * 32)
RUN = ids.make("run", 1_800_000_000_000, b"entropy-of-a-run", 3)
DEADLINE_S = 10.0


async def until(condition: Callable[[], Any], seconds: float = DEADLINE_S) -> None:
    """Wait for a condition; raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (a condition of a test has no event)
            await asyncio.sleep(0.002)


class Owner:
    """Plays the owner of every run and of the catalogue: keeps what workers say, grants claims, sends orders."""

    def __init__(self, bus: Bus, registry: Registry) -> None:
        self.bus: Any = bus
        self.registry = registry
        self.reports: list[ReportAttempt] = []
        self.announcements = 0
        self.announced: dict[str, AnnounceTool] = {}
        self.claims: list[ClaimWrite] = []
        self.beats: list[Beat] = []
        self.presence: list[bytes] = []
        self.lines: list[Line] = []
        self.grant = True
        self.seal_grants = True
        self.records = True
        """Whether what is reported shows on the feed."""

    async def open(self) -> None:
        await self.bus.open_inbox("runs", ids.partition_of(RUN), 1, self._told)
        await self.bus.open_inbox("catalogue", 0, 1, self._announced)
        await self.bus.serve_claims("runs", ids.partition_of(RUN), self._claimed)
        await self.bus.open_presence(self._beat)
        await self.bus.open_lines(self._lines)

    def order(self, tool: str, arguments: Any = None, *, attempt: str = "1", **fields: Any) -> WorkOrder:
        attempt_id = ids.derive("att", 1_800_000_000_000, 3, RUN, attempt)
        return order_for(self.registry, tool, arguments, **{"attempt_id": attempt_id, "run_id": RUN, **fields})

    def send(self, order: WorkOrder) -> WorkOrder:
        self.bus.publish_work(order.pool, KEYS.pack(POOL + order.pool, encode(order)))
        return order

    def control(self, message: msgspec.Struct, pool: str = "test") -> bytes:
        packed = KEYS.pack(POOL + pool, encode(message))
        self.bus.publish_control(packed)
        return packed

    async def report_of(self, order: WorkOrder) -> ReportAttempt:
        await until(lambda: any(report.attempt_id == order.attempt_id for report in self.reports))
        return next(report for report in self.reports if report.attempt_id == order.attempt_id)

    def held(self) -> set[str]:
        return {holding.attempt_id for holding in self.beats[-1].holding} if self.beats else set()

    def _told(self, delivery: Delivery) -> None:
        label, body = KEYS.unpack(delivery.data)
        assert label.startswith(POOL)
        report = msgspec.json.decode(msgspec.json.decode(body, type=Told).body, type=ReportAttempt)
        self.reports.append(report)
        if self.records:
            data = Raw(codec.dumps({"attempt_id": report.attempt_id}))
            event = FeedEvent(
                id="1",
                source="test",
                type="step.succeeded",
                subject=RUN,
                time="",
                data=data,
                log="runs",
                partition=3,
                position=1,
                version=1,
                workspace="default",
            )
            self.bus.publish_feed("runs", msgspec.json.encode([event]))

    def _announced(self, delivery: Delivery) -> None:
        label, body = KEYS.unpack(delivery.data)
        self.announcements += 1
        for told in (
            msgspec.json.decode(body, type=list[Told])
            if body.startswith(b"[")
            else [msgspec.json.decode(body, type=Told)]
        ):
            message = msgspec.json.decode(told.body, type=AnnounceTool)
            assert label == POOL + message.manifest.pool
            assert told.stream_id == ids.definition("tol", "default", message.manifest.name)
            self.announced[message.manifest.name] = message

    def _claimed(self, data: bytes, answer: Callable[[bytes], None]) -> None:
        label, body = KEYS.unpack(data)
        claim = msgspec.json.decode(body, type=ClaimWrite)
        self.claims.append(claim)
        grant = encode(
            ClaimGrant(
                granted=self.grant,
                nonce=claim.nonce,
                expires_at=SystemClock().now_ms() + 30_000,
                reason="" if self.grant else "cancelled",
            )
        )
        answer(KEYS.pack(label, grant) if self.seal_grants else grant)

    def _beat(self, data: bytes) -> None:
        self.presence.append(data)
        body = KEYS.unpack(data)[1]
        try:
            self.beats.append(msgspec.json.decode(body, type=Beat))
        except msgspec.ValidationError:
            return  # a probe that was reflected

    async def _lines(self, delivery: Delivery) -> None:
        self.lines += msgspec.json.decode(delivery.data, type=list[Line])


@asynccontextmanager
async def working(
    root: Path, *tools: Any, slots: int = 2, bus: MemoryBus | None = None
) -> AsyncIterator[tuple[Owner, WorkerLoop]]:
    """Run a worker with some tools, and its owner, until the block ends; then drain."""
    clock = SystemClock()
    bus = bus or MemoryBus(clock)
    registry = Registry(tools)
    owner = Owner(bus, registry)
    await owner.open()
    config = Config(keys=KEYS, file_root=root, slots=slots)
    worker = make_worker(
        service="test",
        bus=bus,
        clock=clock,
        config=config,
        registry=registry,
        blobs=MemoryBlobs(),
        pools=registry.pools(),
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.run())
        try:
            yield owner, worker
        finally:
            task.cancel()
    await bus.close()
