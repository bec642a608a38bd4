"""The worker's outbox: what is ready together travels together, and nothing waits for company."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from headrace import ids
from headrace.bundles import BUNDLE_BYTES_MAX
from headrace.clock import SystemClock
from headrace.errors import UnavailableError
from headrace.keys import POOL
from headrace.messages import ReportAttempt, Told
from headrace.vocabulary import AttemptStatus
from headrace.wire import WorkOrder
from headrace.worker.outbox import LANE_MESSAGES_MAX, Outbox
from headrace.worker.results import blank, report
from tests.shared.worker_kit import KEYS, until

RUNS = [ids.make("run", 1_800_000_000_000, bytes([number]) * 16, number) for number in range(3)]


class Inboxes:
    """A bus whose acks come when told to."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, list[str]]] = []
        self.acks = asyncio.Event()
        self.refusals = 0

    async def tell(self, log: str, partition: int, data: bytes) -> None:
        label, body = KEYS.unpack(data)
        assert (log, label) == ("runs", POOL + "test")
        parts = (
            msgspec.json.decode(body, type=list[Told])
            if body.startswith(b"[")
            else [msgspec.json.decode(body, type=Told)]
        )
        if self.refusals:
            self.refusals -= 1
            message = "no ack came in time"
            raise UnavailableError(message)
        self.messages.append((partition, [_attempt(told) for told in parts]))
        await self.acks.wait()


def _attempt(told: Told) -> str:
    return msgspec.json.decode(told.body, type=ReportAttempt).attempt_id


@asynccontextmanager
async def serving(bus: Any) -> AsyncIterator[Outbox]:
    outbox = Outbox(bus, KEYS, SystemClock())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outbox.run())
        yield outbox
        task.cancel()


def _put(
    outbox: Outbox, number: int, sent: list[int], *, run: str = RUNS[0], bundles: bool = True, size: int = 0
) -> str:
    order = WorkOrder(
        attempt_id=ids.derive("att", 1_800_000_000_000, 3, run, str(number)),
        run_id=run,
        step="s",
        attempt=1,
        workspace="default",
        kind="tool",
        tool="t",
        pool="test",
        arguments_digest="",
        plan_digest="",
        manifest_digest="",
        effect="read",
        idempotency_key="",
        timeout_s=1.0,
        bundles=bundles,
    )
    made = report(blank("wrk"), order, AttemptStatus.SUCCEEDED, "", output=msgspec.Raw(b'"%s"' % (b"x" * size)))
    parcel = outbox.pack(order, made)
    parcel.sent = lambda: sent.append(number)
    outbox.put(parcel)
    return order.attempt_id


async def test_one_result_goes_at_once_and_alone() -> None:
    bus, sent = Inboxes(), list[int]()
    async with serving(bus) as outbox:
        attempt = _put(outbox, 1, sent)
        await until(lambda: bus.messages)
        assert bus.messages == [(0, [attempt])]
        assert sent == []
        bus.acks.set()
        await until(lambda: sent == [1])


async def test_results_of_one_partition_that_are_ready_together_are_one_message() -> None:
    bus, sent = Inboxes(), list[int]()
    async with serving(bus) as outbox:
        first = [_put(outbox, number, sent) for number in range(5)]
        other = [_put(outbox, number, sent, run=RUNS[1]) for number in range(5, 8)]
        await until(lambda: len(bus.messages) == 2)
        assert bus.messages == [(0, first), (1, other)]
        bus.acks.set()
        await until(lambda: sorted(sent) == list(range(8)))


async def test_while_enough_is_under_way_what_becomes_ready_goes_with_the_next() -> None:
    bus, sent = Inboxes(), list[int]()
    async with serving(bus) as outbox:
        assert LANE_MESSAGES_MAX == 2
        _put(outbox, 0, sent)
        await until(lambda: len(bus.messages) == 1)
        _put(outbox, 1, sent)
        await until(lambda: len(bus.messages) == 2)
        later = [_put(outbox, number, sent) for number in range(10, 40)]
        await asyncio.sleep(0)
        assert len(bus.messages) == LANE_MESSAGES_MAX
        bus.acks.set()
        await until(lambda: len(sent) == LANE_MESSAGES_MAX + 30)
        assert bus.messages[LANE_MESSAGES_MAX:] == [(0, later)]


async def test_an_owner_that_takes_one_at_a_time_gets_one_at_a_time() -> None:
    bus, sent = Inboxes(), list[int]()
    bus.acks.set()
    async with serving(bus) as outbox:
        for number in range(6):
            _put(outbox, number, sent, bundles=number in {2, 3})
        await until(lambda: len(sent) == 6)
        assert sorted(len(parts) for _, parts in bus.messages) == [1, 1, 1, 1, 2]


async def test_a_message_of_several_stays_within_its_size() -> None:
    bus, sent = Inboxes(), list[int]()
    bus.acks.set()
    async with serving(bus) as outbox:
        for number in range(6):
            _put(outbox, number, sent, size=BUNDLE_BYTES_MAX // 3)
        await until(lambda: len(sent) == 6)
        assert [len(parts) for _, parts in bus.messages] == [2, 2, 2]


@pytest.mark.parametrize("refusals", [1, 2])
async def test_what_the_bus_does_not_take_is_sent_again_and_not_said_to_be_sent_before(refusals: int) -> None:
    bus, sent = Inboxes(), list[int]()
    bus.acks.set()
    bus.refusals = refusals
    async with serving(bus) as outbox:
        attempts = [_put(outbox, number, sent) for number in range(3)]
        await until(lambda: sent == [0, 1, 2])
        assert bus.messages == [(0, attempts)]
