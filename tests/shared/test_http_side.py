"""What comes over a connection of the api and is no request, or not yet: it is given up in time, and refused in the envelope."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace.clock import SystemClock
from headrace.health import Receive, Scope, Send
from headrace.http_side import HEAD_BYTES_MAX, Patience, server

HOUR_S = 3_600.0
SOON_S = 0.05
WHOLE = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what came, once all of it has."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def served(patience: Patience) -> AsyncIterator[int]:
    leaving = asyncio.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    serving = asyncio.create_task(
        server(echo, leaving, SystemClock(), lifespan=False, patience=patience).serve([listener])
    )
    try:
        yield listener.getsockname()[1]
    finally:
        leaving.set()
        await serving
        listener.close()


async def answered(port: int, *pieces: bytes) -> bytes:
    """Send pieces, and give all that comes until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    try:
        return await reader.read()
    finally:
        writer.close()


def refused(answer: bytes, status: int) -> Any:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"connection: close" in head
    error = json.loads(body)["error"]
    assert set(error) == {"type", "message", "details", "plugin", "timestamp", "request_id"}
    assert f"x-request-id: {error['request_id']}".encode() in head
    return error


@pytest.mark.parametrize(
    "piece",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: a",
        b"G",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ],
)
async def test_a_request_that_does_not_arrive_is_given_up(piece: bytes) -> None:
    async with served(Patience(head_s=SOON_S, silence_s=SOON_S)) as port:
        assert "did not arrive" in refused(await answered(port, piece), 408)["message"]


async def test_a_connection_on_which_nothing_comes_is_closed_without_a_word() -> None:
    async with served(Patience(head_s=SOON_S, silence_s=HOUR_S)) as port:
        assert await answered(port) == b""


async def test_what_follows_a_whole_request_is_waited_for_no_longer_than_the_first() -> None:
    async with served(Patience(head_s=SOON_S, silence_s=HOUR_S)) as port:
        answer = await answered(port, WHOLE, WHOLE, b"GET / HT")
        first, second, late = answer.split(b"HTTP/1.1 ")[1:]
        assert (first[-4:], second[-4:]) == (b"abcd", b"abcd")
        refused(b"HTTP/1.1 " + late, 408)


async def test_a_head_has_its_time_once_however_many_pieces_it_comes_in() -> None:
    async with served(Patience(head_s=SOON_S, silence_s=HOUR_S)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        reading = asyncio.create_task(reader.read())
        for piece in [b"GET / HTTP/1.1\r\n", *[b"X-Slow: a\r\n"] * 1_000]:
            if reading.done():
                break
            writer.write(piece)
            await asyncio.wait({reading}, timeout=SOON_S / 10)
        assert reading.done()
        with contextlib.suppress(ConnectionError):  # the last piece may have met a closed connection
            assert b" 408 " in await reading
        writer.close()


async def test_a_head_without_an_end_is_refused() -> None:
    begin = b"GET / HTTP/1.1\r\nX-Long: "
    async with served(Patience(head_s=HOUR_S, silence_s=HOUR_S)) as port:
        answer = await answered(port, begin, b"a" * (HEAD_BYTES_MAX + 1 - len(begin)))
        assert str(HEAD_BYTES_MAX) in refused(answer, 431)["message"]


@pytest.mark.parametrize(
    "piece",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
    ],
)
async def test_what_is_no_request_is_refused_in_the_envelope(piece: bytes) -> None:
    async with served(Patience(head_s=HOUR_S, silence_s=HOUR_S)) as port:
        assert "no request of HTTP" in refused(await answered(port, piece), 400)["message"]


async def test_a_whole_request_is_answered_however_it_comes() -> None:
    async with served(Patience(head_s=HOUR_S, silence_s=HOUR_S)) as port:
        for cut in (1, 20, 40, len(WHOLE) - 1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(WHOLE[:cut])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(WHOLE[cut:])
            assert (await reader.readuntil(b"abcd")).startswith(b"HTTP/1.1 200")
            writer.close()
