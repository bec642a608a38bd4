"""Retention on a running installation: old months leave under load and nobody waits; archives go out and come back."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from headrace.clock import SystemClock
from headrace.dev.embedded import EmbeddedNats, EmbeddedPostgres
from headrace.errors import NotFoundError
from headrace.log.migrate import migrate
from headrace.log.postgres import PostgresLog
from tests.planner.runs_kit import Sim, call, plan
from tests.shared.log_runs_kit import FORMATS, OWNER, run_at, write
from tests.system.kit import FILES, Command, Site, running_up, until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

JOB = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: job}
spec:
  steps:
    - id: files
      tool: file_glob
      with: {pattern: "module_*.py"}
    - id: symbols
      map: "{{ steps.files.output.paths }}"
      tool: symbols_in_file
      with: {path: "{{ item }}"}
"""
JANUARY, FEBRUARY = (int(datetime(2026, month, 10, tzinfo=UTC).timestamp() * 1000) for month in (1, 2))
KEPT_MONTHS = "3"
OLD = 40
PENDING = "select 1 from pg_inherits where inhdetachpending"
LEAST_RUNS = 8


def finished(at: int, number: int) -> Sim:
    """Give a run of long ago that is over."""
    return run_at(at, number % 8, number).create().report("one", number).report("two", {"number": number})


async def long_ago(url: str) -> tuple[list[Sim], Sim]:
    """Write what happened long ago: January is over, a run of February still waits to be started."""
    await migrate(url)
    log = await PostgresLog.open(url, SystemClock())
    old = [finished(JANUARY + number, number) for number in range(OLD)]
    waiting = run_at(FEBRUARY, 3, 999, plan(call("one"), automation="human_approval")).create()
    await write(log, *old, waiting, finished(FEBRUARY, 1000))
    held = (await log.heartbeat(OWNER, FORMATS, lease_s=60)).tenures
    await log.release(OWNER, [(one.log, one.partition) for one in held])
    await log.close()
    return old, waiting


async def rows(url: str) -> list[Any]:
    """Read the rows of January's runs and their steps, as they are kept."""
    connection = await asyncpg.connect(url)
    try:
        runs = await connection.fetch("select * from headrace.runs where created_at < $1 order by id", FEBRUARY - 1)
        ids = [row["id"] for row in runs]
        steps = await connection.fetch("select * from headrace.steps where run_id = any($1) order by 1, 2", ids)
        return [dict(row) for row in (*runs, *steps)]
    finally:
        await connection.close()


class Past:
    """An installation with a past, and a reader that has read every month and is not done."""

    def __init__(self, site: Site, old: list[Sim], waiting: Sim, reader: asyncpg.Connection, rows: list[Any]) -> None:
        self.site, self.old, self.waiting, self.reader, self.rows = site, old, waiting, reader, rows

    async def db(self, folder: Path, *arguments: str) -> tuple[int, Any]:
        """Run `headrace db … -o json`; gives its exit code and what it said."""
        command = Command(folder, "db", *arguments, "-o", "json", HEADRACE_DATA_DIR=str(self.site.up.home))
        code = await command.ended(60)
        assert command.said.startswith(("{", "[")), command.said
        return code, json.loads(command.said)

    async def states(self, folder: Path) -> dict[str, str]:
        """Give where each month is."""
        code, months = await self.db(folder, "months")
        assert code == 0
        return {one["month"]: one["state"] for one in months}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def past(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Past]:
    folder, root = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("root")
    for number in range(FILES):
        (root / f"module_{number:03}.py").write_text(f"def function_{number}() -> None: ...\n")
    with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedNats(folder / "nats") as nats:
        old, waiting = await long_ago(postgres.url)
        standing = await rows(postgres.url)
        reader = await asyncpg.connect(postgres.url)
        await reader.execute("begin isolation level repeatable read")
        await reader.fetch("select count(*) from headrace.events")
        env = {
            "HEADRACE_DATABASE_URL": postgres.url,
            "HEADRACE_NATS_URL": nats.url,
            "HEADRACE_RETENTION_MONTHS": KEPT_MONTHS,
        }
        with running_up(folder, root, **env) as up:
            await up.ready()
            yield Past(Site(up=up, postgres=postgres, nats=nats, root=root), old, waiting, reader, standing)
        await reader.close()


async def test_a_month_leaves_under_load_while_somebody_reads_it_and_no_run_waits(past: Past, tmp_path: Path) -> None:
    site = past.site
    await until(lambda: site.rows(PENDING), "January to be on its way out")
    async with site.up.client() as client:
        for _ in range(LEAST_RUNS):
            run = await client.create_run(spec=JOB)
            await site.finished(client, run.id)
        assert await site.rows(PENDING), "the reader is not done, and nobody waited for it"
        await past.reader.execute("commit")
        await until(lambda: "2026-01 was detached" in site.up.log_of("planner"), "January to have left")
        await until(
            lambda: past.waiting.id in site.up.log_of("planner"), "what holds February to be named, which comes next"
        )
        assert await past.states(tmp_path / "months") == {
            **dict.fromkeys(await past.states(tmp_path / "again"), "open"),
            "2026-01": "detached",
        }
        for sim in past.old[:3]:
            with pytest.raises(NotFoundError):
                await client.run(sim.id)

        doctor = await client.get("/doctor")
        assert [(each["month"], each["stream_id"]) for each in doctor["stragglers"]] == [("2026-02", past.waiting.id)]
        code, told = await past.db(tmp_path / "archive", "archive", "--before", "2026-03", "--to", str(tmp_path))
        assert code == 1, "February is held"
        file = Path(told["archived"][0]["file"])
        assert (told["archived"][0]["month"], told["archived"][0]["streams"]) == ("2026-01", OLD)
        assert [each["stream_id"] for each in told["held"]["2026-02"]] == [past.waiting.id]
        code, verified = await past.db(tmp_path / "verify", "verify")
        assert (code, verified["holds"]) == (0, True)
        assert sum(last - first + 1 for one in verified["partitions"] for first, last in one["archived"]) == sum(
            len(sim.history) for sim in past.old
        )
        assert (await past.db(tmp_path / "rebuild", "rebuild"))[1]["changed"] == 0
        run = await client.create_run(spec=JOB)
        await site.finished(client, run.id)

        code, back = await past.db(tmp_path / "restore", "restore", str(file))
        assert (code, back["month"], back["streams"]) == (0, "2026-01", OLD)
        assert await rows(site.postgres.url) == past.rows
        for sim in past.old[:3]:
            assert (await client.run(sim.id)).status == "succeeded"
            told = await client.get(f"/runs/{sim.id}/events")
            assert [each["type"] for each in told["items"]] == sim.names
        assert (await past.db(tmp_path / "verify-again", "verify"))[1]["holds"]
        assert (await past.db(tmp_path / "rebuild-again", "rebuild"))[1]["changed"] == 0
        run = await client.create_run(spec=JOB)
        await site.finished(client, run.id)
    assert "Traceback" not in site.up.log_of("planner")
