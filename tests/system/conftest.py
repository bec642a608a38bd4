"""One installation a module: `headrace up` on servers that the tests own, so that they can break them."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from headrace.dev.embedded import EmbeddedNats, EmbeddedPostgres
from tests.system.kit import Site, running_up

FILES = 40


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Give a whole installation over real servers, with a file root of its own."""
    folder, root = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("root")
    for number in range(FILES):
        (root / f"module_{number:03}.py").write_text(f"def function_{number}() -> None: ...\n")
    with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedNats(folder / "nats") as nats:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("alter database headrace set track_functions = 'all'")
        await connection.close()
        env = {"HEADRACE_DATABASE_URL": postgres.url, "HEADRACE_NATS_URL": nats.url}
        with running_up(folder, root, **env) as up:
            await up.ready()
            yield Site(up=up, postgres=postgres, nats=nats, root=root)
