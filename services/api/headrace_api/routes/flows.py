"""Keys that runs share: concurrency keys and rate limits, who holds them and who waits."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from headrace_api import shapes
from headrace_api.answers import answer
from headrace_api.asking import Asked, Paged, says
from headrace_api.flowing import Flow, flow

router = APIRouter(tags=["flows"])


@router.get("/flows", name="list_flows", responses=says(shapes.Page[Flow]))
async def list_flows(
    asked: Asked,
    paged: Paged,
    kind: Annotated[Literal["concurrency", "rate_limit"] | None, Query(description="Only keys of this kind.")] = None,
    key: str | None = None,
) -> Response:
    """List the keys that runs share, the last used first, each with who holds it and who waits for it."""
    where = {name: value for name, value in {"kind": kind, "key": key}.items() if value}
    return await asked.page("flows", where, paged, flow, order="updated_at")


@router.get("/flows/{flow_id}", name="get_flow", responses=says(Flow))
async def get_flow(asked: Asked, flow_id: str) -> Response:
    """Show one key."""
    return answer(flow(await asked.row("flows", {"id": flow_id}, f"flow {flow_id!r}")))
