"""Calls to outside systems: one client for all integrations, and what they share in reading answers (API_FACTS 9)."""

import asyncio
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx2

from headrace import codec
from headrace.clock import Clock
from headrace.errors import StepError, ValidationError
from headrace.http_client import HttpClient

RESPONSE_BYTES_MAX: Final = 32 * 1024 * 1024
REQUEST_TIMEOUT_S: Final = 30.0
MESSAGE_CHARS_MAX: Final = 1_000


class Upstream:
    """Sends requests to an integration's system; redirects are not followed, the proxy environment is ignored."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._tls: ssl.SSLContext | None = None

    async def get(self, url: str, headers: dict[str, str]) -> tuple[httpx2.Response, bytes]:
        """Get an address; raises StepError (upstream_error, timeout) when no answer comes or it is too large."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx2.create_ssl_context)
        place = httpx2.URL(url).copy_with(query=None)
        try:
            async with (
                HttpClient(verify=self._tls, trust_env=False, timeout=REQUEST_TIMEOUT_S) as client,
                client.stream("GET", url, headers=headers, timeout=REQUEST_TIMEOUT_S) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > RESPONSE_BYTES_MAX:
                        message = f"{place} answers with more than {RESPONSE_BYTES_MAX} bytes"
                        raise StepError(message, type="upstream_error")
                return response, bytes(body)
        except httpx2.TimeoutException as problem:
            message = f"{place} did not answer within {REQUEST_TIMEOUT_S:g} s"
            raise StepError(message, type="timeout") from problem
        except httpx2.HTTPError as problem:
            message = f"{place} cannot be reached: {type(problem).__name__}: {problem}"
            raise StepError(message, type="upstream_error") from problem

    def now(self) -> str:
        """Give the time as RFC 3339, for `fetched_at`."""
        return datetime.fromtimestamp(self.clock.now_ms() / 1_000, UTC).isoformat(timespec="milliseconds")


def parsed(body: bytes, place: str) -> Any:
    """Give an answer's JSON; raises StepError (upstream_error)."""
    try:
        return codec.loads(body)
    except ValidationError as problem:
        message = f"{place} answered with something that is not JSON"
        raise StepError(message, type="upstream_error") from problem


def wait_s(headers: httpx2.Headers, *, reset: str | None, least_s: float) -> float:
    """Give how long a provider asks us to wait, in seconds: Retry-After, else until `reset` (epoch), else `least_s`."""
    text = headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        answered_at = parsedate_to_datetime(headers.get("date", "")).timestamp()
        until = float(reset) if reset else parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return least_s
    return max(1.0, until - answered_at)
