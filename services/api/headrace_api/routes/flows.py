"""Keys that runs share: concurrency keys and rate limits, who holds them and who waits."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from headrace.errors import NotFoundError
from headrace_api import shapes
from headrace_api.answers import answer
from headrace_api.asking import Asked, Paged, says
from headrace_api.flowing import IN_USE, Flow, flow, flow_row

router = APIRouter(tags=["flows"])


@router.get("/flows", name="list_flows", responses=says(shapes.Page[Flow]))
async def list_flows(
    asked: Asked,
    paged: Paged,
    kind: Annotated[Literal["concurrency", "rate_limit"] | None, Query(description="Only keys of this kind.")] = None,
    key: str | None = None,
) -> Response:
    """List the keys that runs use now, or lately did, the last used first, each with who holds it and who waits for it."""
    where = {name: value for name, value in {"kind": kind, "key": key}.items() if value} | IN_USE
    return await asked.page("flows", where, paged, flow, order="updated_at")


@router.get("/flows/{flow_id}", name="get_flow", responses=says(Flow))
async def get_flow(asked: Asked, flow_id: str) -> Response:
    """Show one key, by the id that its list gives or the one that a run names that waits for it."""
    row = await flow_row(asked.desk, flow_id, asked.workspace)
    if row is None:
        message = f"there is no flow {flow_id!r}: nobody holds that key, or waits for it"
        raise NotFoundError(message)
    return answer(flow(row))
