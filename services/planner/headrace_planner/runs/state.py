"""What a run remembers (pure). `RunData` is written to snapshots; `Run` carries it with its plan and a scratch-pad.

The scratch-pad holds only what follows from data and plan (decoded outputs, orders made): losing it costs time alone.
"""

from itertools import takewhile
from typing import Any

import msgspec

from headrace import ids
from headrace.codec import NULL, Raw
from headrace.events.base import BlobRef, ErrorInfo, Evidence
from headrace.events.runs import CancelRequested, RunQueued
from headrace.events.steering import ArtifactsPiece, OutcomeSettled, RunPaused, WorkPiece
from headrace.vocabulary import RUN_FINAL, STEP_FINAL, ApprovalStatus, RunStatus, StepStatus
from headrace_planner.runs.bounds import USUAL, Bounds
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.kept import (
    Ask,
    Child,
    Done,
    Hold,
    Left,
    MapState,
    Permit,
    Signal,
    Tried,
    Try,
    Undo,
    Wait,
    Watch,
)
from headrace_planner.runs.naming import Naming
from headrace_planner.runs.pieces import PIECE_BYTES_MAX

Instance = tuple[str, int | None]
"""A step, or one item of a map."""


class StepState(msgspec.Struct, omit_defaults=True):
    """Where a step stands. `iteration` counts the rounds of a loop's body; `loop` those that a loop has begun.

    `named` are its named outputs where they were made while what they say stood, `unmade` says why they could not be.
    `artifacts` came behind those that are bodies, `artifact_pieces`. `tried` are its last failed attempts, `settled` the last answer to an unknown outcome, `reused_from` the run whose
    result stands. `before` is how the step ended in the round before. `spent_ms` and `timed_since` are its own clock, which runs only where the plan bounds it.
    """

    status: StepStatus = StepStatus.PENDING
    iteration: int = 0
    loop: int = 0
    go: bool = False
    confirmed: bool = False
    open: Try | None = None
    map: MapState | None = None
    attempt: int = 0
    attempt_id: str | None = None
    worker: str | None = None
    output: Raw = NULL
    blob: BlobRef | None = None
    named: Raw = NULL
    unmade: str = ""
    error: ErrorInfo | None = None
    reason: str = ""
    artifacts: list[Left] = []
    artifact_pieces: list[ArtifactsPiece] = []
    evidence: Evidence | None = None
    arguments_digest: str | None = None
    due_at: int | None = None
    approval_id: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    tried: list[Tried] = []
    settled: OutcomeSettled | None = None
    reused_from: str | None = None
    spent_ms: int = 0
    timed_since: int | None = None
    before: "StepState | None" = None
    wait: Wait | None = None

    @property
    def settled_down(self) -> bool:
        """Tell whether nothing of the step is under way, and it waits for nothing."""
        resting = self.status in STEP_FINAL or self.status == StepStatus.PENDING
        resting = resting and self.open is None and not (self.map is not None and self.map.open)
        return resting and self.due_at is None and self.wait is None and self.timed_since is None


class RunData(msgspec.Struct, omit_defaults=True):
    """Everything a run remembers; `doubts` name what may have acted on the world and nobody is asked about any more.

    `permits` are its requests to shared keys; `admitted` says that it holds its concurrency key, or needs none.
    `limited` are the instances that wait for each rate limit, in order. `children` are child runs by id, also those
    that are not needed any more, until they say how they ended; `reported` says that this run's parent knows its end.
    `late` are the last attempts whose late result is on record: the same one again is nothing.
    `done` came behind the work that is kept as bodies, `work`. `signals` are kept until a step takes them, `taken` the ids of the last signals and events that ended a wait.
    """

    id: str
    workspace: str
    version: int = 0
    queued: RunQueued | None = None
    status: RunStatus = RunStatus.QUEUED
    begun: bool = False
    created_at: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    steps: dict[str, StepState] = {}
    left: dict[str, int] = {}
    ready: list[str] = []
    asks: dict[str, Ask] = {}
    authorized: bool = False
    cancel: CancelRequested | None = None
    cancel_at: int | None = None
    paused: RunPaused | None = None
    hold: Hold | None = None
    reused: int = 0
    active: int = 0
    active_ms: int = 0
    active_since: int | None = None
    look_at: int | None = None
    failed_step: str | None = None
    error: ErrorInfo | None = None
    outputs: Raw = NULL
    late: list[str] = []
    steps_done: int = 0
    permits: dict[str, Permit] = {}
    permits_asked: int = 0
    admitted: bool = False
    limited: dict[str, list[Instance]] = {}
    done: list[Done] = []
    work: list[WorkPiece] = []
    undo: Undo | None = None
    purged: bool = False
    children: dict[str, Child] = {}
    reported: bool = False
    cancelled_by: str = ""
    signals: list[Signal] = []
    taken: list[str] = []
    watches: dict[str, Watch] = {}
    doubts: list[str] = []


class Run:
    """A run as the decider sees it: what it remembers, its plan, and the scratch-pad. `settled`: no event is half folded in."""

    graph: Graph

    __slots__ = (
        "_apart",
        "_going",
        "_listed",
        "_naming",
        "_pending",
        "_places",
        "_touched",
        "_weights",
        "at",
        "bodies",
        "bounds",
        "carried",
        "checked",
        "data",
        "decoded",
        "full",
        "graph",
        "orders",
        "quotas",
        "retries",
        "settled",
        "shown",
        "stopped",
        "unchecked",
        "undone",
        "wakes",
    )

    def __init__(self, data: RunData, graph: Graph | None = None, bounds: Bounds = USUAL) -> None:
        self.data = data
        self.bounds = bounds
        if graph is not None:
            self.graph = graph
        self._places = {step_id: place for place, step_id in enumerate(data.steps)}
        self._going = set(data.steps)
        self._pending = dict.fromkeys(data.asks)
        self._touched: dict[str, int] = {}
        self._listed: list[tuple[str, StepState]] | None = None
        self._apart: bool | None = None
        self._weights: dict[str, int] = {}
        self._naming = Naming(data.id)
        self.settled = True
        self.shown: Any = None
        self.stopped: list[tuple[Instance, int]] = []
        self.unchecked: list[Instance] = []
        self.checked: list[Instance] = []
        self.carried: dict[str, str] = {}
        self.decoded: dict[Any, Any] = {}
        self.bodies: dict[str, bytes] = {}
        self.full: dict[str, None] = {}
        self.orders: dict[Any, Any] = {}
        self.quotas: dict[str, Any] = {}
        self.retries: list[tuple[int, str, int]] | None = None
        self.undone: dict[str, int] | None = None
        self.wakes: tuple[int, int | None] | None = None
        self.at = 0

    @property
    def queued(self) -> RunQueued:
        """Give the event that made the run."""
        assert self.data.queued is not None, "the run has no events yet"
        return self.data.queued

    @property
    def exists(self) -> bool:
        """Tell whether the run has any event."""
        return self.data.queued is not None

    @property
    def final(self) -> bool:
        """Tell whether the run is over."""
        return self.data.status in RUN_FINAL

    @property
    def finished(self) -> bool:
        """Tell whether the run is over and everybody knows: nobody is asked or told anything any more."""
        data = self.data
        if not self.final or data.children or data.watches or (self.queued.parent is not None and not data.reported):
            return False
        return not self.asked()

    @property
    def apart(self) -> bool:
        """Tell whether the run has to do with its workers and with people alone: with no keys, children or other runs."""
        if self._apart is None:
            data = self.data
            others = data.permits or data.children or data.watches or data.limited or data.signals
            self._apart = not (others or self.queued.parent or self.graph.waits or self.graph.plan.concurrency)
        return self._apart

    @property
    def halted(self) -> bool:
        """Tell whether nothing new may begin: the run is over, failing, being undone, or asked to cancel."""
        data = self.data
        return self.final or data.failed_step is not None or data.cancel is not None or data.undo is not None

    def stands(self, step_id: str) -> bool:
        """Tell whether a step that is under way may go on, be tried again and act: what undoes others may to the end."""
        return not self.final and (not self.halted or bool(self.graph.index[step_id].compensates))

    @property
    def resting(self) -> bool:
        """Tell whether nothing may begin now: the run is halted, or paused."""
        return self.halted or self.data.paused is not None

    def goes_on(self, instance: Instance) -> bool:
        """Tell whether the run goes on when an instance fails: its step says so, or of a map's items that they are collected."""
        step_id, index = instance
        step = self.graph.index[step_id]
        return step.on_error == "continue" or (index is not None and step.on_item_error == "collect")

    def peek(self, step_id: str) -> StepState:
        """Give a step's state to read; one that has not begun is pending, and is not remembered for being read."""
        return self.data.steps.get(step_id) or StepState()

    def step(self, step_id: str) -> StepState:
        """Give a step's state to change it: for `evolve` alone."""
        known = self.data.steps.get(step_id)
        if known is None:
            known = self.data.steps[step_id] = StepState()
            self._places[step_id] = len(self._places)
        self._going.add(step_id)
        self._touched.pop(step_id, None)
        self._touched[step_id] = self.data.version
        return known

    def laden(self, name: str, count: int, weight: int) -> None:
        """Note that there is more of what a step leaves, so many in all and so many bytes more: enough makes a piece."""
        weight += self._weights.get(name, 0)
        self._weights[name] = weight
        if count >= self.bounds.items_a_piece or weight >= PIECE_BYTES_MAX:
            self.full[name] = None

    def unladen(self, name: str) -> None:
        """Note that what a step has left is a piece now."""
        self._weights.pop(name, None)
        self.full.pop(name, None)

    def settle(self) -> None:
        """Note that an event is folded in: until the next one nothing changes."""
        self.settled, self._listed, self._apart = True, None, None

    def changed(self, count: int) -> list[str]:
        """Name the steps that the last `count` events changed, those changed last first."""
        before = self.data.version - count
        return list(takewhile(lambda step_id: self._touched[step_id] >= before, reversed(self._touched)))

    def ask(self, ask: Ask) -> None:
        """Keep a question: for `evolve` alone."""
        self.data.asks[ask.approval_id] = ask
        self._pending[ask.approval_id] = None

    def asked(self) -> list[Ask]:
        """Give the questions that nobody has answered, in the order in which they were asked."""
        asks = self.data.asks
        for answered in [known for known in self._pending if asks[known].status != ApprovalStatus.PENDING]:
            del self._pending[answered]
        return [asks[known] for known in self._pending]

    def going(self) -> list[tuple[str, StepState]]:
        """Give the steps that are under way or wait, in the order in which the run first came to them.

        So that a long run costs no more than a short one, a step is looked at again only after it was changed.
        """
        if self._listed is not None and self.settled:
            return self._listed
        steps = self.data.steps
        self._going = {step_id for step_id in self._going if not steps[step_id].settled_down}
        self._listed = [(step_id, steps[step_id]) for step_id in sorted(self._going, key=self._places.__getitem__)]
        return self._listed

    def status_of(self, step_id: str) -> StepStatus:
        """Give a step's status without making a state for it."""
        known = self.data.steps.get(step_id)
        return known.status if known else StepStatus.PENDING

    def over(self, step_id: str) -> bool:
        """Tell whether a step is over."""
        return self.status_of(step_id) in STEP_FINAL

    def trial(self, instance: Instance) -> Try | None:
        """Give the try of an instance that is under way."""
        step_id, index = instance
        known = self.data.steps.get(step_id)
        if known is None:
            return None
        if index is None:
            return known.open
        return known.map.open.get(index) if known.map else None

    def under_way(self) -> list[Instance]:
        """Give every instance that is under way (those that wait for a retry too)."""
        found: list[Instance] = []
        for step_id, known in self.going():
            if known.open is not None:
                found.append((step_id, None))
            elif known.map is not None:
                found.extend((step_id, index) for index in known.map.open)
        return found

    def openable(self, step_id: str) -> bool:
        """Tell whether a worker may be asked to perform a step now."""
        if step_id in self.graph.plain:
            return not self.resting and not self.all_skipped(step_id)
        step = self.graph.index[step_id]
        known = self.peek(step_id)
        return (
            step_id in self.graph.calls
            and (step.when is None or known.go)
            and (not step.confirm or known.confirmed)
            and not self.resting
            and not self.all_skipped(step_id)
            and self.permitted(step_id)
        )

    def permitted(self, step_id: str) -> bool:
        """Tell whether a step's tool may be used now: it needs no approval, or one covers it (its confirmation too).

        What undoes work of this run was permitted with that work: see `Graph.gated`.
        """
        step = self.graph.index[step_id]
        if step.compensates or not self.graph.gated(step_id) or self.data.authorized:
            return True
        if step.confirm and self.peek(step_id).confirmed:
            return True
        asked = (self.data.steps.get(approval) for approval in step.covered_by)  # one that stands is for another run
        return any(each and each.status == StepStatus.SUCCEEDED and not each.reused_from for each in asked)

    def all_skipped(self, step_id: str) -> bool:
        """Tell whether everything a step needs was skipped, so that it is skipped too."""
        needs = self.graph.index[step_id].needs
        skipped = bool(needs) and self.status_of(needs[0]) == StepStatus.SKIPPED
        return skipped and all(self.status_of(need) == StepStatus.SKIPPED for need in needs)

    def label(self, instance: Instance) -> str:
        """Write an instance as people read it, with its round of a loop: `fix#2`, `fix#2[3]`."""
        step_id, index = instance
        known = self.data.steps.get(step_id)
        return ids.instance(step_id, index, known.iteration if known else 0)

    def child_id(self, instance: Instance, attempt: int, at: int) -> str:
        """Give the id of the run that performs an attempt which begins at a time."""
        return self._naming.child(self.label(instance), attempt, at)

    def attempt_id(self, instance: Instance, attempt: int) -> str:
        """Give the id of an attempt: the same parts always give the same id."""
        return self._naming.attempt(self.label(instance), attempt)
