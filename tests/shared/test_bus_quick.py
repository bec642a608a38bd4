"""The short way of the NATS client: what is published in one turn goes in one piece, and hearers are called at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop
from nats.aio.msg import Msg

from headrace.bus.connection import Connection
from headrace.bus.quick import UNDRAINED_BYTES_MAX, QuickClient, connect
from headrace.clock import SystemClock

WAIT_S = 20.0


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[QuickClient]:
    made = await connect(servers=[nats_url])
    try:
        yield made
    finally:
        await made.close()


HUNG_UP = b"(hung up)"
QUIET_S = 0.5
"""Longer than a busy machine keeps a loop waiting; a hundredth of a second lies between what the server says."""


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


async def test_of_what_is_to_go_at_once_the_first_does_and_the_others_of_its_turn_go_together(
    client: QuickClient,
) -> None:
    transport: Any = client._transport
    written: list[bytes] = []
    write = transport.write

    def seen(data: bytes) -> None:
        written.append(data)
        write(data)

    transport.write = seen
    ears = Ears(6)
    await client.hear("quick.hurry", ears)
    await client.flush()
    for _ in range(2):
        written.clear()
        for number in range(3):
            client.post("quick.hurry", b"%d" % number, at_once=True)
        assert [piece.count(b"PUB quick.hurry") for piece in written] == [1]
        await asyncio.sleep(0)
        assert [piece.count(b"PUB quick.hurry") for piece in written] == [1, 2]
        await asyncio.sleep(0)
    await ears.enough()
    assert ears.heard == [b"0", b"1", b"2"] * 2


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


async def test_an_answer_that_nobody_waits_for_any_more_does_not_end_the_connection(client: QuickClient) -> None:
    given_up = asyncio.ensure_future(client.flush())
    await asyncio.sleep(0)  # it has asked
    given_up.cancel()
    with suppress(asyncio.CancelledError):
        await given_up
    await client.flush(int(WAIT_S))  # answered behind it, on the same connection
    assert (client.is_connected, client.stats["reconnects"], client.stats["errors_received"]) == (True, 0, 0)


async def test_nothing_is_heard_after_unsubscribing(client: QuickClient) -> None:
    ears, last = Ears(1), Ears(1)
    held: Any = await client.hear("quick.end", ears)
    await client.hear("quick.last", last)
    await held.unsubscribe()
    client.post("quick.end", b"late")
    client.post("quick.last", b"last")
    await last.enough()
    assert ears.heard == []


@asynccontextmanager
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
            heard.append(HUNG_UP)
            writer.close()

        with suppress(ConnectionError):
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
            while HUNG_UP not in heard:  # noqa: ASYNC110  (a busy loop may read what was said after it was hung up)
                await asyncio.sleep(0.01)
        assert heard.count(b"PING") == 2


async def test_a_server_that_is_heard_is_not_asked_whether_it_is_there() -> None:
    async with server_that(b"MSG news 1 2\r\nhi\r\n") as (url, heard):
        made = await connect(servers=[url], ping_interval=QUIET_S, max_outstanding_pings=1)
        ears = Ears(120)
        await made.hear("news", ears)
        await ears.enough()
        assert made.is_connected
        assert b"PING" not in heard
        await made.close()


@asynccontextmanager
async def in_pieces(nats_url: str, size: int) -> AsyncIterator[str]:
    """Give the address of a server whose answers come in pieces of at most `size` bytes."""
    at = urlsplit(nats_url)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, piece: int) -> None:
        while data := await reader.read(1 << 16):
            for place in range(0, len(data), piece):
                writer.write(data[place : place + piece])
                await asyncio.sleep(0)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection(at.hostname, at.port)
        async with asyncio.TaskGroup() as group:
            group.create_task(pass_on(reader, below, 1 << 16))
            group.create_task(pass_on(above, writer, size))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 16])
async def test_messages_come_whole_and_in_order_however_they_are_cut(nats_url: str, size: int) -> None:
    """Messages for hearers and for nats-py's own subscriptions, with and without replies and headers, cut anywhere."""
    async with in_pieces(nats_url, size) as url:
        client = await connect(servers=[url])
        ears, others = Ears(200), Ears(100)
        heard: list[Msg] = []

        def hear(message: Msg) -> None:
            heard.append(message)
            ears(message)

        async def slowly(message: Msg) -> None:
            others(message)

        subject = f"quick.cut.{size}"
        await client.hear(f"{subject}.heard", hear)
        await client.subscribe(f"{subject}.slow", cb=slowly)
        for number in range(100):
            body = b"MSG %d\r\n" % number * (number % 4)
            client.post(f"{subject}.heard", body, "some.reply" if number % 2 else "")
            client.post(f"{subject}.slow", body)
            await client.publish(f"{subject}.heard", body, headers={"n": str(number)})
        await ears.enough()
        await others.enough()
        bodies = [b"MSG %d\r\n" % number * (number % 4) for number in range(100)]
        assert others.heard == bodies
        assert [message.data for message in heard] == [body for body in bodies for _ in range(2)]
        assert [message.reply for message in heard[::2]] == ["", "some.reply"] * 50
        assert [message.headers for message in heard[1::2]] == [{"n": str(number)} for number in range(100)]
        await client.close()


async def test_a_request_goes_at_once_with_what_was_posted_before_it(client: QuickClient) -> None:
    ears = Ears(3)
    await client.hear("quick.at.once", ears)
    await client.flush()
    client.post("quick.at.once", b"1")
    client.post("quick.at.once", b"2", at_once=True)
    assert client.pending_data_size == 0, "both are written"
    client.post("quick.at.once", b"3")
    await ears.enough()
    assert ears.heard == [b"1", b"2", b"3"]


def test_what_is_published_into_a_socket_that_just_closed_goes_out_over_the_next_one(nats_url: str) -> None:
    async def story() -> list[bytes]:
        made, other = await connect(servers=[nats_url], reconnect_time_wait=0.05), await connect(servers=[nats_url])
        try:
            ears = Ears(2)
            await other.hear("quick.closed", ears)
            await other.flush()
            vars(made._transport)["_io_writer"].transport.abort()
            await asyncio.sleep(0)
            assert made.is_connected, "nats-py has not noticed yet"
            made.post("quick.closed", b"at once", at_once=True)
            made.post("quick.closed", b"soon")
            await ears.enough()
            return ears.heard
        finally:
            await made.close()
            await other.close()

    assert uvloop.run(story()) == [b"at once", b"soon"]


@pytest.mark.parametrize("what", ["it stops listening", "it is flushed", "it is closed"])
def test_a_connection_whose_socket_just_closed_comes_back_or_ends_whatever_is_asked_of_it(
    nats_url: str, what: str
) -> None:
    async def story() -> list[bytes]:
        made, other = Connection(nats_url, SystemClock()), await connect(servers=[nats_url])
        await made.open()
        try:
            await made.wait()
            ears, never = Ears(1), Ears(1)
            await made.listen("quick.comes.back", ears)
            stops = await made.listen("quick.stops", never)
            client = made._client
            assert client is not None
            vars(client._transport)["_io_writer"].transport.abort()
            await asyncio.sleep(0)
            assert made.connected, "nobody has noticed yet"
            client.post("quick.nowhere", b"pending")
            if what == "it stops listening":
                await stops.close()
            elif what == "it is flushed":
                with pytest.raises(OSError, match="closed"):
                    await made.handled()
            else:
                await made.close()
                return [b"heard"]
            async with asyncio.timeout(WAIT_S):
                while not ears.heard:
                    await other.publish("quick.comes.back", b"heard")
                    await asyncio.sleep(0.05)
            return ears.heard[:1]
        finally:
            await made.close()
            await other.close()

    assert uvloop.run(story()) == [b"heard"]
