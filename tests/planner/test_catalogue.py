"""The catalogue keeps definitions, and plans only under their digests."""

import pytest

from headrace import codec, ids
from headrace.decider import Tell
from headrace.errors import ConflictError, ForbiddenError, NotFoundError, ValidationError
from headrace.events.catalogue import (
    ConnectionDeleted,
    ConnectionSaved,
    PlanRecorded,
    TokenCreated,
    TokenRevoked,
    ToolAnnounced,
    WorkflowApplied,
    WorkflowCompiled,
)
from headrace.ids import CONNECTION, PLAN, TOOL, WORKFLOW
from headrace.messages import (
    Advance,
    AnnounceTool,
    ApplyWorkflow,
    CreateToken,
    DeleteConnection,
    RecordPlan,
    RevokeToken,
    SaveConnection,
    Wake,
)
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

TOKEN = ids.make("tok", 0, b"t" * 16)


async def stocked() -> Catalogue:
    catalogue = Catalogue()
    await catalogue.announce(manifest("glob"), manifest("write", effect="write"))
    return catalogue


async def test_a_recorded_plan_is_a_blob_under_its_own_digest() -> None:
    catalogue = await stocked()
    digest = await catalogue.record(document("report", "glob"))
    assert codec.sha256(catalogue.shelf.blobs[digest]) == digest
    row = catalogue.row(PLAN, digest)
    assert (row["name"], row["kind"], row["gated"], row["authorization"]) == ("report", "Workflow", False, "none")
    assert row["created_by"] == "Olga"


async def test_record_delivered_twice_changes_nothing() -> None:
    catalogue = await stocked()
    first = await catalogue.record(document("report", "glob"))
    command = RecordPlan(spec=codec.raw(document("report", "glob")))
    assert await catalogue.send(command) == []
    assert await catalogue.record(document("report", "glob")) == first


async def test_a_plan_that_is_stored_is_recorded_by_its_digest() -> None:
    catalogue = await stocked()
    await catalogue.apply(document("report", "glob"))
    digest = catalogue.row(WORKFLOW, "report")["plan_digest"]
    (told,) = catalogue.commands()
    assert told == RecordPlan(plan_digest=digest)
    (event,) = await catalogue.send(told, stream=stream_of(PLAN, WORKSPACE, digest))
    assert isinstance(event, PlanRecorded)
    assert event.digest == digest


async def test_a_digest_that_names_nothing_is_not_recorded() -> None:
    catalogue = await stocked()
    assert isinstance(await refusal(catalogue.send(RecordPlan(plan_digest="sha256:none"))), NotFoundError)


async def test_problems_are_listed_together_with_their_places() -> None:
    catalogue = await stocked()
    problem = await refusal(catalogue.record(document("report", "glub", "rm -rf /")))
    assert isinstance(problem, ValidationError)
    assert [one["path"] for one in problem.details["problems"]] == ["spec.steps[0].tool", "spec.steps[1].tool"]
    assert "plans" not in catalogue.shelf.tables


async def test_a_yaml_text_is_a_document_too_and_its_problems_have_lines() -> None:
    catalogue = await stocked()
    text = "apiVersion: headrace/v1\nkind: Workflow\nmetadata: {name: report}\nspec:\n  stepps: []\n"
    problem = await refusal(catalogue.send(RecordPlan(spec=codec.raw(text))))
    assert problem.details["problems"][0]["line"]


async def test_a_caller_cannot_bring_a_plan_of_their_own() -> None:
    catalogue = await stocked()
    forged = RecordPlan(spec=codec.raw(document("report", "glob")), plan=codec.raw({"name": "evil"}))
    (event,) = await catalogue.send(forged)
    assert isinstance(event, PlanRecorded)
    assert event.name == "report"


async def test_an_applied_document_is_the_first_version() -> None:
    catalogue = await stocked()
    (event,) = await catalogue.apply(document("report", "glob", triggers=[{"event": "push"}]))
    assert isinstance(event, WorkflowApplied)
    assert (event.version, event.by) == (1, OPERATOR)
    row = catalogue.row(WORKFLOW, "report")
    assert row["triggers"] == [{"type": "event", "event": "push"}]
    assert row["labels"] == {"team": "docs"}
    assert row["plan_digest"] in catalogue.shelf.blobs


async def test_apply_delivered_twice_changes_nothing() -> None:
    catalogue = await stocked()
    await catalogue.apply(document("report", "glob"))
    assert await catalogue.apply(document("report", "glob")) == []
    reordered = dict(reversed(list(document("report", "glob").items())))
    assert await catalogue.apply(reordered) == []
    assert catalogue.row(WORKFLOW, "report")["version"] == 1


async def test_a_document_that_differs_is_the_next_version() -> None:
    catalogue = await stocked()
    await catalogue.apply(document("report", "glob"))
    (event,) = await catalogue.apply(document("report", "glob", "glob"))
    assert isinstance(event, WorkflowApplied)
    assert event.version == 2


async def test_a_workflow_stands_under_its_own_name_only() -> None:
    catalogue = await stocked()
    elsewhere = stream_of(WORKFLOW, WORKSPACE, "other")
    command = ApplyWorkflow(spec=codec.raw(document("report", "glob")))
    assert isinstance(await refusal(catalogue.send(command, stream=elsewhere)), ValidationError)


async def test_a_changed_tool_gives_the_workflow_another_plan() -> None:
    catalogue = await stocked()
    await catalogue.apply(document("report", "glob"))
    before = catalogue.row(WORKFLOW, "report")["plan_digest"]
    await catalogue.announce(manifest("glob", version="2"))
    (event,) = await catalogue.recompile("report")
    assert isinstance(event, WorkflowCompiled)
    row = catalogue.row(WORKFLOW, "report")
    assert (row["plan_digest"], row["version"]) == (event.plan_digest, 1)
    assert event.plan_digest != before
    assert event.plan_digest in catalogue.shelf.blobs


async def test_recompile_delivered_twice_changes_nothing() -> None:
    catalogue = await stocked()
    await catalogue.apply(document("report", "glob"))
    assert await catalogue.recompile("report") == []
    await catalogue.announce(manifest("glob", version="2"))
    await catalogue.recompile("report")
    assert await catalogue.recompile("report") == []


async def test_a_workflow_that_no_longer_compiles_says_why_and_has_no_plan() -> None:
    catalogue = await stocked()
    await catalogue.apply(document("report", "glob"))
    catalogue.shelf.tables["tools"].pop(stream_of(TOOL, WORKSPACE, "glob"))
    catalogue.preparer.tools.forget()
    (event,) = await catalogue.recompile("report")
    assert isinstance(event, WorkflowCompiled)
    row = catalogue.row(WORKFLOW, "report")
    assert row["plan_digest"] is None
    assert row["problems"] == ["unknown tool 'glob'"]
    assert await catalogue.recompile("report") == []
    await catalogue.announce(manifest("glob", version="2"))
    catalogue.shelf.tables["tools"] = {
        state.id: row.columns
        for state in catalogue.streams.values()
        for row in catalogue.room.rows(state, None)
        if row.table == "tools"
    }
    catalogue.preparer.tools.forget()
    assert len(await catalogue.recompile("report")) == 1
    assert catalogue.row(WORKFLOW, "report")["problems"] == []


async def test_announce_delivered_twice_changes_nothing() -> None:
    catalogue = Catalogue()
    assert [type(event) for event in await catalogue.announce(manifest("glob"))] == [ToolAnnounced]
    assert await catalogue.announce(manifest("glob")) == []
    assert len(await catalogue.announce(manifest("glob", version="2"))) == 1
    assert catalogue.row(TOOL, "glob")["version"] == "2"


async def test_a_tool_that_no_tool_can_be_is_refused() -> None:
    problem = await refusal(Catalogue().announce(manifest("glob", effect="magic")))
    assert "magic" in problem.message


async def test_a_tool_is_announced_to_its_own_stream_only() -> None:
    command = AnnounceTool(manifest=manifest("glob"), worker="wrk_1")
    elsewhere = stream_of(TOOL, WORKSPACE, "other")
    assert isinstance(await refusal(Catalogue().send(command, stream=elsewhere)), ValidationError)


def token(**changes: object) -> CreateToken:
    given = {"token_id": TOKEN, "name": "ci", "roles": ("operator",), "secret_hash": "a" * 64} | changes
    return CreateToken(**given)  # type: ignore[arg-type]  # samples of a table


async def test_a_token_is_kept_as_a_hash_and_never_answered() -> None:
    catalogue = Catalogue()
    (event,) = await catalogue.send(token(), ADMIN, TOKEN)
    assert isinstance(event, TokenCreated)
    row = catalogue.shelf.tables["tokens"][TOKEN]
    assert (row["secret_hash"], row["revoked_at"], row["created_by"]) == ("a" * 64, None, "Root")
    assert "a" * 64 not in str(catalogue.room.answer(catalogue.streams[TOKEN], token()))


async def test_create_token_delivered_twice_changes_nothing() -> None:
    catalogue = Catalogue()
    await catalogue.send(token(), ADMIN, TOKEN)
    assert isinstance(await refusal(catalogue.send(token(secret_hash="b" * 64), ADMIN, TOKEN)), ConflictError)
    assert catalogue.shelf.tables["tokens"][TOKEN]["secret_hash"] == "a" * 64


@pytest.mark.parametrize(
    "wrong",
    [{"roles": ("king",)}, {"roles": ()}, {"name": " "}, {"secret_hash": "plain secret"}, {"token_id": "tok_1"}],
)
async def test_a_token_that_is_no_token_is_refused(wrong: dict[str, object]) -> None:
    assert isinstance(await refusal(Catalogue().send(token(**wrong), ADMIN, TOKEN)), ValidationError)


async def test_revoke_delivered_twice_changes_nothing() -> None:
    catalogue = Catalogue()
    await catalogue.send(token(), ADMIN, TOKEN)
    assert [type(event) for event in await catalogue.send(RevokeToken(), ADMIN, TOKEN)] == [TokenRevoked]
    assert await catalogue.send(RevokeToken(), ADMIN, TOKEN) == []
    assert catalogue.shelf.tables["tokens"][TOKEN]["revoked_at"] == catalogue.clock.ms
    assert isinstance(await refusal(Catalogue().send(RevokeToken(), ADMIN, TOKEN)), NotFoundError)


GITHUB = stream_of(CONNECTION, WORKSPACE, "github")


def connection(**secrets: str) -> SaveConnection:
    return SaveConnection(name="github", integration="github", settings={"owner": "us"}, secrets=secrets)


async def test_connect_delivered_twice_changes_nothing() -> None:
    catalogue = Catalogue()
    (event,) = await catalogue.send(connection(token="env:GITHUB_TOKEN"), ADMIN, GITHUB)
    assert isinstance(event, ConnectionSaved)
    assert await catalogue.send(connection(token="env:GITHUB_TOKEN"), ADMIN, GITHUB) == []
    assert len(await catalogue.send(connection(token="file:/run/secrets/github"), ADMIN, GITHUB)) == 1
    assert catalogue.row(CONNECTION, "github")["secrets"] == {"token": "file:/run/secrets/github"}


@pytest.mark.parametrize("secret", ["ghp_s3cr3t", "user:s3cr3t", "env:", "env:s3cr3t with spaces", "ENV:s3cr3t", ""])
async def test_a_secret_that_is_no_reference_is_refused_and_not_quoted(secret: str) -> None:
    problem = await refusal(Catalogue().send(connection(token=secret), ADMIN, GITHUB))
    assert isinstance(problem, ValidationError)
    assert "s3cr3t" not in problem.message + str(problem.details)


async def test_disconnect_delivered_twice_changes_nothing() -> None:
    catalogue = Catalogue()
    await catalogue.send(connection(), ADMIN, GITHUB)
    assert [type(one) for one in await catalogue.send(DeleteConnection(), ADMIN, GITHUB)] == [ConnectionDeleted]
    assert await catalogue.send(DeleteConnection(), ADMIN, GITHUB) == []
    row = catalogue.row(CONNECTION, "github")
    assert (row["deleted"], row["status"]) == (True, "missing")
    await catalogue.send(connection(), ADMIN, GITHUB)
    assert catalogue.row(CONNECTION, "github")["deleted"] is False


async def test_roles_decide_who_may_write() -> None:
    catalogue = await stocked()
    for actor in (VIEWER, APPROVER):
        assert isinstance(await refusal(catalogue.record(document("report", "glob"), actor)), ForbiddenError)
        assert isinstance(await refusal(catalogue.apply(document("report", "glob"), actor)), ForbiddenError)
    for command, stream in ((token(), TOKEN), (connection(), GITHUB)):
        assert isinstance(await refusal(catalogue.send(command, OPERATOR, stream)), ForbiddenError)
    await catalogue.apply(document("report", "glob"), ADMIN)


async def test_wake_and_advance_do_nothing_by_themselves() -> None:
    catalogue = await stocked()
    digest = await catalogue.record(document("report", "glob"))
    stream = stream_of(PLAN, WORKSPACE, digest)
    assert await catalogue.send(Wake(), stream=stream) == []
    assert await catalogue.send(Advance(), stream=stream) == []
    assert not any(isinstance(effect, Tell) for effect in catalogue.told)


async def test_a_snapshot_of_every_kind_gives_the_same_row() -> None:
    catalogue = await stocked()
    await catalogue.record(document("report", "glob"))
    await catalogue.apply(document("report", "glob"))
    await catalogue.send(token(), ADMIN, TOKEN)
    await catalogue.send(connection(token="env:TOKEN"), ADMIN, GITHUB)
    for state in catalogue.streams.values():
        again = catalogue.room.restore(catalogue.room.snapshot(state))
        assert list(catalogue.room.rows(again, None)) == list(catalogue.room.rows(state, None))
