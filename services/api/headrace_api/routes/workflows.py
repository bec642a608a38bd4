"""Workflows: apply, list, show, versions, and runs of them by a trigger."""

from collections import deque
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Response

from headrace import codec, ids
from headrace.errors import TooLargeError, ValidationError
from headrace.events.catalogue import WorkflowApplied
from headrace.messages import ApplyWorkflow, CreateRun
from headrace.vocabulary import LOG_CATALOGUE, MESSAGE_BYTES_MAX
from headrace_api import cursors, shapes, starting, triggering, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Asking, Paged, says
from headrace_api.bodies import Json, SpecBody
from headrace_api.routes.runs import created

router = APIRouter(tags=["workflows"])
NAMELESS = "unnamed"
VERSION_MAX: Final = 2**31 - 1


async def _apply(asked: Asking, spec: dict[str, Any] | str, name: str | None) -> Response:
    if isinstance(spec, str):
        from headrace.specs.documents import read_spec  # 60 ms and 6 MB, for who sends a document as text

        metadata = read_spec(spec).get("metadata")
    else:
        metadata = spec.get("metadata")
    told = metadata.get("name") if isinstance(metadata, dict) else None
    # A document without a usable name goes where its problems are found and listed with all others.
    own = told if isinstance(told, str) and told else NAMELESS
    if name is not None and name != own:
        message = f"the document is named {own!r}, the path says {name!r}"
        raise ValidationError(message, details={"field": "spec.metadata.name"})
    stream = ids.definition(ids.WORKFLOW, asked.workspace, own)
    reply = await asked.send(LOG_CATALOGUE, ApplyWorkflow(spec=codec.raw(spec)), stream_id=stream)
    row = await starting.workflow_row(asked, own)
    if row["plan_digest"]:
        await starting.keep_plan(
            asked, row["plan_digest"]
        )  # its owner tells it too, but whoever applied it may look now
    return answer(views.workflow_whole(row), reply.status, {"Location": f"/api/workflows/{own}"})


@router.post("/workflows", name="apply_workflow", responses=says(shapes.WholeWorkflow, 200, [201]))
async def apply_workflow(asked: Asked, body: SpecBody) -> Response:
    """Keep a document as the newest version of its name. Again with the same document: nothing changes."""
    return await _apply(asked, body.spec, None)


@router.put("/workflows/{name}", name="put_workflow", responses=says(shapes.WholeWorkflow, 200, [201]))
async def put_workflow(asked: Asked, name: str, body: SpecBody) -> Response:
    """Keep a document as the newest version of `name`, which must be its own."""
    return await _apply(asked, body.spec, name)


@router.get("/workflows", name="list_workflows", responses=says(shapes.Page[shapes.Workflow]))
async def list_workflows(asked: Asked, paged: Paged, kind: str | None = None) -> Response:
    """List workflows by name."""
    where = {"kind": kind} if kind else {}
    return await asked.page("workflows", where, paged, views.workflow, order="name", descending=False)


@router.get("/workflows/{name}", name="get_workflow", responses=says(shapes.WholeWorkflow))
async def get_workflow(asked: Asked, name: str) -> Response:
    """Show a workflow's newest version."""
    return answer(views.workflow_whole(await starting.workflow_row(asked, name)))


@router.get(
    "/workflows/{name}/versions", name="list_workflow_versions", responses=says(shapes.Page[shapes.WorkflowVersion])
)
async def list_workflow_versions(asked: Asked, paged: Paged, name: str) -> Response:
    """List a workflow's versions, the newest first."""
    row = await starting.workflow_row(asked, name)
    before = row["version"] + 1
    if paged.cursor is not None:
        before = min(before, cursors.number(paged.cursor, VERSION_MAX, cursors.OF_THE_PAGE_BEFORE))
    found: deque[tuple[int, WorkflowApplied]] = deque(maxlen=paged.limit + 1)
    async for at, told in starting.versions(asked, row["id"], before - paged.limit - 1):
        if told.version >= before:
            break
        found.append((at, told))
    items = [
        {
            "version": told.version,
            "plan_digest": told.plan_digest,
            "applied_at": views.at(at),
            "applied_by": {"id": told.by.id, "name": told.by.name},
            "spec": told.spec,
        }
        for at, told in reversed(found)
    ]
    return answer(views.page(items, paged.limit, "version"))


@router.get("/workflows/{name}/runs", name="list_workflow_runs", responses=says(shapes.Page[shapes.Run]))
async def list_workflow_runs(asked: Asked, paged: Paged, name: str) -> Response:
    """List a workflow's runs, the newest first."""
    row = await starting.workflow_row(asked, name)
    return await asked.page("runs", {"workflow": row["name"]}, paged, views.run)


@router.post(
    "/workflows/{name}/trigger", name="trigger_workflow", status_code=202, responses=says(shapes.WholeRun, 202, [200])
)
async def trigger_workflow(asked: Asked, name: str, payload: Annotated[Json, Body()] = None) -> Response:
    """Run a workflow with the body as its trigger. Always a run id, at once; the run is recorded before."""
    source = await starting.of_workflow(asked, name)
    command = CreateRun(
        plan_digest=source.plan_digest,
        workflow=source.workflow,
        workflow_version=source.version,
        trigger=codec.raw(payload),
    )
    return await created(asked, command, newest=True)


@router.post("/triggers/{name}", name="publish_trigger", status_code=202, responses=says(shapes.Published, 202))
async def publish_trigger(asked: Asked, name: str, payload: Annotated[Json, Body()] = None) -> Response:
    """Publish a trigger event: a run of each workflow that declares the name. A repeat under its key publishes nothing."""
    data = codec.dumps(payload)
    if len(data) > MESSAGE_BYTES_MAX:
        message = f"a trigger event may have {MESSAGE_BYTES_MAX} bytes; this has {len(data)}: bring large content by reference"
        raise TooLargeError(message, details={"limit_bytes": MESSAGE_BYTES_MAX})
    return answer(await triggering.publish(asked, name, data), 202)
