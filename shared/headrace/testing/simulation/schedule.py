"""One schedule: an installation that is stormed at, then left in peace; what it promised is checked all along."""

import asyncio
import functools
import hashlib
from collections import Counter
from typing import Any, Final

import msgspec

from headrace import codec, ids
from headrace.errors import HeadraceError
from headrace.host.library import CachedLibrary
from headrace.log.port import Recorded
from headrace.messages import ApplyWorkflow
from headrace.testing.checker.check import check, settled
from headrace.testing.checker.histories import Watch
from headrace.testing.checker.history import Finding, History
from headrace.testing.processes import installed
from headrace.testing.simulation.bounds import bounded
from headrace.testing.simulation.chance import Chance
from headrace.testing.simulation.clients import Clients
from headrace.testing.simulation.documents import DOCUMENTS, Compiler, child
from headrace.testing.simulation.faults import Faults
from headrace.testing.simulation.features import CHILD
from headrace.testing.simulation.loop import SimLoop, unlisted
from headrace.testing.simulation.reader import Reader
from headrace.testing.simulation.rolls import Rolls
from headrace.testing.simulation.scenario import STORM_S, Scenario
from headrace.testing.simulation.storage import PARTITIONS, World, small
from headrace.testing.simulation.weather import CALM, Weather
from headrace.testing.simulation.world import COMPILED, GATEKEEPER, PLANNER, WORKER, Installation
from headrace.testing.views import at_once
from headrace.vocabulary import LOG_APPROVALS, LOG_CATALOGUE, LOG_FLOW, LOG_RUNS, WORKSPACE_DEFAULT

CALM_S: Final = 240.0
"""Within so much virtual time after the last fault every run has ended, or waits for something named."""
LOOK_S: Final = 1.0
ASKED: Final = (LOG_APPROVALS, LOG_FLOW)
TEMPLATE_S: Final = 20.0
REBUILD_EVERY: Final = 4
"""Of so many schedules one is rebuilt from its events: that takes as long as the schedule itself."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a schedule. `story` is every event, effect and answer, byte for byte."""

    scenario: Scenario
    findings: tuple[Finding, ...]
    fired: Counter[str]
    runs: int
    steps: int
    events: int
    effects: int
    seconds: float
    callbacks: int
    story: bytes

    @property
    def digest(self) -> str:
        """Give the story in short: equal for equal schedules."""
        return hashlib.sha256(self.story).hexdigest()


class Schedule:
    """One schedule under way."""

    def __init__(self, scenario: Scenario) -> None:
        chance = Chance(f"schedule {scenario.seed}")
        self.scenario = scenario
        self.loop = SimLoop(chance)
        self.weather = Weather(chance, scenario.rates)
        template = None if scenario.seed < 0 else _template()
        self.log = World(_StillClock()) if template is None else template.log.fork(_StillClock())
        self.compiler = None if template is None else template.compiler
        self.world = Installation(self.loop, self.log, self.weather, f"processes {scenario.seed}")
        self.log._clock = self.world.clock  # noqa: SLF001  (the two need each other)
        self.faults = Faults(self.world)
        self.history = History(acted=self.world.ledger.acted)
        self.watch = Watch(self.log.body)
        self.rolls = Rolls()
        self.found: list[Finding] = []
        self.clients = Clients(self.world, self.world.machine("client"), self.history, self.compiler)
        self.reader = Reader(self.log, self.world.machine("reader"), self.history)

    def run(self, *, tidy: bool = True) -> Outcome:
        """Run it to its end. Unless it is `tidy`, its tasks are left as they are, for a process that soon ends.

        Nor has it a story then, if nothing was found.
        """
        with small(), unlisted():
            return self._run(tidy=tidy)

    def _run(self, *, tidy: bool) -> Outcome:
        for part in self.log._parts.values():  # noqa: SLF001  (what the template begins with)
            for recorded in part.events:
                self.watch.see(recorded)
        self.log.committed = self._committed
        try:
            self.loop.run_until_complete(self._story())
        except HeadraceError as problem:
            self.found.append(Finding("nothing spins", problem.message))
        finally:
            self.world.fallen += self.world.crashed()
            if tidy:
                self.world.close()
                self.loop.close()
        return self._outcome(told=tidy)

    async def _story(self) -> None:
        scenario, world = self.scenario, self.world
        if self.compiler is not None:
            plans = [self.compiler.compiled(job.document) for job in scenario.jobs]
            self.log.store({plan.digest: plan.body for plan in plans})
        for kind, count in ((PLANNER, scenario.planners), (GATEKEEPER, 1), (WORKER, scenario.workers)):
            for _ in range(count):
                world.start(kind)
        self.clients.machine.process.start(self.clients.live(scenario.jobs))
        self.reader.machine.process.start(self.reader.read())
        self.faults.plan(scenario.faults)
        stormy = bool(scenario.faults) or scenario.rates is not CALM
        if scenario.seed < 0:
            await asyncio.sleep(TEMPLATE_S)
            stream = ids.definition(ids.WORKFLOW, WORKSPACE_DEFAULT, CHILD)
            await self.clients.ask(LOG_CATALOGUE, ApplyWorkflow(spec=codec.raw(child())), stream=stream)
        if stormy:
            await asyncio.sleep(STORM_S)
            await asyncio.sleep(max(self.faults.until - self.loop.time(), 0.0))
        self.faults.calm()
        await self._settle()
        await self.reader.finish()

    async def _settle(self) -> None:
        """Wait until every run has ended or waits for something named, and everybody knows."""
        until = self.loop.time() + CALM_S
        while self.loop.time() < until:
            await asyncio.sleep(LOOK_S)
            if self.found or (not self.clients.open and self._quiet()):
                return
        stuck = at_once(settled(self.log, self.world.clock.now_ms()))
        self.found += stuck or [Finding("no run stuck", "clients or messages between streams never came to an end")]

    def _quiet(self) -> bool:
        """Tell whether nothing is outstanding but what waits for a person."""
        now = self.world.clock.now_ms()
        if at_once(settled(self.log, now)):
            return False
        waiting = at_once(self.log.rows("approvals", {"status": "pending"}, limit=100))
        return all(row["subject"] in self.clients.unanswered for row in waiting) and not self._busy()

    def _busy(self) -> bool:
        """Tell whether an answer between streams is still on its way."""
        return any(at_once(self.log.busy(name, part)) for name in ASKED for part in range(PARTITIONS[name]))

    def _committed(self, recorded: Recorded) -> None:
        self.faults.heard()
        self.clients.heard(recorded)
        self.found += self.watch.see(recorded)
        self.found += self.rolls.see(recorded)

    def _outcome(self, *, told: bool) -> Outcome:
        self.found += [Finding("nothing falls", told) for told in (*self.world.fallen, *self.loop.problems)]
        self.found += [Finding("one owner at a time", told) for told in self.log.overtaken]
        self.found += [Finding("nothing is poison", one.error) for one in self.log._parked]  # noqa: SLF001  (all of it)
        if not self.found:
            rooms = _rooms if self.scenario.seed % REBUILD_EVERY == 0 else None
            now_ms = self.world.clock.now_ms()
            self.found += at_once(check(self.log, self.history, now_ms=now_ms, rooms=rooms, seen=self.watch))
        events = sum(len(part.events) for part in self.log._parts.values())  # noqa: SLF001  (counted)
        self.weather.fired.update(self.watch.branches)
        return Outcome(
            scenario=self.scenario,
            findings=tuple(self.found),
            fired=self.weather.fired,
            runs=self.watch.runs,
            steps=self.watch.steps,
            events=events,
            effects=len(self.world.ledger.acted),
            seconds=self.loop.time(),
            callbacks=self.loop.callbacks,
            story=story(self) if told or self.found else b"",
        )


class Template(msgspec.Struct, frozen=True):
    """What all schedules of a process begin with."""

    log: World
    compiler: Compiler


class _StillClock:
    """A clock that a log is made with before its world stands."""

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        message = "nobody sleeps before the world stands"
        raise RuntimeError(message)

    def entropy(self) -> bytes:
        return bytes(16)


def story(schedule: Schedule) -> bytes:
    """Write down every event, effect and answer of a schedule, in order."""
    lines: list[bytes] = []
    for (log, partition), part in sorted(schedule.log._parts.items()):  # noqa: SLF001  (all of it)
        for one in part.events:
            head = f"{log}/{partition}/{one.position} {one.at} {one.stream_id} {one.version} {one.type} "
            lines.append(head.encode() + one.data + b" " + one.meta)
    lines += [msgspec.json.encode(one) for one in schedule.history.acted]
    lines += [msgspec.json.encode(one) for one in schedule.history.asked]
    lines.append(f"{schedule.loop.time()!r} {schedule.loop.callbacks}".encode())
    return b"\n".join(lines)


def run(scenario: Scenario) -> Outcome:
    """Run a scenario."""
    return Schedule(scenario).run()


def prepare() -> None:
    """Make what all schedules of this process and of its children share: tools, the log that they begin with, plans."""
    compiler, library = _template().compiler, CachedLibrary()
    rooms = [room for room in bounded(installed(PLANNER).rooms(library)) if room.log == LOG_RUNS]
    for number in range(DOCUMENTS):
        made = compiler.compiled(number)
        library.add({made.digest: made.body})
        for room in rooms:
            room._graph(made.digest)  # noqa: SLF001  (so that it is made, and shared from then on)
    compiler.compile_triggered(COMPILED)


def _rooms(library: Any) -> list[Any]:
    return [room for name in (PLANNER, GATEKEEPER) for room in bounded(installed(name).rooms(library))]


@functools.cache
def _template() -> Template:
    """Give what schedules begin with: a log in which every tool is announced and the child workflow applied."""
    nothing = Scenario(seed=-1, planners=1, workers=1, jobs=(), faults=(), rates=CALM)
    schedule = Schedule(nothing)
    outcome = schedule.run()
    if outcome.findings:
        message = f"the simulation cannot begin: {outcome.findings[0]}"
        raise RuntimeError(message)
    log = schedule.log
    log._clock = _StillClock()  # noqa: SLF001  (its world is over)
    for part in log._parts.values():  # noqa: SLF001  (handed over)
        part.owner, part.lease_until = None, 0
    return Template(log, Compiler(log, _StillClock()))
