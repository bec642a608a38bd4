"""What only a real server can show: wiped stores, deleted consumers, kept triggers, requests that do not spin."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable

import nats
import pytest

from headrace.bus import subjects
from headrace.bus.connection import Connection
from headrace.bus.hello import learn_incarnation
from headrace.bus.jetstream import JetStreamBus
from headrace.bus.port import Delivery, Published
from headrace.bus.reader import TRIM_EVERY
from headrace.clock import SystemClock
from headrace.dev.embedded import EmbeddedNats
from headrace.errors import ConflictError, UnavailableError, ValidationError
from headrace.vocabulary import LOG_PARTITIONS, LOG_RUNS, MESSAGE_BYTES_MAX
from tests.contracts.bus_worlds import DEADLINE_S, JetStreamWorld, until, until_async

StartNats = Callable[[], EmbeddedNats]


@pytest.fixture
async def server(nats_server: StartNats) -> EmbeddedNats:
    return await asyncio.to_thread(nats_server)


@pytest.fixture
async def world(server: EmbeddedNats) -> AsyncIterator[JetStreamWorld]:
    made = JetStreamWorld(server.url)
    yield made
    await made.close()


async def tell(bus: JetStreamBus, data: bytes, partition: int = 0) -> None:
    """Tell until it is acknowledged, as every caller does."""

    async def told() -> bool:
        try:
            await bus.tell(LOG_RUNS, partition, data)
        except UnavailableError:
            return False
        return True

    await until_async(told, "the inbox takes messages")


async def test_a_server_that_comes_back_empty_heals_and_traffic_flows_again(
    server: EmbeddedNats, world: JetStreamWorld
) -> None:
    owner, worker = await world.client(), await world.client()
    inbox: list[Delivery] = []
    orders: list[Delivery] = []
    triggers: list[Delivery] = []
    feed: list[bytes] = []

    async def on_trigger(message: Delivery) -> None:
        triggers.append(message)

    opened = await owner.open_inbox(LOG_RUNS, 0, 1, inbox.append)
    await owner.open_triggers(on_trigger)
    await owner.serve_commands(LOG_RUNS, 0, lambda data, respond: respond(data))
    await worker.open_feed(LOG_RUNS, feed.append)
    source = await worker.open_work("runner", orders.append)
    source.want(100)
    for number in range(3):
        await tell(worker, b"%d" % number)
        owner.publish_work("runner", b"%d" % number)
    await until(lambda: len(inbox) == 3 and len(orders) == 3)
    made = (await owner.passed("runner")).made
    before = inbox[-1].sequence

    await asyncio.to_thread(server.kill)
    await until(lambda: not owner.connected and not worker.connected)
    with pytest.raises(UnavailableError):
        await worker.tell(LOG_RUNS, 0, b"while it is away")
    await asyncio.to_thread(server.wipe)
    await asyncio.to_thread(server.start)

    await tell(worker, b"after")
    await until(lambda: [each.data for each in inbox][-1] == b"after", "the inbox delivers again")
    assert inbox[-1].sequence > before, "sequences never go back"
    opened.settle(inbox[-1].sequence)

    async def handed_out() -> bool:
        owner.publish_work("runner", b"again")
        return any(each.data == b"again" for each in orders)

    await until_async(handed_out, "work flows again")
    assert (await owner.passed("runner")).made > made
    await worker.publish_trigger("after_the_wipe", b"{}")
    await until(lambda: [each.subject for each in triggers] == ["after_the_wipe"])
    assert await worker.command(LOG_RUNS, 0, b"?", timeout_s=10) == b"?"
    owner.publish_feed(LOG_RUNS, b"[]")
    await until(lambda: feed == [b"[]"])


async def test_of_a_trigger_event_that_is_trimmed_nobody_says_what_it_was(world: JetStreamWorld) -> None:
    bus = await world.client()
    first = await bus.publish_trigger("trimmed", b"1", message_id="one")
    await bus.connection.api(subjects.api("STREAM.PURGE", subjects.TRIGGER_STREAM))
    assert await bus.publish_trigger("trimmed", b"2", message_id="one") == Published(first.sequence, unsaid=True)


async def test_acknowledged_triggers_survive_a_killed_server(server: EmbeddedNats, world: JetStreamWorld) -> None:
    bus = await world.client()
    sequences = [(await bus.publish_trigger(f"kept.{number}", b"{}")).sequence for number in range(5)]
    assert sequences == sorted(sequences)

    await asyncio.to_thread(server.kill)
    await until(lambda: not bus.connected)
    await asyncio.to_thread(server.start)

    triggers: set[str] = set()

    async def on_trigger(message: Delivery) -> None:
        triggers.add(message.subject)

    await bus.open_triggers(on_trigger)
    await until(lambda: triggers == {f"kept.{number}" for number in range(5)})


async def test_what_was_not_settled_comes_again_after_a_restart_and_what_was_does_not(
    server: EmbeddedNats, world: JetStreamWorld
) -> None:
    bus = await world.client()
    got: list[Delivery] = []
    inbox = await bus.open_inbox(LOG_RUNS, 1, 1, got.append)
    for number in range(4):
        await tell(bus, b"%d" % number, partition=1)
    await until(lambda: len(got) == 4)
    inbox.settle(got[1].sequence)
    last = got[-1].sequence

    await asyncio.to_thread(server.stop)
    await until(lambda: not bus.connected)
    await asyncio.to_thread(server.start)
    await tell(bus, b"next", partition=1)

    await until(lambda: got[-1].data == b"next")
    again = got[4:]
    assert {b"2", b"3", b"next"} <= {each.data for each in again}
    assert all(each.sequence > last for each in again), "sequences never go back"
    inbox.settle(got[-1].sequence)

    await inbox.close()
    await bus.close()
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    successor = await world.client()
    seen: list[bytes] = []
    await successor.open_inbox(LOG_RUNS, 1, 2, lambda each: seen.append(each.data))
    await tell(successor, b"last", partition=1)
    await until(lambda: b"last" in seen)
    assert seen == [b"last"]


async def test_a_consumer_that_somebody_deleted_is_made_again(world: JetStreamWorld) -> None:
    bus = await world.client()
    got: list[Delivery] = []
    orders: list[Delivery] = []
    await bus.open_inbox(LOG_RUNS, 0, 7, got.append)
    source = await bus.open_work("runner", orders.append)
    source.want(10)
    await bus.tell(LOG_RUNS, 0, b"before")
    await until(lambda: len(got) == 1)

    api = bus.connection.api
    await api(subjects.api("CONSUMER.DELETE", bus.names.inbox_stream(LOG_RUNS, 0), subjects.epoch_consumer(7)))
    await api(subjects.api("CONSUMER.DELETE", bus.names.work_stream("runner"), subjects.READERS))

    await tell(bus, b"after")
    await until(lambda: got[-1].data == b"after")

    async def handed_out() -> bool:
        bus.publish_work("runner", b"order")
        return bool(orders)

    await until_async(handed_out)


async def test_a_stream_that_somebody_deleted_is_made_again(world: JetStreamWorld) -> None:
    bus = await world.client()
    got: list[Delivery] = []
    await bus.open_inbox(LOG_RUNS, 0, 1, got.append)
    await bus.connection.api(subjects.api("STREAM.DELETE", bus.names.inbox_stream(LOG_RUNS, 0)))
    await tell(bus, b"after")
    await until(lambda: [each.data for each in got] == [b"after"])


async def test_a_deleted_stream_that_nobody_here_reads_is_made_again_at_once(world: JetStreamWorld) -> None:
    """The server tells of it; the look at all streams comes much later than this waits."""
    bus, other = await world.client(), await world.client()
    await until(lambda: not bus.guardian.dirty and not other.guardian.dirty)
    made = bus.guardian.declared + other.guardian.declared
    await bus.connection.api(subjects.api("STREAM.DELETE", subjects.FEED_STREAM))
    await until(lambda: bus.guardian.declared + other.guardian.declared > made)
    await until(lambda: not bus.guardian.dirty and not other.guardian.dirty)
    await bus.connection.api(subjects.api("STREAM.INFO", subjects.FEED_STREAM))


async def test_a_missing_consumer_is_not_asked_for_again_and_again(world: JetStreamWorld) -> None:
    """Requests are counted, not time: FastStream's own pull subscriber spins here (FACTS A3)."""
    bus = await world.client()
    source = await bus.open_work("runner", lambda _: None)
    source.want(5)
    await until(lambda: bus.hub.requests == 1)
    await bus.guardian.close()
    stream = bus.names.work_stream("runner")
    await bus.connection.api(subjects.api("STREAM.DELETE", stream))
    refused = bus.hub.refusals
    await until(lambda: bus.hub.refusals >= refused + 4, "some refusals")
    assert bus.hub.requests <= 8


async def test_an_idle_bus_asks_for_nothing(world: JetStreamWorld) -> None:
    """Every partition and pool of a process stands by with one request each."""
    bus = await world.client()
    opened = 0
    for log, partitions in LOG_PARTITIONS.items():
        for partition in range(partitions):
            await bus.open_inbox(log, partition, 1, lambda _: None)
            opened += 1
    await until(lambda: bus.hub.requests == opened)
    for _ in range(20):
        with pytest.raises(UnavailableError):
            await bus.command(LOG_RUNS, 0, b"?", timeout_s=1)
    assert bus.hub.requests == opened


async def test_the_older_epochs_consumer_is_deleted_by_the_newer(world: JetStreamWorld) -> None:
    one, two = await world.client(), await world.client()
    await one.open_inbox(LOG_RUNS, 0, 1, lambda _: None)
    await two.open_inbox(LOG_RUNS, 0, 2, lambda _: None)
    stream = two.names.inbox_stream(LOG_RUNS, 0)

    async def names() -> list[str]:
        answer = await two.connection.api(subjects.api("CONSUMER.NAMES", stream), {"offset": 0})
        return list(answer["consumers"])

    assert await names() == [subjects.epoch_consumer(2)]
    two.guardian.check_all()
    one.guardian.check_all()
    await until(lambda: not one.guardian.dirty and not two.guardian.dirty)
    assert await names() == [subjects.epoch_consumer(2)], "the guardian of the older one does not bring it back"


async def test_settled_messages_are_purged_so_that_full_means_not_settled(world: JetStreamWorld) -> None:
    bus = await world.client()
    got: list[Delivery] = []
    inbox = await bus.open_inbox(LOG_RUNS, 0, 1, got.append)
    body = b"x" * (MESSAGE_BYTES_MAX - 1_000)
    for number in range(40):
        await bus.tell(LOG_RUNS, 0, body)
        await until(lambda wanted=number + 1: len(got) == wanted)  # type: ignore[misc]  # the default binds it now
        inbox.settle(got[-1].sequence)
    assert len(got) == 40


async def test_a_process_without_a_database_learns_the_incarnation(world: JetStreamWorld, server: EmbeddedNats) -> None:
    waiting = asyncio.create_task(JetStreamBus.connect(server.url, None, SystemClock()))
    knowing = await world.client()
    async with asyncio.timeout(DEADLINE_S):
        learnt = await waiting
    try:
        assert learnt.names.token == knowing.names.token
    finally:
        await learnt.close()


async def test_two_databases_on_one_server_are_refused_to_those_who_have_none(server: EmbeddedNats) -> None:
    one, two = JetStreamWorld(server.url), JetStreamWorld(server.url)
    await one.client()
    await two.client()
    asker = Connection(server.url, SystemClock())
    await asker.open()
    try:
        with pytest.raises(ConflictError, match="share this NATS"):
            await learn_incarnation(asker)
    finally:
        await asker.close()
        await two.close()
        await one.close()


async def test_internal_names_of_two_incarnations_never_meet(server: EmbeddedNats) -> None:
    one, two = JetStreamWorld(server.url), JetStreamWorld(server.url)
    here, there = await one.client(), await two.client()
    await there.serve_commands(LOG_RUNS, 0, lambda data, respond: respond(data))
    with pytest.raises(UnavailableError, match="nobody"):
        await here.command(LOG_RUNS, 0, b"?", timeout_s=5)
    await two.close()
    await one.close()


async def test_any_nats_client_can_publish_a_trigger_and_follow_the_feed(
    world: JetStreamWorld, server: EmbeddedNats
) -> None:
    bus = await world.client()
    got: list[Delivery] = []

    async def on_trigger(message: Delivery) -> None:
        got.append(message)

    await bus.open_triggers(on_trigger)
    client = await nats.connect(server.url)
    followed = await client.subscribe("headrace.feed.*")
    await client.flush()
    ack = await client.jetstream().publish("headrace.trigger.deploy", b"{}", headers={"Nats-Msg-Id": "d-1"})
    await until(lambda: len(got) == 1)
    assert (got[0].subject, got[0].message_id, got[0].sequence) == ("deploy", "d-1", ack.seq)
    bus.publish_feed(LOG_RUNS, b"[1]")
    assert (await followed.next_msg(timeout=DEADLINE_S)).data == b"[1]"
    await client.close()


async def test_connecting_waits_for_a_server_that_is_not_there_yet(server: EmbeddedNats) -> None:
    await asyncio.to_thread(server.kill)
    bus = await JetStreamBus.connect(server.url, uuid.uuid4().hex, SystemClock(), wait=False)
    try:
        assert not bus.connected
        with pytest.raises(UnavailableError):
            await bus.tell(LOG_RUNS, 0, b"x")
        with pytest.raises(ValidationError):
            await bus.publish_trigger("not a name", b"x")
        bus.publish_presence(b"dropped")
        got: list[Delivery] = []
        opening = asyncio.create_task(bus.open_inbox(LOG_RUNS, 0, 1, got.append))
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(DEADLINE_S):
            await opening
        await tell(bus, b"hello")
        await until(lambda: [each.data for each in got] == [b"hello"])
        assert bus.connection.dropped == 1
    finally:
        await bus.close()


async def test_triggers_alone_are_synced_before_the_ack_where_the_server_knows_the_difference(
    world: JetStreamWorld,
) -> None:
    bus = await world.client()
    info = await bus.connection.api(subjects.api("STREAM.INFO", subjects.TRIGGER_STREAM))
    assert info["config"].get("persist_mode", "default") == "default"
    for name in (subjects.FEED_STREAM, bus.names.inbox_stream(LOG_RUNS, 0), bus.names.work_stream("runner")):
        info = await bus.connection.api(subjects.api("STREAM.INFO", name))
        assert info["config"]["persist_mode"] == "async"


async def test_only_streams_that_were_not_there_are_told_as_made(
    world: JetStreamWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headrace.bus.guardian")
    one = await world.client()
    await one.open_inbox(LOG_RUNS, 0, 1, lambda _: None)
    await until(lambda: not one.guardian.dirty)
    assert f"stream {one.names.inbox_stream(LOG_RUNS, 0)} was made" in caplog.messages
    caplog.clear()
    two = await world.client()
    await two.open_inbox(LOG_RUNS, 0, 2, lambda _: None)
    two.guardian.check_all()
    await until(lambda: not two.guardian.dirty)
    assert [told for told in caplog.messages if "was made" in told] == []


async def test_a_server_that_dies_just_as_a_reader_trims_its_stream_ends_no_reader(
    server: EmbeddedNats, world: JetStreamWorld
) -> None:
    reader, writer = await world.client(), await world.client()
    seen: set[bytes] = set()
    handled = 0

    async def deliver(delivery: Delivery) -> None:
        nonlocal handled
        seen.add(delivery.data)
        if len(seen) == TRIM_EVERY and handled < TRIM_EVERY:
            await until(lambda: handled == TRIM_EVERY - 1, "the others are handled")
            await asyncio.to_thread(server.kill)
        handled += 1

    opened = await reader.open_lines(deliver)
    for number in range(TRIM_EVERY):
        await writer.publish_lines(b"%d" % number)
    await until(lambda: handled >= TRIM_EVERY, "as many are handled as make it trim")
    await asyncio.to_thread(server.start)

    async def another() -> bool:
        try:
            await writer.publish_lines(b"another")
        except UnavailableError:
            return False
        return True

    await until_async(another, "lines are taken again")
    await until(lambda: b"another" in seen, "the reader reads on")
    await opened.close()
