"""The catalogue's own locks: who may, to which stream, by which names; and what keeps a new run out, or a child from running."""

from typing import Any

import msgspec
import pytest

from headrace import codec, errors
from headrace.decider import Context, Rejection
from headrace.events.base import Actor
from headrace.events.catalogue import AuthorizationRequested, WorkflowCompiled
from headrace.events.runs import Parent
from headrace.ids import CONNECTION, PLAN, TOOL, WORKFLOW
from headrace.messages import (
    AnnounceTool,
    ApplyWorkflow,
    CatalogueCommand,
    CreateRun,
    DeleteConnection,
    RecompileWorkflow,
    RecordPlan,
    RevokeToken,
    SaveConnection,
)
from headrace.plans.model import WorkflowPin
from headrace_planner.catalogue.admit import RunPreparer
from headrace_planner.catalogue.state import stream_of
from tests.planner.catalogue_kit import (
    ADMIN,
    OPERATOR,
    VIEWER,
    WORKSPACE,
    Catalogue,
    document,
    manifest,
    refusal,
)
from tests.planner.test_catalogue import GITHUB, TOKEN, connection, stocked, token
from tests.planner.test_catalogue_authorization import RUN, Desk, Live, connect, desk, keep, plan_over

REPORT = document("report", "glob")
STREAM = stream_of(WORKFLOW, WORKSPACE, "report")


async def decided(catalogue: Catalogue, command: CatalogueCommand, actor: Actor, stream: str = "") -> Any:
    """Decide what somebody who may had prepared, as if another had sent it."""
    at = catalogue.clock.ms
    before = Context(now=at, stream_id=stream, workspace=WORKSPACE, actor=OPERATOR)
    command = await catalogue.preparer.prepare(command, before)
    stream = stream or catalogue.preparer.route(command, before) or ""
    state = catalogue.streams.get(stream) or catalogue.room.initial(stream, WORKSPACE)
    context = Context(now=at, stream_id=stream, workspace=WORKSPACE, actor=actor)
    return catalogue.room.decide(state, command, context)


def refused(decision: Any, kind: type[errors.HeadraceError]) -> bool:
    return isinstance(decision, Rejection) and isinstance(decision.error, kind)


async def test_the_decider_asks_for_the_role_itself() -> None:
    catalogue = await stocked()
    await catalogue.apply(REPORT)
    await catalogue.announce(manifest("glob", version="2"))
    other = codec.raw(document("report", "glob", "glob"))
    for command, stream in (
        (RecordPlan(spec=codec.raw(REPORT)), ""),
        (ApplyWorkflow(spec=other), STREAM),
        (RecompileWorkflow(), STREAM),
    ):
        assert refused(await decided(catalogue, command, VIEWER, stream), errors.ForbiddenError)
        assert len(await decided(catalogue, command, OPERATOR, stream)) == 1


async def test_only_an_admin_revokes_tokens_and_takes_connections_away() -> None:
    catalogue = Catalogue()
    await catalogue.send(token(), ADMIN, TOKEN)
    await catalogue.send(connection(), ADMIN, GITHUB)
    assert isinstance(await refusal(catalogue.send(RevokeToken(), OPERATOR, TOKEN)), errors.ForbiddenError)
    assert isinstance(await refusal(catalogue.send(DeleteConnection(), OPERATOR, GITHUB)), errors.ForbiddenError)
    assert catalogue.shelf.tables["tokens"][TOKEN]["revoked_at"] is None
    assert catalogue.row(CONNECTION, "github")["deleted"] is False


async def test_a_plan_and_a_connection_stand_under_their_own_names_only() -> None:
    catalogue = await stocked()
    elsewhere = stream_of(PLAN, WORKSPACE, "sha256:other")
    recorded = await decided(catalogue, RecordPlan(spec=codec.raw(REPORT)), OPERATOR, elsewhere)
    assert refused(recorded, errors.ValidationError)
    other = stream_of(CONNECTION, WORKSPACE, "gitlab")
    assert isinstance(await refusal(catalogue.send(connection(), ADMIN, other)), errors.ValidationError)


async def test_a_document_with_problems_is_recorded_nowhere() -> None:
    catalogue = await stocked()
    context = Context(now=0, stream_id=STREAM, workspace=WORKSPACE, actor=OPERATOR)
    for command in (RecordPlan(spec=codec.raw(REPORT)), ApplyWorkflow(spec=codec.raw(REPORT))):
        prepared = await catalogue.preparer.prepare(command, context)
        wrong = msgspec.structs.replace(prepared, problems=({"path": "spec", "message": "it is broken"},))
        decision = catalogue.room.decide(catalogue.room.initial(STREAM, WORKSPACE), wrong, context)
        assert refused(decision, errors.ValidationError)
        assert "it is broken" in decision.error.message  # type: ignore[union-attr]  # it was refused


@pytest.mark.parametrize(
    "wrong",
    [{"name": "git hub"}, {"integration": "git/hub"}, {"name": ""}, {"settings": {"rate_limit": "often"}}],
)
async def test_a_connection_that_none_can_be_is_refused(wrong: dict[str, Any]) -> None:
    asked = SaveConnection(**({"name": "github", "integration": "github", "settings": {}, "secrets": {}} | wrong))
    stream = stream_of(CONNECTION, WORKSPACE, asked.name)
    assert isinstance(await refusal(Catalogue().send(asked, ADMIN, stream)), errors.ValidationError)


async def test_what_is_not_there_is_neither_deleted_nor_compiled_again() -> None:
    catalogue = Catalogue()
    assert isinstance(await refusal(catalogue.send(DeleteConnection(), ADMIN, GITHUB)), errors.NotFoundError)
    assert isinstance(await refusal(catalogue.recompile("report")), errors.NotFoundError)


async def test_an_id_that_is_no_tokens_is_refused_and_a_tool_has_a_name_and_a_pool() -> None:
    catalogue = Catalogue()
    mine = token(token_id="wfl_1")
    assert isinstance(await refusal(catalogue.send(mine, ADMIN, "wfl_1")), errors.ValidationError)
    for made in (manifest(""), manifest("glob", pool="")):
        announced = AnnounceTool(manifest=made, worker="wrk_1")
        stream = stream_of(TOOL, WORKSPACE, made.name)
        assert isinstance(await refusal(catalogue.send(announced, stream=stream)), errors.ValidationError)


async def test_the_same_document_again_gives_the_plan_that_it_means_by_now() -> None:
    catalogue = await stocked()
    await catalogue.apply(REPORT)
    await catalogue.announce(manifest("glob", version="2"))
    (event,) = await catalogue.apply(REPORT)
    assert isinstance(event, WorkflowCompiled)
    row = catalogue.row(WORKFLOW, "report")
    assert (row["version"], row["plan_digest"]) == (1, event.plan_digest)


async def test_an_authorisation_may_be_asked_for_any_plan_that_uses_gated_tools() -> None:
    (event,) = await (await desk("Workflow", "write")).ask()
    assert isinstance(event, AuthorizationRequested)


# --- what keeps a run out ----------------------------------------------------------------------------------------


class Crowd:
    """A workspace without room; `counted` says whether that is known without asking the database."""

    def __init__(self, *, counted: bool) -> None:
        self.counted = counted

    async def admit(self, workspace: str) -> None:
        self.at_once(workspace)
        raise errors.RateLimitedError(workspace)

    def at_once(self, workspace: str) -> bool:
        if self.counted:
            raise errors.RateLimitedError(workspace)
        return False


async def door(asked: Desk, admission: Crowd | None = None) -> tuple[RunPreparer, Context]:
    """Give the door to a desk's plan, which has seen one run of it go through."""
    preparer = RunPreparer(asked.catalogue.shelf, Live("runner", "integrations"))  # type: ignore[arg-type]  # only a part of a log
    context = Context(now=0, stream_id=RUN, workspace=WORKSPACE, actor=OPERATOR)
    await preparer.prepare(CreateRun(plan_digest=asked.digest), context)
    preparer._admission = admission  # type: ignore[assignment]  # a crowd for this test
    return preparer, context


async def test_a_full_workspace_lets_no_run_in_by_either_way_but_the_children_of_those_that_are_in() -> None:
    asked = await desk("Workflow", "glob")
    command = CreateRun(plan_digest=asked.digest)
    uncounted, context = await door(asked, Crowd(counted=False))
    assert uncounted.at_once(command, context) is None
    assert isinstance(await refusal(uncounted.prepare(command, context)), errors.RateLimitedError)
    counted, _ = await door(asked, Crowd(counted=True))
    with pytest.raises(errors.RateLimitedError):
        counted.at_once(command, context)
    child = msgspec.structs.replace(command, parent=Parent(run_id=RUN, step="a"))
    prepared = await counted.prepare(child, context)
    assert isinstance(prepared, CreateRun)
    assert (prepared.refused, prepared.workers_active) == (None, True)


async def test_a_run_whose_plan_needs_a_connection_is_never_let_in_without_looking_for_it() -> None:
    catalogue = Catalogue()
    await connect(catalogue, "github", "github")
    asked = await keep(catalogue, plan_over("github.issues"))
    preparer, context = await door(asked)
    assert preparer.at_once(CreateRun(plan_digest=asked.digest), context) is None


async def test_what_keeps_a_child_from_running_is_told_to_its_parent() -> None:
    catalogue = Catalogue()
    await connect(catalogue, "github", "github")
    asked = await keep(catalogue, plan_over("github.issues", connection="work"))
    await connect(catalogue, "work", "github")
    preparer, context = await door(asked)
    parent = Parent(run_id=RUN, step="a")

    async def prepared(**more: Any) -> CreateRun:
        command = CreateRun(**{"plan_digest": asked.digest, "parent": parent, **more})
        found = await preparer.prepare(command, context)
        assert isinstance(found, CreateRun)
        return found

    lacking = await prepared(connections=codec.raw({"github": {"name": "github"}}))
    assert lacking.refused is not None
    assert (lacking.refused.type, lacking.refused.details) == (
        "integration_not_connected",
        {"integrations": ["github/work"]},
    )
    assert (await prepared(connections=codec.raw({"github/work": {"name": "work"}}))).refused is None
    gone = await prepared(plan_digest="sha256:gone")
    assert (gone.plan_digest, gone.refused and gone.refused.type) == ("", "not_found")
    assert (await prepared(plan_digest="sha256:gone", cancelled="enough")).refused is None


async def test_an_earlier_version_and_a_retry_run_by_the_plan_that_they_name() -> None:
    asked = await desk()
    await asked.catalogue.apply(document("daily", "glob"))
    first = asked.catalogue.row(WORKFLOW, "daily")["plan_digest"]
    await asked.catalogue.apply(document("daily", "glob", "glob"))
    earlier = await asked.create(plan_digest=first, workflow="daily", workflow_version=1)
    assert (earlier.plan_digest, earlier.workflow_version) == (first, 1)
    again = await asked.create(plan_digest=first, workflow="daily", workflow_version=2, retry_of=RUN)
    assert again.plan_digest == first


async def test_a_plan_of_which_only_a_part_is_gated_is_looked_up_for_its_authorisation_each_time() -> None:
    catalogue = await stocked()
    digest = await catalogue.record(document("report", "glob", "write"))
    asked = Desk(catalogue, digest)
    preparer, context = await door(asked)
    assert preparer.at_once(CreateRun(plan_digest=digest), context) is None
    await asked.ask()
    await asked.resolve("approved")
    prepared = await preparer.prepare(CreateRun(plan_digest=digest), context)
    assert isinstance(prepared, CreateRun)
    assert prepared.authorized is True


async def test_a_tool_plan_that_only_reads_is_let_in_at_no_time_without_its_authorisation() -> None:
    asked = await desk("ToolPlan", "glob")
    preparer = RunPreparer(asked.catalogue.shelf, Live("runner"))  # type: ignore[arg-type]  # only a part of a log
    context = Context(now=0, stream_id=RUN, workspace=WORKSPACE, actor=OPERATOR)
    command = CreateRun(plan_digest=asked.digest)
    for _ in range(2):
        assert isinstance(await refusal(preparer.prepare(command, context)), errors.NotAuthorizedError)
        assert preparer.at_once(command, context) is None


async def test_a_plan_is_gated_by_what_lies_below_it_and_needs_the_connections_of_all_that_it_may_perform() -> None:
    catalogue = Catalogue()
    plain = plan_over("github.issues")
    undo = msgspec.structs.replace(plan_over("notion.pages").steps[0], id="s0.compensate", compensates="s0")
    below = WorkflowPin(version=1, digest="sha256:k", gated=True, integrations=("slack", "jira/work"))
    tools = {**plain.tools, **plan_over("notion.pages").tools}
    whole = msgspec.structs.replace(plain, compensations=(undo,), workflows={"kid": below}, tools=tools)
    problem = await refusal((await keep(catalogue, whole)).create())
    assert problem.details["integrations"] == ["github", "jira (work)", "notion", "slack"]
    for name, integration in (("github", "github"), ("work", "jira"), ("notion", "notion"), ("slack", "slack")):
        await connect(catalogue, name, integration)
    asked = await keep(catalogue, whole)
    catalogue.shelf.tables["plans"][asked.stream]["authorization"] = "approved"
    preparer, context = await door(asked)
    prepared = await preparer.prepare(CreateRun(plan_digest=asked.digest), context)
    assert isinstance(prepared, CreateRun)
    assert prepared.authorized is True, "the sub-workflow is gated, so somebody was asked"
