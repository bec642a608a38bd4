"""The faults that tests order from the memory bus: loss, repeats, delay, an empty broker, a lost connection."""

import asyncio

import pytest

from headrace.bus.memory import MemoryBus
from headrace.bus.memory_broker import ARRIVES, LOST, TWICE, Fate, MemoryBroker, late
from headrace.bus.port import Delivery
from headrace.clock import SystemClock
from headrace.errors import UnavailableError
from headrace.vocabulary import LOG_RUNS
from tests.contracts.bus_worlds import until


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


async def test_each_message_meets_its_fate(broker: MemoryBroker) -> None:
    fates: dict[bytes, Fate] = {b"lost": LOST, b"twice": TWICE, b"late": late(0.05)}
    broker.fate = lambda _subject, data: fates.get(data, ARRIVES)
    bus = MemoryBus(SystemClock(), broker)
    heard: list[bytes] = []
    await bus.open_control(heard.append)
    for data in (b"lost", b"late", b"twice", b"plain"):
        bus.publish_control(data)
    await until(lambda: b"late" in heard)
    assert heard == [b"twice", b"twice", b"plain", b"late"]


async def test_a_wipe_loses_orders_and_shows_a_stream_made_anew(broker: MemoryBroker) -> None:
    bus = MemoryBus(SystemClock(), broker)
    orders: list[Delivery] = []
    source = await bus.open_work("runner", orders.append)
    bus.publish_work("runner", b"lost")
    await asyncio.sleep(0)
    before = await bus.passed("runner")
    broker.wipe()
    after = await bus.passed("runner")
    assert after.made > before.made
    assert (after.last, after.delivered) == (0, 0)
    source.want(1)
    bus.publish_work("runner", b"kept")
    await until(lambda: [each.data for each in orders] == [b"kept"])


async def test_sequences_of_an_inbox_never_go_back_over_a_wipe(broker: MemoryBroker) -> None:
    bus = MemoryBus(SystemClock(), broker)
    got: list[Delivery] = []
    inbox = await bus.open_inbox(LOG_RUNS, 0, 1, got.append)
    await bus.tell(LOG_RUNS, 0, b"1")
    await until(lambda: len(got) == 1)
    broker.wipe()
    await bus.tell(LOG_RUNS, 0, b"2")
    await until(lambda: len(got) == 2)
    assert got[1].sequence > got[0].sequence
    inbox.settle(got[1].sequence)


async def test_a_client_that_lost_the_broker_hears_nothing_and_gets_what_waited_afterwards(
    broker: MemoryBroker,
) -> None:
    one, two = MemoryBus(SystemClock(), broker), MemoryBus(SystemClock(), broker)
    got: list[Delivery] = []
    heard: list[bytes] = []
    await one.open_inbox(LOG_RUNS, 0, 1, got.append)
    await one.open_control(heard.append)
    one.disconnect()
    await two.tell(LOG_RUNS, 0, b"waits")
    two.publish_control(b"passes by")
    with pytest.raises(UnavailableError):
        await one.tell(LOG_RUNS, 0, b"x")
    assert got == []
    one.reconnect()
    await until(lambda: [each.data for each in got] == [b"waits"])
    assert heard == []
