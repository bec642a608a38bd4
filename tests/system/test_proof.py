"""The log proves itself on a running installation: chains verify, and a rebuild mends what was corrupted by hand."""

import json
from pathlib import Path

import asyncpg
import pytest

from tests.system.kit import Command, Site

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

HELLO = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: hello}
spec:
  steps:
    - id: look
      tool: file_glob
      with: {pattern: "module_*.py"}
"""


async def db(site: Site, folder: Path, verb: str) -> tuple[int, dict[str, object]]:
    """Run `headrace db VERB -o json` against the installation."""
    command = Command(folder, "db", verb, "-o", "json", HEADRACE_DATA_DIR=str(site.up.home))
    code = await command.ended(60)
    return code, json.loads(command.said)


async def test_a_rebuild_mends_a_row_that_was_corrupted_by_hand(site: Site, tmp_path: Path) -> None:
    async with site.up.client() as client:
        run = await client.create_run(spec=HELLO)
        await site.finished(client, run.id)
        good = await client.get(f"/runs/{run.id}")
        connection = await asyncpg.connect(site.postgres.url)
        await connection.execute("update headrace.runs set status = 'failed', steps_done = 99 where id = $1", run.id)
        await connection.execute("delete from headrace.steps where run_id = $1", run.id)
        await connection.close()
        assert (await client.run(run.id)).status == "failed"
        code, report = await db(site, tmp_path / "first", "rebuild")
        assert (code, report["changed"]) == (0, 2)
        assert await client.get(f"/runs/{run.id}") == good
        code, report = await db(site, tmp_path / "second", "rebuild")
        assert (code, report["changed"]) == (0, 0)
        after = await client.create_run(spec=HELLO)
        await site.finished(client, after.id)


async def test_the_chains_verify_and_a_flipped_byte_is_located(site: Site, tmp_path: Path) -> None:
    code, report = await db(site, tmp_path / "whole", "verify")
    assert (code, report["holds"]) == (0, True)
    connection = await asyncpg.connect(site.postgres.url)
    where = await connection.fetchrow(
        "select tableoid::regclass::text as child, month, log, partition, position, data from headrace.events where type = 'run.succeeded' limit 1"
    )
    assert where is not None
    child = where["child"]
    await connection.execute(f"alter table {child} disable trigger all")  # as only the database's own superuser may
    change = f"update {child} set data = $1 where month = $2 and log = $3 and partition = $4 and position = $5"  # noqa: S608  (its own name)
    place = (where["month"], where["log"], where["partition"], where["position"])
    await connection.execute(change, where["data"].replace(b"run.succeeded", b"run.succeedee"), *place)
    code, report = await db(site, tmp_path / "flipped", "verify")
    await connection.execute(change, where["data"], *place)
    await connection.execute(f"alter table {child} enable trigger all")
    await connection.close()
    assert code == 1
    partitions = report["partitions"]
    assert isinstance(partitions, list)
    broken = [(each["log"], each["partition"], each["position"]) for each in partitions if each["broken"]]
    assert broken == [(where["log"], where["partition"], where["position"])]
