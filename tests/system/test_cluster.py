"""A cluster of three NATS servers: what it has acknowledged survives the end of any one, and work goes on without it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.js.client import JetStreamContext

from headrace.bus.subjects import TRIGGER_STREAM
from headrace.client.client import Client
from tests.system.cluster_kit import NODES, PATIENCE_S, TROUBLE, cluster
from tests.system.kit import ROOT, Command, running_up, until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]
EACH_PHASE = 6
TRIGGERED = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: triggered}
spec:
  triggers:
    - {type: event, event: go}
  steps:
    - id: files
      tool: file_glob
      with: {pattern: "*.toml"}
    - id: told
      transform: "{{ size(steps.files.output.paths) > 0 ? trigger.number : -1 }}"
  outputs: "{{ steps.told.output }}"
"""


async def replicas(js: JetStreamContext) -> dict[str, tuple[int | None, int]]:
    """Give how many servers keep each stream, and how many of them are up to date."""
    found = {}
    for each in await js.streams_info():
        peers = (each.cluster.replicas if each.cluster else None) or []
        current = sum(1 for peer in peers if peer.current and not peer.offline) + 1
        found[each.config.name or ""] = (each.config.num_replicas, current)
    return found


@asynccontextmanager
async def outside(urls: list[str]) -> AsyncIterator[JetStreamContext]:
    """Connect as somebody who publishes trigger events does."""
    connection = await nats.connect(urls, max_reconnect_attempts=-1, reconnect_time_wait=1, error_cb=quietly)
    try:
        yield connection.jetstream()
    finally:
        await connection.close()


async def quietly(_: Exception) -> None:
    """Say nothing of trouble that is meant."""


async def publish(js: JetStreamContext, number: int) -> None:
    """Publish a trigger event until it is acknowledged, as clients do."""
    data = json.dumps({"number": number}).encode()
    async with asyncio.timeout(60):
        while True:
            try:
                await js.publish("headrace.trigger.go", data, headers={"Nats-Msg-Id": f"go {number}"}, timeout=2)
            except TROUBLE:
                await asyncio.sleep(0.2)
            else:
                return


async def started(client: Client) -> Counter[int]:
    """Count the finished runs of each trigger event by its number."""
    rows = [row async for row in client.pages("/runs", workflow="triggered", limit=100)]
    results = [await client.result(row["id"]) for row in rows if row["status"] == "succeeded"]
    assert all(row["status"] != "failed" for row in rows), rows
    return Counter(result["outputs"] for result in results)


async def test_every_server_of_a_cluster_may_die_in_turn(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        urls = [node.url for node in nodes]
        with running_up(tmp_path / "up", ROOT, HEADRACE_NATS_URL=",".join(urls)) as up:
            await up.ready()
            async with outside(urls) as js, up.client() as client:
                await client.apply(TRIGGERED)
                kept = await replicas(js)
                assert TRIGGER_STREAM in kept
                assert {count for count, _ in kept.values()} == {NODES}, kept
                for phase, node in enumerate(nodes):
                    node.kill()
                    await published(client, js, phase * EACH_PHASE, (phase + 1) * EACH_PHASE)
                    node.start()
                    await until(lambda: all_current(js), f"{node.name} to be up to date again", PATIENCE_S)
                assert await started(client) == Counter(range(NODES * EACH_PHASE))


async def published(client: Client, js: JetStreamContext, first: int, end: int) -> None:
    """Publish events while a server is away, and wait until the run of each has finished."""
    for number in range(first, end):
        await publish(js, number)

    async def finished() -> bool:
        return len(await started(client)) >= end

    await until(finished, f"the runs of {end} events", PATIENCE_S)


async def all_current(js: JetStreamContext) -> bool:
    try:
        return {current for _, current in (await replicas(js)).values()} == {NODES}
    except TROUBLE:
        return False


async def test_a_number_of_replicas_that_no_cluster_keeps_well_is_refused(tmp_path: Path) -> None:
    command = Command(tmp_path / "home", "up", HEADRACE_NATS_REPLICAS="2")
    assert await command.ended() != 0
    assert "HEADRACE_NATS_REPLICAS must be one of 1, 3, 5, not 2" in command.said
