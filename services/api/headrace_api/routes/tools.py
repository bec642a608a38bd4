"""Tools: what can be performed, how it has done, and one call of one."""

from typing import Any

from fastapi import APIRouter, Response

from headrace.errors import NotFoundError, ToolNotFoundError
from headrace.messages import CreateRun
from headrace_api import shapes, starting
from headrace_api.answers import answer
from headrace_api.asking import Asked, Paged, says
from headrace_api.bodies import ToolRunBody
from headrace_api.routes.runs import created
from headrace_api.tooling import as_spec, tool

router = APIRouter(tags=["tools"])


@router.get("/tools", name="list_tools", responses=says(shapes.Page[shapes.Tool]))
async def list_tools(asked: Asked, paged: Paged, pool: str | None = None, effect: str | None = None) -> Response:
    """List tools by name, with how they have done on the workers that live."""
    stats = asked.desk.presence.tool_stats()
    where = {key: value for key, value in {"pool": pool, "effect": effect}.items() if value}

    def view(row: dict[str, Any]) -> dict[str, Any]:
        return tool(row, stats.get(row["name"], []))

    return await asked.page("tools", where, paged, view, order="name", descending=False)


async def _tool_row(asked: Asked, name: str) -> dict[str, Any]:
    rows = await asked.desk.log.rows("tools", {"workspace": asked.workspace, "name": name}, limit=1)
    if not rows:
        message = f"no tool {name!r} is known; a tool is known once a worker announced it"
        raise ToolNotFoundError(message, details={"field": "name"})
    return rows[0]


@router.get("/tools/{name}", name="get_tool", responses=says(shapes.Tool))
async def get_tool(asked: Asked, name: str) -> Response:
    """Show a tool with its schemas."""
    try:
        row = await _tool_row(asked, name)
    except ToolNotFoundError as problem:
        raise NotFoundError(problem.message) from problem
    return answer(tool(row, asked.desk.presence.tool_stats().get(name, [])))


@router.post("/tools/{name}/run", name="run_tool", status_code=202, responses=says(shapes.WholeRun, 202, [200]))
async def run_tool(asked: Asked, name: str, body: ToolRunBody) -> Response:
    """Call a tool, as a ToolPlan of one step: like any, it runs only when its plan is authorised."""
    await _tool_row(asked, name)
    told = await starting.record(asked, as_spec(name, body.arguments))
    command = CreateRun(plan_digest=told["digest"], subject=body.subject, stage=body.stage, labels=body.labels)
    return await created(asked, command)
