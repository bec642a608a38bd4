"""Dashboards: list them, and run one for a result per view."""

from typing import Final

from fastapi import APIRouter, Response

from headrace import codec
from headrace.errors import NotFoundError
from headrace.messages import CreateRun
from headrace.vocabulary import RUN_FINAL
from headrace_api import shapes, starting, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Paged, says
from headrace_api.bodies import DashboardRunBody

router = APIRouter(tags=["dashboards"])
KIND = "Dashboard"
WAIT_S: Final = 20.0
"""How long it is waited unless the caller says: clients, ours too, give a request up that is not answered within 30 s."""


@router.get("/dashboards", name="list_dashboards", responses=says(shapes.Page[shapes.Workflow]))
async def list_dashboards(asked: Asked, paged: Paged) -> Response:
    """List dashboards by name."""
    return await asked.page("workflows", {"kind": KIND}, paged, views.workflow, order="name", descending=False)


@router.get("/dashboards/{name}", name="get_dashboard", responses=says(shapes.WholeWorkflow))
async def get_dashboard(asked: Asked, name: str) -> Response:
    """Show a dashboard with its document."""
    row = await starting.workflow_row(asked, name)
    if row["kind"] != KIND:
        message = f"there is no dashboard {name!r}; {name!r} is a {row['kind']}"
        raise NotFoundError(message)
    return answer(views.workflow_whole(row))


@router.post(
    "/dashboards/{name}/run",
    name="run_dashboard",
    responses={
        **says(shapes.Result),
        202: {"model": shapes.WholeRun, "description": "not over yet: ask for its result"},
    },
)
async def run_dashboard(asked: Asked, name: str, body: DashboardRunBody | None = None) -> Response:
    """Run a dashboard and wait for one result per view; a missing connection refuses it before a run exists."""
    await get_dashboard(asked, name)
    wanted = body or DashboardRunBody()
    source = await starting.of_workflow(asked, name)
    command = CreateRun(
        plan_digest=source.plan_digest,
        workflow=source.workflow,
        workflow_version=source.version,
        inputs=codec.raw(wanted.inputs),
        subject=wanted.subject,
    )
    row, _ = await starting.create_and_wait(asked, command, asked.wait_s or WAIT_S, newest=True)
    if row["status"] not in RUN_FINAL:
        return answer(views.run_whole(row, []), 202, {"Location": f"/api/runs/{row['id']}"})
    return answer(await starting.result(asked, row), 200, {"Location": f"/api/runs/{row['id']}"})
