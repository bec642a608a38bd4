"""Connections of integrations: settings and references to secrets, never secrets."""

from typing import Any

from fastapi import APIRouter, Response

from headrace import ids
from headrace.errors import NotFoundError, ValidationError
from headrace.expressions.near import hint
from headrace.messages import DeleteConnection, SaveConnection
from headrace.vocabulary import LOG_CATALOGUE
from headrace_api import shapes, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Asking, Paged, refusals, says
from headrace_api.bodies import ConnectionBody

router = APIRouter(tags=["connections"])
TOOLS_PAGE = 1_000


async def _row(asked: Asking, name: str) -> dict[str, Any]:
    key = {"id": ids.definition(ids.CONNECTION, asked.workspace, name)}
    row = await asked.row("connections", key, f"connection {name!r}")
    if row["deleted"]:
        message = f"there is no connection {name!r}"
        raise NotFoundError(message)
    return row


async def _check_known(asked: Asking, name: str, integration: str) -> None:
    """Refuse an integration that no tool works with; while no worker has offered one, whatever is named may be meant."""
    known: set[str] = set()
    after: str | None = None
    while True:
        rows = await asked.desk.log.rows(
            "tools", {"workspace": asked.workspace}, descending=False, after=after, limit=TOOLS_PAGE
        )
        known |= {row["manifest"]["requires_connection"] for row in rows if row["manifest"].get("requires_connection")}
        if len(rows) < TOOLS_PAGE:
            break
        after = rows[-1]["id"]
    if not known or integration in known:
        return
    row = await asked.desk.own_row(
        "connections", {"id": ids.definition(ids.CONNECTION, asked.workspace, name)}, asked.workspace
    )
    if row is None or row["integration"] != integration:
        message = f"no worker has ever offered an integration {integration!r}{hint(integration, known)}"
        raise ValidationError(message, details={"field": "integration"})


@router.get("/connections", name="list_connections", responses=says(shapes.Page[shapes.Connection]))
async def list_connections(asked: Asked, paged: Paged, integration: str | None = None) -> Response:
    """List connections by name; of their secrets only the names."""
    where = {"deleted": False, **({"integration": integration} if integration else {})}
    return await asked.page("connections", where, paged, views.connection, order="name", descending=False)


@router.get("/connections/{name}", name="get_connection", responses=says(shapes.Connection))
async def get_connection(asked: Asked, name: str) -> Response:
    """Show a connection."""
    return answer(views.connection(await _row(asked, name)))


@router.put("/connections/{name}", name="save_connection", responses=says(shapes.Connection))
async def save_connection(asked: Asked, name: str, body: ConnectionBody) -> Response:
    """Connect an integration. Secrets come as references, which only the integrations service resolves."""
    await _check_known(asked, name, body.integration)
    command = SaveConnection(name=name, integration=body.integration, settings=body.settings, secrets=body.secrets)
    stream = ids.definition(ids.CONNECTION, asked.workspace, name)
    await asked.send(LOG_CATALOGUE, command, stream_id=stream, keyed=False)
    return answer(views.connection(await _row(asked, name)))


@router.delete("/connections/{name}", name="delete_connection", status_code=204, responses=refusals())
async def delete_connection(asked: Asked, name: str) -> Response:
    """Take a connection away."""
    row = await _row(asked, name)
    await asked.send(LOG_CATALOGUE, DeleteConnection(), stream_id=row["id"], keyed=False)
    return Response(status_code=204)
