"""The front door, before any route: request ids, size limits, who it is, headers, and the one boundary of errors."""

import logging
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace import telemetry
from headrace.clock import mint
from headrace.errors import HeadraceError, TooLargeError
from headrace.ids import REQUEST
from headrace.vocabulary import BLOB_BYTES_MAX, REQUEST_BYTES_MAX
from headrace_api.admission import BLOBS, bearer, token_needed
from headrace_api.answers import REQUEST_ID, envelope
from headrace_api.desk import Desk
from headrace_api.direct import Direct, check_json, whole

SWALLOWED_BYTES_MAX: Final = 64 * 1024 * 1024
"""How much of a body that is too large is read and dropped, so that its sender gets to read the answer."""
BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SECURITY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

_log = logging.getLogger(__name__)


class Front:
    """Wraps the application: everything that reaches a route has an id, a caller and a bounded body."""

    def __init__(self, app: ASGIApp, desk: Desk, direct: Direct | None = None) -> None:
        self._app, self._desk, self._direct = app, desk, direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else mint(self._desk.clock, REQUEST)
        method, state = scope["method"], scope.setdefault("state", {})
        state["request_id"] = request_id
        if method == "HEAD":  # answered as GET is; the server sends no body, and what follows a run ends at once
            scope, state["head"] = {**scope, "method": "GET"}, True
        door = _Door(send, request_id)
        began = self._desk.clock.monotonic()
        try:
            limit = BLOB_BYTES_MAX if scope["path"].startswith(BLOBS) else REQUEST_BYTES_MAX
            await _refuse_large(headers, limit, receive)
            state["caller"] = await self._caller(scope["path"], headers)
            if method in BODILESS or scope["path"].startswith(BLOBS):
                await self._app(scope, _limited(receive, limit), door.send)
            else:
                await self._read(scope, headers, _limited(receive, limit), door.send)
        except HeadraceError as error:
            await door.refuse(error, error.status, scope, receive, self._desk.clock.now_ms())
        except Exception:  # noqa: BLE001  (the service's one outer boundary: logged, and answered without its inside)
            _log.exception("request %s failed: %s %s", request_id, method, scope["path"])
            problem = HeadraceError("something went wrong inside; the log of the api has it under this request id")
            await door.refuse(problem, 500, scope, receive, self._desk.clock.now_ms())
        route = getattr(scope.get("route"), "path", "none")
        telemetry.http_answered(method, route, door.status, self._desk.clock.monotonic() - began)

    async def _read(self, scope: Scope, headers: dict[bytes, str], receive: Receive, send: Send) -> None:
        """Serve a request that may have a body: the short way if there is one, or else the long one."""
        try:
            body, again = await whole(receive)
        except HTTPException:
            raise too_large(REQUEST_BYTES_MAX) from None
        if self._direct is not None and self._direct.knows(scope, headers):
            response = await self._direct.answer(scope, body, headers)
            if response is not None:
                await response(scope, again, send)
                return
        check_json(body, headers)
        await self._app(scope, again, send)

    async def _caller(self, path: str, headers: dict[bytes, str]) -> object:
        if not token_needed(path):
            return None
        return await self._desk.tokens.caller(bearer(headers), headers.get(b"traceparent"))


class _Door:
    """The way out: adds headers, and knows whether an answer has begun."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id, self._begun, self.status = send, request_id, False, 0

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self._begun, self.status = True, message["status"]
            own = [(b"x-request-id", self._request_id.encode()), *SECURITY]
            present = {name for name, _ in message.get("headers", ())}
            message = {
                **message,
                "headers": [*message.get("headers", ()), *(each for each in own if each[0] not in present)],
            }
        await self._send(message)

    async def refuse(self, error: HeadraceError, status: int, scope: Scope, receive: Receive, now_ms: int) -> None:
        """Answer with an error; an answer that has begun can only be cut off."""
        if self._begun:
            _log.warning("request %s was cut off: %s", self._request_id, error.message)
            return
        await envelope(error, status, self._request_id, now_ms)(scope, receive, self.send)


def too_large(limit: int) -> TooLargeError:
    """Refuse a body over its limit."""
    return TooLargeError(f"the body is over the limit of {limit} bytes", details={"limit_bytes": limit})


async def _refuse_large(headers: dict[bytes, str], limit: int, receive: Receive) -> None:
    told = headers.get(b"content-length", "")
    if not told.isdigit() or int(told) <= limit:
        return
    if int(told) <= SWALLOWED_BYTES_MAX:
        more = True
        while more:
            message = await receive()
            more = message["type"] == "http.request" and message.get("more_body", False)
    raise too_large(limit)


def _limited(receive: Receive, limit: int) -> Receive:
    """Count what comes, for senders that do not say how much it will be."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, too_large(limit).message)
        return message

    return counted
