"""Whatever is killed in the middle of a run, the run finishes, and nothing is done twice."""

import asyncio
import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from headrace.client.client import Client
from headrace.client.views import Run
from tests.system.kit import SERVICES, Site, beside, shares, until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

JOB = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: job}
spec:
  inputs: {name: {type: string}}
  steps:
    - id: files
      tool: file_glob
      with: {pattern: "module_*.py"}
    - id: symbols
      map: "{{ steps.files.output.paths }}"
      tool: symbols_in_file
      with: {path: "{{ item }}"}
    - id: pause
      depends_on: [files]
      wait: 500ms
    - id: enough
      depends_on: [symbols, pause]
      gate: {type: expression, expression: "size(steps.symbols.output) == 40"}
    - id: sign_off
      depends_on: [enough]
      approval: {roles: [approver], prompt: "Write?"}
    - id: report
      depends_on: [sign_off]
      tool: file_create
      with: {path: "{{ inputs.name }}", contents: "{{ string(size(steps.symbols.output)) }}"}
"""


async def begun(site: Site, client: Client, name: str) -> Run:
    """Create a run and wait until it is in the middle of its map."""
    run = await client.create_run(spec=JOB, inputs={"name": f"out/{name}.txt"})
    async for event in client.run_events(run.id):
        if event.event == "map.started":
            return run
    pytest.fail("the run ended before its map began")


async def approved_by_another(site: Site, client: Client, run: Run) -> None:
    """Approve what the run asks for, as somebody who did not ask for it."""
    token = await client.create_token("grace", ["approver"])
    asked = await until(lambda: client.approvals(run_id=run.id), f"{run.id} to ask for an approval", 60)
    async with site.up.client(token["token"]) as grace:
        await grace.decide(asked[0], "approve")


async def finishes(site: Site, client: Client, run: Run, name: str) -> None:
    """See the run to its end: the report is written, once."""
    await approved_by_another(site, client, run)
    events = await site.finished(client, run.id)
    assert (site.root / "out" / f"{name}.txt").read_text() == "40"
    claims = [event for event in events if event.event == "write.claimed"]
    assert len(claims) == 1


@pytest.mark.parametrize("name", SERVICES)
async def test_sigkill_of_a_service_in_the_middle_of_a_run_and_the_run_finishes(site: Site, name: str) -> None:
    async with site.up.client() as client:
        run = await begun(site, client, name)
        site.up.service(name).kill()
        await finishes(site, client, run, name)


async def test_a_wiped_nats_in_the_middle_of_a_run_and_the_run_finishes(site: Site) -> None:
    async with site.up.client() as client:
        run = await begun(site, client, "wiped")
        await asyncio.to_thread(site.nats.kill)
        site.nats.wipe()
        await asyncio.to_thread(site.nats.start)
        await finishes(site, client, run, "wiped")


async def test_postgres_restarted_in_the_middle_of_a_run_and_the_run_finishes(site: Site) -> None:
    async with site.up.client() as client:
        run = await begun(site, client, "postgres")
        await asyncio.to_thread(site.postgres.kill)
        await asyncio.to_thread(site.postgres.start)
        await finishes(site, client, run, "postgres")


@pytest.fixture
def second_planner(site: Site) -> Iterator[psutil.Process]:
    """Give a second planner process beside the one that `up` keeps."""
    with beside(site, "planner") as process:
        yield process


async def test_two_planners_share_partitions_and_killing_one_moves_them(
    site: Site, second_planner: psutil.Process
) -> None:
    await shares(site, 4, 4)
    async with site.up.client() as client:
        runs = [await begun(site, client, f"shared-{number}") for number in range(4)]
        os.kill(second_planner.pid, signal.SIGKILL)
        assert second_planner.wait(10) == -signal.SIGKILL
        for number, run in enumerate(runs):
            await finishes(site, client, run, f"shared-{number}")
    await shares(site, 8)
