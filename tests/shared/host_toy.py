"""A toy room (a counter that can dispatch, tell, wait and go on by itself) and a small world to run hosts in."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from headrace import codec, ids
from headrace.bus.memory import MemoryBus
from headrace.bus.memory_broker import MemoryBroker
from headrace.bus.port import Delivery
from headrace.codec import Raw
from headrace.decider import Context, Dispatch, Effect, Rejection, Row, Stop, Tell
from headrace.envelope import Message
from headrace.errors import ConflictError
from headrace.events.base import Actor, Event
from headrace.events.runs import MapStarted, StepSkipped, StepSucceeded, TimerStarted
from headrace.host.library import CachedLibrary
from headrace.host.owner import OwnerHost
from headrace.keys import COMMANDS, OWNERS, POOL, Keys
from headrace.log.memory import MemoryLog
from headrace.messages import (
    Advance,
    Answer,
    ClaimWrite,
    Command,
    LoseAttempt,
    ReportAttempt,
    Told,
    Wake,
)
from headrace.testing import virtual
from headrace.testing.cut import CutLog
from headrace.testing.virtual import VirtualClock
from headrace.vocabulary import LOG_RUNS
from headrace.wire import Beat, ClaimGrant, Holding, Interrupt, WorkOrder

KEYS = Keys(master=b"k" * 32)
ANNA = Actor(id="tok_anna", name="anna")
POOL_NAME = "runner"


class Add(Message, frozen=True, kw_only=True, tag="add"):
    amount: int = 1
    orders: int = 0
    tell: str | None = None
    wait_ms: int | None = None
    spread: int = 0
    body: str | None = None
    boom: str = ""
    nul: bool = False
    stop: str | None = None


ToyCommand = Add | Wake | Advance | ReportAttempt | ClaimWrite | LoseAttempt
_commands = msgspec.json.Decoder(ToyCommand)


@dataclass
class Counter:
    id: str
    workspace: str
    total: int = 0
    todo: int = 0
    due_at: int | None = None
    wakes: int = 0
    under_way: dict[str, WorkOrder] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    untold: str | None = None


def order(stream_id: str, workspace: str, number: int, pool: str = POOL_NAME) -> WorkOrder:
    return WorkOrder(
        attempt_id=ids.derive(ids.ATTEMPT, 0, 0, stream_id, str(number)),
        run_id=stream_id,
        step=f"s{number}",
        attempt=1,
        workspace=workspace,
        kind="tool",
        tool="t",
        pool=pool,
        arguments=Raw(b"{}"),
        arguments_digest=codec.sha256(b"{}"),
        plan_digest="",
        manifest_digest="",
        effect="read",
        idempotency_key="",
        timeout_s=30,
    )


class Toy:
    log = LOG_RUNS
    format = 1
    fingerprint = "toy"

    def __init__(self, library: CachedLibrary | None = None) -> None:
        self.library = library or CachedLibrary()

    def initial(self, stream_id: str, workspace: str) -> Counter:
        return Counter(stream_id, workspace)

    def exists(self, state: Counter) -> bool:
        return state.total > 0

    def read_command(self, data: Raw | bytes) -> ToyCommand:
        command: ToyCommand = _commands.decode(data)
        return command

    def decide(self, state: Counter, command: ToyCommand, context: Context) -> Sequence[Event] | Rejection:
        match command:
            case Add(amount=amount) if amount <= 0:
                return Rejection(ConflictError("only more than nothing can be added"))
            case Add(boom="decide"):
                message = "a mistake in decide"
                raise RuntimeError(message)
            case Add():
                return self._added(command, context)
            case Advance():
                count = min(state.todo, 100)
                return [StepSkipped(step="spread", reason=str(number)) for number in range(count)]
            case Wake() if state.due_at is not None and state.due_at <= context.now:
                return [StepSucceeded(step="woken")]
            case Wake():
                return []
            case ReportAttempt(attempt_id=attempt_id):
                if attempt_id not in state.under_way:
                    return []
                return [StepSucceeded(step="done", attempt_id=attempt_id)]
            case LoseAttempt(attempt_id=attempt_id, worker=worker):
                return [StepSkipped(step="lost", reason=f"{attempt_id} {worker}")]
            case ClaimWrite(nonce=nonce):
                if nonce == "bad":
                    return Rejection(ConflictError("claimed by another"))
                return [StepSucceeded(step="claimed")]

    def _added(self, command: Add, context: Context) -> Sequence[Event]:
        if command.body is not None:
            self.library.body(command.body)
        output = {**msgspec.to_builtins(command), "at": context.now}
        events: list[Event] = [StepSucceeded(step="added", output=codec.raw(output))]
        if command.nul:
            events[0] = StepSucceeded(step="added", output=Raw(b"{not json"))
        if command.spread:
            events.append(MapStarted(step="spread", count=command.spread))
        if command.wait_ms is not None:
            events.append(TimerStarted(step="timer", due_at=context.now + command.wait_ms))
        return events

    def evolve(self, state: Counter, event: Event, at: int) -> Counter:
        match event:
            case StepSucceeded(step="added", output=output):
                known = codec.loads(output)
                if known.get("boom") == "evolve":
                    message = "a mistake in evolve"
                    raise RuntimeError(message)
                for number in range(known.get("orders", 0)):
                    made = order(state.id, state.workspace, state.total * 1000 + number)
                    state.under_way[made.attempt_id] = made
                state.total += known.get("amount", 1)
                state.untold = known.get("tell")
            case StepSucceeded(step="done", attempt_id=attempt_id) if attempt_id is not None:
                state.under_way.pop(attempt_id, None)
                state.done.append(attempt_id)
            case StepSucceeded(step="woken"):
                state.due_at, state.wakes = None, state.wakes + 1
            case MapStarted(count=count):
                state.todo += count
            case StepSkipped(step="spread"):
                state.todo -= 1
            case StepSkipped(step="lost", reason=reason):
                state.lost.append(reason)
                state.under_way.pop(reason.split()[0], None)
            case TimerStarted(due_at=due_at):
                state.due_at = due_at
            case _:
                pass
        return state

    def react(self, state: Counter, event: Event) -> Iterable[Effect]:
        if isinstance(event, StepSucceeded) and event.step == "added":
            known = codec.loads(event.output)
            yield from (Dispatch(made) for made in list(state.under_way.values()))
            if known.get("tell"):
                yield Tell(LOG_RUNS, known["tell"], Add(amount=10), state.workspace)
            if known.get("stop"):
                yield Stop(Interrupt(attempt_id=known["stop"], reason="no more"), POOL_NAME)

    def receipts(self, state: Counter, command: ToyCommand, context: Context) -> Iterable[Effect]:
        if isinstance(command, Wake) and state.untold:
            yield Tell(LOG_RUNS, state.untold, Add(amount=10), state.workspace)

    def outstanding(self, state: Counter, now: int) -> Iterable[Effect]:
        return [Dispatch(made) for made in state.under_way.values()]

    def explain(self, state: Counter) -> Sequence[Any]:
        return ()

    def wake_at(self, state: Counter) -> int | None:
        return state.due_at

    def finished(self, state: Counter) -> bool:
        return False

    def rows(self, state: Counter, events: Sequence[Event] | None) -> Iterable[Row]:
        busy = bool(state.under_way) or state.todo > 0
        columns = {
            "id": state.id,
            "workspace": state.workspace,
            "partition": ids.partition_of(state.id),
            "wake_at": state.due_at,
            "busy": busy,
            "steps_total": state.total,
        }
        return [Row("runs", columns)]

    def attachments(self, command: ToyCommand) -> Mapping[str, bytes]:
        return {}

    def answer(self, state: Counter, command: ToyCommand) -> object:
        if isinstance(command, ClaimWrite):
            return ClaimGrant(granted=True, nonce=command.nonce, expires_at=1)
        return {"id": state.id, "total": state.total, "todo": state.todo}

    def snapshot(self, state: Counter) -> bytes:
        return msgspec.json.encode(state)

    def restore(self, data: bytes) -> Counter:
        return msgspec.json.decode(data, type=Counter)


class World:
    """A log, a broker, and hosts of the toy room that can be killed."""

    def __init__(self, partitions: int = 2) -> None:
        self.clock = VirtualClock()
        self.partitions = partitions
        self.log = MemoryLog(self.clock, partitions={LOG_RUNS: partitions})
        self.broker = MemoryBroker()
        self.bus = MemoryBus(self.clock, self.broker)
        self.make_bus: type[MemoryBus] = MemoryBus
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.buses: dict[str, MemoryBus] = {}
        self.logs: dict[str, CutLog] = {}
        self.group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self.group.__aenter__()
        return self

    async def __aexit__(self, *problem: object) -> None:
        for task in self.tasks.values():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.group.__aexit__(*problem)  # type: ignore[arg-type]  # as they came

    async def host(self, name: str = "a", *, ready: bool = True, **options: Any) -> OwnerHost:
        bus = self.buses[name] = self.make_bus(self.clock, self.broker)
        self.logs[name] = CutLog(self.log)
        library = CachedLibrary()
        host = OwnerHost(
            self.logs[name],
            bus,
            clock=options.pop("clock", self.clock),
            keys=KEYS,
            rooms=[options.pop("room", None) or Toy(library)],
            owner_id=name,
            library=library,
            **options,
        )
        self.tasks[name] = self.group.create_task(host.run())
        if ready:
            await until(lambda: host.ready and bool(list(host.tenures)))
        return host

    def kill(self, name: str) -> None:
        """Let a host vanish: the bus hears nothing of it any more, and it does not say goodbye."""
        self.buses[name].disconnect()
        self.logs[name].cut = True
        self.tasks.pop(name).cancel()

    def stream(self, number: int, partition: int | None = None) -> str:
        place = number % self.partitions if partition is None else partition
        return ids.derive(ids.RUN, self.clock.now_ms(), place, "toy", str(number))

    async def ask(
        self,
        command: Message,
        *,
        stream: str | None = None,
        partition: int = 0,
        key: str | None = None,
        workspace: str = "default",
        timeout_s: float = 30,
    ) -> Answer:
        body = Command(body=codec.raw(command), actor=ANNA, workspace=workspace, stream_id=stream, key=key)
        place = ids.partition_of(stream) if stream else partition
        data = KEYS.pack(COMMANDS, codec.encode(body))
        answer = await self.bus.command(LOG_RUNS, place, data, timeout_s=timeout_s)
        return msgspec.json.decode(answer, type=Answer)

    async def tell(self, stream: str, command: Message, *, label: str = OWNERS, keys: Keys = KEYS) -> None:
        told = Told(stream_id=stream, body=codec.raw(command), workspace="default")
        await self.bus.tell(LOG_RUNS, ids.partition_of(stream), keys.pack(label, codec.encode(told)))

    async def total(self, stream: str) -> int:
        row = await self.log.row("runs", {"id": stream})
        return row["steps_total"] if row else 0


class Worker:
    """A worker of the toy world: takes orders, says what it holds, reports when told to."""

    def __init__(self, world: World, name: str = "wrk_1", pool: str = POOL_NAME) -> None:
        self.world = world
        self.name = name
        self.pool = pool
        self.orders: list[WorkOrder] = []
        self.controls: list[Any] = []
        self.holding: dict[str, WorkOrder] = {}
        self.silent = False

    async def begin(self, slots: int = 1_000) -> "Worker":
        source = await self.world.bus.open_work(self.pool, self._take)
        await self.world.bus.open_control(self._hear)
        source.want(slots)
        self.world.tasks[self.name] = self.world.group.create_task(self._beat())
        return self

    def _take(self, delivery: Delivery) -> None:
        _, body = KEYS.unpack(delivery.data)
        taken = msgspec.json.decode(body, type=WorkOrder)
        self.orders.append(taken)
        self.holding[taken.attempt_id] = taken

    def _hear(self, data: bytes) -> None:
        label, body = KEYS.unpack(data)
        if label == POOL + self.pool:
            known = codec.loads(body)
            self.controls.append(known)
            if known["type"] == "beat_now":
                self.say()

    async def _beat(self) -> None:
        while True:
            self.say()
            await asyncio.sleep(2)

    def say(self) -> None:
        if self.silent:
            return
        holding = tuple(Holding(attempt_id=key, tool="t", since=0) for key in self.holding)
        beat = Beat(worker=self.name, service="toy", host="h", pools=(self.pool,), slots=4, holding=holding)
        self.world.bus.publish_presence(KEYS.pack(POOL + self.pool, codec.encode(beat)))

    async def report(self, taken: WorkOrder) -> None:
        self.holding.pop(taken.attempt_id, None)
        report = ReportAttempt(
            run_id=taken.run_id,
            step=taken.step,
            attempt=1,
            attempt_id=taken.attempt_id,
            status="succeeded",
            worker=self.name,
        )
        await self.world.tell(taken.run_id, report, label=POOL + self.pool)


async def until(holds: Callable[[], bool | Awaitable[bool]], seconds: float = 60) -> None:
    """Wait, in virtual time, until something holds."""
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)


def on_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on a virtual loop."""

    @functools.wraps(test)
    def run(*args: Any, **given: Any) -> None:
        virtual.run(test(*args, **given))

    return run
