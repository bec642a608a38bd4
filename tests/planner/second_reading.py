"""A second reading of what a run did: from its events and orders alone, what it waits for and whether it moves."""

from typing import Any

from headrace.clock import SystemClock
from headrace.codec import encode
from headrace.events.runs import (
    ApprovalRequested,
    ApprovalResolved,
    AttemptFailed,
    CancelRequested,
    LateResultKept,
    RunCancelled,
    RunFailed,
    RunSucceeded,
    StepFailed,
    StepRetried,
    StepSkipped,
    StepSucceeded,
    TimerStarted,
)
from headrace.events.steering import (
    CompensationStarted,
    OutcomeLost,
    OutcomeSettled,
    RunPaused,
    RunResumed,
    WaitStarted,
)
from headrace.keys import POOL, Keys
from headrace.messages import CreateRun
from headrace.wire import Beat
from headrace_api.explaining import explain
from headrace_api.presence import Presence
from tests.planner.runs_kit import Sim

FINAL = (RunSucceeded, RunFailed, RunCancelled)
KEYS = Keys(b"k" * 32)
KIND = {"signal": "signal", "trigger": "event", "run": "event"}
PERFORMED = ("runs:", "runs,", "is being stopped")


class Reading:
    """What the history of a run says; `waits` are what it waits for, as (word, step)."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.asks: dict[str, str | None] = {}
        self.times: dict[str, str] = {}
        self.again: dict[tuple[str, int | None], int] = {}
        self.unknown: dict[tuple[str, int | None], str] = {}
        self.children: dict[str, str] = {}
        self.over: set[str] = set()
        self.ended: set[tuple[str, int]] = set()
        self.paused: set[bool] = set()
        self.ending = self.final = False
        for tell in sim.every:
            if isinstance(tell.command, CreateRun) and tell.command.parent is not None:
                self.children.setdefault(tell.stream_id, tell.command.parent.step)
        for event, at in sim.history:
            for part in event.parts:
                self._take(part, at)

    def _take(self, event: Any, at: int) -> None:
        if isinstance(event, FINAL):
            self.final = True
        elif isinstance(event, CancelRequested | CompensationStarted):
            self.ending = True
            if isinstance(event, CompensationStarted):
                self.paused = set()  # what undoes begins whoever paused the run
            undone = self.sim.run.graph.undo
            self.again = {one: due for one, due in self.again.items() if one[0].endswith(".compensate")}
            self.unknown = {one: attempt for one, attempt in self.unknown.items() if one[0] in undone}
        elif isinstance(event, RunPaused | RunResumed):
            own = event.parent_id is None
            self.paused = self.paused | {own} if isinstance(event, RunPaused) else self.paused - {own}
        elif isinstance(event, ApprovalRequested):
            self.asks[event.approval_id] = event.step or None
        elif isinstance(event, ApprovalResolved):
            self.asks.pop(event.approval_id, None)
        elif isinstance(event, WaitStarted):
            self.times[event.step] = KIND[event.kind]
        elif isinstance(event, TimerStarted):
            self.times[event.step] = "timer"
        else:
            self._attempt(event, at)

    def _attempt(self, event: Any, at: int) -> None:
        if isinstance(event, LateResultKept) and event.attempt_id in self.children:
            self.over.add(event.attempt_id)
        if not isinstance(
            event, AttemptFailed | StepRetried | OutcomeLost | OutcomeSettled | StepFailed | StepSucceeded | StepSkipped
        ):
            return
        instance = (event.step, getattr(event, "index", None))
        attempt_id = getattr(event, "attempt_id", None)
        if attempt_id and not isinstance(event, OutcomeSettled):
            self.over.add(attempt_id)
        if getattr(event, "child_id", None):
            self.over.add(event.child_id)
        if not isinstance(event, OutcomeSettled):
            self.again.pop(instance, None)
        if isinstance(event, AttemptFailed):
            if event.retry_at > at or self.paused:
                self.again[instance] = event.retry_at
        elif isinstance(event, OutcomeLost):
            self.unknown[instance] = event.attempt_id
            since = event.failure
            if since is not None and since.attempt_id:
                self.over.add(since.attempt_id)
        elif not isinstance(event, StepRetried):
            self.unknown.pop(instance, None)
        if isinstance(event, StepFailed | StepSucceeded | StepSkipped) and instance[1] is None:
            self._step_over(event)

    def _step_over(self, event: Any) -> None:
        step = event.step
        self.times.pop(step, None)
        self.ended.add((step, getattr(event, "iteration", 0)))
        self.again = {one: due for one, due in self.again.items() if one[0] != step}
        kept = step in self.sim.run.graph.undo and not getattr(event, "continued", False)
        if not kept:
            self.unknown = {one: attempt for one, attempt in self.unknown.items() if one[0] != step}

    @property
    def out(self) -> set[str]:
        """Name the steps with attempts that workers have, or that stand in their queue."""
        found = set()
        for dispatch in self.sim.dispatched:
            order = dispatch.order
            label = order.idempotency_key.partition(":")[2]
            number = label.partition("[")[0].partition("#")[2]
            if order.attempt_id not in self.over and (order.step, int(number or 0)) not in self.ended:
                found.add(order.step)
        return set() if self.final else found

    @property
    def waits(self) -> set[tuple[str, str | None]]:
        """Give what the run waits for."""
        if self.final:
            return set()
        found: set[tuple[str, str | None]] = {("input", step) for step, _ in self.unknown}
        found |= {("retry", step) for step, _ in self.again}
        found |= {("children", step) for child, step in self.children.items() if child not in self.over}
        if self.ending:
            return found
        found |= {("approval", step) for step in self.asks.values()}
        found |= {(word, step) for step, word in self.times.items()}
        return found | ({("resume", None)} if self.paused else set())


def judge(sim: Sim) -> None:
    """Hold a run's row, and what is said of it, against the second reading."""
    row, reading = sim.row(), Reading(sim)
    said = {(each["for"], each["step"]) for each in row["detail"]["waiting"]} if not reading.final else set()
    limited = {each for each in said if each[0] in {"rate_limit", "concurrency"}}
    assert said - limited == reading.waits, f"it says {said - limited}, and waits for {reading.waits}"
    if reading.final:
        assert row["status"] in {"succeeded", "failed", "cancelled"}
        return
    if reading.out:
        assert row["status"] in {"running", "queued"}, f"it is {row['status']} while {reading.out} are out"
    else:
        assert said, "nothing of it is out, and it waits for nothing"
        assert row["status"] == "waiting", f"it is {row['status']} while nothing is out"
    assert row["waiting_for"] == (row["detail"]["waiting"][0]["for"] if row["status"] == "waiting" else None)
    _judge_explained(sim, row, reading, said)


def _judge_explained(sim: Sim, row: dict[str, Any], reading: Reading, said: set[tuple[str, str | None]]) -> None:
    steps = [one.columns for one in sim.room.rows(sim.run, None) if one.table == "steps"]
    told = explain(row, steps, sim.run.graph.plan, _presence(), {})
    named = {(each["waiting_for"], each["step"]) for each in told if each["waiting_for"]}
    assert named == said, f"it is explained by {named}, and waits for {said}"
    assert not reading.out or told
    for each in told:
        moves = each["waiting_for"] is None and any(word in each["message"] for word in PERFORMED)
        if moves and each["step"] is not None and each["step"] in sim.run.graph.index:
            assert each["step"] in reading.out, each["message"]
        assert "waits for nothing that is recorded" not in each["message"], f"it is not said what {reading.out} do"
    for step in reading.out - {each["step"] for each in told}:
        assert reading.ending or row["cancel_requested"], f"{step} is out, and nobody hears of it: {told}"


def _presence() -> Presence:
    presence = Presence(SystemClock(), KEYS)
    beat = Beat(worker="wrk_9", service="w", host="h", pools=("runner",), slots=9)
    presence.deliver(KEYS.pack(POOL + "runner", encode(beat)))
    return presence
