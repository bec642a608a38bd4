"""The api while log or bus break: it is there when they are back, and what it streams ends where a reader can go on."""

from collections.abc import AsyncIterator, Callable

from headrace.bus.memory import MemoryBus, MemorySubscription
from headrace.clock import SystemClock
from headrace.errors import UnavailableError
from headrace.keys import Keys
from headrace.log.memory import MemoryLog
from headrace.testing.virtual import VirtualClock
from headrace_api.desk import Desk
from headrace_api.streaming import _while_admitted
from tests.shared.host_toy import on_virtual_time


class FallingBus(MemoryBus):
    """A bus that is lost whenever somebody begins to listen for the first time."""

    fallen = 0

    async def open_feed(self, log: str, deliver: Callable[[bytes], None]) -> MemorySubscription:
        self.fallen += 1
        if self.fallen % 2:
            message = "the connection to NATS was lost before the answer came"
            raise UnavailableError(message)
        return await super().open_feed(log, deliver)


@on_virtual_time
async def test_an_api_that_begins_while_nats_breaks_listens_once_it_is_back() -> None:
    clock = VirtualClock()
    bus = FallingBus(clock)
    desk = Desk(MemoryLog(clock), bus, Keys(master=b"k" * 32), clock)
    subscriptions = await desk.open()
    assert len(subscriptions) == bus.fallen // 2 + 3, "every feed once, ends, presence and lines"
    for subscription in subscriptions:
        await subscription.close()


async def test_a_stream_whose_log_goes_away_ends_where_its_reader_can_go_on() -> None:
    async def frames() -> AsyncIterator[bytes]:
        yield b"id: 1\n\n"
        message = "Postgres does not answer"
        raise UnavailableError(message)

    assert [each async for each in _while_admitted(frames(), "req_1", SystemClock())] == [b"id: 1\n\n"]
