"""The short way of the NATS client: what is published in one turn goes in one piece, and hearers are called at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.msg import Msg

from headrace.bus.quick import UNDRAINED_BYTES_MAX, QuickClient, connect

WAIT_S = 20.0


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[QuickClient]:
    made = await connect(servers=[nats_url])
    try:
        yield made
    finally:
        await made.close()


class Ears:
    """Hears, and tells when so much was heard."""

    def __init__(self, wanted: int) -> None:
        self.heard: list[bytes] = []
        self._wanted = wanted
        self._enough = asyncio.Event()

    def __call__(self, message: Msg) -> None:
        self.heard.append(message.data)
        if len(self.heard) >= self._wanted:
            self._enough.set()

    async def enough(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self._enough.wait()


async def test_what_is_posted_arrives_once_and_in_order_also_among_what_is_published(client: QuickClient) -> None:
    ears = Ears(300)
    await client.hear("quick.order", ears)
    for number in range(0, 300, 3):
        client.post("quick.order", b"%d" % number)
        await client.publish("quick.order", b"%d" % (number + 1))
        client.post("quick.order", b"%d" % (number + 2))
    await ears.enough()
    assert ears.heard == [b"%d" % number for number in range(300)]


async def test_a_hearer_that_raises_is_logged_and_the_next_message_is_heard(
    client: QuickClient, caplog: pytest.LogCaptureFixture
) -> None:
    ears = Ears(2)

    def careless(message: Msg) -> None:
        ears(message)
        assert message.data == b"good", "a mistake"

    await client.hear("quick.mistake", careless)
    client.post("quick.mistake", b"bad")
    client.post("quick.mistake", b"good")
    await ears.enough()
    assert "a hearer of quick.mistake failed" in caplog.text


async def test_more_than_the_transport_takes_at_once_arrives_whole(client: QuickClient) -> None:
    body = b"x" * 50_000
    count = UNDRAINED_BYTES_MAX * 20 // len(body)
    ears = Ears(count)
    await client.hear("quick.much", ears)
    for _ in range(count):
        client.post("quick.much", body)
    await ears.enough()
    assert ears.heard == [body] * count


async def test_a_flush_answers_after_what_was_posted_before_it(client: QuickClient, nats_url: str) -> None:
    ears = Ears(1)
    other = await connect(servers=[nats_url])
    try:
        await other.hear("quick.flush", ears)
        await other.flush()
        client.post("quick.flush", b"posted")
        await client.flush()
        await other.flush()
        assert ears.heard == [b"posted"]
    finally:
        await other.close()


async def test_nothing_is_heard_after_unsubscribing(client: QuickClient) -> None:
    ears, last = Ears(1), Ears(1)
    held: Any = await client.hear("quick.end", ears)
    await client.hear("quick.last", last)
    await held.unsubscribe()
    client.post("quick.end", b"late")
    client.post("quick.last", b"last")
    await last.enough()
    assert ears.heard == []


@contextlib.asynccontextmanager
async def server_that(says: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run a server that greets, answers the first PING, and from then on says one thing again and again, or nothing."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.12.0","max_payload":1048576,"headers":true}\r\n')
        while b"PING" not in (line := await reader.readline()):
            assert line
        writer.write(b"PONG\r\n")

        async def listen() -> None:
            while line := await reader.readline():
                heard.append(line.strip())

        with contextlib.suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(listen())
                while says and not writer.is_closing():
                    writer.write(says)
                    await asyncio.sleep(0.01)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    finally:
        server.close()


async def test_a_server_that_says_nothing_any_more_is_given_up() -> None:
    ended = asyncio.Event()

    async def closed() -> None:
        ended.set()

    async with server_that(b"") as (url, heard):
        await connect(
            servers=[url], ping_interval=0.05, max_outstanding_pings=2, allow_reconnect=False, closed_cb=closed
        )
        async with asyncio.timeout(WAIT_S):
            await ended.wait()
        assert heard.count(b"PING") == 2


async def test_a_server_that_is_heard_is_not_asked_whether_it_is_there() -> None:
    async with server_that(b"MSG news 1 2\r\nhi\r\n") as (url, heard):
        made = await connect(servers=[url], ping_interval=0.1, max_outstanding_pings=1)
        ears = Ears(50)
        await made.hear("news", ears)
        await ears.enough()
        assert made.is_connected
        assert b"PING" not in heard
        await made.close()
