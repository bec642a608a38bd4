"""Bodies by digest: workers put and get them with the token of one attempt, callers download what is theirs."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from headrace import codec, ids
from headrace.client.tokens import PREFIX
from headrace.errors import NotFoundError, UnauthorizedError, ValidationError
from headrace_api import shapes, views
from headrace_api.admission import bearer
from headrace_api.answers import answer
from headrace_api.asking import Asked, Asking, Paged, raw_answers, says
from headrace_api.desk import Desk
from headrace_api.routes.plans import full_digest

router = APIRouter(tags=["blobs"])
DIGEST_CHARS = 71
OCTETS = "application/octet-stream"
TOKEN: Final[list[dict[str, list[str]]]] = [{"HTTPBearer": []}, {"APIKeyHeader": []}]
"""How these routes are asked, which check tokens themselves."""
SAFE_TYPES = (
    "text/plain",
    "application/json",
    "text/markdown",
    "text/csv",
    "application/pdf",
    "image/png",
    "image/jpeg",
)


HEX_CHARS = 64
"""Of a digest, which may come without its `sha256:`."""


def checked_digest(text: str) -> str:
    """Read a digest, with or without `sha256:`; raises ValidationError."""
    digest = full_digest(text)
    hexadecimal = digest.removeprefix("sha256:")
    if len(digest) != DIGEST_CHARS or any(letter not in "0123456789abcdef" for letter in hexadecimal):
        message = f"{text!r} is no digest: expected sha256: and 64 hex digits"
        raise ValidationError(message, details={"field": "digest"})
    return digest


@router.put(
    "/blobs/{digest}",
    name="put_blob",
    status_code=201,
    responses=says(shapes.Blob, 201),
    openapi_extra={"security": TOKEN, "requestBody": {"required": True, "content": {OCTETS: {}}}},
)
async def put_blob(request: Request, digest: str) -> Response:
    """Keep a body of the attempt's workspace under its digest, with the attempt's token. Again: nothing changes."""
    desk = _desk(request)
    token = _token(request)
    claim = desk.keys.check_blob_token(token, desk.clock.now_ms())
    wanted = checked_digest(digest)
    body = await request.body()
    found = codec.sha256(body)
    if found != wanted:
        message = f"the body's digest is {found}, not {wanted}"
        raise ValidationError(message, details={"field": "digest", "given": wanted, "found": found})
    await desk.log.put_blob(wanted, body, claim.workspace)
    return answer({"digest": wanted, "size_bytes": len(body)}, 201)


@router.get("/blobs/{digest}", name="get_blob", responses=raw_answers(OCTETS), openapi_extra={"security": TOKEN})
async def get_blob(request: Request, digest: str) -> Response:
    """Give a body of the workspace, to an attempt's token or to a caller; to an attempt also what its order names."""
    desk, token = _desk(request), _token(request)
    if token.startswith(PREFIX):
        caller = await desk.tokens.caller(token, None)
        wanted = checked_digest(digest)
        await _media_type(desk, wanted, caller.workspace)
        return Response(await _body(desk, wanted), media_type=OCTETS)
    claim = desk.keys.check_blob_token(token, desk.clock.now_ms())
    wanted = checked_digest(digest)
    if wanted not in claim.digests:
        await desk.check_own(wanted, claim.workspace)
    return Response(await _body(desk, wanted), media_type=OCTETS)


def _desk(request: Request) -> Desk:
    desk = request.app.state.desk
    assert isinstance(desk, Desk)
    return desk


def _token(request: Request) -> str:
    token = bearer({name: value.decode("latin-1") for name, value in request.scope["headers"]})
    if token is None:
        message = "blobs need the token of an attempt, or an access token to read"
        raise UnauthorizedError(message)
    return token


async def _body(desk: Desk, digest: str) -> bytes:
    body = (await desk.log.get_blobs([digest])).get(digest)
    if body is None:
        message = f"there is no body {digest}"
        raise NotFoundError(message)
    return body


async def _media_type(desk: Desk, digest: str, workspace: str) -> str:
    """Find what in the workspace has this body, and of which type it is; raises NotFoundError."""
    if await desk.log.rows("plans", {"workspace": workspace, "digest": digest}, limit=1):
        return "application/json"
    # A worker's word that an output is this body is not enough: it must have been put for this workspace.
    await desk.check_own(digest, workspace)
    for table, order in (("artifacts", "id"), ("steps", "step")):
        rows = await desk.log.rows(table, {"workspace": workspace, "blob": digest}, order=order, limit=1)
        if rows:
            return str(rows[0].get("media_type") or "application/json")
    message = f"there is no body {digest} in this workspace"
    raise NotFoundError(message)


@router.get("/artifacts", name="list_artifacts", responses=says(shapes.Page[shapes.Artifact]), tags=["artifacts"])
async def list_artifacts(
    asked: Asked, paged: Paged, subject: str | None = None, run_id: str | None = None, type: str | None = None
) -> Response:
    """List kept outputs, the newest first: of a subject, of a run, of a type."""
    if run_id:
        await asked.run(run_id)  # one that is not there, or not any more, is said so
    where = {"subject": subject, "run_id": run_id, "type": type}
    return await asked.page("artifacts", {key: value for key, value in where.items() if value}, paged, views.artifact)


@router.get("/artifacts/{digest}", name="get_artifact", responses=raw_answers(OCTETS), tags=["artifacts"])
async def get_artifact(asked: Asked, digest: str) -> Response:
    """Download a kept output, or a large output of a step, whole: by its digest, or by the artifact's id."""
    if digest.startswith(f"{ids.ARTIFACT}_"):
        return await _inline(asked, digest)
    if not digest.startswith("sha256:") and len(digest) != HEX_CHARS:
        message = f"there is no artifact {digest!r}: it is named by its id, or by its digest"
        raise NotFoundError(message)
    wanted = checked_digest(digest)
    media_type = await _media_type(asked.desk, wanted, asked.workspace)
    return _download(await _body(asked.desk, wanted), media_type, wanted.removeprefix("sha256:")[:16])


async def _inline(asked: Asking, artifact_id: str) -> Response:
    row: dict[str, Any] = await asked.row("artifacts", {"id": artifact_id}, f"artifact {artifact_id!r}")
    if row["blob"]:
        await asked.desk.check_own(row["blob"], asked.workspace)
        return _download(await _body(asked.desk, row["blob"]), str(row["media_type"]), artifact_id)
    kept = row["body"] if row["body"] is not None else row["value"]
    body = kept.encode("utf-8", "surrogatepass") if isinstance(kept, str) else codec.dumps(kept)
    return _download(body, str(row["media_type"]), artifact_id)


def _download(body: bytes, media_type: str, name: str) -> Response:
    kind = media_type if media_type.partition(";")[0] in SAFE_TYPES else OCTETS
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "private, immutable, max-age=86400",
    }
    return Response(body, media_type=kind, headers=headers)
