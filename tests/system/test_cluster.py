"""A cluster of three NATS servers: what it has acknowledged survives the end of any one, and work goes on without it."""

from collections import Counter
from pathlib import Path

import pytest
from nats.js.client import JetStreamContext

from headrace.bus.subjects import TRIGGER_STREAM
from headrace.client.client import Client
from tests.system.cluster_kit import NODES, PATIENCE_S, TRIGGERED, TROUBLE, cluster, outside, publish, started
from tests.system.kit import ROOT, Command, running_up, until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]
EACH_PHASE = 6


async def replicas(js: JetStreamContext) -> dict[str, tuple[int | None, int]]:
    """Give how many servers keep each stream, and how many of them are up to date."""
    found = {}
    for each in await js.streams_info():
        peers = (each.cluster.replicas if each.cluster else None) or []
        current = sum(1 for peer in peers if peer.current and not peer.offline) + 1
        found[each.config.name or ""] = (each.config.num_replicas, current)
    return found


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
