"""A lean HTTP/1.1 client: kept connections, one request at a time on each, so that the driver costs little of what it measures."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from urllib.parse import urlsplit

CONNECTIONS: Final = 32
LINE_BYTES_MAX: Final = 1 << 24
ERRORS_FROM: Final = 400
UNAVAILABLE: Final = 503
PATIENCE_S: Final = 30.0
AGAIN_S: Final = 0.1


class Caller:
    """Asks one api as one token. Use it as an async context manager."""

    def __init__(self, url: str, token: str, connections: int = CONNECTIONS) -> None:
        at = urlsplit(url)
        self._host, self._port = at.hostname or "127.0.0.1", at.port or 80
        self._head = f"Host: {self._host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        self._idle: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.LifoQueue()
        for _ in range(connections):
            self._idle.put_nowait(None)
        self._keys = 0
        self.again = 0
        """How often nobody could answer."""

    async def __aenter__(self) -> Self:
        """Give itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of connections."""
        while not self._idle.empty():
            known = self._idle.get_nowait()
            if known is not None:
                known[1].close()

    async def post(self, path: str, body: object, *, wait_s: int = 0) -> Any:
        """Send to a route below /api; `wait_s` prefers to wait so long for the end of what it begins."""
        self._keys += 1
        extra = f"Idempotency-Key: {id(self)}-{self._keys}\r\n" + (f"Prefer: wait={wait_s}\r\n" if wait_s else "")
        return await self._ask("POST", path, json.dumps(body).encode(), extra)

    async def get(self, path: str) -> Any:
        """Read a route below /api."""
        return await self._ask("GET", path, b"", "")

    async def _ask(self, method: str, path: str, body: bytes, extra: str) -> Any:
        head = f"{method} /api{path} HTTP/1.1\r\n{self._head}{extra}Content-Length: {len(body)}\r\n\r\n"
        status, answer = await self._patiently(head.encode() + body)
        if status >= ERRORS_FROM:
            message = f"{method} {path}: {status} {answer[:500].decode(errors='replace')}"
            raise RuntimeError(message)
        return json.loads(answer)

    async def _patiently(self, request: bytes) -> tuple[int, bytes]:
        """Ask again while nobody answers, as any client should: the key makes a repeat harmless."""
        until = time.perf_counter() + PATIENCE_S
        while True:
            try:
                status, answer = await self._once(request)
                if status != UNAVAILABLE or time.perf_counter() > until:
                    return status, answer
                self.again += 1
            except (asyncio.IncompleteReadError, OSError):  # an idle connection was let go, or the api is away
                if time.perf_counter() > until:
                    raise
            await asyncio.sleep(AGAIN_S)

    async def _once(self, request: bytes) -> tuple[int, bytes]:
        async with self._connection() as (reader, writer):
            writer.write(request)
            return await _answer(reader)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        known = await self._idle.get()
        kept = None
        try:
            if known is not None and known[0].at_eof():
                known[1].close()
                known = None
            known = known or await asyncio.open_connection(self._host, self._port, limit=LINE_BYTES_MAX)
            yield known
            kept = known
        finally:
            if kept is None and known is not None:
                known[1].close()
            self._idle.put_nowait(kept)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status = int(head.split(" ", 2)[1])
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    if "content-length" in fields:
        return status, await reader.readexactly(int(fields["content-length"]))
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return status, body
