"""A dump taken under load and restored elsewhere: refused, adopted, and then a world of its own beside its original.

Both live on one NATS server. The original's services go on as if nothing was; the copy's go on with the runs that were
in flight when the dump was taken, but for the one that may have written: nobody knows, and it is not written twice.
"""

import asyncio
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from headrace.client.client import Client
from headrace.client.views import Run
from headrace.clock import SystemClock
from headrace.dev.embedded import EmbeddedPostgres, free_port
from headrace.errors import DatabaseVersionError
from headrace.log.migrate import check
from headrace.log.port import Batch
from headrace.log.postgres import PostgresLog
from tests.system.kit import Command, Load, Site, Up, installation, running_up, until
from tests.system.test_paused import Ledger, authorized

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

WRITE_S_MAX = 280
WRITE = f"""
apiVersion: headrace/v1
kind: Workflow
metadata: {{name: write}}
spec:
  inputs: {{url: {{type: string}}, name: {{type: string}}}}
  steps:
    - id: write
      tool: http_write
      timeout: {WRITE_S_MAX}s
      with: {{url: "{{{{ inputs.url }}}}", timeout_s: {WRITE_S_MAX}, body: "{{{{ inputs.name }}}}"}}
"""
ASKED = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: asked}
spec:
  inputs: {name: {type: string}}
  steps:
    - id: files
      tool: file_glob
      with: {pattern: "module_*.py"}
    - id: sign_off
      depends_on: [files]
      approval: {roles: [approver], prompt: "Write?"}
    - id: report
      depends_on: [sign_off]
      tool: file_create
      with: {path: "{{ inputs.name }}", contents: "{{ string(size(steps.files.output.paths)) }}"}
"""
SLOW = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: slow}
spec:
  steps:
    - id: files
      tool: file_glob
      with: {pattern: "module_*.py"}
    - id: pause
      depends_on: [files]
      wait: 2s
    - id: again
      depends_on: [pause]
      map: "{{ steps.files.output.paths }}"
      tool: symbols_in_file
      with: {path: "{{ item }}"}
"""
DUMP_S_MAX = 60


@dataclass
class Copy:
    """Another server with a restored copy, and `headrace` commands against it."""

    postgres: EmbeddedPostgres
    folder: Path
    ran: int = 0

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run a command against the copy; gives its exit code and what it said."""
        self.ran += 1
        command = Command(self.folder / f"command-{self.ran}", *arguments, HEADRACE_DATABASE_URL=self.postgres.url)
        return await command.ended(60), command.said

    async def rows(self, query: str, *given: object) -> list[dict[str, Any]]:
        """Ask the copy's database."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            return [dict(row) for row in await connection.fetch(query, *given)]
        finally:
            await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Give an installation that may call loopback addresses."""
    folder, root = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("root")
    async with installation(folder, root, HEADRACE_ALLOW_PRIVATE_ADDRESSES="1") as given:
        yield given


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def copy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Copy]:
    """Give an empty server elsewhere."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with EmbeddedPostgres(folder / "postgres") as postgres:
        yield Copy(postgres, folder)


def program(name: str, postgres: EmbeddedPostgres) -> str:
    """Find one of PostgreSQL's own programs beside the server."""
    return str(postgres._bin / name)


def dump_and_restore(original: EmbeddedPostgres, copy: EmbeddedPostgres, file: Path) -> None:
    """Dump a database as an operator would, and restore it elsewhere."""
    dump = [program("pg_dump", original), "--format=custom", f"--file={file}", original.url]
    restore = [program("pg_restore", copy), "--exit-on-error", "--no-owner", f"--dbname={copy.url}", str(file)]
    for command in (dump, restore):
        done = subprocess.run(command, capture_output=True, timeout=DUMP_S_MAX, check=False)
        assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def ledger() -> Any:
    with Ledger(held_s_max=WRITE_S_MAX) as given:
        yield given


async def approved(up: Up, client: Client, run_id: str, name: str) -> None:
    """Approve what a run asks for, as somebody else."""
    token = await client.create_token(name, ["approver"])
    (asked,) = await until(lambda: client.approvals(run_id=run_id), f"{run_id} to ask for an approval", 60)
    async with up.client(token["token"]) as grace:
        await grace.decide(asked, "approve")


async def claimed(site: Site, run: Run) -> bool:
    """Tell whether a run's write is claimed on record."""
    return bool(
        await site.rows("select 1 from headrace.events where stream_id = $1 and type = 'write.claimed'", run.id)
    )


async def test_a_dump_under_load_is_refused_then_adopted_and_lives_beside_its_original(
    site: Site, copy: Copy, ledger: Ledger, tmp_path: Path
) -> None:
    async with site.up.client() as client, asyncio.TaskGroup() as group:
        digest = await authorized(site, client, WRITE)
        ledger.open.clear()
        writing = await client.create_run(plan_digest=digest, inputs={"url": ledger.server.url, "name": "held"})
        await until(lambda: claimed(site, writing), "the write to be claimed")
        await until(lambda: ledger.entries == ["held"], "the write to be under way")
        asked = await client.create_run(spec=ASKED, inputs={"name": "out/asked.txt"})
        await until(lambda: client.approvals(run_id=asked.id), "the run to ask")
        load = Load(client, SLOW, pause_s=0.05)
        group.create_task(load.run())
        await load.more(10)
        await asyncio.to_thread(dump_and_restore, site.postgres, copy.postgres, tmp_path / "dump")
        await load.more(5)
        load.stop()

    code, said = await copy.command("db", "verify")
    assert code == 1
    assert "headrace db adopt" in said
    assert "Traceback" not in said
    env = {"HEADRACE_DATABASE_URL": copy.postgres.url, "HEADRACE_NATS_URL": site.nats.url}
    env["HEADRACE_API_PORT"] = str(free_port())
    (copy.folder / "home").mkdir(mode=0o700)
    for file in ("secret", "token"):
        shutil.copy(site.up.home / file, copy.folder / "home" / file)
    for refused in (("serve", "planner"), ("serve", "gatekeeper"), ("serve", "api"), ("up",)):
        command = Command(copy.folder / refused[-1], *refused, **env, HEADRACE_DATA_DIR=str(copy.folder / "home"))
        assert await command.ended(60) == 1, command.said
        assert "headrace db adopt" in command.said
        assert "Traceback" not in command.said

    flying = await copy.rows("select id from headrace.runs where status in ('queued', 'running', 'waiting')")
    in_flight = {row["id"] for row in flying}
    assert in_flight >= {writing.id, asked.id}
    assert len(in_flight) > 2, "the dump was taken in the middle of runs"
    code, said = await copy.command("db", "adopt", "-o", "json")
    assert code == 0, said
    adopted = json.loads(said)
    assert adopted["given_up"] == {writing.id: 1}
    assert adopted["rebuilt"]["changed"] == 0
    code, said = await copy.command("db", "adopt")
    assert code == 1
    assert "no copy" in said
    for verb, key, wanted in (("verify", "holds", True), ("rebuild", "changed", 0)):
        code, said = await copy.command("db", verb, "-o", "json")
        assert (code, json.loads(said)[key]) == (0, wanted), said

    await live_beside(site, copy, ledger, env, in_flight, writing, asked, load.runs)


async def live_beside(
    site: Site,
    copy: Copy,
    ledger: Ledger,
    env: dict[str, str],
    in_flight: set[str],
    writing: Run,
    asked: Run,
    loaded: list[str],
) -> None:
    """See both go on, on one NATS, neither in the other's way."""
    original_epochs = await site.rows("select log, partition, epoch, owner from headrace.partitions order by 1, 2")
    with running_up(copy.folder, site.root, HEADRACE_ALLOW_PRIVATE_ADDRESSES="1", **env) as up:
        await up.ready()
        beside = Site(up=up, postgres=copy.postgres, nats=site.nats, root=site.root)
        async with up.client() as there, site.up.client() as here:
            for run_id in sorted(in_flight - {writing.id, asked.id}):
                await beside.finished(there, run_id)
            unknown = await there.run(writing.id)
            assert unknown.status in {"failed", "waiting"}
            told = json.dumps(await there.get(f"/runs/{writing.id}/events"))
            assert "outcome.lost" in told or "whether it happened is unknown" in told
            assert (await here.run(asked.id)).status == "waiting"
            await approved(up, there, asked.id, "grace of the copy")
            await beside.finished(there, asked.id)
            assert (await here.run(asked.id)).status == "waiting", "what is decided there is not decided here"

            ledger.open.set()
            await site.finished(here, writing.id)
            for run_id in loaded:
                await site.finished(here, run_id)
            new = await there.create_run(spec=SLOW)
            await beside.finished(there, new.id)
            assert [run.id for run in await here.runs(limit=100)].count(new.id) == 0
            assert (await there.run(writing.id)).status == unknown.status, "the original's result is not the copy's"
        assert Counter(ledger.entries) == {"held": 1}
        assert await site.rows("select log, partition, epoch, owner from headrace.partitions order by 1, 2") == (
            original_epochs
        ), "nobody took anything from the original's owners"
    for log in ("planner", "gatekeeper", "runner"):
        for each in (site.up, up):
            assert "Traceback" not in each.log_of(log), each.log_of(log)
    for url in (site.postgres.url, copy.postgres.url):
        for verb, key, wanted in (("verify", "holds", True), ("rebuild", "changed", 0)):
            last = Command(
                copy.folder / f"last-{verb}-{url[-20:-10]}", "db", verb, "-o", "json", HEADRACE_DATABASE_URL=url
            )
            assert await last.ended(60) == 0, last.said
            assert json.loads(last.said)[key] == wanted


async def test_an_owner_of_the_original_that_is_led_to_the_copy_can_do_nothing_there(site: Site, copy: Copy) -> None:

    incarnation = await check(site.postgres.url)
    led = await PostgresLog.unchecked(copy.postgres.url, SystemClock(), incarnation)
    try:
        (held,) = await copy.rows(
            "select epoch, last_position from headrace.partitions where log = 'runs' and partition = 0"
        )
        with pytest.raises(DatabaseVersionError):
            await led.append_events(
                [Batch(log="runs", partition=0, epoch=held["epoch"], expected_position=held["last_position"])]
            )
        with pytest.raises(DatabaseVersionError, match="adopted"):
            await led.heartbeat("led astray", {"runs": 1}, lease_s=4)
    finally:
        await led.close()
