"""One round: everything runs, people ask, faults storm, then it must become quiet, and then it is judged."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.clock import SystemClock
from headrace.log.folding import installed_rooms
from headrace.log.port import Recorded
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import rebuild
from headrace.testing.checker.check import check, settled
from headrace.testing.checker.history import Finding, History
from headrace.testing.simulation.chance import Chance
from tests.chaos import ledger, schedule
from tests.chaos.bus_faults import BusFaults
from tests.chaos.faults import Faults
from tests.chaos.people import People
from tests.chaos.stand import Stand, standing
from tests.chaos.watching import Meter, Reader

QUIET_S: Final = 240.0
"""How long after the last fault everything may take to end, or to wait for something named."""
LOOK_S: Final = 1.0
PAGE: Final = 1_000
WARM_UP_S: Final = 3.0
STUCK_SHOWN_MAX: Final = 8


class Told(msgspec.Struct):
    """What a round gives: what was found, what fired, and what there was to check."""

    seed: int
    storm_s: float
    findings: list[Finding] = []
    missing: list[str] = []
    skipped: dict[str, str] = {}
    fired: Counter[str] = msgspec.field(default_factory=Counter)
    planned: Counter[str] = msgspec.field(default_factory=Counter)
    counted: dict[str, int] = {}
    seconds: dict[str, float] = {}

    @property
    def verdict(self) -> str:
        """Say `passed`, `failed`, or `void` when a planned fault never fired."""
        return "failed" if self.findings else "void" if self.missing else "passed"


class Round:
    """A round in a folder of its own, in which everything it left can be read afterwards."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        storm_s: float,
        *,
        every_s: float,
        faults: list[schedule.Fault] | None = None,
        kinds: tuple[str, ...] = tuple(schedule.KINDS),
        other: Path | None = None,
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._say, self._every_s, self._kinds = folder, say, every_s, kinds
        self._given, self._other = faults, other
        self._history = History()
        self._clock = SystemClock()
        self.told = Told(seed=seed, storm_s=storm_s)

    async def play(self) -> Told:
        """Play it whole."""
        began = self._clock.monotonic()
        async with standing(self._folder, self._say, self._other) as stand:
            self._mark("starting", began)
            log = await PostgresLog.open(stand.postgres.url, self._clock)
            try:
                await self._over(stand, log)
            finally:
                await log.close()
        return self.told

    async def _over(self, stand: Stand, log: PostgresLog) -> None:
        bus = BusFaults(stand)
        await bus.open()
        faults = Faults(stand, bus)
        people = People(stand, bus, self._history, self._folder / "history.jsonl", Chance(f"people {self.told.seed}"))
        reader, meter = Reader(log, self._history), Meter(stand, self._history)
        await people.arrive()
        async with alive([reader.run, meter.run, people.decide_for_ever]):
            async with asyncio.TaskGroup() as group:
                group.create_task(people.ask_for_runs(group, self._every_s))
                await asyncio.sleep(WARM_UP_S)
                await self._storm(stand, faults)
                people.storming = False
                self._say("the storm is over; waiting for quiet")
                began = self._clock.monotonic()
                await stand.calm()
                group.create_task(self._quiet(log, people))
            self._mark("becoming quiet", began)
        await people.read_the_rest()
        await reader.catch_up()
        await meter.measure_idle()
        await stand.keep_metrics()
        await people.leave()
        await bus.close()
        await stand.stop_services()
        await reader.catch_up()
        await self._judge(stand, log, people, faults, bus)

    async def _storm(self, stand: Stand, faults: Faults) -> None:
        told = self.told
        kinds = tuple(kind for kind in self._kinds if faults.possible(kind))
        chosen = self._given if self._given is not None else schedule.drawn(told.seed, told.storm_s, kinds)
        chosen = [fault for fault in chosen if faults.possible(fault.kind)]
        schedule.save(chosen, self._folder / "schedule.jsonl")
        told.planned.update(fault.kind for fault in chosen)
        told.skipped = faults.skipped
        self._say(f"seed {told.seed}: {len(chosen)} faults in {told.storm_s:g} s")
        began = self._clock.monotonic()
        await faults.storm(chosen)
        told.fired = faults.fired
        self._mark("the storm", began)

    async def _quiet(self, log: PostgresLog, people: People) -> None:
        """Wait until nobody wants anything any more and no run moves; what never does is found by the checker."""
        until = self._clock.monotonic() + QUIET_S
        while True:
            stuck = await settled(log, self._clock.now_ms())
            if not stuck and not people.open:
                return
            if self._clock.monotonic() > until:
                self._say(f"it did not become quiet in {QUIET_S:g} s: {people.open} clients, {len(stuck)} runs")
                for one in stuck[:STUCK_SHOWN_MAX]:
                    self._say(f"  {one}")
                people.give_up()
                return
            await asyncio.sleep(LOOK_S)

    async def _judge(self, stand: Stand, log: PostgresLog, people: People, faults: Faults, bus: BusFaults) -> None:
        told, history, began = self.told, self._history, self._clock.monotonic()
        history.acted = ledger.read(stand.ledger_file)
        history.planned, history.fired = told.planned, faults.fired
        if self._other is not None:
            await rebuild(log, installed_rooms)  # rows stay as another version wrote them until then (docs/versions.md)
        told.findings = await check(log, history, now_ms=self._clock.now_ms(), rooms=installed_rooms)
        told.findings += [Finding("chain", str(one)) async for one in log.verify() if not isinstance(one, tuple)]
        told.findings += await self._triggers(log, people)
        told.findings += [Finding("no crash loop", text) for text in stand.fallen]
        told.missing = history.missing()
        if told.findings:
            await self._keep_events(log)
        by_status: Counter[str] = Counter()
        for status in ("succeeded", "failed", "cancelled", "waiting", "running", "queued"):
            by_status[f"runs {status}"] = await log.count("runs", {"status": [status]})
        told.counted = {
            **by_status,
            "runs": sum(by_status.values()),
            "events": sum(int(row["last_position"]) for row in await log.partitions()),
            "commands answered": sum(1 for one in history.asked if one.status is not None),
            "effects": len(history.acted),
            "effects applied": sum(one.applied for one in history.acted),
            "triggers": len(people.triggers),
            "readings by SSE": sum(1 for one in history.readings if one.stream_id),
            "events read by SSE": sum(len(one.seen) for one in history.readings if one.stream_id),
            "batches of the feed": bus.feed_batches,
            "parked messages": len(await log.parked(limit=10_000)),
            "restarts of programs": sum(stand.supervisor.restarts.values()),
            **people.count,
            **stand.starts(),
        }
        (self._folder / "observed.json").write_bytes(msgspec.json.encode(history))
        self._mark("judging", began)

    async def _keep_events(self, log: PostgresLog) -> None:
        """Write every event down, for whoever looks for the cause of what was found."""
        with (self._folder / "events.jsonl").open("wb") as file:
            for row in await log.partitions():
                after = 0
                while read := await log.read(row["log"], row["partition"], after, PAGE):
                    file.writelines(msgspec.json.encode(_plain(one)) + b"\n" for one in read)
                    after = read[-1].position

    async def _triggers(self, log: PostgresLog, people: People) -> list[Finding]:
        """See that every trigger event started just one run."""
        started: Counter[str] = Counter()
        after: str | None = None
        while rows := await log.rows("runs", {}, order="id", descending=False, after=after, limit=1_000):
            started.update((row["labels"] or {}).get("trigger_id", "") for row in rows)
            after = rows[-1]["id"]
        return [
            Finding("acknowledged is kept", f"the trigger {identity} started {started[identity]} runs")
            for identity in people.triggers
            if started[identity] != 1
        ]

    def _mark(self, what: str, began: float) -> None:
        self.told.seconds[what] = round(self._clock.monotonic() - began, 1)


@asynccontextmanager
async def alive(works: list[Callable[[], Coroutine[Any, Any, None]]]) -> AsyncIterator[None]:
    """Let some works go on beside, and end them afterwards."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work()) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def _plain(one: Recorded) -> dict[str, Any]:
    """Give an event as JSON holds it."""
    told = msgspec.structs.asdict(one)
    return {key: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for key, value in told.items()}


def table(told: Told) -> str:
    """Give a round in a table."""
    lines = [f"{'fault':<32}{'planned':>9}{'fired':>9}"]
    lines += [f"{kind:<32}{told.planned[kind]:>9}{told.fired[kind]:>9}" for kind in sorted(told.planned)]
    lines += [f"{kind:<32}{'skipped: ' + why}" for kind, why in sorted(told.skipped.items())]
    lines += ["", *(f"{name:<32}{count:>9}" for name, count in told.counted.items())]
    lines += ["", *(f"{name:<32}{seconds:>9.1f} s" for name, seconds in told.seconds.items()), ""]
    lines += [f"FOUND {finding}" for finding in told.findings]
    lines += [f"NEVER FIRED {kind}" for kind in told.missing]
    return "\n".join(lines)
