"""Planner and gatekeeper together over log and bus in memory: from a document to an approval, by messages alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from headrace import codec, ids, service
from headrace.bus.memory import MemoryBus
from headrace.clock import SystemClock
from headrace.envelope import Message
from headrace.events.base import Actor
from headrace.events.catalogue import ToolManifest
from headrace.host.library import CachedLibrary
from headrace.host.owner import OwnerHost
from headrace.host.presence import Presence
from headrace.ids import PLAN, TOOL, WORKFLOW
from headrace.keys import COMMANDS, POOL, Keys
from headrace.log.memory import MemoryLog
from headrace.messages import (
    AnnounceTool,
    Answer,
    ApplyWorkflow,
    Command,
    CreateRun,
    DecideApproval,
    RecordPlan,
    RequestAuthorization,
    Told,
)
from headrace.vocabulary import LOG_APPROVALS, LOG_CATALOGUE, LOG_PARTITIONS, LOG_RUNS
from headrace_planner.catalogue.recompile import Recompiler
from headrace_planner.catalogue.state import stream_of
from headrace_planner.triggers.router import TriggerRouter
from tests.planner.catalogue_kit import APPROVER, OPERATOR, WORKSPACE, manifest

KEYS = Keys(master=b"k" * 32)
DEADLINE_S = 20.0
OBJECT = {"type": "object", "properties": {}}


class Town:
    """Both owner services in one process."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.log, self.bus = MemoryLog(self.clock), MemoryBus(self.clock)
        self.hosts = [self._host(name) for name in ("planner", "gatekeeper")]

    def _host(self, name: str) -> OwnerHost:
        library, presence, owner = CachedLibrary(), Presence(self.clock), service.load(name)
        preparers = owner.preparers(self.log, clock=self.clock, presence=presence)
        if name == "planner":
            self.recompiler = Recompiler(self.log, self.bus, KEYS, self.clock, preparers[LOG_CATALOGUE])
            self.router = TriggerRouter(self.log, self.bus, KEYS, self.clock)
        return OwnerHost(
            self.log,
            self.bus,
            clock=self.clock,
            keys=KEYS,
            rooms=owner.rooms(library),
            preparers=preparers,
            owner_id=name,
            library=library,
            presence=presence,
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for host in self.hosts:
                group.create_task(host.run())
            group.create_task(self.recompiler.run())
            group.create_task(self.router.run())

    async def ask(
        self, log: str, body: Message, actor: Actor = OPERATOR, stream: str | None = None, key: str | None = None
    ) -> Answer:
        command = Command(
            body=codec.Raw(codec.encode(body)), actor=actor, workspace=WORKSPACE, stream_id=stream, key=key
        )
        partition = ids.partition_of(stream) if stream else ids.partition_for(LOG_PARTITIONS[log], WORKSPACE, key or "")
        sealed = KEYS.pack(COMMANDS, codec.encode(command))
        return msgspec.json.decode(await self.bus.command(log, partition, sealed, timeout_s=DEADLINE_S), type=Answer)

    async def announce(self, tool: ToolManifest) -> None:
        body = AnnounceTool(manifest=tool, worker="wrk_1")
        told = Told(
            stream_id=stream_of(TOOL, WORKSPACE, tool.name), body=codec.Raw(codec.encode(body)), workspace=WORKSPACE
        )
        await self.bus.tell(LOG_CATALOGUE, 0, KEYS.pack(f"{POOL}{tool.pool}", codec.encode(told)))
        await self.until(lambda: self.row("tools", TOOL, tool.name, "version", tool.version))

    async def row(self, table: str, kind: str, name: str, column: str, value: Any) -> dict[str, Any] | None:
        """Give a row once a column has a value."""
        row = await self.log.row(table, {"id": stream_of(kind, WORKSPACE, name)})
        return row if row is not None and row[column] == value else None

    async def until[Found](self, look: Callable[[], Awaitable[Found | None]]) -> Found:
        """Look again and again until there is something; fails at the deadline."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = await look()
                if found:
                    return found
                await asyncio.sleep(0.01)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        town = Town()
        group = await stack.enter_async_context(asyncio.TaskGroup())
        task = group.create_task(town.run())
        stack.callback(task.cancel)
        await town.until(lambda: _ready(town))
        await town.announce(manifest("glob", input_schema=OBJECT, output_schema=OBJECT))
        await town.announce(manifest("send", effect="write", input_schema=OBJECT, output_schema=OBJECT))
        yield town


async def _ready(town: Town) -> bool:
    held = await town.log.partitions()
    return all(host.ready for host in town.hosts) and all(part["owner"] for part in held)


def document(name: str, tool: str = "glob", kind: str = "Workflow", **spec: Any) -> dict[str, Any]:
    step = {"id": "one", "tool": tool} if kind == "Workflow" else {"tool": tool}
    return {"apiVersion": "headrace/v1", "kind": kind, "metadata": {"name": name}, "spec": {"steps": [step], **spec}}


async def record(town: Town, written: dict[str, Any]) -> str:
    answer = await town.ask(LOG_CATALOGUE, RecordPlan(spec=codec.raw(written)))
    assert answer.error is None, answer.error
    return str(codec.loads(answer.body)["digest"])


async def test_a_plan_is_authorised_through_the_gatekeeper_and_only_then_runs(town: Town) -> None:
    """Row 70."""
    digest = await record(town, document("notify", "send", "ToolPlan"))
    refused = await town.ask(LOG_RUNS, CreateRun(plan_digest=digest), key="k1")
    assert refused.error is not None
    assert (refused.status, refused.error.type) == (403, "not_authorized")
    stream = stream_of(PLAN, WORKSPACE, digest)
    asked = await town.ask(LOG_CATALOGUE, RequestAuthorization(), stream=stream)
    approval = str(codec.loads(asked.body)["approval_id"])
    opened = await town.until(lambda: town.log.row("approvals", {"id": approval}))
    assert (opened["subject"], opened["plan_digest"], opened["status"]) == ("plan", digest, "pending")
    own = await town.ask(LOG_APPROVALS, DecideApproval(action="approve", digest=opened["digest"]), stream=approval)
    assert own.status == 403
    decision = DecideApproval(action="approve", digest=opened["digest"], reason="fine")
    decided = await town.ask(LOG_APPROVALS, decision, APPROVER, approval)
    assert codec.loads(decided.body)["status"] == "approved"
    await town.until(lambda: town.row("plans", PLAN, digest, "authorization", "approved"))
    created = await town.ask(LOG_RUNS, CreateRun(plan_digest=digest), key="k2")
    assert (created.status, created.error) == (201, None)
    assert str(created.stream_id).startswith("run_")
    await town.until(lambda: _told(town, approval))


async def _told(town: Town, approval: str) -> bool:
    row = await town.log.row("approvals", {"id": approval})
    return row is not None and row["busy"] is False


async def test_a_document_with_problems_is_refused_with_all_of_them(town: Town) -> None:
    answer = await town.ask(LOG_CATALOGUE, RecordPlan(spec=codec.raw(document("bad", "glub"))))
    assert answer.error is not None
    assert (answer.status, answer.error.type) == (400, "tool_not_found")
    assert answer.error.details["problems"][0]["path"].startswith("spec.steps[0]")


async def test_an_applied_workflow_has_its_plan_recorded_too(town: Town) -> None:
    stream = stream_of(WORKFLOW, WORKSPACE, "daily")
    answer = await town.ask(LOG_CATALOGUE, ApplyWorkflow(spec=codec.raw(document("daily"))), stream=stream)
    digest = codec.loads(answer.body)["plan_digest"]
    await town.until(lambda: town.row("plans", PLAN, digest, "name", "daily"))
    again = await town.ask(LOG_CATALOGUE, ApplyWorkflow(spec=codec.raw(document("daily"))), stream=stream)
    assert codec.loads(again.body)["version"] == 1


async def test_a_changed_tool_has_the_workflows_compiled_again(town: Town) -> None:
    stream = stream_of(WORKFLOW, WORKSPACE, "daily")
    answer = await town.ask(LOG_CATALOGUE, ApplyWorkflow(spec=codec.raw(document("daily"))), stream=stream)
    before = codec.loads(answer.body)["plan_digest"]
    await town.announce(manifest("glob", version="2", input_schema=OBJECT, output_schema=OBJECT))

    async def moved() -> bool:
        row = await town.log.row("workflows", {"id": stream})
        return row is not None and row["plan_digest"] != before

    await town.until(moved)


async def test_a_published_event_starts_a_run_and_its_repeat_meets_the_same_run(town: Town) -> None:
    stream = stream_of(WORKFLOW, WORKSPACE, "daily")
    written = document("daily", triggers=[{"type": "event", "event": "push", "when": "event.n > 1"}])
    await town.ask(LOG_CATALOGUE, ApplyWorkflow(spec=codec.raw(written)), stream=stream)
    for data, message in ((b'{"n": 1}', "m1"), (b'{"n": 2}', "m2"), (b'{"n": 2}', "m2"), (b'{"n": 3}', "m3")):
        await town.bus.publish_trigger("push", data, message_id=message)
    await town.bus.publish_trigger("push", b"no json", message_id="m4")

    async def both() -> list[dict[str, Any]] | None:
        rows = await town.log.rows("runs", {"workflow": "daily"})
        return rows if len(rows) >= 2 and await town.log.parked() else None

    rows = await town.until(both)
    assert sorted(row["labels"]["trigger_id"] for row in rows) == ["m2", "m3"]
    assert {row["requester_name"] for row in rows} == {"trigger push"}
    (parked,) = await town.log.parked()
    assert parked.body == b"no json"
