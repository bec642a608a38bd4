"""Requests that survive connection trouble: the same request again, under the same key, until its time is over."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2

from headrace import codec, errors
from headrace.clock import Clock, SystemClock, mint
from headrace.config import address
from headrace.http_client import HttpClient
from headrace.ids import REQUEST

TIMEOUT_S: Final = 30.0
PATIENCE_S: Final = 20.0
"""How long connection trouble and 503 are borne before they are raised."""
AGAIN_FIRST_S: Final = 0.1
AGAIN_MAX_S: Final = 2.0
IDLE_S: Final = 45.0
"""A stream that says nothing, not even a heartbeat, for this long is taken for dead and opened again."""
AGAIN: Final = frozenset({502, 503, 504})
ERRORS_FROM: Final = 400
KINDS: Final[dict[int, type[errors.HeadraceError]]] = {
    413: errors.TooLargeError,
    422: errors.UnprocessableError,
}


class Transport:
    """A connection to one api."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        clock: Clock | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._url = address(url, "the api's url")
        self._clock = clock or SystemClock()
        self._patience_s, self._timeout_s = patience_s, timeout_s
        self._http = http or HttpClient(timeout=timeout_s, verify=_trusted(self._url))
        self._headers = headers

    async def close(self) -> None:
        """Let go of connections."""
        async with asyncio.timeout(self._timeout_s):
            await self._http.aclose()

    async def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        key: str | None = None,
        wait_s: float = 0.0,
    ) -> Any:
        """Make a request and give its JSON. A POST goes under `key`, or one made here, so repeats are harmless.

        Raises the HeadraceError that the api answers with, UnavailableError when it cannot be reached in time.
        """
        content = await self.send(
            method, path, query=query, content=None if body is None else codec.dumps(body), key=key, wait_s=wait_s
        )
        return codec.loads(content) if content else None

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        key: str | None = None,
        wait_s: float = 0.0,
    ) -> bytes:
        """Make a request and give the bytes of its answer. What the api waits for, as asked, uses up no patience."""
        headers = dict(self._headers)
        if content is not None:
            headers["Content-Type"] = "application/json"
        if method == "POST":
            headers["Idempotency-Key"] = mint(self._clock, REQUEST) if key is None else key
        given = {name: value for name, value in (query or {}).items() if value is not None}
        began, pause, left_s = self._clock.monotonic(), AGAIN_FIRST_S, wait_s
        while True:
            if wait_s:
                headers["Prefer"] = f"wait={int(left_s)}"
            asked = self._clock.monotonic()
            try:
                response = await self._http.request(
                    method,
                    self._url + path,
                    params=given,
                    content=content,
                    headers=headers,
                    timeout=self._timeout_s + left_s,
                )
                trouble = self._trouble(response)
            except httpx2.TransportError as problem:
                trouble = unreachable(self._url, problem)
            if trouble is None:
                return response.content
            if not isinstance(trouble, errors.UnavailableError):
                raise trouble
            pause = float(trouble.details.get("retry_after_s") or pause)
            waited_s = min(self._clock.monotonic() - asked, left_s)
            began, left_s = began + waited_s, left_s - waited_s
            if self._clock.monotonic() - began + pause > self._patience_s:
                raise trouble
            await self._clock.sleep(pause)
            pause = min(pause * 2, AGAIN_MAX_S)

    def _trouble(self, response: httpx2.Response) -> errors.HeadraceError | None:
        if response.status_code < ERRORS_FROM:
            return None
        return read_error(response.status_code, response.content)

    @asynccontextmanager
    async def stream(self, path: str, after: str | None) -> AsyncIterator[AsyncIterator[str]]:
        """Open a stream of server-sent events after an id and give its lines."""
        headers = {**self._headers, "Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        timeout = httpx2.Timeout(self._timeout_s, read=IDLE_S)
        async with self._http.stream("GET", self._url + path, headers=headers, timeout=timeout) as response:
            if response.status_code >= ERRORS_FROM:
                async with asyncio.timeout(self._timeout_s):
                    raise read_error(response.status_code, await response.aread())
            yield response.aiter_lines()

    async def pause(self, seconds: float) -> None:
        """Wait before trying again."""
        await self._clock.sleep(seconds)

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return self._clock.monotonic()

    @property
    def patience_s(self) -> float:
        """Give how long trouble is borne."""
        return self._patience_s

    @property
    def url(self) -> str:
        """Give the address of the api."""
        return self._url


def unreachable(url: str, problem: Exception) -> errors.UnavailableError:
    """Say that nobody answers at an address."""
    message = (
        f"the api at {url} cannot be reached ({str(problem) or type(problem).__name__}); is `headrace up` running?"
    )
    return errors.UnavailableError(message)


def read_error(status: int, content: bytes) -> errors.HeadraceError:
    """Make the error again that an answer carries; what is no envelope (a proxy's page) is named as such."""
    try:
        told = codec.loads(content)["error"]
        kind = KINDS.get(status)
        if kind is not None:
            return kind(str(told["message"]), details=told.get("details") or {}, plugin=told.get("plugin"))
        return errors.from_envelope(told)
    except (errors.HeadraceError, KeyError, TypeError):
        shown = content[:200].decode("utf-8", "replace")
        message = f"the answer has status {status} and is not one of headrace's: {shown}"
        if status in AGAIN:
            return errors.UnavailableError(message)
        return errors.HeadraceError(message)


def _trusted(url: str) -> ssl.SSLContext | bool:
    """Give whose certificates are trusted. Those of the world take 20 ms to load, which a plain connection never needs."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if url.startswith("http://") else True
