"""The owner host: a partition on its way to another owner is served again when that owner is gone before it had it."""

import asyncio
from collections.abc import Callable

from headrace.bus.memory import MemoryBus, MemoryInbox
from headrace.bus.port import Delivery
from headrace.errors import HeadraceError
from headrace.vocabulary import LEASE_S
from tests.shared.host_toy import Add, World, on_virtual_time, until


@on_virtual_time
async def test_a_partition_that_was_to_be_given_away_is_served_again_when_the_other_owner_is_gone() -> None:
    async with World(partitions=2) as world:
        first = await world.host("a")
        streams = [world.stream(number) for number in range(2)]
        committed = asyncio.Event()

        async def hold(_batches: object) -> None:
            await committed.wait()

        world.log.after_commit = hold
        asked = world.group.create_task(world.ask(Add(), stream=streams[1]))
        await world.host("b", ready=False)
        await until(lambda: any(held.draining for held in first.tenures))
        world.kill("b")
        await until(lambda: not any(held.draining for held in first.tenures), seconds=LEASE_S * 2)
        world.log.after_commit = None
        committed.set()
        assert (await asked).status == 201
        await until(lambda: first.ready)
        assert [held.epoch for held in first.tenures] == [1, 1], "it was never given away"
        for stream in streams:
            assert (await world.ask(Add(), stream=stream, timeout_s=5)).status in {200, 201}


class RefusingBus(MemoryBus):
    """A bus whose server refuses, once, to open an inbox, for a reason that nobody thought of."""

    refused = False

    async def open_inbox(
        self, log: str, partition: int, epoch: int, deliver: Callable[[Delivery], None]
    ) -> MemoryInbox:
        if not self.refused:
            self.refused = True
            message = "JetStream refused $JS.API.CONSUMER.CREATE: consumer is being deleted"
            raise HeadraceError(message)
        return await super().open_inbox(log, partition, epoch, deliver)


@on_virtual_time
async def test_a_partition_whose_inbox_the_server_refuses_is_opened_again() -> None:
    async with World(partitions=1) as world:
        world.make_bus = RefusingBus
        host = await world.host("a", ready=False)
        await until(lambda: bool(list(host.tenures)))
        await asyncio.sleep(3)
        assert (await world.ask(Add(), stream=world.stream(0), timeout_s=5)).status == 201
