"""The engine: all of headrace in one process and in virtual time, over log and bus in memory.

    @in_virtual_time
    async def test_a_report_waits_for_somebody(tmp_path: Path) -> None:
        async with Engine(file_root=tmp_path, tools=[send]) as engine:
            run = await engine.run(TEXT, {"who": "Ada"})
            await run.until("waiting")
            await engine.approve(run, "sign_off", as_="bob")
            await engine.pass_time("1d")
            assert await run.result() == {"sent": True}

Rooms, preparers and tools are those of the installed services, found by entry points; only log, bus and clock are twins.
Needs pytest alone: `in_virtual_time` makes a plain synchronous test of an async one, and `headrace.testing.virtual.run`
runs any coroutine. People are known by name: `ann` and `dan` are operators, `bob` and `cleo` approvers, `eve` a viewer,
`root` an admin; `people` adds or changes some. Everything that is refused raises the HeadraceError that the API answers.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from headrace import codec, ids
from headrace.bus.memory import MemoryBus
from headrace.bus.memory_broker import MemoryBroker
from headrace.clock import mint
from headrace.config import Config
from headrace.envelope import Message
from headrace.errors import NotFoundError
from headrace.events.base import Event
from headrace.keys import Keys
from headrace.log.memory import MemoryLog
from headrace.messages import (
    ApplyWorkflow,
    CancelRun,
    CreateRun,
    DecideApproval,
    RecordPlan,
    RequestAuthorization,
    SaveConnection,
    StartRun,
)
from headrace.specs import durations
from headrace.specs.documents import read_spec
from headrace.steering import PauseRun, ResumeRun
from headrace.testing import virtual
from headrace.testing.people import PEOPLE, People
from headrace.testing.processes import PLANNER, REFILL_S, Processes, offering
from headrace.testing.views import WAIT_S, Run, final
from headrace.testing.virtual import VirtualClock
from headrace.vocabulary import (
    LOG_APPROVALS,
    LOG_CATALOGUE,
    LOG_PARTITIONS,
    LOG_RUNS,
    RUN_FINAL,
    WORKSPACE_DEFAULT,
)
from headrace.worker.preconditions import check
from headrace.worker.tool_runner import Precheck

SLOTS: Final = 4
APPROVAL_S: Final = 3_600.0
LOOK_S: Final = 1.0
"""How long at most before a condition is looked at again that no event announced, in virtual seconds."""
SETTLE_S: Final = 2 * REFILL_S
"""What is due after a leap of the calendar has happened after so much virtual time."""
LINES_S: Final = 0.2
"""By then what was printed has arrived."""
DUE_MAX: Final = 1_000
ROWS_MAX: Final = 1_000

Spec = dict[str, Any] | str
"""A document: YAML text, or what it says as a mapping."""


class Engine:
    """Headrace in one process, as an async context manager.

    `tools` are one's own: functions under `@headrace.tool`, Tools, gates; one that bears the name of an installed tool
    stands in for it. `file_root` is the folder that file tools see (an empty temporary one by default). `planners` is
    how many planner processes share the partitions; `workers` False starts none until `start_workers`. `precheck` is
    how preconditions are checked: on the file root by default.
    """

    def __init__(
        self,
        *,
        tools: Sequence[Any] = (),
        file_root: Path | None = None,
        people: Mapping[str, Sequence[str]] | None = None,
        planners: int = 1,
        workers: bool = True,
        slots: int = SLOTS,
        precheck: Precheck = check,
    ) -> None:
        self.clock = VirtualClock()
        self.log = MemoryLog(self.clock)
        self.broker = MemoryBroker()
        self.keys = Keys(master=b"a key of the test kit, no secret".ljust(32, b"."))
        self.bus = MemoryBus(self.clock, self.broker)
        self.people = People(self.bus, self.keys, {**PEOPLE, **(people or {})})
        self._tools, self._planners, self._workers, self._slots = list(tools), planners, workers, slots
        self._file_root, self._precheck = file_root, precheck
        self._stack = contextlib.AsyncExitStack()
        self._moved = asyncio.Event()
        self.processes: Processes

    async def __aenter__(self) -> Self:
        virtual.demand()
        root = self._file_root or Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        config = Config(file_root=root, keys=self.keys, slots=self._slots, allow_private_addresses=True)
        self.processes = Processes(self.log, self.broker, self.clock, config, self._precheck)
        await self.processes.open()
        try:
            for log in LOG_PARTITIONS:
                await self.bus.open_feed(log, lambda _: self._moved.set())
            for name in offering("rooms"):
                for _ in range(self._planners if name == PLANNER else 1):
                    self.processes.start_owner(name)
            await self._until(self._owned, "every partition has an owner")
            if self._workers:
                await self.start_workers()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_problem: object) -> None:
        await self.processes.close()
        await self.bus.close()
        await self._stack.aclose()

    # its processes

    async def start_workers(self) -> None:
        """Start a worker of each installed worker service, and one for one's own tools."""
        self.processes.start_workers(offering("tools"), self._tools)
        await self._until(self._announced, "the tools are announced")

    async def start_planner(self) -> None:
        """Start another planner process, which takes its share of the partitions."""
        self.processes.start_owner(PLANNER)
        await self._until(self._owned, "every partition has an owner")

    async def kill_planner(self) -> None:
        """Let a planner vanish in the middle of everything, as by SIGKILL; another one takes over when leases lapse.

        The oldest one dies. When it was the only one, a new one is started, as a supervisor would.
        """
        oldest, *others = self.processes.planners()
        self.processes.kill(oldest)
        if not others:
            self.processes.start_owner(PLANNER)
        await self._until(self._owned, "another planner holds every partition")

    # what people do

    async def apply(self, spec: Spec, *, as_: str = "ann") -> dict[str, Any]:
        """Keep a document as the newest version of its name; raises ValidationError that lists all its problems."""
        written = read_spec(spec) if isinstance(spec, str) else spec
        name = str((written.get("metadata") or {}).get("name") or "")
        stream = ids.definition(ids.WORKFLOW, WORKSPACE_DEFAULT, name)
        return await self.ask(LOG_CATALOGUE, ApplyWorkflow(spec=codec.raw(spec)), stream=stream, as_=as_)

    async def plan(self, spec: Spec, *, as_: str = "ann") -> str:
        """Compile a document, keep its plan, and give the plan's digest; raises ValidationError listing all problems."""
        known = await self.ask(LOG_CATALOGUE, RecordPlan(spec=codec.raw(spec)), as_=as_)
        return str(known["digest"])

    async def run(
        self, spec: Spec, inputs: dict[str, Any] | None = None, *, as_: str = "ann", key: str | None = None
    ) -> Run:
        """Create a run of a document, or of an applied workflow by its name. The same `key` meets the same run."""
        given = codec.raw(inputs or {})
        if isinstance(spec, str) and "\n" not in spec:
            row = await self.log.row("workflows", {"id": ids.definition(ids.WORKFLOW, WORKSPACE_DEFAULT, spec)})
            if row is None:
                message = f"no workflow {spec!r} was applied"
                raise NotFoundError(message)
            command = CreateRun(
                plan_digest=row["plan_digest"], workflow=row["name"], workflow_version=row["version"], inputs=given
            )
        else:
            command = CreateRun(plan_digest=await self.plan(spec, as_=as_), inputs=given)
        known = await self.ask(LOG_RUNS, command, as_=as_, key=key)
        return Run(self, known["id"])

    async def wait(self, run: Run | str, *statuses: str, seconds: float = WAIT_S) -> Run:
        """Wait until a run has one of the statuses; as `Run.until` says."""
        known, wanted = run if isinstance(run, Run) else Run(self, run), final(statuses)

        async def there() -> bool:
            status = known.status
            if status in RUN_FINAL and status not in wanted:
                message = f"the run never became {' or '.join(sorted(wanted))}: {known!r}"
                raise AssertionError(message)
            return status in wanted

        await self._until(there, f"the run is {' or '.join(sorted(wanted))}", lambda: f": {known!r}", seconds)
        return known

    async def approve(
        self, of: Run | str, step: str | None = None, *, as_: str = "bob", reason: str = "", digest: str | None = None
    ) -> None:
        """Agree to what a run, a plan (by its digest) or an approval (by its id) asks for; waits until it is asked.

        `step` says which of a run's approvals. What is agreed to is what is shown, or what `digest` names.
        """
        await self._decide("approve", of, step, as_, reason, digest)

    async def reject(
        self, of: Run | str, step: str | None = None, *, as_: str = "bob", reason: str = "", digest: str | None = None
    ) -> None:
        """Refuse what is asked for; otherwise as `approve`."""
        await self._decide("reject", of, step, as_, reason, digest)

    async def authorize(self, spec: Spec, *, as_: str = "ann", by: str | None = "bob") -> str:
        """Ask that every run of a document's plan be allowed, and let `by` agree; gives the plan's digest."""
        digest = await self.plan(spec, as_=as_)
        stream = ids.definition(ids.PLAN, WORKSPACE_DEFAULT, digest)
        await self.ask(LOG_CATALOGUE, RequestAuthorization(), stream=stream, as_=as_)
        if by is not None:
            await self.approve(digest, as_=by)

            async def known() -> bool:
                row = await self.log.row("plans", {"id": stream})
                return row is not None and row["authorization"] == "approved"

            await self._until(known, "the plan is authorised")
        return digest

    async def connect(
        self, integration: str, settings: dict[str, Any] | None = None, secrets: dict[str, str] | None = None
    ) -> None:
        """Connect an integration; secrets are references such as `env:TOKEN`."""
        command = SaveConnection(
            name=integration, integration=integration, settings=settings or {}, secrets=secrets or {}
        )
        await self.ask(
            LOG_CATALOGUE, command, stream=ids.definition(ids.CONNECTION, WORKSPACE_DEFAULT, integration), as_="root"
        )

    async def start(self, run: Run, *, as_: str = "ann") -> None:
        """Let a run go on that waits for its start."""
        await self.ask(LOG_RUNS, StartRun(), stream=run.id, as_=as_)

    async def cancel(self, run: Run, reason: str = "", *, as_: str = "ann") -> None:
        """Stop a run."""
        await self.ask(LOG_RUNS, CancelRun(reason=reason), stream=run.id, as_=as_)

    async def pause(self, run: Run, reason: str = "", *, as_: str = "ann") -> None:
        """Let nothing new begin in a run."""
        await self.ask(LOG_RUNS, PauseRun(reason=reason), stream=run.id, as_=as_)

    async def resume(self, run: Run, *, as_: str = "ann") -> None:
        """Let a paused run go on."""
        await self.ask(LOG_RUNS, ResumeRun(), stream=run.id, as_=as_)

    async def rerun(self, run: Run, step: str, inputs: dict[str, Any] | None = None, *, as_: str = "ann") -> Run:
        """Run a finished run again from a step, as a new run; `inputs` are those that differ."""
        row = run.row
        command = CreateRun(
            plan_digest=row["plan_digest"],
            inputs=codec.raw({**(row["detail"]["inputs"] or {}), **(inputs or {})}),
            attempt=row["attempt"] + 1,
            retry_of=run.id,
            rerun_from=step,
        )
        return Run(self, (await self.ask(LOG_RUNS, command, as_=as_))["id"])

    async def trigger(self, name: str, data: Any, *, message_id: str | None = None) -> list[Run]:
        """Publish a trigger event, as any NATS client may, and give the runs that it started (or has started before).

        `data` is sent as JSON, bytes as they are. An event without `message_id` gets one of its own.
        """
        identity = message_id or mint(self.clock, ids.REQUEST)
        body = data if isinstance(data, bytes) else codec.dumps(data)
        await self.bus.publish_trigger(name, body, message_id=identity)
        await asyncio.sleep(SETTLE_S)
        rows = await self.log.rows("runs", {"workspace": WORKSPACE_DEFAULT}, limit=ROWS_MAX, descending=False)
        return [Run(self, row["id"]) for row in rows if (row["labels"] or {}).get("trigger_id") == identity]

    async def pass_time(self, duration: str | float) -> None:
        """Let time go by (`1d`, `90s`, or seconds), and everything happen that is due until then.

        While nothing is performed the calendar leaps from one due time to the next, so that a year costs no more than
        what happens in it.
        """
        until = self.clock.now_ms() + int(
            1_000 * (durations.seconds(duration) if isinstance(duration, str) else duration)
        )
        while (left_s := (until - self.clock.now_ms()) / 1_000) > 0:
            await asyncio.sleep(min(SETTLE_S, left_s))
            if not self.processes.busy:
                due = min(await self._due(until), default=until)
                now = self.clock.now_ms()
                self.clock.leap(max(min(due - now, until - now - SETTLE_S * 1_000) / 1_000, 0))

    # what people see

    async def events(self, run: Run | str) -> list[Event]:
        """Give all events of a run, in order."""
        return (run if isinstance(run, Run) else Run(self, run)).history

    async def lines(self, run: Run) -> list[str]:
        """Give what the steps of a run have printed, in order."""
        await asyncio.sleep(LINES_S)
        return [kept.line.text for kept in await self.log.read_lines(run.id)]

    async def runs(self) -> list[Run]:
        """Give all runs, the oldest first."""
        rows = await self.log.rows("runs", {}, limit=ROWS_MAX, descending=False)
        return [Run(self, row["id"]) for row in rows]

    async def ask(
        self, log: str, command: Message, *, stream: str | None = None, as_: str = "ann", key: str | None = None
    ) -> dict[str, Any]:
        """Send a command as the api does and give the answer's body; raises the error that it carries."""
        return await self.people.ask(log, command, stream=stream, as_=as_, key=key)

    # inside

    async def _decide(
        self, action: str, of: Run | str, step: str | None, as_: str, reason: str, digest: str | None
    ) -> None:
        subject = of if isinstance(of, str) else of.id
        found: list[dict[str, Any]] = []
        where: dict[str, Any] = {"subject": subject, "step": step}
        if subject.startswith(f"{ids.APPROVAL}_"):
            where = {"id": subject}
        elif subject.startswith("sha256:"):
            where = {"subject": "plan", "plan_digest": subject}
        wanted = {"status": "pending", **{name: value for name, value in where.items() if value is not None}}

        async def asked() -> bool:
            found[:] = await self.log.rows("approvals", wanted, descending=False)
            return bool(found)

        await self._until(asked, f"{subject} asks for an approval", lambda: f": {of!r}", APPROVAL_S)
        command = DecideApproval(action=action, digest=digest or found[0]["digest"], reason=reason)
        await self.ask(LOG_APPROVALS, command, stream=found[0]["id"], as_=as_)

    async def _due(self, until: int) -> list[int]:
        """Give the times at which streams want to be woken, later than now."""
        now, found = self.clock.now_ms(), []
        for log, count in LOG_PARTITIONS.items():
            found += await self.log.due(log, range(count), until, DUE_MAX)
        return [due.wake_at for due in found if due.wake_at > now]

    async def _owned(self) -> bool:
        alive = {owner.id for owner in self.processes.owners}
        held = {part["owner"] for part in await self.log.partitions()}
        return held == alive and self.processes.ready

    async def _announced(self) -> bool:
        rows = await self.log.rows("tools", {}, limit=ROWS_MAX)
        return self.processes.tools <= {row["name"] for row in rows}

    async def _until(
        self, holds: Callable[[], Any], what: str, seen: Callable[[], str] = str, seconds: float = WAIT_S
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not await holds():
                    self._moved.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await self._moved.wait()
        except TimeoutError:
            message = f"waited {seconds:.0f} virtual seconds, and never saw that {what}{seen()}"
            raise AssertionError(message) from None
