"""Bodies too large for the bus: put to and got from the api by digest, with the token of one attempt."""

from typing import Final, Protocol, Self

import httpx2

from headrace import codec
from headrace.clock import Clock
from headrace.errors import HeadraceError, NotFoundError, TooLargeError, UnauthorizedError, UnavailableError
from headrace.http_client import HttpClient
from headrace.vocabulary import BLOB_BYTES_MAX

REQUEST_TIMEOUT_S: Final = 30.0
TRIES_MAX: Final = 8
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
STATUS_OK: Final = 300


class BlobClient(Protocol):
    """Where large bodies are kept."""

    async def put(self, body: bytes, token: str) -> str:
        """Keep a body and give its `sha256:` digest; again is nothing. Raises TooLargeError, UnavailableError."""
        ...

    async def get(self, digest: str, token: str) -> bytes:
        """Give the body that a digest names, checked against it; raises NotFoundError, UnavailableError."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class HttpBlobs:
    """The api's blob store: `PUT` and `GET {base_url}/api/blobs/{digest}`.

    While the api does not answer, a request is tried again with back-off, about 15 seconds in all.
    """

    def __init__(self, base_url: str, clock: Clock) -> None:
        self._base_url = base_url.rstrip("/")
        self._clock = clock
        self._client = HttpClient(timeout=REQUEST_TIMEOUT_S, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def put(self, body: bytes, token: str) -> str:
        """Keep a body and give its digest."""
        if len(body) > BLOB_BYTES_MAX:
            message = f"a body may hold {BLOB_BYTES_MAX} bytes, not {len(body)}"
            raise TooLargeError(message, details={"size_bytes": len(body), "bytes_max": BLOB_BYTES_MAX})
        digest = codec.sha256(body)
        await self._send("PUT", digest, token, body)
        return digest

    async def get(self, digest: str, token: str) -> bytes:
        """Give the body that a digest names."""
        body = await self._send("GET", digest, token, None)
        if codec.sha256(body) != digest:
            message = f"the blob store gave another body for {digest}"
            raise UnavailableError(message)
        return body

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()

    async def _send(self, method: str, digest: str, token: str, body: bytes | None) -> bytes:
        url = f"{self._base_url}/api/blobs/{digest}"
        headers = {"authorization": f"Bearer {token}", "content-type": "application/octet-stream"}
        problem = "no answer"
        for attempt in range(TRIES_MAX):
            if attempt:
                await self._clock.sleep(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**attempt))
            try:
                answer = await self._client.request(
                    method, url, content=body, headers=headers, timeout=REQUEST_TIMEOUT_S
                )
            except httpx2.TransportError as failure:
                problem = f"{type(failure).__name__}: {failure}"
                continue
            if answer.status_code < STATUS_OK:
                return answer.content
            refusal = _refusal(answer.status_code, method, digest)
            if refusal is not None:
                raise refusal
            problem = f"HTTP {answer.status_code}"
        message = f"the api's blob store does not answer ({problem})"
        raise UnavailableError(message)


def _refusal(status: int, method: str, digest: str) -> HeadraceError | None:
    """Give the error of an answer that a repeat would not change."""
    match status:
        case 401 | 403:
            return UnauthorizedError(f"the blob store refused the attempt's token (HTTP {status})")
        case 404:
            return NotFoundError(f"the blob store has no {digest}")
        case 413:
            return TooLargeError("the body is over the blob store's limit")
        case 429:
            return None
        case _ if status < 500:  # noqa: PLR2004  (the line between their fault and ours, RFC 9110)
            return HeadraceError(f"the blob store refused {method} {digest} (HTTP {status})")
        case _:
            return None
