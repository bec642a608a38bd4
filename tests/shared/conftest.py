"""What the suites over a log in PostgreSQL share: the log, and a look behind it."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from headrace.clock import SystemClock
from headrace.log.postgres import PostgresLog


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[PostgresLog]:
    """Give an open log over a fresh, migrated database."""
    opened = await PostgresLog.open(postgres_url, SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection to the same database."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()
