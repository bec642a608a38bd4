"""Servers that are not there yet, and a database that is ahead of the code: one clear line, and no traceback."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from headrace.dev.embedded import EmbeddedNats, EmbeddedPostgres, free_port
from headrace.log.migrate import migrate, migrations
from tests.system.kit import SERVICES, Command, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

DATABASE_AWAY = "the database does not answer ("
NATS_AWAY = "does not answer (ConnectionRefusedError"
AGAIN = "trying again until it does"
SECRET = "ab" * 32
OWN_DATABASE = frozenset({"api", "gatekeeper", "planner"})


class Service:
    """A service that runs alone, by the servers it is given."""

    def __init__(self, name: str, folder: Path, database_url: str, nats_url: str) -> None:
        self.name, self.port = name, free_port()
        self.command = Command(
            folder / name,
            *("serve", name),
            HEADRACE_DATABASE_URL=database_url if name in OWN_DATABASE else "",
            HEADRACE_NATS_URL=nats_url,
            HEADRACE_SECRET=SECRET,
            HEADRACE_DATA_DIR=str(folder),
            HEADRACE_FILE_ROOT=str(folder),
            HEADRACE_API_PORT=str(self.port),
            HEADRACE_HEALTH_PORT=str(self.port),
        )

    def lines(self, level: str) -> list[str]:
        """Give what it logged at a level."""
        said = [json.loads(line) for line in self.command.said.splitlines()]
        return [line["message"] for line in said if line["level"] == level]

    async def warned(self, times: int) -> list[str]:
        """Wait until it has warned so often, and give what it said."""
        given: list[str] = await until(
            lambda: self.lines("warning") if len(self.lines("warning")) >= times else None,
            f"{self.name} to say what it waits for",
        )
        return given

    async def asked(self, path: str) -> tuple[int, dict[str, Any]]:
        """Ask it for its health; gives status and body, 0 while it does not listen yet."""
        try:
            async with httpx2.AsyncClient(timeout=5) as http:
                answer = await http.get(f"http://127.0.0.1:{self.port}{path}")
        except httpx2.ConnectError:
            return 0, {}
        return answer.status_code, answer.json()

    async def ready(self) -> bool:
        """Tell whether it says that it is ready."""
        assert self.command.process.poll() is None, self.command.said
        return (await self.asked("/readyz"))[0] == 200


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[EmbeddedPostgres, EmbeddedNats]]:
    """Give servers that have been there: their addresses and data are known, and they run."""
    with EmbeddedPostgres(tmp_path / "postgres") as postgres, EmbeddedNats(tmp_path / "nats") as nats:
        yield postgres, nats


async def test_services_wait_for_database_and_nats_with_one_clear_line_and_go_on_when_they_come(
    servers: tuple[EmbeddedPostgres, EmbeddedNats], tmp_path: Path
) -> None:
    postgres, nats = servers
    await migrate(postgres.url)
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(nats.stop)
    services = [Service(name, tmp_path, postgres.url, nats.url) for name in SERVICES]
    try:
        for service in services:
            (line,) = await service.warned(1)
            assert AGAIN in line
            assert line.startswith(DATABASE_AWAY) if service.name in OWN_DATABASE else NATS_AWAY in line
            assert (await service.asked("/healthz"))[0] == 200, "alive: nothing is gained by restarting it"
            status, body = await service.asked("/readyz")
            assert (status, body["ready"]) == (503, False)
        await asyncio.to_thread(postgres.start)
        owners = [service for service in services if service.name in {"gatekeeper", "planner"}]
        for service in owners:
            assert NATS_AWAY in (await service.warned(2))[1]
        await asyncio.to_thread(nats.start)
        for service in services:
            await until(service.ready, f"{service.name} to be ready")
            assert service.lines("error") == []
            assert "Traceback" not in service.command.said
    finally:
        for service in services:
            service.command.process.terminate()
        ends = [await service.command.ended(60) for service in services]
    assert ends == [0] * len(services)


async def test_a_database_too_new_for_the_code_is_refused_with_one_clear_line(
    servers: tuple[EmbeddedPostgres, EmbeddedNats], tmp_path: Path
) -> None:
    postgres, nats = servers
    await migrate(postgres.url)
    ours = migrations()[-1].version
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(
        "insert into headrace.migrations (version, name, checksum) values ($1, 'later', 'x')", ours + 1
    )
    await connection.execute("update headrace.meta set works_with = $1", ours + 1)
    await connection.close()
    refusal = (
        f"the database is at version {ours + 1}, which works with code of version {ours + 1} or later, "
        f"this code knows versions up to {ours}: use a newer headrace"
    )
    for name in sorted(OWN_DATABASE):
        service = Service(name, tmp_path, postgres.url, nats.url)
        assert await service.command.ended() == 1
        (line,) = service.lines("error")
        assert line.startswith(f"{name} ends: {refusal}")
        assert "Traceback" not in service.command.said
    urls = {"HEADRACE_DATABASE_URL": postgres.url, "HEADRACE_NATS_URL": nats.url}
    for arguments in (("db", "migrate"), ("db", "verify"), ("up",)):
        home = {"HEADRACE_DATA_DIR": str(tmp_path / "home"), "HEADRACE_API_PORT": str(free_port())}
        command = Command(tmp_path / "-".join(arguments), *arguments, **urls, **home)
        assert await command.ended() == 1
        assert refusal in command.said
        assert "Traceback" not in command.said


async def test_up_on_a_database_that_does_not_answer_is_refused_with_one_clear_line(tmp_path: Path) -> None:
    nowhere = f"postgresql://headrace@127.0.0.1:{free_port()}/headrace"
    home = {"HEADRACE_DATA_DIR": str(tmp_path / "home"), "HEADRACE_API_PORT": str(free_port())}
    up = Command(tmp_path, "up", HEADRACE_DATABASE_URL=nowhere, **home)
    assert await up.ended() == 1
    assert "error: unavailable: Postgres does not answer" in up.said
    assert "Traceback" not in up.said
