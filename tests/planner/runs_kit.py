"""A run, driven by hand: commands in, events and effects out, and after every command the fold from zero must agree."""

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace import codec, ids
from headrace.decider import AnyRow, Context, Dispatch, Effect, Keep, Laid, MissingError, Rejection, Stop, Tell, Unchain
from headrace.events.base import SYSTEM, Actor, ErrorInfo
from headrace.events.runs import RunEvent
from headrace.log.tables import TABLES
from headrace.messages import Advance, ClaimWrite, CreateRun, LoseAttempt, ReportAttempt, ResolveApproval, RunCommand
from headrace.plans import model
from headrace.plans.model import CallStep, Plan, PlanStep, StepBody, ToolPin
from headrace.wire import WorkOrder
from headrace_planner.runs.room import RunRoom
from headrace_planner.runs.state import Run

ANN = Actor(id="tok_ann", name="ann", roles=("operator",))
BOB = Actor(id="tok_bob", name="bob", roles=("approver",))
START = 1_790_000_000_000
READ = ToolPin(version="1", digest="sha256:r", effect="read", access="auto", pool="runner", idempotent=True)
WRITE = ToolPin(version="1", digest="sha256:w", effect="write", access="gated", pool="runner", idempotent=False)
GATE = ToolPin(version="1", digest="sha256:g", effect="read", access="auto", pool="gates", idempotent=True, kind="gate")
CHECKS_A_FOLD = 100
"""Every command is checked; of a long run's reports, one after each hundredth of its history, or the work is squared."""
PINS = {"read": READ, "write": WRITE, "gate.expression": GATE, "gate.metric_threshold": GATE}


def call(
    step_id: str, *needs: str, tool: str = "read", arguments: dict[str, Any] | None = None, **more: Any
) -> PlanStep:
    return step(step_id, CallStep(tool=tool, arguments=arguments or {}), *needs, kind="tool", **more)


def step(step_id: str, body: StepBody, *needs: str, kind: str = "", **more: Any) -> PlanStep:
    kind = kind or str(type(body).__struct_config__.tag)
    return PlanStep(id=step_id, kind=kind, body=body, needs=needs, **more)


def plan(*steps: PlanStep, **more: Any) -> Plan:
    return Plan(name="demo", kind="Workflow", steps=steps, tools=PINS, **more)


class Shelf:
    """A library on a shelf; `missing` hides a body until somebody fetches it."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.missing: set[str] = set()

    def body(self, digest: str) -> bytes:
        if digest in self.missing:
            raise MissingError([digest])
        return self.bodies[digest]


class Sim:
    """One run."""

    def __init__(self, the_plan: Plan, *, now: int = START, workspace: str = "default") -> None:
        self.shelf = Shelf()
        self.digest = model.digest(the_plan)
        self.shelf.bodies[self.digest] = model.canonical(the_plan)
        self.room = RunRoom(self.shelf)
        self.id = ids.make(ids.RUN, START, b"0123456789", 3)
        self.now = now
        self.workspace = workspace
        self.run: Run = self.room.initial(self.id, workspace)
        self.history: list[tuple[RunEvent, int]] = []
        self.orders: dict[str, WorkOrder] = {}
        self.dispatched: list[Dispatch] = []
        self.told: list[Tell] = []
        self.every: list[Tell] = []
        self.stopped: list[Stop] = []
        self.unchained: list[Unchain] = []
        self.last: Sequence[RunEvent] | Rejection = ()
        self.kept: dict[tuple[str, Any], AnyRow] = {}
        self._kept_events = 0
        self._checked_events = 0

    def create(self, inputs: dict[str, Any] | None = None, **more: Any) -> "Sim":
        by = SYSTEM if more.get("parent") else ANN
        return self.do(CreateRun(plan_digest=self.digest, inputs=codec.raw(inputs or {}), **more), by=by)

    def do(self, command: RunCommand, *, by: Actor = ANN) -> "Sim":
        context = Context(now=self.now, stream_id=self.id, workspace=self.workspace, actor=by)
        made: list[RunEvent] = []
        left: list[RunCommand] = [command, *command.then] if isinstance(command, ReportAttempt) else [command]
        first = True
        while left:
            decided, count = self._decide(left, context)
            if isinstance(decided, Rejection):
                if first:
                    self.last = decided
                break
            made.extend(self._take(decided))
            self._keep(self.room.receipts(self.run, left[count - 1], context))
            left, first = left[count:], False
        if not first:
            while self.room.exists(self.run):
                more = self.room.decide(self.run, Advance(), context)
                assert not isinstance(more, Rejection)
                self._keep(self.room.receipts(self.run, Advance(), context))
                if not more:
                    break
                made.extend(self._take(more))
            self.last = made
        new = len(self.history) - self._checked_events
        if not isinstance(command, ReportAttempt) or new >= len(self.history) // CHECKS_A_FOLD:
            self.check()
        return self

    def _decide(self, left: list[RunCommand], context: Context) -> tuple[Sequence[RunEvent] | Rejection, int]:
        """Decide as the host does: of the results of a chain as many together as the room can."""
        reports = [command for command in left if isinstance(command, ReportAttempt)]
        events, count = self.room.together(self.run, reports, context) if len(reports) > 1 else ((), 0)
        return (events, count) if count else (self.room.decide(self.run, left[0], context), 1)

    def _take(self, events: Sequence[RunEvent]) -> Sequence[RunEvent]:
        for event in events:
            self.run = self.room.evolve(self.run, event, self.now)
            self.history.append((event, self.now))
            self._keep(self.room.react(self.run, event))
        return events

    def _keep(self, effects: Any) -> None:
        effect: Effect
        for effect in effects:
            match effect:
                case Dispatch(order=order):
                    self.dispatched.append(effect)
                    self.orders[ids.instance(order.step, order.index)] = order
                case Tell():
                    self.told.append(effect)
                    self.every.append(effect)
                case Stop():
                    self.stopped.append(effect)
                case Unchain():
                    self.unchained.append(effect)
                case Keep(bodies=bodies):
                    self.shelf.bodies |= bodies

    def check(self) -> None:
        """What is remembered follows from the events alone, and so do the rows and a snapshot brought back."""
        self._checked_events = len(self.history)
        again = self.room.initial(self.id, self.workspace)
        for event, at in self.history:
            again = self.room.evolve(again, event, at)
        assert self.room.snapshot(again) == self.room.snapshot(self.run)
        if self.room.exists(self.run):
            assert list(self.room.rows(again, None)) == list(self.room.rows(self.run, None))
            self._keep_rows()
            assert self.kept == {_key(row): row for row in self.room.rows(again, None)}
            restored = self.room.restore(self.room.snapshot(self.run))
            assert self.room.snapshot(restored) == self.room.snapshot(self.run)

    def _keep_rows(self) -> None:
        """Write the rows as the host does: those that the newest events changed."""
        new = [event for event, _ in self.history[self._kept_events :]]
        self._kept_events = len(self.history)
        if new:
            for row in self.room.rows(self.run, new):
                self.kept[_key(row)] = _kept(row, self.kept.get(_key(row)))

    def later(self, seconds: float) -> "Sim":
        self.now += int(seconds * 1000)
        return self

    def report(self, instance: str, output: Any = None, **more: Any) -> "Sim":
        return self.do(self.word(instance, output, **more))

    def word(self, instance: str, output: Any = None, **more: Any) -> ReportAttempt:
        """Give what a worker says of an attempt."""
        order = self.orders[instance]
        return ReportAttempt(
            run_id=self.id,
            step=order.step,
            index=order.index,
            attempt=order.attempt,
            attempt_id=order.attempt_id,
            status=more.pop("status", "succeeded"),
            worker=more.pop("worker", "wrk_1"),
            output=codec.raw(output),
            started_at=more.pop("started_at", self.now),
            finished_at=self.now,
            **more,
        )

    def together(self, *words: ReportAttempt) -> int:
        """Let results come together, as the owner host does; gives how many of them became one event."""
        context = Context(now=self.now, stream_id=self.id, workspace=self.workspace)
        events, count = self.room.together(self.run, words, context)
        self._take(events)
        self.do(Advance())
        return count

    def fail(self, instance: str, message: str = "broken", type: str = "tool_error", **more: Any) -> "Sim":
        return self.report(
            instance, status=more.pop("status", "failed"), error=ErrorInfo(type=type, message=message), **more
        )

    def claim(self, instance: str, *, nonce: str = "n1", **more: Any) -> "Sim":
        order = self.orders[instance]
        return self.do(
            ClaimWrite(
                run_id=self.id,
                step=order.step,
                index=order.index,
                attempt=order.attempt,
                attempt_id=order.attempt_id,
                nonce=nonce,
                arguments_digest=more.pop("arguments_digest", order.arguments_digest),
                worker="wrk_1",
            )
        )

    def lose(self, instance: str) -> "Sim":
        """The owner finds that the worker of an attempt is dead."""
        order = self.orders[instance]
        return self.do(
            LoseAttempt(
                step=order.step, index=order.index, attempt=order.attempt, attempt_id=order.attempt_id, worker="wrk_1"
            )
        )

    def resolve(self, status: str = "approved", *, step: str | None = None, by: Actor = BOB, reason: str = "") -> "Sim":
        asked = [ask for ask in self.run.data.asks.values() if step is None or ask.step == step]
        ask = next((ask for ask in asked if ask.status == "pending"), asked[0])
        return self.do(
            ResolveApproval(
                approval_id=ask.approval_id, step=ask.step, status=status, digest=ask.digest, by=(by,), reason=reason
            )
        )

    @property
    def status(self) -> str:
        return str(self.run.data.status)

    @property
    def names(self) -> list[str]:
        return [event.type_name() for event, _ in self.history]

    def made(self) -> list[str]:
        assert not isinstance(self.last, Rejection), self.last
        return [event.type_name() for event in self.last]

    def refused(self) -> str:
        assert isinstance(self.last, Rejection), self.last
        return self.last.error.message

    def row(self, table: str = "runs", **where: Any) -> dict[str, Any]:
        for row in self.room.rows(self.run, None):
            if row.table == table and all(row.columns[name] == value for name, value in where.items()):
                return row.columns
        missing = f"no row of {table} with {where}"
        raise AssertionError(missing)

    def step_status(self, step_id: str) -> str:
        return str(self.run.status_of(step_id))

    def output(self, step_id: str) -> Any:
        return codec.loads(self.run.peek(step_id).output)

    def why(self) -> str:
        error = self.run.data.error
        assert error is not None
        return error.message


def evidence_of(order: WorkOrder, claimed_at: int) -> dict[str, Any]:
    """Give what a person is shown of the first claim of the step `w`, of whose outcome nobody knows."""
    return {
        "step": "w",
        "attempt": 1,
        "attempt_id": order.attempt_id,
        "worker": "wrk_1",
        "claimed_at": claimed_at,
        "arguments_digest": order.arguments_digest,
        "nonce": "n1",
        "idempotency_key": order.idempotency_key,
    }


def _key(row: AnyRow) -> tuple[str, Any]:
    return row.table, row.columns["step" if row.table == "steps" else "id"]


def _kept(row: AnyRow, before: AnyRow | None) -> AnyRow:
    """Give the row that a log keeps: of one that stands only what its table says moves."""
    if not isinstance(row, Laid) or not row.stands:
        return row
    assert isinstance(before, Laid), "it stands"
    moving = TABLES[row.table].moving
    pairs = zip(row.kinds, row.values, before.values, strict=True)
    values = tuple(new if name in moving else old for name, new, old in pairs)
    return msgspec.structs.replace(row, values=values, stands=False)
