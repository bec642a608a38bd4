"""What every answer shares: JSON bodies by our own codec, the error envelope, and who may be told what."""

import re
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from headrace import codec, errors
from headrace_api import views

JSON: Final = "application/json"
KIND_BY_STATUS: Final[dict[int, type[errors.HeadraceError]]] = {
    400: errors.ValidationError,
    401: errors.UnauthorizedError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    413: errors.TooLargeError,
    422: errors.UnprocessableError,
    503: errors.UnavailableError,
}
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Give a body as JSON."""
    return Response(codec.dumps(body), status, headers, JSON)


def envelope(error: errors.HeadraceError, status: int, request_id: str, now_ms: int) -> Response:
    """Give an error as users meet it, with `Retry-After` where it makes sense to try again."""
    body = {
        "error": {
            **error.envelope(),
            "details": details_of(error),
            "timestamp": views.at(now_ms),
            "request_id": request_id,
        }
    }
    headers = {}
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        headers["Retry-After"] = str(error.details.get("retry_after_s", 2))
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="headrace"'
    return Response(codec.dumps(body), status, headers, JSON)


def details_of(error: errors.HeadraceError) -> dict[str, Any]:
    """Give what is told beside an error's message: of a request that is wrong always the `problems`, each with its field.

    An error about one field names it by `field`; empty is the request as a whole.
    """
    if not isinstance(error, errors.ValidationError) or "problems" in error.details:
        return error.details
    field = str(error.details.get("field", ""))
    message = error.message.removeprefix(f"{field}: ") if field else error.message
    return {**error.details, "problems": [{"field": field, "message": message[: errors.MESSAGE_CHARS_MAX]}]}


def of_http(problem: HTTPException, path: str, method: str) -> errors.HeadraceError:
    """Say what the framework refused (no such route, no such method, a body that is too large) in our words."""
    if problem.status_code == HTTPStatus.NOT_FOUND:
        hint = f"; did you mean {path.rstrip('/')}?" if path.endswith("/") else ""
        return errors.NotFoundError(f"there is no route {method} {path}{hint}")
    if problem.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return errors.ValidationError(f"{method} is not possible on {path}; see /api/openapi.json")
    if problem.status_code == HTTPStatus.BAD_REQUEST and problem.__cause__ is not None:
        return errors.ValidationError(f"the body is not JSON: {_unread(problem.__cause__)}")
    kind = KIND_BY_STATUS.get(problem.status_code, errors.HeadraceError)
    return kind(str(problem.detail))


def _unread(problem: BaseException) -> str:
    """Say why a body cannot be read, of which the framework says only that it cannot."""
    match problem:
        case UnicodeDecodeError():
            return f"it is not UTF-8: {problem.reason} at byte {problem.start}"
        case RecursionError():
            return "it is nested too deeply"
        case _:
            return str(problem)


def request_id(request: Request) -> str:
    """Give the id of the request, which its answer and every log line of it carry."""
    return str(getattr(request.state, "request_id", ""))
