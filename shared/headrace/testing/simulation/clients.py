"""The people of a schedule: they ask for runs, ask again, cancel, decide; and write down what they were answered."""

import asyncio
from typing import Any, Final

import msgspec

from headrace import codec, ids
from headrace.envelope import Message
from headrace.errors import UnavailableError
from headrace.events.approvals import ApprovalOpened
from headrace.events.base import Actor
from headrace.events.steering import OutcomeLost
from headrace.keys import COMMANDS
from headrace.log.port import Recorded
from headrace.messages import (
    Answer,
    ApplyWorkflow,
    CancelRun,
    Command,
    CreateRun,
    DecideApproval,
    RecordPlan,
    StartRun,
)
from headrace.steering import PauseRun, ResumeRun, SettleOutcome, SignalRun
from headrace.testing.checker.history import Asked, History
from headrace.testing.simulation.documents import TRIGGER, TRIGGERED, Compiler, triggered
from headrace.testing.simulation.features import SIGNAL
from headrace.testing.simulation.scenario import Job
from headrace.testing.simulation.world import KEYS, Installation, Machine
from headrace.vocabulary import LOG_APPROVALS, LOG_CATALOGUE, LOG_PARTITIONS, LOG_RUNS, WORKSPACE_DEFAULT, Role
from headrace.waits import Signal

ASK_S: Final = 3.0
AGAIN_S: Final = 0.4
DEADLINE_S: Final = 90.0
LOOK_S: Final = 0.8
PAUSED_S: Final = 2.5
ANN: Final = Actor(id="tok_ann", name="ann", roles=(str(Role.OPERATOR),))
APPROVERS: Final = tuple(Actor(id=f"tok_{name}", name=name, roles=(str(Role.APPROVER),)) for name in ("bob", "cleo"))
APPROVAL_OPENED: Final = ApprovalOpened.type_name()
OUTCOME_LOST: Final = OutcomeLost.type_name()
_answers = msgspec.json.Decoder(Answer)


class Clients:
    """Everybody who asks, in one process of their own that never breaks."""

    def __init__(self, world: Installation, machine: Machine, history: History, compiler: Compiler | None) -> None:
        self._world, self.machine, self._history = world, machine, history
        self._compiler = compiler
        self._routes = 0
        self.open = 0
        """Things that clients still want to do."""
        self.runs: dict[int, str] = {}
        """The run of each job, as far as it was acknowledged."""
        self.unanswered: set[str] = set()
        self._asked = self._lost = False
        """Whether approvals, and writes that were lost, may wait for somebody."""
        self._stirred = Signal()
        self.triggers: dict[int, str] = {}

    async def live(self, jobs: tuple[Job, ...]) -> None:
        """Do everything that the jobs ask for, and decide what runs ask for."""
        async with asyncio.TaskGroup() as group:
            self.open = len(jobs)
            for job in jobs:
                group.create_task(self._trigger(job) if job.trigger else self._job(job))
            group.create_task(self._decide_for_ever())

    async def _job(self, job: Job) -> None:
        await asyncio.sleep(job.at)
        assert self._compiler is not None, "only a world without jobs has none"
        made = self._compiler.compiled(job.document)
        await self.ask(LOG_CATALOGUE, RecordPlan(plan_digest=made.digest))
        create, key = CreateRun(plan_digest=made.digest), f"job-{job.number}"
        answer = await self.ask(LOG_RUNS, create, key=key)
        if answer is not None and answer.stream_id is not None:
            self.runs[job.number] = answer.stream_id
            if job.unanswered:
                self.unanswered.add(answer.stream_id)
            elif made.plan.automation == "human_approval":
                await self.ask(LOG_RUNS, StartRun(), stream=answer.stream_id)
        if job.repeat:
            await asyncio.sleep(1.0)
            await self.ask(LOG_RUNS, create, key=key)
        if job.number in self.runs and any(getattr(step.body, "signal", None) for step in made.plan.steps):
            signal = SignalRun(name=SIGNAL, signal_id=key, data=codec.raw({"value": job.number}))
            for _ in range(1 + job.repeat):
                await self.ask(LOG_RUNS, signal, stream=self.runs[job.number])
        if job.pause_at is not None and job.number in self.runs:
            await asyncio.sleep(job.pause_at)
            await self.ask(LOG_RUNS, PauseRun(), stream=self.runs[job.number])
            await asyncio.sleep(PAUSED_S)
            await self.ask(LOG_RUNS, ResumeRun(), stream=self.runs[job.number])
        if job.cancel_at is not None and job.number in self.runs:
            await asyncio.sleep(job.cancel_at)
            await self.ask(LOG_RUNS, CancelRun(reason="as the schedule says"), stream=self.runs[job.number])
        self.open -= 1

    async def _trigger(self, job: Job) -> None:
        await asyncio.sleep(job.at)
        document = triggered(job.document % TRIGGERED)
        name = document["metadata"]["name"]
        stream = ids.definition(ids.WORKFLOW, WORKSPACE_DEFAULT, name)
        await self.ask(LOG_CATALOGUE, ApplyWorkflow(spec=codec.raw(document)), stream=stream)
        identity = f"trigger-{job.number}"
        for _ in range(2 if job.repeat else 1):
            await self._publish(identity)
        self.triggers[job.number] = identity
        self.open -= 1

    async def _publish(self, identity: str) -> None:
        while True:
            try:
                await self.machine.bus.publish_trigger(TRIGGER, b"{}", message_id=identity)
            except UnavailableError:
                await asyncio.sleep(AGAIN_S)
            else:
                return

    def heard(self, recorded: Recorded) -> None:
        """Note what people are asked for, so that they need not look when nobody asks."""
        self._asked = self._asked or recorded.type == APPROVAL_OPENED
        self._lost = self._lost or recorded.type == OUTCOME_LOST
        if self._asked or self._lost:
            self._stirred.set()

    async def _decide_for_ever(self) -> None:
        while True:
            if not (self._asked or self._lost):
                await self._stirred.wait()
            await asyncio.sleep(LOOK_S)
            if self._asked:
                await self._decide_all()
            if self._lost:
                await self._settle_all()

    async def _decide_all(self) -> None:
        asked = await self._world.log.rows("approvals", {"status": "pending"}, descending=False, limit=100)
        wanted = [row for row in asked if row["subject"] not in self.unanswered]
        self._asked = bool(wanted)
        for row in wanted:
            await self._decide(row)

    async def _settle_all(self) -> None:
        where = {"status": "waiting", "waiting_for": "input"}
        asked = await self._world.log.rows("runs", where, descending=False, limit=100)
        for row in asked:
            for waits in (row["detail"] or {}).get("waiting", ()):
                if waits["for"] == "input":
                    await self._settle(row["id"], waits["evidence"])

    async def _settle(self, run_id: str, known: dict[str, Any]) -> None:
        """Say what became of a write whose worker was lost, as one who looked at the outside."""
        acted = any(one.attempt_id == known["attempt_id"] for one in self._history.acted)
        answer = "happened" if acted else "give_up" if ids.number(known["attempt_id"]) % 3 == 0 else "not_happened"
        step, _, index = known["step"].partition("[")
        command = SettleOutcome(
            step=step,
            index=int(index.rstrip("]")) if index else None,
            answer=answer,
            output=codec.raw({"value": 0}) if acted else codec.NULL,
        )
        await self.ask(LOG_RUNS, command, stream=run_id)

    async def _decide(self, row: dict[str, Any]) -> None:
        """Let two people decide; what they say hangs on the approval's id, so that it repeats."""
        drawn = ids.number(row["id"]) % 100
        action = "reject" if drawn < 8 else "approve"  # noqa: PLR2004  (8 in a hundred)
        for actor in APPROVERS[: row["quorum"]]:
            command = DecideApproval(action=action, digest=row["digest"])
            await self.ask(LOG_APPROVALS, command, stream=row["id"], actor=actor)
            if action == "reject":
                break

    async def ask(
        self, log: str, command: Message, *, stream: str | None = None, key: str | None = None, actor: Actor = ANN
    ) -> Answer | None:
        """Send a command until it is answered or the deadline is over; writes it down either way."""
        self._routes += 1
        route = key or str(self._routes)
        partitions = LOG_PARTITIONS[log]
        place = ids.partition_for(partitions, WORKSPACE_DEFAULT, route) if stream is None else ids.partition_of(stream)
        body = Command(body=codec.raw(command), actor=actor, workspace=WORKSPACE_DEFAULT, stream_id=stream, key=key)
        data = KEYS.pack(COMMANDS, codec.encode(body))
        at = self._world.clock.now_ms()
        deadline = self._world.loop.time() + DEADLINE_S
        answer: Answer | None = None
        while answer is None and self._world.loop.time() < deadline:
            try:
                packed = await self.machine.bus.command(log, place, data, timeout_s=ASK_S)
            except UnavailableError:
                await asyncio.sleep(AGAIN_S)
                continue
            answer = _answers.decode(packed)
            if answer.status == UnavailableError.status:
                answer = None
                await asyncio.sleep(AGAIN_S)
        self._history.asked.append(
            Asked(
                kind=str(type(command).__struct_config__.tag),
                log=log,
                at=at,
                status=answer.status if answer else None,
                key=key,
                stream_id=(answer.stream_id or stream) if answer else None,
                actor=actor.id,
                answer=bytes(answer.body) if answer else b"",
            )
        )
        return answer
