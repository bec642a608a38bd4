"""A rolling change: planners of two versions side by side under load lose nothing, and the older one keeps off the newer's."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.system.kit import ROOT, Command, Load, Site, clean_environment, owners, shares, until
from tests.system.newer_planner import NEWER_FORMAT, NEWER_SCHEMA

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
    - id: pause
      depends_on: [files]
      wait: 1500ms
    - id: symbols
      depends_on: [pause]
      map: "{{ steps.files.output.paths }}"
      tool: symbols_in_file
      with: {path: "{{ item }}"}
"""
HOLDS = re.compile(r"holds runs/(\d+) in epoch (\d+)")
EACH_PHASE = 12


@contextmanager
def newer(site: Site) -> Iterator[psutil.Process]:
    """Start a planner of the next version beside the one that `up` keeps."""
    given = site.up.service("planner").environ()
    env = clean_environment(**{key: value for key, value in given.items() if key.startswith("HEADRACE_")})
    with (site.up.home / "logs" / "newer_planner.log").open("ab") as log:
        process = psutil.Popen(
            [sys.executable, "-m", "tests.system.newer_planner"],
            cwd=ROOT,
            env={**env, "HEADRACE_HEALTH_PORT": "0"},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def shared_by_two(site: Site) -> bool:
    """Tell whether both versions hold partitions, and together all of them.

    Mostly four each: what the older one had not done with when the newer one took its first, it keeps until it leaves.
    """
    held = await owners(site)
    return len(held) == 2 and sum(held.values()) == 8


def epochs(site: Site, log: str) -> dict[int, list[int]]:
    """Give the epochs in which processes say that they held each partition of runs."""
    found: dict[int, list[int]] = defaultdict(list)
    for partition, epoch in HOLDS.findall(site.up.log_of(log)):
        found[int(partition)].append(int(epoch))
    return found


def started_again(site: Site, older: psutil.Process) -> bool:
    """Tell whether another process serves as planner now; between the two there is none."""
    try:
        return site.up.service("planner") != older
    except LookupError:
        return False


async def test_a_rolling_change_under_load_loses_nothing_and_older_code_keeps_off_what_newer_code_wrote(
    site: Site, tmp_path: Path
) -> None:
    await shares(site, 8)
    async with site.up.client() as client, asyncio.TaskGroup() as group:
        load = Load(client, JOB, pause_s=0.1)
        group.create_task(load.run())
        await load.more(EACH_PHASE)
        with newer(site):
            await until(lambda: shared_by_two(site), "both planners to hold partitions", 60)
            await load.more(EACH_PHASE)
            older = site.up.service("planner")
            older.send_signal(signal.SIGTERM)
            (only,) = await shares(site, 8)
            await until(lambda: started_again(site, older), "the older planner to be started again", 60)
            await load.more(EACH_PHASE)
            load.stop()
            for run_id in load.runs:
                await site.finished(client, run_id)
            assert list(await owners(site)) == [only]
            formats = await site.rows("select partition, format from headrace.partitions where log = 'runs'")
            assert {row["format"] for row in formats} == {NEWER_FORMAT}
    assert len(load.runs) >= 3 * EACH_PHASE
    assert len(await site.rows("select 1 from headrace.runs where status = 'succeeded'")) == len(load.runs)
    written = await site.rows("select distinct schema from headrace.events where type = 'run.started'")
    assert sorted(row["schema"] for row in written) == [1, NEWER_SCHEMA]
    old, new = epochs(site, "planner"), epochs(site, "newer_planner")
    assert set(old) == set(new) == set(range(8))
    for partition, held in new.items():
        assert max(old[partition]) < min(held), f"older code held runs/{partition} after newer code had"
    for log in ("planner", "newer_planner"):
        assert "Traceback" not in site.up.log_of(log), site.up.log_of(log)
    verified = Command(tmp_path / "verify", "db", "verify", "-o", "json", HEADRACE_DATA_DIR=str(site.up.home))
    assert await verified.ended(60) == 0, verified.said
    assert json.loads(verified.said)["holds"], "older code verifies what newer code wrote"
    rebuilt = Command(tmp_path / "rebuild", "db", "rebuild", HEADRACE_DATA_DIR=str(site.up.home))
    assert await rebuilt.ended(60) == 1
    assert "newer" in rebuilt.said
