"""Nothing runs but an authorised plan: asking for one, and what a new run finds."""

from typing import Any

import msgspec
import pytest

from headrace import codec, errors, ids
from headrace.decider import Context, Tell
from headrace.errors import HeadraceError
from headrace.events.base import Actor
from headrace.events.catalogue import AuthorizationReceived, AuthorizationRequested, AuthorizationResolved
from headrace.events.runs import Parent
from headrace.ids import CONNECTION, PLAN, WORKFLOW
from headrace.messages import (
    CreateRun,
    NoteApprovalReceived,
    NoteOutcomeReceived,
    OpenApproval,
    RequestAuthorization,
    ResolveApproval,
    SaveConnection,
    Wake,
)
from headrace.plans.model import CallStep, GateStep, Plan, PlanStep, ToolPin, canonical, digest
from headrace_planner.catalogue.admit import RunPreparer
from headrace_planner.catalogue.state import stream_of
from tests.planner.catalogue_kit import (
    ADMIN,
    APPROVER,
    OPERATOR,
    VIEWER,
    WORKSPACE,
    Catalogue,
    document,
    manifest,
    refusal,
)

RUN = ids.make("run", 1_790_000_000_000, b"r" * 16, 0)


class Live:
    """Who lives."""

    def __init__(self, *pools: str) -> None:
        self._pools = pools

    def pools(self) -> tuple[str, ...]:
        return self._pools


class Desk:
    """A catalogue with one plan of a gated tool, and the door that new runs come through."""

    def __init__(self, catalogue: Catalogue, plan_digest: str) -> None:
        self.catalogue, self.digest = catalogue, plan_digest
        self.stream = stream_of(PLAN, WORKSPACE, plan_digest)

    async def ask(self, actor: Actor = OPERATOR, **wanted: Any) -> list[Any]:
        return list(await self.catalogue.send(RequestAuthorization(**wanted), actor, self.stream))

    async def resolve(self, status: str, **changes: Any) -> list[Any]:
        asked = self.request()
        outcome = ResolveApproval(
            approval_id=asked.approval_id,
            step="",
            status=status,
            digest=asked.shown_digest,
            by=(APPROVER,),
            reason="ok",
        )
        return list(await self.catalogue.send(msgspec.structs.replace(outcome, **changes), stream=self.stream))

    def request(self) -> AuthorizationRequested:
        thing: Any = self.catalogue.streams[self.stream].thing
        request = thing.authorization.request
        assert isinstance(request, AuthorizationRequested)
        return request

    async def create(self, *, live: Live | None = None, **changes: Any) -> CreateRun:
        preparer = RunPreparer(self.catalogue.shelf, live or Live("runner"))  # type: ignore[arg-type]  # only a part of a log
        context = Context(now=self.catalogue.clock.ms, stream_id=RUN, workspace=WORKSPACE, actor=OPERATOR)
        prepared = await preparer.prepare(CreateRun(**({"plan_digest": self.digest} | changes)), context)
        assert isinstance(prepared, CreateRun)
        return prepared


async def desk(kind: str = "ToolPlan", tool: str = "write") -> Desk:
    catalogue = Catalogue()
    await catalogue.announce(manifest("glob"), manifest("write", effect="write"))
    return Desk(catalogue, await catalogue.record(document("report", tool, kind=kind)))


async def keep(catalogue: Catalogue, plan: Plan) -> Desk:
    """Record a plan as it is."""
    body = canonical(plan)
    catalogue.shelf.blobs[digest(plan)] = body
    row = {"id": stream_of(PLAN, WORKSPACE, digest(plan)), "authorization": "none"}
    catalogue.shelf.tables.setdefault("plans", {})[row["id"]] = row
    return Desk(catalogue, digest(plan))


@pytest.mark.parametrize(("tool", "waits"), [("glob", None), ("write", "for its authorisation to be read")])
async def test_a_run_of_a_plan_that_nobody_need_authorise_is_let_in_at_once_from_the_second_on(
    tool: str, waits: str | None
) -> None:
    asked = await desk("Workflow", tool)
    preparer = RunPreparer(asked.catalogue.shelf, Live("runner"))  # type: ignore[arg-type]  # only a part of a log
    context = Context(now=asked.catalogue.clock.ms, stream_id=RUN, workspace=WORKSPACE, actor=OPERATOR)
    command = CreateRun(plan_digest=asked.digest, authorized=True, connections=codec.raw({"forged": {}}))
    assert preparer.at_once(command, context) is None
    prepared = await preparer.prepare(command, context)
    assert preparer.at_once(command, context) == (None if waits else prepared)
    elsewhere = msgspec.structs.replace(context, workspace="other")
    assert preparer.at_once(command, elsewhere) is None
    changes: tuple[Any, ...] = ({"workflow": "w"}, {"retry_of": RUN}, {"parent": Parent(run_id=RUN, step="a", depth=1)})
    for changed in changes:
        assert preparer.at_once(msgspec.structs.replace(command, **changed), context) is None


async def test_asking_opens_an_approval_of_exactly_what_is_shown() -> None:
    asked = await desk()
    (event,) = await asked.ask(quorum=2)
    assert isinstance(event, AuthorizationRequested)
    (told,) = asked.catalogue.told
    assert isinstance(told, Tell)
    assert (told.log, told.stream_id) == ("approvals", event.approval_id)
    opening = told.command
    assert isinstance(opening, OpenApproval)
    shown = codec.loads(opening.shown)
    assert opening.digest == codec.digest(shown)
    assert (opening.subject, opening.requester, opening.quorum) == ("plan", OPERATOR, 2)
    assert (opening.reply_to, opening.expires_at) == (asked.stream, asked.catalogue.clock.ms + 7 * 86_400_000)
    assert shown["plan_digest"] == asked.digest
    assert shown["steps"][0]["tool"] == "write"
    assert asked.catalogue.row(PLAN, asked.digest)["authorization"] == "pending"


async def test_request_delivered_twice_changes_nothing() -> None:
    asked = await desk()
    await asked.ask()
    assert await asked.ask() == []
    await asked.resolve("approved")
    assert await asked.ask() == []


async def test_after_a_rejection_one_may_ask_again() -> None:
    asked = await desk()
    await asked.ask()
    first = asked.request().approval_id
    await asked.resolve("rejected")
    (event,) = await asked.ask()
    assert event.approval_id != first
    assert asked.catalogue.row(PLAN, asked.digest)["authorization"] == "pending"


async def test_the_gatekeeper_is_asked_again_until_it_has_the_request() -> None:
    asked = await desk()
    await asked.ask()
    room, state = asked.catalogue.room, asked.catalogue.streams[asked.stream]
    first = list(asked.catalogue.told)
    assert list(room.outstanding(state, 0)) == first
    assert room.wake_at(state) == asked.catalogue.clock.ms + 2_000
    asked.catalogue.clock.ms += 2_000
    asked.catalogue.told.clear()
    assert await asked.catalogue.send(Wake(), stream=asked.stream) == []
    assert asked.catalogue.told == first
    receipt = NoteApprovalReceived(approval_id=asked.request().approval_id)
    assert [type(event) for event in await asked.catalogue.send(receipt, stream=asked.stream)] == [
        AuthorizationReceived
    ]
    state = asked.catalogue.streams[asked.stream]
    assert list(room.outstanding(state, 0)) == []
    assert room.wake_at(state) is None


async def test_receipt_delivered_twice_changes_nothing() -> None:
    asked = await desk()
    await asked.ask()
    receipt = NoteApprovalReceived(approval_id=asked.request().approval_id)
    await asked.catalogue.send(receipt, stream=asked.stream)
    assert await asked.catalogue.send(receipt, stream=asked.stream) == []


async def test_resolve_delivered_twice_changes_nothing_and_earns_the_receipt_again() -> None:
    asked = await desk()
    await asked.ask()
    assert [type(event) for event in await asked.resolve("approved")] == [AuthorizationResolved]
    asked.catalogue.told.clear()
    assert await asked.resolve("approved") == []
    assert await asked.resolve("rejected") == []
    assert asked.catalogue.commands() == [NoteOutcomeReceived(), NoteOutcomeReceived()]
    row = asked.catalogue.row(PLAN, asked.digest)
    assert (row["authorization"], row["decided_by"]) == ("approved", [{"id": "tok_approver", "name": "Anna"}])


async def test_an_outcome_about_something_else_authorises_nothing() -> None:
    asked = await desk()
    await asked.ask()
    problem = await refusal(asked.resolve("approved", digest="sha256:other"))
    assert isinstance(problem, errors.DigestMismatchError)
    assert await asked.resolve("approved", approval_id=ids.make("apr", 1, b"x" * 16)) == []
    assert asked.catalogue.row(PLAN, asked.digest)["authorization"] == "pending"


async def test_authorising_what_only_reads_is_refused() -> None:
    """Row 99."""
    problem = await refusal((await desk("Workflow", "glob")).ask())
    assert (problem.status, "only reads" in problem.message) == (400, True)


async def test_a_tool_plan_that_only_reads_needs_an_authorisation_all_the_same() -> None:
    """Row 72."""
    asked = await desk("ToolPlan", "glob")
    assert len(await asked.ask()) == 1


@pytest.mark.parametrize("wanted", [{"roles": ("king",)}, {"roles": ()}, {"quorum": 0}])
async def test_an_authorisation_that_nobody_could_give_is_refused(wanted: dict[str, Any]) -> None:
    assert isinstance(await refusal((await desk()).ask(**wanted)), errors.ValidationError)


async def test_a_viewer_may_not_ask() -> None:
    assert isinstance(await refusal((await desk()).ask(VIEWER)), errors.ForbiddenError)


async def test_nothing_is_authorised_where_no_plan_is() -> None:
    catalogue = Catalogue()
    assert isinstance(await refusal(Desk(catalogue, "sha256:none").ask()), errors.NotFoundError)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [(None, "nobody asked"), ("pending", "pending"), ("rejected", "rejected"), ("expired", "counts as rejected")],
)
async def test_a_plan_without_an_approved_authorisation_does_not_run(outcome: str | None, says: str) -> None:
    """Row 70."""
    asked = await desk()
    if outcome is not None:
        await asked.ask()
    if outcome not in {None, "pending"}:
        await asked.resolve(str(outcome))
    problem = await refusal(asked.create())
    assert isinstance(problem, errors.NotAuthorizedError)
    assert says in problem.message
    assert asked.digest in problem.message


async def test_an_authorised_plan_runs() -> None:
    asked = await desk()
    await asked.ask()
    await asked.resolve("approved")
    assert (await asked.create()).authorized is True


async def test_the_authorisation_of_one_plan_is_none_of_another() -> None:
    """Row 70."""
    asked = await desk()
    await asked.ask()
    await asked.resolve("approved")
    other = await asked.catalogue.record(document("report", "write", "glob", kind="ToolPlan"))
    assert isinstance(await refusal(asked.create(plan_digest=other)), errors.NotAuthorizedError)


async def test_a_caller_cannot_say_that_a_plan_is_authorised() -> None:
    asked = await desk("Workflow")
    prepared = await asked.create(authorized=True, connections=codec.raw({"github": {}}))
    assert prepared.authorized is False
    assert codec.loads(prepared.connections) == {}


async def test_a_plan_that_is_not_there_does_not_run() -> None:
    asked = await desk()
    assert isinstance(await refusal(asked.create(plan_digest="sha256:none")), errors.NotFoundError)


async def test_a_blob_that_is_no_recorded_plan_does_not_run() -> None:
    asked = await desk()
    asked.catalogue.shelf.blobs["sha256:x"] = b"{}"
    assert isinstance(await refusal(asked.create(plan_digest="sha256:x")), errors.NotFoundError)


def pinned(integration: str | None, pool: str = "integrations") -> ToolPin:
    return ToolPin(
        version="1",
        digest="sha256:t",
        effect="read",
        access="auto",
        pool=pool,
        idempotent=True,
        requires_connection=integration,
    )


def plan_over(*tools: str, connection: str | None = None, gate: bool = False) -> Plan:
    steps = [
        PlanStep(id=f"s{number}", kind="integration", body=CallStep(tool=tool, connection=connection))
        for number, tool in enumerate(tools)
    ]
    steps += [PlanStep(id="gate", kind="gate", body=GateStep(gate="expression"))] if gate else []
    pins = {tool: pinned(tool.partition(".")[0]) for tool in tools}
    return Plan(name="board", kind="Dashboard", steps=tuple(steps), tools=pins)


async def connect(catalogue: Catalogue, name: str, integration: str) -> None:
    saved = SaveConnection(name=name, integration=integration, settings={"n": name}, secrets={"token": "env:T"})
    await catalogue.send(saved, ADMIN, stream_of(CONNECTION, WORKSPACE, name))


async def test_every_missing_integration_is_named_in_one_error() -> None:
    catalogue = Catalogue()
    await connect(catalogue, "slack", "slack")
    asked = await keep(catalogue, plan_over("github.issues", "slack.messages", "notion.pages"))
    problem: HeadraceError = await refusal(asked.create())
    assert isinstance(problem, errors.NotConnectedError)
    assert problem.details["integrations"] == ["github", "notion"]
    assert problem.message == "not connected: github, notion"


async def test_connections_go_with_the_run_as_references() -> None:
    catalogue = Catalogue()
    await connect(catalogue, "zz", "github")
    await connect(catalogue, "github", "github")
    asked = await keep(catalogue, plan_over("github.issues"))
    prepared = await asked.create(live=Live("integrations"))
    assert codec.loads(prepared.connections) == {
        "github": {"name": "github", "settings": {"n": "github"}, "secrets": {"token": "env:T"}}
    }
    assert prepared.workers_active is True


async def test_a_step_may_name_its_connection() -> None:
    catalogue = Catalogue()
    await connect(catalogue, "github", "github")
    await connect(catalogue, "work", "github")
    prepared = await (await keep(catalogue, plan_over("github.issues", connection="work"))).create()
    assert codec.loads(prepared.connections)["github/work"]["name"] == "work"
    problem = await refusal((await keep(catalogue, plan_over("github.issues", connection="home"))).create())
    assert problem.details["integrations"] == ["github (home)"]


async def test_without_a_worker_of_a_needed_pool_the_run_is_told_so() -> None:
    """Row 17."""
    catalogue = Catalogue()
    await connect(catalogue, "github", "github")
    asked = await keep(catalogue, plan_over("github.issues", gate=True))
    assert (await asked.create(live=Live("integrations"))).workers_active is False
    assert (await asked.create(live=Live("integrations", "gates"))).workers_active is True


async def test_a_workflows_plan_runs_before_it_is_recorded_by_itself() -> None:
    asked = await desk()
    await asked.catalogue.apply(document("daily", "glob"))
    row = asked.catalogue.row(WORKFLOW, "daily")
    prepared = await asked.create(plan_digest=row["plan_digest"], workflow="daily")
    assert prepared.workflow_version == 1


async def test_a_workflow_that_is_not_there_or_has_moved_on_is_refused() -> None:
    asked = await desk()
    await asked.catalogue.apply(document("daily", "glob"))
    plan_digest = asked.catalogue.row(WORKFLOW, "daily")["plan_digest"]
    unknown = asked.create(plan_digest=plan_digest, workflow="weekly")
    assert isinstance(await refusal(unknown), errors.NotFoundError)
    later = asked.create(plan_digest=plan_digest, workflow="daily", workflow_version=7)
    assert isinstance(await refusal(later), errors.NotFoundError)
    await asked.catalogue.apply(document("daily", "glob", "glob"))
    moved = asked.create(plan_digest=plan_digest, workflow="daily", workflow_version=2)
    assert isinstance(await refusal(moved), errors.ConflictError)


async def test_a_plan_that_nobody_need_authorise_is_looked_up_once_a_workspace() -> None:
    asked = await desk("Workflow", "glob")
    preparer = RunPreparer(asked.catalogue.shelf, Live("runner"))  # type: ignore[arg-type]  # only a part of a log
    command = CreateRun(plan_digest=asked.digest)
    await preparer.prepare(command, _context(WORKSPACE))
    asked.catalogue.shelf.tables["plans"].clear()
    await preparer.prepare(command, _context(WORKSPACE))
    assert isinstance(await refusal(preparer.prepare(command, _context("another"))), errors.NotFoundError)


async def test_an_authorisation_is_looked_up_for_each_run() -> None:
    asked = await desk()
    preparer = RunPreparer(asked.catalogue.shelf, Live("runner"))  # type: ignore[arg-type]  # only a part of a log
    command = CreateRun(plan_digest=asked.digest)
    assert isinstance(await refusal(preparer.prepare(command, _context(WORKSPACE))), errors.NotAuthorizedError)
    await asked.ask()
    await asked.resolve("approved")
    prepared = await preparer.prepare(command, _context(WORKSPACE))
    assert isinstance(prepared, CreateRun)
    assert prepared.authorized is True


def _context(workspace: str) -> Context:
    return Context(now=0, stream_id=RUN, workspace=workspace, actor=OPERATOR)
