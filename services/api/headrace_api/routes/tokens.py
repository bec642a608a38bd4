"""Access tokens: make, list, revoke, and who one is."""

from fastapi import APIRouter, Response

from headrace.client.tokens import derive
from headrace.keys import COMMANDS, secret_hash
from headrace.messages import CreateToken, RevokeToken
from headrace.vocabulary import LOG_CATALOGUE
from headrace_api import shapes, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Paged, says
from headrace_api.bodies import TokenBody

router = APIRouter(tags=["tokens"])


@router.post("/tokens", name="create_token", status_code=201, responses=says(shapes.NewToken, 201))
async def create_token(asked: Asked, body: TokenBody) -> Response:
    """Make an access token. It is shown in this answer only; repeating the request under its key gives it again."""
    parts = (asked.workspace, asked.caller.actor.id, asked.key)
    token = derive(asked.desk.keys.key(COMMANDS), *parts)
    roles = tuple(role.value for role in dict.fromkeys(body.roles))
    command = CreateToken(token_id=token.id, name=body.name, roles=roles, secret_hash=secret_hash(token.secret))
    await asked.send(LOG_CATALOGUE, command, stream_id=token.id)
    return answer({"id": token.id, "name": body.name, "roles": list(roles), "token": token.text}, 201)


@router.get("/tokens", name="list_tokens", responses=says(shapes.Page[shapes.Token]))
async def list_tokens(asked: Asked, paged: Paged) -> Response:
    """List access tokens, the newest first; secrets are not kept, so they cannot be shown."""
    return await asked.page("tokens", {}, paged, views.token, order="created_at")


@router.delete("/tokens/{token_id}", name="revoke_token", responses=says(shapes.Token))
async def revoke_token(asked: Asked, token_id: str) -> Response:
    """Make a token worthless, at once and for ever."""
    row = await asked.row("tokens", {"id": token_id}, f"token {token_id!r}")
    await asked.send(LOG_CATALOGUE, RevokeToken(), stream_id=row["id"], keyed=False)
    return answer(views.token(await asked.row("tokens", {"id": token_id}, f"token {token_id!r}")))


@router.get("/me", name="get_me", responses=says(shapes.Me))
async def get_me(asked: Asked) -> Response:
    """Say who the token stands for."""
    actor = asked.caller.actor
    return answer({"id": actor.id, "name": actor.name, "roles": list(actor.roles), "workspace": asked.workspace})
