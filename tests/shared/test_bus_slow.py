"""A server that confirms late: what somebody gave up to begin is not there twice, and nobody beside it goes deaf."""

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


@asynccontextmanager
async def slow(nats_url: str) -> AsyncIterator[tuple[Connection, SlowClient]]:
    client = SlowClient()

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
