"""What a commit says to other streams: one message to each of their partitions."""

import asyncio

import msgspec

from headrace import ids
from headrace.bus.memory import MemoryBus
from headrace.bus.port import Delivery
from headrace.clock import SystemClock
from headrace.codec import Raw, encode
from headrace.decider import Tell
from headrace.host.chores import Chores
from headrace.host.telling import Telling
from headrace.keys import OWNERS
from headrace.messages import NoteApprovalReceived, Told
from headrace.vocabulary import LOG_APPROVALS, LOG_RUNS, MESSAGE_BYTES_MAX
from tests.contracts.bus_worlds import until
from tests.shared.worker_kit import KEYS


def stream(number: int, partition: int) -> str:
    return ids.make("run", 1_800_000_000_000, bytes([number]) * 16, partition)


def tell(stream_id: str, approval_id: str = "apr_1", log: str = LOG_RUNS) -> Tell:
    return Tell(log, stream_id, NoteApprovalReceived(approval_id=approval_id), "default")


def read(delivery: Delivery) -> list[Told]:
    label, body = KEYS.unpack(delivery.data)
    assert label == OWNERS
    return (
        msgspec.json.decode(body, type=list[Told]) if body.startswith(b"[") else [msgspec.json.decode(body, type=Told)]
    )


async def test_what_is_told_to_one_partition_at_a_time_is_one_message_in_order() -> None:
    bus = MemoryBus(SystemClock())
    got: dict[tuple[str, int], list[Delivery]] = {(LOG_RUNS, 0): [], (LOG_RUNS, 1): [], (LOG_APPROVALS, 0): []}
    for (log, partition), deliveries in got.items():
        await bus.open_inbox(log, partition, 1, deliveries.append)
    chores = Chores("tells", tasks=4)
    telling = Telling(bus, KEYS, chores)
    async with asyncio.TaskGroup() as group:
        job = group.create_task(chores.run())
        wanted = [stream(number, 0) for number in range(5)]
        for stream_id in wanted:
            telling.put(tell(stream_id))
        telling.put(tell(stream(9, 0), approval_id="x" * MESSAGE_BYTES_MAX))  # no message carries it: it hurts no other
        telling.put(tell(stream(6, 1)))
        telling.put(tell(stream(7, 0), log=LOG_APPROVALS))
        assert not any(got.values()), "nothing leaves before the commit is let out"
        telling.send()
        await until(lambda: all(got.values()))
        telling.send()  # nothing is said twice
        telling.put(tell(stream(8, 0)))
        telling.send()
        await until(lambda: len(got[LOG_RUNS, 0]) == 2)
        job.cancel()
    first, second = got[LOG_RUNS, 0]
    assert [told.stream_id for told in read(first)] == wanted
    assert [told.stream_id for told in read(second)] == [stream(8, 0)]
    assert [told.stream_id for told in read(got[LOG_RUNS, 1][0])] == [stream(6, 1)]
    assert read(got[LOG_RUNS, 1][0])[0].body == Raw(encode(NoteApprovalReceived(approval_id="apr_1")))
    assert len(got[LOG_RUNS, 1]) == len(got[LOG_APPROVALS, 0]) == 1
    await bus.close()
