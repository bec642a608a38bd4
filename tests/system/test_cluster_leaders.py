"""A consumer made while a server of its cluster was away: nobody may be able to lead it once its leader dies."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from headrace.bus import subjects
from headrace.bus.jetstream import JetStreamBus
from headrace.bus.opening import until_open
from headrace.bus.port import Delivery
from headrace.clock import SystemClock
from headrace.vocabulary import LOG_PARTITIONS
from tests.system.cluster_kit import PATIENCE_S, answers, cluster
from tests.system.kit import until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]


async def test_what_was_made_while_a_server_was_away_goes_on_when_another_dies_as_it_is_back(tmp_path: Path) -> None:
    heard: dict[int, int] = dict.fromkeys(range(LOG_PARTITIONS["runs"]), 0)

    def hear(partition: int, _: Delivery) -> None:
        heard[partition] += 1

    async with cluster(tmp_path) as nodes:
        away, rest = nodes[0], nodes[1:]
        bus = await JetStreamBus.connect(",".join(node.url for node in rest), "somebody", SystemClock())
        try:
            away.kill()
            async with asyncio.TaskGroup() as group:
                for partition in heard:
                    way = partial(bus.open_inbox, "runs", partition, 1, partial(hear, partition))
                    group.create_task(until_open(way, SystemClock()))
            leaders = await led_by(bus, heard)
            dies = max(rest, key=lambda node: leaders[node.name])
            away.start()
            await until(lambda: answers(away), "a server to be back", PATIENCE_S)
            dies.kill()
            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
                for partition in heard:
                    group.create_task(until_open(partial(bus.tell, "runs", partition, b"{}"), SystemClock()))
            await until(lambda: all(heard.values()), "every inbox to be read", PATIENCE_S)
        finally:
            await bus.close()


async def led_by(bus: JetStreamBus, partitions: Iterable[int]) -> Counter[str]:
    """Count the inboxes' consumers that each server leads."""
    found: Counter[str] = Counter()
    for partition in partitions:
        subject = subjects.api("CONSUMER.INFO", bus.names.inbox_stream("runs", partition), subjects.epoch_consumer(1))
        found[(await bus.connection.api(subject))["cluster"]["leader"]] += 1
    return found
