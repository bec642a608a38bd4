"""HTTP requests: `http` reads, `http_write` changes; neither reaches a private address unless that is allowed.

A request goes to the very address that the guard admitted, with the name in `Host` and in TLS. Connections are not
kept: one that was checked for a name must not carry a request for another name at the same address.
"""

import asyncio
import base64
import ssl
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, Literal

import httpx2
from pydantic import BaseModel, Field, field_validator

from headrace import codec
from headrace.errors import StepError, TooLargeError, ValidationError
from headrace.http_client import HttpClient
from headrace.ports.tool import ToolContext
from headrace.vocabulary import PREVIEW_CHARS, TOOL_TIMEOUT_S
from headrace_runner.tools.addresses import AddressGuard, shown
from headrace_runner.tools.base import Arguments, ReadTool, WriteTool

RESPONSE_BYTES_MAX: Final = 32 * 1024 * 1024
REQUEST_BYTES_MAX: Final = 8 * 1024 * 1024
TIMEOUT_S_MAX: Final = 300.0
REDIRECTS_MAX: Final = 5
ERROR_STATUS: Final = 400
SEE_OTHER: Final = frozenset({301, 302, 303})
REDIRECTS: Final = SEE_OTHER | {307, 308}
HEADERS_REFUSED: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade"})
HEADERS_OF_ORIGIN: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
TEXT_TYPES: Final = ("text/", "application/xml", "application/javascript", "application/x-www-form-urlencoded")
USER_AGENT: Final = "headrace/0.1"

Headers = dict[str, str]


class HttpArguments(Arguments):
    """A request; a `body` that is no text is sent as JSON."""

    url: str = Field(min_length=1, max_length=8_192)
    headers: Headers = {}
    query: dict[str, str | int | float | bool] = {}
    body: Any = None
    timeout_s: float = Field(default=TOOL_TIMEOUT_S, gt=0, le=TIMEOUT_S_MAX)
    follow_redirects: bool = False

    @field_validator("headers")
    @classmethod
    def _ours_are_ours(cls, headers: Headers) -> Headers:
        refused = sorted(name for name in headers if name.lower() in HEADERS_REFUSED)
        if refused:
            message = f"{', '.join(refused)} cannot be set: the request itself decides"
            raise ValueError(message)
        return headers


class ReadArguments(HttpArguments):
    """A request that changes nothing."""

    method: Literal["GET", "HEAD", "OPTIONS"] = "GET"


class WriteArguments(HttpArguments):
    """A request that changes something."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"


class HttpResult(BaseModel):
    """An answer below 400. `body` is JSON where the answer says so, else text, else base64: `encoding` tells."""

    status: int
    headers: Headers
    body: Any = None
    encoding: Literal["json", "text", "base64"]
    url: str


class Requester:
    """Sends guarded requests."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._tls: ssl.SSLContext | None = None

    async def send(self, context: ToolContext, arguments: HttpArguments, method: str, extra: Headers) -> HttpResult:
        """Send a request and give its answer; raises StepError (upstream_error, rate_limited, timeout, validation_error)."""
        url = _url(arguments)
        headers = httpx2.Headers({"user-agent": USER_AGENT, **extra, **arguments.headers})
        content = _content(arguments.body, headers)
        try:
            async with asyncio.timeout(arguments.timeout_s):
                return await self._hops(context, url, method, headers, content, arguments)
        except (TimeoutError, httpx2.TimeoutException) as problem:
            message = f"{method} {shown(url)} was not answered within {arguments.timeout_s:g} s"
            raise StepError(message, type="timeout", details={"url": shown(url)}) from problem

    async def _hops(
        self,
        context: ToolContext,
        url: httpx2.URL,
        method: str,
        headers: httpx2.Headers,
        content: bytes | None,
        arguments: HttpArguments,
    ) -> HttpResult:
        for hop in range(REDIRECTS_MAX + 1):
            response, body = await self._once(url, method, headers, content, arguments.timeout_s)
            location = response.headers.get("location")
            if not (arguments.follow_redirects and response.status_code in REDIRECTS and location):
                context.source(shown(url), calls=hop + 1)
                return _result(url, response, body)
            target = url.join(location)
            if (target.scheme, target.netloc) != (url.scheme, url.netloc):
                headers = httpx2.Headers([item for item in headers.multi_items() if item[0] not in HEADERS_OF_ORIGIN])
            if response.status_code in SEE_OTHER and method not in {"GET", "HEAD"}:
                method, content = "GET", None
            url = target
        message = f"{shown(url)}: more than {REDIRECTS_MAX} redirects"
        raise StepError(message, type="upstream_error", details={"url": shown(url)})

    async def _once(
        self, url: httpx2.URL, method: str, headers: httpx2.Headers, content: bytes | None, timeout_s: float
    ) -> tuple[httpx2.Response, bytes]:
        address = await self._guard.admit(url)
        pinned = url.copy_with(host=address)
        sent = httpx2.Headers(headers)
        sent["host"] = url.netloc.decode("ascii")
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx2.create_ssl_context)
        try:
            async with HttpClient(
                verify=self._tls,
                trust_env=False,
                timeout=timeout_s,
                follow_redirects=False,
                limits=httpx2.Limits(max_keepalive_connections=0),
            ) as client:
                request = client.build_request(
                    method, pinned, headers=sent, content=content, extensions={"sni_hostname": url.host.rstrip(".")}
                )
                response = await client.send(request, stream=True)
                try:
                    return response, await _body(response, url)
                finally:
                    await response.aclose()
        except httpx2.TimeoutException:
            raise
        except httpx2.HTTPError as problem:
            message = f"{method} {shown(url)} failed: {type(problem).__name__}: {problem}"
            raise StepError(message, type="upstream_error", details={"url": shown(url)}) from problem


class Http(ReadTool):
    """Requests something over HTTP."""

    name = "http"
    description = "Sends a GET, HEAD or OPTIONS request. An answer of 400 or more is an error."
    input: type[BaseModel] = ReadArguments
    output: type[BaseModel] = HttpResult

    def __init__(self, guard: AddressGuard) -> None:
        self._requester = Requester(guard)

    async def perform(self, context: ToolContext, input: ReadArguments) -> HttpResult:
        """Request."""
        return await self._requester.send(context, input, input.method, {})


class HttpWrite(WriteTool):
    """Changes something over HTTP; every attempt of a step carries the same Idempotency-Key."""

    name = "http_write"
    description = "Sends a POST, PUT, PATCH or DELETE request. An answer of 400 or more is an error."
    input: type[BaseModel] = WriteArguments
    output: type[BaseModel] = HttpResult
    idempotent = False

    def __init__(self, guard: AddressGuard) -> None:
        self._requester = Requester(guard)

    async def perform(self, context: ToolContext, input: WriteArguments) -> HttpResult:
        """Request."""
        return await self._requester.send(context, input, input.method, {"idempotency-key": context.idempotency_key})


def _url(arguments: HttpArguments) -> httpx2.URL:
    try:
        url = httpx2.URL(arguments.url)
        return url.copy_merge_params(arguments.query) if arguments.query else url
    except (httpx2.InvalidURL, ValueError) as problem:
        message = f"the address cannot be read: {problem}"
        raise ValidationError(message) from problem


def _content(body: Any, headers: httpx2.Headers) -> bytes | None:
    if body is None:
        return None
    if isinstance(body, str):
        content, media_type = body.encode(), "text/plain; charset=utf-8"
    else:
        content, media_type = codec.dumps(body), "application/json"
    if len(content) > REQUEST_BYTES_MAX:
        message = f"the body of a request may hold {REQUEST_BYTES_MAX} bytes, not {len(content)}"
        raise TooLargeError(message)
    headers.setdefault("content-type", media_type)
    return content


async def _body(response: httpx2.Response, url: httpx2.URL) -> bytes:
    """Read an answer, decompressed, up to RESPONSE_BYTES_MAX; an error's only as far as it is shown."""
    failed = response.status_code >= ERROR_STATUS
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if failed and len(body) > PREVIEW_CHARS * 4:
            break
        if len(body) > RESPONSE_BYTES_MAX:
            message = f"{shown(url)} answers with more than {RESPONSE_BYTES_MAX} bytes"
            raise TooLargeError(message)
    return bytes(body)


def _result(url: httpx2.URL, response: httpx2.Response, body: bytes) -> HttpResult:
    if response.status_code >= ERROR_STATUS:
        raise _error(url, response, body)
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    content: Any
    encoding: Literal["json", "text", "base64"]
    if body and (media_type == "application/json" or media_type.endswith("+json")):
        try:
            content, encoding = codec.loads(body), "json"
        except ValidationError as problem:
            message = f"{shown(url)} says that it answers with JSON, and does not: {problem.message}"
            raise StepError(message, type="upstream_error", details={"status": response.status_code}) from problem
    elif not media_type or media_type.startswith(TEXT_TYPES) or not body:
        content, encoding = body.decode(response.charset_encoding or "utf-8", "replace"), "text"
    else:
        content, encoding = base64.b64encode(body).decode(), "base64"
    return HttpResult(
        status=response.status_code, headers=dict(response.headers), body=content, encoding=encoding, url=shown(url)
    )


def _error(url: httpx2.URL, response: httpx2.Response, body: bytes) -> StepError:
    preview = body.decode("utf-8", "replace")[:PREVIEW_CHARS]
    details: dict[str, Any] = {
        "status": response.status_code,
        "url": shown(url),
        "upstream": {"status": response.status_code, "message": preview},
    }
    wait_s = _retry_after_s(response.headers)
    if wait_s is not None:
        details["retry_after_s"] = wait_s
    message = f"{shown(url)} answered {response.status_code}"
    limited = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    return StepError(message, type="rate_limited" if limited else "upstream_error", details=details)


def _retry_after_s(headers: httpx2.Headers) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or a date, which is measured against the answer's own Date."""
    text = headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))).total_seconds())
    except (ValueError, TypeError):
        return None
