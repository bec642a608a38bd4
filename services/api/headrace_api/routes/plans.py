"""Plans: compile and record, list, show, and their standing authorisations."""

from typing import Any

from fastapi import APIRouter, Response

from headrace import codec, ids
from headrace.messages import RequestAuthorization
from headrace.plans.fusion import fused
from headrace.plans.model import parse
from headrace.vocabulary import LOG_CATALOGUE
from headrace_api import shapes, starting, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Asking, Paged, says
from headrace_api.bodies import AuthorizationBody, SpecBody

router = APIRouter(tags=["plans"])
PREFIX = "sha256:"


def full_digest(digest: str) -> str:
    """Give a digest with its `sha256:`, which callers may leave out."""
    return digest if digest.startswith(PREFIX) else PREFIX + digest


async def plan_row(asked: Asking, digest: str) -> dict[str, Any]:
    """Read a recorded plan; raises NotFoundError."""
    stream = ids.definition(ids.PLAN, asked.workspace, full_digest(digest))
    return await asked.row("plans", {"id": stream}, f"plan {digest!r}")


async def _keep(asked: Asked, digest: str) -> None:
    """Have the plan of a workflow that was applied just now on record; one that no workflow here has is left alone.

    Whoever knows the digest of a plan of another workspace must not get it into their own by asking.
    """
    where = {"workspace": asked.workspace, "plan_digest": digest}
    if await asked.desk.log.rows("workflows", where, limit=1):
        await starting.keep_plan(asked, digest)


@router.post("/plans", name="record_plan", responses=says(shapes.WholePlan))
async def record_plan(asked: Asked, body: SpecBody) -> Response:
    """Compile a document and keep the plan. Again: the same digest. Every problem of the document is named."""
    told = await starting.record(asked, body.spec)
    return await get_plan(asked, told["digest"])


@router.get("/plans", name="list_plans", responses=says(shapes.Page[shapes.Plan]))
async def list_plans(asked: Asked, paged: Paged, name: str | None = None, kind: str | None = None) -> Response:
    """List recorded plans, the newest first."""
    where = {key: value for key, value in {"name": name, "kind": kind}.items() if value}
    return await asked.page("plans", where, paged, views.plan, order="created_at")


@router.get("/plans/{digest}", name="get_plan", responses=says(shapes.WholePlan))
async def get_plan(asked: Asked, digest: str) -> Response:
    """Show a plan: exactly what would run."""
    row = await plan_row(asked, digest)
    body = (await asked.desk.log.get_blobs([row["digest"]]))[row["digest"]]
    return answer({**views.plan(row), "plan": codec.Raw(body), "fused": fused(parse(body))})


@router.post(
    "/plans/{digest}/authorizations",
    name="request_authorization",
    status_code=202,
    responses=says(shapes.Authorization, 202),
)
async def request_authorization(asked: Asked, digest: str, body: AuthorizationBody | None = None) -> Response:
    """Ask that a plan be authorised for every run of it. Again while pending or approved: the same."""
    wanted = body or AuthorizationBody()
    await _keep(asked, full_digest(digest))
    row = await plan_row(asked, digest)
    command = RequestAuthorization(roles=tuple(role.value for role in wanted.roles), quorum=wanted.quorum)
    await asked.send(LOG_CATALOGUE, command, stream_id=row["id"])
    return answer(views.authorization(await plan_row(asked, digest)), 202)


@router.get(
    "/plans/{digest}/authorizations", name="get_authorizations", responses=says(shapes.Page[shapes.Authorization])
)
async def get_authorizations(asked: Asked, digest: str) -> Response:
    """Give a plan's standing authorisation, as it is now; an empty list when nobody ever asked for one."""
    told = views.authorization(await plan_row(asked, digest))
    return answer({"items": [told] if told["status"] != "none" else [], "next_cursor": None})
