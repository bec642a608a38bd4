"""Walking a run to where it would end or stand still: in the engine, in virtual time, doing what people are supposed to do."""

import asyncio
from typing import Any, Final

import msgspec

from headrace import codec, ids
from headrace.events import registry
from headrace.events.base import Event
from headrace.events.runs import AttemptFailed, RunQueued, TimerStarted
from headrace.events.steering import PermitQueued, WaitStarted
from headrace.keys import OWNERS
from headrace.log.port import Recorded
from headrace.messages import DecideApproval, StartRun, Told
from headrace.steering import DeliverEvent, SignalRun
from headrace.testing.engine import SETTLE_S, Engine
from headrace.testing.prediction.scenario import WHOLE_RUN, Scenario
from headrace.testing.prediction.timing import Hours
from headrace.testing.views import at_once
from headrace.vocabulary import (
    LOG_APPROVALS,
    LOG_RUNS,
    RUN_FINAL,
    WORKSPACE_DEFAULT,
    ApprovalStatus,
    WaitingFor,
)

YOU: Final = "you"
"""Who would start the run."""
APPROVER: Final = "approver {}"
MOVES_BY_ITSELF: Final = frozenset({WaitingFor.TIMER, WaitingFor.RETRY, WaitingFor.RATE_LIMIT})
QUIET_TURNS: Final = 3
"""So often nothing may happen in SETTLE_S before a run counts as standing still."""
TURNS_MAX: Final = 100_000
EVENTS_PAGE: Final = 1_000
RUNS_MAX: Final = 1_000


class Happening(msgspec.Struct, frozen=True):
    """An event of a run, and when it would happen, in seconds of the run."""

    run_id: str
    at_s: float
    at_ms: int
    event: Event


class Walk:
    """One run and its children on their way."""

    def __init__(self, engine: Engine, scenario: Scenario) -> None:
        self._engine, self._scenario = engine, scenario
        self._hours = Hours(engine.clock.now_ms())
        self._versions: dict[str, int] = {}
        self._parents: dict[str, tuple[str, str]] = {}
        self._sent: dict[str, int] = {}
        self.happened: list[Happening] = []
        self.decided: dict[str, str] = {}
        """What was said to each approval, by its id."""
        self.given: set[tuple[str, str]] = set()
        """The (run, step) whose signal or event was given."""

    def path_of(self, run_id: str) -> str:
        """Give the way to a run: empty for the run itself, `child/` for that of its step `child`."""
        if run_id not in self._parents:
            found = at_once(self._engine.log.stream(LOG_RUNS, run_id, limit=1))
            event = registry.read(found[0]) if found else None
            if isinstance(event, RunQueued) and event.parent is not None:
                parent = event.parent
                self._parents[run_id] = (parent.run_id, ids.instance(parent.step, parent.index, parent.iteration))
            else:
                return ""
        parent_id, step = self._parents[run_id]
        return f"{self.path_of(parent_id)}{step}/"

    async def to_the_end(self) -> None:
        """Go on until every run is over, or nothing more would happen without somebody."""
        quiet = 0
        for _ in range(TURNS_MAX):
            await asyncio.sleep(SETTLE_S)
            quiet = 0 if self._look() else quiet + 1
            if quiet == 0 or self._engine.processes.busy:
                continue
            rows = await self._rows()
            if not rows:
                return
            if await self._act(rows) or self._leap(rows):
                quiet = 0
            elif quiet >= QUIET_TURNS:
                return

    async def _rows(self) -> list[dict[str, Any]]:
        """Give the rows of the runs that are not over, the oldest first."""
        found = await self._engine.log.rows("runs", {}, limit=RUNS_MAX, descending=False)
        return [row for row in found if row["status"] not in RUN_FINAL]

    def _look(self) -> bool:
        """Take in what happened since the last look; tell whether anything did."""
        new: list[Recorded] = []
        for row in at_once(self._engine.log.rows("runs", {}, limit=RUNS_MAX, descending=False)):
            run_id = row["id"]
            while True:
                seen = self._versions.get(run_id, 0)
                found = at_once(self._engine.log.stream(LOG_RUNS, run_id, seen, EVENTS_PAGE))
                if not found:
                    break
                self._versions[run_id] = found[-1].version
                new.extend(found)
        for recorded in sorted(new, key=lambda each: each.at):
            at_s = self._hours.at(recorded.at)
            for event in registry.read(recorded).parts:
                self._note(event, recorded.at)
                self.happened.append(Happening(recorded.stream_id, at_s, recorded.at, event))
        return bool(new)

    def _note(self, event: Event, at: int) -> None:
        match event:
            case TimerStarted(due_at=due):
                self._hours.due(at, due)
            case AttemptFailed(retry_at=due):
                self._hours.due(at, due)
            case WaitStarted(expires_at=int(due)) | PermitQueued(until=int(due)):
                self._hours.due(at, due)
            case _:
                pass

    # what people would do

    async def _act(self, rows: list[dict[str, Any]]) -> bool:
        """Decide, start and signal as is supposed; tell whether anything was done."""
        done = False
        for row in rows:
            if row["waiting_for"] == WaitingFor.START:
                await self._engine.ask(LOG_RUNS, StartRun(), stream=row["id"], as_=YOU)
                done = True
            for waiting in (row["detail"] or {}).get("waiting") or []:
                if waiting["for"] in {WaitingFor.SIGNAL, WaitingFor.EVENT} and waiting["step"]:
                    done = await self._signal(row["id"], waiting["step"]) or done
        pending = await self._engine.log.rows("approvals", {"status": ApprovalStatus.PENDING}, limit=RUNS_MAX)
        for asked in sorted(pending, key=lambda each: str(each["id"])):
            done = await self._decide(asked) or done
        return done

    async def _decide(self, asked: dict[str, Any]) -> bool:
        path = self.path_of(asked["subject"]) if asked["subject"].startswith(f"{ids.RUN}_") else ""
        action = self._scenario.decision(path + (asked["step"] or WHOLE_RUN))
        if action is None or asked["id"] in self.decided:
            return False
        self.decided[asked["id"]] = action
        for number in range(asked["quorum"] if action == "approve" else 1):
            command = DecideApproval(action=action, digest=asked["digest"], reason="supposed by the simulation")
            await self._engine.ask(LOG_APPROVALS, command, stream=asked["id"], as_=APPROVER.format(number + 1))
        return True

    async def _signal(self, run_id: str, step: str) -> bool:
        """Give a wait the next payload under its name, if there is one left."""
        wait = next(
            (
                each.event
                for each in reversed(self.happened)
                if each.run_id == run_id and isinstance(each.event, WaitStarted) and each.event.step == step
            ),
            None,
        )
        if wait is None or wait.name not in self._scenario.signals:
            return False
        turn = self._sent.get(wait.name, 0)
        payloads = self._scenario.signals[wait.name]
        if turn >= len(payloads):
            return False
        self._sent[wait.name] = turn + 1
        self.given.add((run_id, step))
        name, data, number = wait.name, codec.raw(payloads[turn]), f"simulated-{wait.name}-{turn}"
        if wait.kind == WaitingFor.SIGNAL:
            await self._engine.ask(LOG_RUNS, SignalRun(name=name, signal_id=number, data=data), stream=run_id, as_=YOU)
            return True
        command = DeliverEvent(
            source="run" if wait.run_id else "trigger",
            name=name,
            event_id=number,
            at=self._engine.clock.now_ms(),
            data=data,
        )
        told = Told(stream_id=run_id, body=codec.raw(command), workspace=WORKSPACE_DEFAULT)
        packed = self._engine.keys.pack(OWNERS, codec.encode(told))
        await self._engine.bus.tell(LOG_RUNS, ids.partition_of(run_id), packed)
        return True

    def _leap(self, rows: list[dict[str, Any]]) -> bool:
        """Let the calendar jump to the next thing that is due by itself; tell whether there is one."""
        waits = [each for row in rows for each in (row["detail"] or {}).get("waiting") or []]
        moving = [each["until"] for each in waits if each["for"] in MOVES_BY_ITSELF and each["until"]]
        if not moving:
            return False
        left_s = (min(moving) - self._engine.clock.now_ms()) / 1_000
        if left_s > SETTLE_S:
            self._engine.clock.leap(left_s - SETTLE_S)
        return True


def people(approvers: int) -> dict[str, tuple[str, ...]]:
    """Give who acts: you, and as many others as the widest quorum needs."""
    return {YOU: ("operator", "admin"), **{APPROVER.format(n + 1): ("admin",) for n in range(approvers)}}
