"""The engine: all of headrace in one process and in virtual time, over log and bus in memory.

    async def story() -> None:
        async with Engine(tools=[Greet()]) as engine:
            run = await engine.run({"apiVersion": "headrace/v1", "kind": "Workflow", …})
            assert (await engine.wait(run, "succeeded")).outputs == {…}

    headrace.testing.virtual.run(story())

Rooms, preparers and tools are those of the installed services, found by entry points; only log, bus and clock are twins.
A workflow with a day-long timer and an approval runs in milliseconds: `advance` lets the calendar go on.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from headrace import codec, ids, service
from headrace.bus.memory import MemoryBus
from headrace.bus.memory_broker import MemoryBroker
from headrace.config import Config
from headrace.errors import NotFoundError, UnavailableError, from_envelope
from headrace.events.base import Actor, Event
from headrace.events.registry import decode
from headrace.host.library import CachedLibrary
from headrace.host.owner import OwnerHost
from headrace.host.presence import Presence
from headrace.keys import COMMANDS, Keys
from headrace.log.memory import MemoryLog
from headrace.messages import (
    Answer,
    ApplyWorkflow,
    CancelRun,
    Command,
    CreateRun,
    DecideApproval,
    Message,
    RecordPlan,
    StartRun,
)
from headrace.testing.cut import CutLog
from headrace.testing.views import RunView, run_view
from headrace.testing.virtual import VirtualClock
from headrace.vocabulary import (
    LOG_APPROVALS,
    LOG_CATALOGUE,
    LOG_PARTITIONS,
    LOG_RUNS,
    RUN_FINAL,
    WORKSPACE_DEFAULT,
    Role,
)
from headrace.worker.registry import Registry
from headrace.worker.service import make_worker

OPERATOR: Final = Actor(id="tok_operator", name="operator", roles=(Role.OPERATOR,))
APPROVER: Final = Actor(id="tok_approver", name="approver", roles=(Role.APPROVER,))
ADMIN: Final = Actor(id="tok_admin", name="admin", roles=(Role.ADMIN,))
OWNERS: Final = ("planner", "gatekeeper")
WORKERS: Final = ("runner", "gatekeeper", "integrations")
ASK_S: Final = 30.0
WAIT_S: Final = 120.0
APPROVAL_S: Final = 3_600.0
LOOK_S: Final = 0.02
STEPS_MAX: Final = 1_000
EVENTS_MAX: Final = 100_000


class LogBlobs:
    """Bodies of workers, straight in the engine's log."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def put(self, body: bytes, token: str) -> str:
        """Keep a body and give its digest."""
        digest = codec.sha256(body)
        await self._log.put_blob(digest, body)
        return digest

    async def get(self, digest: str, token: str) -> bytes:
        """Give a body; raises NotFoundError."""
        found = await self._log.get_blobs([digest])
        if digest not in found:
            message = f"there is no body {digest}"
            raise NotFoundError(message)
        return found[digest]

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class Engine:
    """Headrace in one process. `tools` come beside those of the installed services; `root` is the file root.

    `workers` False starts none until `start_workers`.
    """

    def __init__(
        self, *, root: Path | None = None, tools: Sequence[Any] = (), workers: bool = True, slots: int = 4
    ) -> None:
        self.clock = VirtualClock()
        self.log = MemoryLog(self.clock)
        self.broker = MemoryBroker()
        self.keys = Keys(master=b"a key of the test kit, no secret".ljust(32, b"."))
        self.bus = MemoryBus(self.clock, self.broker)
        self.config = Config(file_root=root or Path(), keys=self.keys, slots=slots, allow_private_addresses=True)
        self.planner: OwnerHost | None = None
        self._tools = list(tools)
        self._workers = workers
        self._group = asyncio.TaskGroup()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reach: dict[str, tuple[MemoryBus, CutLog]] = {}
        self._generation = 0

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        for name in OWNERS:
            self.start_owner(name)
        await self._until(self._owned, "every partition has an owner")
        if self._workers:
            await self.start_workers()
        return self

    async def __aexit__(self, *problem: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await self._group.__aexit__(None, None, None)

    # its parts

    def start_owner(self, name: str) -> OwnerHost:
        """Start a process of the service `planner` or `gatekeeper`, as far as it owns logs."""
        self._generation += 1
        bus, library, presence = MemoryBus(self.clock, self.broker), CachedLibrary(), Presence(self.clock)
        owner, log = service.load(name), CutLog(self.log)
        host = OwnerHost(
            log,
            bus,
            clock=self.clock,
            keys=self.keys,
            rooms=owner.rooms(library),
            preparers=owner.preparers(self.log, clock=self.clock, presence=presence),
            owner_id=f"{name}-{self._generation}",
            library=library,
            presence=presence,
        )
        if name == "planner":
            self.planner = host
        self._tasks[f"{name} owner"] = self._group.create_task(host.run())
        self._reach[name] = (bus, log)
        return host

    async def start_workers(self) -> None:
        """Start a worker of each installed worker service, and one for the tools that were brought along."""
        installed = service.installed()
        for name in (name for name in WORKERS if name in installed):
            found = service.load(name)
            self._start_worker(name, Registry(found.tools(self.config)), found.pools())
        if self._tools:
            self._start_worker("test", Registry(self._tools), ())
        wanted = {tool.name for tool in self._tools}
        await self._until(lambda: self._announced(wanted), "the tools are announced")

    def _start_worker(self, name: str, registry: Registry, pools: Sequence[str]) -> None:
        bus = MemoryBus(self.clock, self.broker)
        worker = make_worker(
            service=name,
            bus=bus,
            clock=self.clock,
            config=self.config,
            registry=registry,
            blobs=LogBlobs(self.log),
            pools=pools,
        )
        self._tasks[f"{name} worker"] = self._group.create_task(worker.run())

    async def kill_planner(self) -> None:
        """Let the planner vanish in the middle of everything, and another process take over when its leases lapse."""
        bus, log = self._reach["planner"]
        bus.disconnect()
        log.cut = True
        self._tasks.pop("planner owner").cancel()
        planner = self.start_owner("planner")
        wanted = LOG_PARTITIONS[LOG_RUNS] + LOG_PARTITIONS[LOG_CATALOGUE]

        async def taken_over() -> bool:
            return planner.ready and len(list(planner.tenures)) == wanted

        await self._until(taken_over, "another planner holds every partition")

    # what people do

    async def apply(self, spec: dict[str, Any] | str, *, actor: Actor = ADMIN) -> dict[str, Any]:
        """Keep a document as the newest version of its name; raises HeadraceError for what is wrong with it."""
        name = _name_of(spec)
        stream = ids.definition("wfl", WORKSPACE_DEFAULT, name)
        return await self.ask(LOG_CATALOGUE, ApplyWorkflow(spec=codec.raw(spec)), stream=stream, actor=actor)

    async def plan(self, spec: dict[str, Any] | str, *, actor: Actor = OPERATOR) -> str:
        """Compile a document, keep its plan, and give the plan's digest."""
        known = await self.ask(LOG_CATALOGUE, RecordPlan(spec=codec.raw(spec)), actor=actor)
        return str(known["digest"])

    async def run(
        self, spec: dict[str, Any] | str, inputs: dict[str, Any] | None = None, *, actor: Actor = OPERATOR
    ) -> RunView:
        """Create a run of a document, or of an applied workflow by its name."""
        if isinstance(spec, str) and "\n" not in spec:
            row = await self.log.row("workflows", {"id": ids.definition("wfl", WORKSPACE_DEFAULT, spec)})
            if row is None:
                message = f"no workflow {spec!r} was applied"
                raise NotFoundError(message)
            command = CreateRun(
                plan_digest=row["plan_digest"], workflow=row["name"], workflow_version=row["version"],
                inputs=codec.raw(inputs or {}),
            )  # fmt: skip
        else:
            command = CreateRun(plan_digest=await self.plan(spec, actor=actor), inputs=codec.raw(inputs or {}))
        known = await self.ask(LOG_RUNS, command, actor=actor)
        return await self.view(known["id"])

    async def wait(self, run: RunView | str, *statuses: str, seconds: float = WAIT_S) -> RunView:
        """Wait in virtual time until a run has a status (any final one by default); tells how it stands if it never has."""
        run_id = run if isinstance(run, str) else run.id
        wanted = set(statuses or RUN_FINAL)
        seen: list[RunView] = []

        async def there() -> bool:
            seen[:] = [await self.view(run_id)]
            if seen[0].status in RUN_FINAL and seen[0].status not in wanted:
                message = f"the run is {seen[0].status}: {seen[0].error_message}"
                raise AssertionError(message)
            return seen[0].status in wanted

        await self._until(there, f"run {run_id} is {' or '.join(sorted(wanted))}", lambda: f": {seen}", seconds)
        return seen[0]

    async def approve(
        self, run: RunView | str, *, actor: Actor = APPROVER, action: str = "approve", digest: str | None = None
    ) -> None:
        """Decide the open approval of a run, on the digest of what it shows (or on `digest`)."""
        run_id = run if isinstance(run, str) else run.id
        found: list[dict[str, Any]] = []

        async def asked() -> bool:
            rows = await self.log.rows("approvals", {"subject": run_id, "status": "pending"})
            found[:] = rows
            return bool(rows)

        await self._until(asked, f"run {run_id} asks for an approval", seconds=APPROVAL_S)
        command = DecideApproval(action=action, digest=digest or found[0]["digest"])
        await self.ask(LOG_APPROVALS, command, stream=found[0]["id"], actor=actor)

    async def start(self, run: RunView, *, actor: Actor = OPERATOR) -> None:
        """Let a run go on that waits for its start."""
        await self.ask(LOG_RUNS, StartRun(), stream=run.id, actor=actor)

    async def cancel(self, run: RunView, reason: str = "", *, actor: Actor = OPERATOR) -> None:
        """Stop a run."""
        await self.ask(LOG_RUNS, CancelRun(reason=reason), stream=run.id, actor=actor)

    async def advance(self, seconds: float) -> None:
        """Let the calendar go on, and what is then due happen."""
        self.clock.leap(seconds)
        assert self.planner is not None, "the engine has begun"
        await asyncio.sleep(self.planner.cadence.refill_s * 2)

    # what people see

    async def view(self, run_id: str) -> RunView:
        """Show a run as its projections say."""
        row = await self.log.row("runs", {"id": run_id})
        if row is None:
            message = f"there is no run {run_id}"
            raise NotFoundError(message)
        steps = await self.log.rows("steps", {"run_id": run_id}, order="ordinal", descending=False, limit=STEPS_MAX)
        return run_view(row, steps)

    async def events(self, run: RunView | str) -> list[Event]:
        """Give all events of a run, in order."""
        run_id = run if isinstance(run, str) else run.id
        found = await self.log.stream(LOG_RUNS, run_id, limit=EVENTS_MAX)
        return [decode(recorded.type, recorded.data) for recorded in found]

    async def ask(
        self,
        log: str,
        command: Message,
        *,
        stream: str | None = None,
        actor: Actor = OPERATOR,
        key: str | None = None,
    ) -> dict[str, Any]:
        """Send a command as the api does and give the answer's body; raises the error that it carries."""
        body = Command(body=codec.raw(command), actor=actor, workspace=WORKSPACE_DEFAULT, stream_id=stream, key=key)
        self._generation += 1
        route = key or str(self._generation)
        parts = LOG_PARTITIONS[log]
        place = ids.partition_for(parts, WORKSPACE_DEFAULT, route) if stream is None else ids.partition_of(stream)
        data = self.keys.pack(COMMANDS, codec.encode(body))
        while True:
            try:
                packed = await self.bus.command(log, place, data, timeout_s=ASK_S)
                break
            except UnavailableError:
                await asyncio.sleep(1)
        answer = msgspec.json.decode(packed, type=Answer)
        if answer.error is not None:
            raise from_envelope(msgspec.to_builtins(answer.error))
        known: dict[str, Any] = codec.loads(answer.body)
        return known

    # inside

    async def _owned(self) -> bool:
        return all(part["owner"] for part in await self.log.partitions()) and bool(
            self.planner is not None and self.planner.ready
        )

    async def _announced(self, wanted: set[str]) -> bool:
        rows = await self.log.rows("tools", {}, limit=STEPS_MAX)
        return wanted <= {row["name"] for row in rows} and bool(rows)

    async def _until(
        self, holds: Callable[[], Any], what: str, seen: Callable[[], str] = str, seconds: float = WAIT_S
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not await holds():  # noqa: ASYNC110  (virtual time: looking again costs nothing)
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            message = f"waited {seconds:.0f} virtual seconds, and never saw that {what}{seen()}"
            raise AssertionError(message) from None


def _name_of(spec: dict[str, Any] | str) -> str:
    if isinstance(spec, str):
        from headrace.specs.documents import read_spec

        spec = read_spec(spec)
    return str((spec.get("metadata") or {}).get("name") or "")
