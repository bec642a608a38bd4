"""Connections of integrations: settings and references to secrets, never secrets."""

from typing import Any

from fastapi import APIRouter, Response

from headrace import ids
from headrace.errors import NotFoundError
from headrace.messages import DeleteConnection, SaveConnection
from headrace.vocabulary import LOG_CATALOGUE
from headrace_api import shapes, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Asking, Paged, refusals, says
from headrace_api.bodies import ConnectionBody

router = APIRouter(tags=["connections"])
CONNECTION = "con"


async def _row(asked: Asking, name: str) -> dict[str, Any]:
    key = {"id": ids.definition(CONNECTION, asked.workspace, name)}
    row = await asked.row("connections", key, f"connection {name!r}")
    if row["deleted"]:
        message = f"there is no connection {name!r}"
        raise NotFoundError(message)
    return row


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
    command = SaveConnection(name=name, integration=body.integration, settings=body.settings, secrets=body.secrets)
    stream = ids.definition(CONNECTION, asked.workspace, name)
    await asked.send(LOG_CATALOGUE, command, stream_id=stream, keyed=False)
    return answer(views.connection(await _row(asked, name)))


@router.delete("/connections/{name}", name="delete_connection", status_code=204, responses=refusals())
async def delete_connection(asked: Asked, name: str) -> Response:
    """Take a connection away."""
    row = await _row(asked, name)
    await asked.send(LOG_CATALOGUE, DeleteConnection(), stream_id=row["id"], keyed=False)
    return Response(status_code=204)
