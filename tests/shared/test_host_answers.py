"""The owner host: what was answered under idempotency keys is read once a batch."""

import asyncio
from collections.abc import Mapping, Sequence

from headrace.clock import Clock
from headrace.log.memory import MemoryLog
from headrace.log.port import KeptAnswer
from headrace.vocabulary import LOG_RUNS
from tests.shared.host_toy import Add, World, on_virtual_time


class Asked(MemoryLog):
    """A log that knows which partitions it was asked for answers of, call by call."""

    def __init__(self, clock: Clock, *, partitions: Mapping[str, int]) -> None:
        super().__init__(clock, partitions=partitions)
        self.asked: list[set[int]] = []

    async def answers(self, keys: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int, str], KeptAnswer]:
        self.asked.append({partition for _, partition, _ in keys})
        return await super().answers(keys)


@on_virtual_time
async def test_a_batch_reads_the_answers_of_all_its_partitions_at_once_and_none_without_a_key() -> None:
    async with World(partitions=8) as world:
        log = world.log = Asked(world.clock, partitions={LOG_RUNS: 8})
        await world.host()
        await world.ask(Add())
        assert log.asked == []
        for _ in range(2):
            log.asked.clear()
            async with asyncio.TaskGroup() as group:
                told = [group.create_task(world.ask(Add(), partition=n % 8, key=f"k{n}")) for n in range(80)]
            assert set(range(8)) in log.asked
            assert len(log.asked) < 8
        for task in told:
            assert await world.total(str(task.result().stream_id)) == 1
