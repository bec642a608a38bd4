"""Fixtures of the api's tests: everything real but NATS, whose twin carries the messages."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from headrace.clock import SystemClock
from headrace.log.postgres import PostgresLog
from tests.api.kit import World, living


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    clock = SystemClock()
    log = await PostgresLog.open(postgres_url, clock)
    try:
        async with living(log, clock) as made:
            yield made
    finally:
        await log.close()


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with world.http() as client:
        yield client
