"""A catalogue in memory: the real room and preparers, driven as the owner host drives them."""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace import codec
from headrace.decider import Context, Effect, MissingError, Rejection, Tell
from headrace.errors import HeadraceError
from headrace.events.base import Actor
from headrace.events.catalogue import CatalogueEvent, ToolManifest
from headrace.ids import PLAN, TOOL, WORKFLOW
from headrace.log.port import After
from headrace.messages import AnnounceTool, ApplyWorkflow, CatalogueCommand, RecompileWorkflow, RecordPlan
from headrace.plans.model import CallStep, Plan, PlanStep, ToolPin, manifest_digest
from headrace.specs.documents import Document
from headrace.specs.problems import Problem, Problems
from headrace_planner.catalogue.prepare import CataloguePreparer
from headrace_planner.catalogue.room import CatalogueRoom
from headrace_planner.catalogue.state import Definition, stream_of
from headrace_planner.compile.children import Workflows

START = 1_790_000_000_000
WORKSPACE = "default"
OPERATOR = Actor(id="tok_operator", name="Olga", roles=("operator",))
VIEWER = Actor(id="tok_viewer", name="Vera", roles=("viewer",))
ADMIN = Actor(id="tok_admin", name="Root", roles=("admin",))
APPROVER = Actor(id="tok_approver", name="Anna", roles=("approver",))


class Time:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.ms = START

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1_000

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1_000)

    def entropy(self) -> bytes:
        return bytes(16)


class Shelf:
    """Rows and blobs, as a log gives them."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, dict[str, Any]]] = {}
        self.blobs: dict[str, bytes] = {}
        self.reads = 0

    async def row(self, table: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        return self.tables.get(table, {}).get(key["id"])

    async def rows(
        self,
        table: str,
        where: Mapping[str, Any],
        *,
        order: str = "id",
        descending: bool = True,
        after: str | After | None = None,
        limit: int = 20,
    ) -> list[dict[str, Any]]:
        self.reads += table == "workflows"
        found = [row for row in self.tables.get(table, {}).values() if all(_fits(row[n], w) for n, w in where.items())]
        found.sort(key=lambda row: str(row[order]), reverse=descending)
        assert not isinstance(after, After), "the planner pages by id"
        return [row for row in found if after is None or row["id"] > after][:limit]

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        return {digest: self.blobs[digest] for digest in digests if digest in self.blobs}

    def body(self, digest: str) -> bytes:
        if digest not in self.blobs:
            raise MissingError([digest])
        return self.blobs[digest]


def _fits(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list | tuple) else bool(value == wanted)


def manifest(name: str, *, effect: str = "read", version: str = "1", **more: Any) -> ToolManifest:
    given: dict[str, Any] = {
        "name": name,
        "version": version,
        "effect": effect,
        "access": "auto" if effect == "read" else "gated",
        "idempotent": effect == "read",
        "pool": "runner",
        "input_schema": {},
        "output_schema": {},
    }
    return ToolManifest(**(given | more))


def document(name: str, *tools: str, kind: str = "Workflow", **spec: Any) -> dict[str, Any]:
    steps = [{"id": f"step_{number}", "tool": tool} for number, tool in enumerate(tools, 1)]
    return {
        "apiVersion": "headrace/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": {"team": "docs"}},
        "spec": {"steps": steps, **spec},
    }


def compiler(written: Document, tools: Mapping[str, ToolManifest], _workflows: Workflows) -> Plan | Problems:
    """Compile tool steps and no more: what the catalogue does with plans does not depend on how they are made."""
    if written.problems:
        return written.problems
    steps, pins, problems = [], {}, []
    for number, step in written.steps:
        name = _tool_of(written, number)
        if name not in tools:
            problems.append(Problem(path=f"spec.steps[{number}].tool", message=f"unknown tool {name!r}"))
            continue
        known = tools[name]
        pins[name] = ToolPin(
            version=known.version,
            digest=manifest_digest(known),
            effect=known.effect,
            access=known.access,
            pool=known.pool,
            idempotent=known.idempotent,
            requires_connection=known.requires_connection,
        )
        steps.append(PlanStep(id=step.id, kind="tool", body=CallStep(tool=name)))
    if problems:
        return Problems(tuple(problems))
    automation = written.value["spec"].get("automation", "fully_auto")
    return Plan(name=written.name, kind=written.kind, steps=tuple(steps), tools=pins, automation=automation)


def _tool_of(written: Document, number: int) -> str:
    return str(written.source.value["spec"]["steps"][number]["tool"])


class Catalogue:
    """Streams by id, and what their events told others."""

    def __init__(self) -> None:
        self.shelf, self.clock = Shelf(), Time()
        self.room = CatalogueRoom(self.shelf)
        self.preparer = CataloguePreparer(self.shelf, self.clock, compiler)  # type: ignore[arg-type]  # only a part of a log
        self.streams: dict[str, Definition] = {}
        self.told: list[Effect] = []

    async def send(
        self, command: CatalogueCommand, actor: Actor = OPERATOR, stream: str | None = None
    ) -> list[CatalogueEvent]:
        """Prepare, decide, evolve; gives the events, raises the refusal."""
        context = Context(now=self.clock.ms, stream_id=stream or "", workspace=WORKSPACE, actor=actor)
        if isinstance(command, self.preparer.prepares):
            command = await self.preparer.prepare(command, context)
        stream = stream or self.preparer.route(command, context)
        assert stream is not None
        context = Context(now=self.clock.ms, stream_id=stream, workspace=WORKSPACE, actor=actor)
        state = self.streams.get(stream) or self.room.initial(stream, WORKSPACE)
        decided = self.room.decide(state, command, context)
        if isinstance(decided, Rejection):
            raise decided.error
        for event in decided:
            state = self.room.evolve(state, event, self.clock.ms)
            self.told.extend(self.room.react(state, event))
        self.told.extend(self.room.receipts(state, command, context))
        self.streams[stream] = state
        self.shelf.blobs.update(self.room.attachments(command) if decided else {})
        for row in self.room.rows(state, decided):
            self.shelf.tables.setdefault(row.table, {})[row.columns["id"]] = row.columns
        return list(decided)

    async def announce(self, *tools: ToolManifest) -> list[CatalogueEvent]:
        events: list[CatalogueEvent] = []
        for tool in tools:
            stream = stream_of(TOOL, WORKSPACE, tool.name)
            events += await self.send(AnnounceTool(manifest=tool, worker="wrk_1"), stream=stream)
        self.preparer.tools.forget()
        return events

    async def apply(self, written: dict[str, Any], actor: Actor = OPERATOR) -> list[CatalogueEvent]:
        stream = stream_of(WORKFLOW, WORKSPACE, written["metadata"]["name"])
        return await self.send(ApplyWorkflow(spec=codec.raw(written)), actor, stream)

    async def recompile(self, name: str) -> list[CatalogueEvent]:
        return await self.send(RecompileWorkflow(), stream=stream_of(WORKFLOW, WORKSPACE, name))

    async def record(self, written: dict[str, Any], actor: Actor = OPERATOR) -> str:
        """Record a plan and give its digest."""
        await self.send(RecordPlan(spec=codec.raw(written)), actor)
        return next(reversed(self.shelf.tables["plans"].values()))["digest"]  # type: ignore[no-any-return]  # the text column

    def row(self, kind: str, name: str) -> dict[str, Any]:
        tables = {WORKFLOW: "workflows", PLAN: "plans", TOOL: "tools", "con": "connections"}
        return self.shelf.tables[tables[kind]][stream_of(kind, WORKSPACE, name)]

    def commands(self) -> list[Any]:
        """Give the commands that were told to other streams."""
        return [effect.command for effect in self.told if isinstance(effect, Tell)]


async def refusal(awaited: Any) -> HeadraceError:
    """Give the error that something is refused with."""
    try:
        await awaited
    except HeadraceError as problem:
        return problem
    message = "it was not refused"
    raise AssertionError(message)
