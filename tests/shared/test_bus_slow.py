"""A server that confirms late, or takes little: what somebody gave up to begin is not there twice, and nobody beside it goes deaf."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError

from headrace.bus.connection import Connection
from headrace.bus.jetstream import JetStreamBus
from headrace.bus.port import Delivery
from headrace.bus.quick import QuickClient
from headrace.clock import SystemClock
from headrace.errors import UnavailableError, ValidationError
from headrace.vocabulary import MESSAGE_BYTES_MAX
from tests.contracts.bus_worlds import until


class SlowClient(QuickClient):
    """A client to which the server confirms late, or not at all, as often as it is told to."""

    late = refused = 0

    async def flush(self, timeout: int = 10) -> None:
        """Wait for the server, perhaps in vain."""
        if self.refused:
            self.refused -= 1
            raise NatsTimeoutError
        if self.late:
            self.late -= 1
            await asyncio.get_running_loop().create_future()
        await super().flush(timeout)


class SmallClient(SlowClient):
    """A client whose server takes small messages alone."""

    @property
    def max_payload(self) -> int:
        """Give what the server takes."""
        return 1_000


@asynccontextmanager
async def slow(nats_url: str, made: type[SlowClient] = SlowClient) -> AsyncIterator[tuple[Connection, SlowClient]]:
    client = made()

    async def dial(options: dict[str, Any]) -> QuickClient:
        await client.connect(**options)
        return client

    yield Connection(nats_url, SystemClock(), dial=dial), client


async def test_a_subscription_that_was_given_up_is_not_heard_beside_the_one_that_was_tried_again(nats_url: str) -> None:
    heard: list[bytes] = []

    def hear(message: Msg) -> None:
        heard.append(message.data)

    async with slow(nats_url) as (connection, client):
        await connection.open()
        await connection.wait()
        client.late = 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connection.listen("slow.subject", hear)
        await connection.listen("slow.subject", hear)
        connection.send("slow.subject", b"one")
        await client.flush()
        assert heard == [b"one"]
        await connection.close()


async def test_a_pool_is_served_on_after_another_was_left_while_the_server_did_not_confirm(nats_url: str) -> None:
    taken: list[Delivery] = []
    async with slow(nats_url) as (connection, client):
        bus = await JetStreamBus.over(connection, f"slow-{SystemClock().entropy().hex()}", SystemClock())
        left = await bus.open_work("gates", lambda _delivery: None)
        kept = await bus.open_work("runner", taken.append)
        client.refused = 2  # what ends the subscription, and what begins the next one
        await left.close()
        bus.publish_work("runner", b"order")
        kept.want(1)
        await until(lambda: len(taken) == 1)
        await bus.close()


async def test_what_only_the_server_is_too_small_for_is_its_operators_matter_and_ends_nobody(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with slow(nats_url, SmallClient) as (connection, _):
        await connection.open()
        await connection.wait()
        connection.send("small.subject", b"x" * 1_001)
        assert connection.dropped == 1
        with pytest.raises(UnavailableError, match="raise its max_payload of 1000"):
            await connection.ask("small.subject", b"x" * 1_001, 1.0)
        with pytest.raises(ValidationError):
            connection.send("small.subject", b"x" * (MESSAGE_BYTES_MAX + 1))
        await connection.close()
    assert f"raise its max_payload to {MESSAGE_BYTES_MAX}" in caplog.text


async def test_a_server_that_hangs_is_waited_for_once_however_much_is_ended(nats_url: str) -> None:
    async with slow(nats_url) as (connection, client):
        await connection.open()
        listening = [await connection.listen(f"hangs.{number}", lambda _: None) for number in range(20)]
        client.refused = 1_000
        for one in listening[:10]:
            await one.close()
        assert (client.refused, connection.silent) == (999, True)
        client.refused = 0
        await client._send_ping(answer := asyncio.get_running_loop().create_future())
        await answer
        assert not connection.silent
        client.refused = 1_000
        for one in listening[10:]:
            await one.drain()
        await connection.close()
        assert client.refused == 999
        assert client.is_closed
