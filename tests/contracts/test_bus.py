"""One suite over both buses: what the port promises, on memory and on a real nats-server."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from headrace.bus.limits import INBOX_UNSETTLED_MAX
from headrace.bus.port import Bus, Delivery
from headrace.errors import UnavailableError, UnprocessableError, ValidationError
from headrace.vocabulary import LOG_APPROVALS, LOG_RUNS, MESSAGE_BYTES_MAX
from tests.contracts.bus_worlds import JetStreamWorld, MemoryWorld, World, until, until_async


@pytest.fixture(params=["memory", "jetstream"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made: World = MemoryWorld() if request.param == "memory" else JetStreamWorld(request.getfixturevalue("nats_url"))
    yield made
    await made.close()


async def test_an_inbox_delivers_in_order_and_a_new_epoch_gets_what_was_not_settled(world: World) -> None:
    sender, first, second = await world.client(), await world.client(), await world.client()
    old: list[Delivery] = []
    new: list[Delivery] = []
    inbox = await first.open_inbox(LOG_RUNS, 3, 1, old.append)
    for number in range(5):
        await sender.tell(LOG_RUNS, 3, b"%d" % number)
    await until(lambda: len(old) == 5)
    assert [each.data for each in old] == [b"0", b"1", b"2", b"3", b"4"]
    assert [each.sequence for each in old] == sorted(each.sequence for each in old)

    inbox.settle(old[2].sequence)
    await first.close()
    await second.open_inbox(LOG_RUNS, 3, 2, new.append)

    await until(lambda: {each.data for each in new} >= {b"3", b"4"})
    assert b"0" not in {each.data for each in new}


async def test_the_owner_of_an_older_epoch_gets_nothing_after_a_takeover(world: World) -> None:
    sender, first, second = await world.client(), await world.client(), await world.client()
    old: list[Delivery] = []
    new: list[Delivery] = []
    await first.open_inbox(LOG_RUNS, 0, 4, old.append)
    await second.open_inbox(LOG_RUNS, 0, 5, new.append)
    for number in range(20):
        await sender.tell(LOG_RUNS, 0, b"%d" % number)
    await until(lambda: len(new) == 20)
    assert old == []


async def test_a_latecomer_of_an_older_epoch_does_not_take_the_inbox_back(world: World) -> None:
    sender, first, second = await world.client(), await world.client(), await world.client()
    new: list[Delivery] = []
    old: list[Delivery] = []
    await second.open_inbox(LOG_RUNS, 0, 5, new.append)
    await first.open_inbox(LOG_RUNS, 0, 4, old.append)
    await sender.tell(LOG_RUNS, 0, b"for the newer")
    await until(lambda: [each.data for each in new] == [b"for the newer"])
    assert old == []


async def test_settled_messages_do_not_come_again_in_the_same_process_under_the_next_epoch(world: World) -> None:
    bus = await world.client()
    got: list[Delivery] = []
    again: list[Delivery] = []
    inbox = await bus.open_inbox(LOG_APPROVALS, 1, 1, got.append)
    for number in range(10):
        await bus.tell(LOG_APPROVALS, 1, b"%d" % number)
    await until(lambda: len(got) == 10)
    inbox.settle(got[-1].sequence)
    await inbox.close()
    await bus.open_inbox(LOG_APPROVALS, 1, 2, again.append)
    await bus.tell(LOG_APPROVALS, 1, b"next")
    await until(lambda: [each.data for each in again][-1:] == [b"next"])
    assert [each.data for each in again] == [b"next"]


async def test_at_most_the_stated_number_of_messages_is_unsettled(world: World) -> None:
    bus = await world.client()
    got: list[Delivery] = []
    inbox = await bus.open_inbox(LOG_RUNS, 1, 1, got.append)
    total = INBOX_UNSETTLED_MAX + 50
    await asyncio.gather(*(bus.tell(LOG_RUNS, 1, b"x") for _ in range(total)))
    await until(lambda: len(got) >= INBOX_UNSETTLED_MAX)
    await bus.tell(LOG_RUNS, 1, b"one more")
    assert len(got) == INBOX_UNSETTLED_MAX
    inbox.settle(got[-1].sequence)
    await until(lambda: len(got) == total + 1, "the rest comes after settling")


async def test_tell_is_refused_when_the_inbox_is_full(world: World) -> None:
    bus = await world.client()
    await world.fill_inbox(bus, LOG_RUNS, 2)
    with pytest.raises(UnavailableError):
        await bus.tell(LOG_RUNS, 2, b"y" * (MESSAGE_BYTES_MAX - 1_000))


async def test_an_oversized_message_is_refused_with_its_size_and_the_limit(world: World) -> None:
    bus = await world.client()
    body = b"x" * (MESSAGE_BYTES_MAX + 1)
    with pytest.raises(ValidationError, match=rf"{MESSAGE_BYTES_MAX + 1} bytes .* limit of {MESSAGE_BYTES_MAX} bytes"):
        await bus.tell(LOG_RUNS, 0, body)
    with pytest.raises(ValidationError, match="over the limit"):
        await bus.command(LOG_RUNS, 0, body, timeout_s=1)
    with pytest.raises(ValidationError, match="over the limit"):
        await bus.publish_trigger("big", body)
    with pytest.raises(ValidationError, match="over the limit"):
        bus.publish_work("runner", body)


async def test_a_command_is_answered_by_the_owner_whenever_it_likes(world: World) -> None:
    asker, owner = await world.client(), await world.client()
    waiting: list[tuple[bytes, Callable[[bytes], None]]] = []
    await owner.serve_commands(LOG_RUNS, 6, lambda data, respond: waiting.append((data, respond)))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(asker.command(LOG_RUNS, 6, b"one", timeout_s=10))
        second = group.create_task(asker.command(LOG_RUNS, 6, b"two", timeout_s=10))
        await until(lambda: len(waiting) == 2)
        for data, respond in reversed(waiting):
            respond(b"answer to " + data)
    assert (first.result(), second.result()) == (b"answer to one", b"answer to two")


async def test_an_answer_that_no_message_carries_is_not_sent_and_the_next_one_is(world: World) -> None:
    asker, owner = await world.client(), await world.client()
    await owner.serve_commands(LOG_RUNS, 6, lambda data, respond: respond(b"x" * int(data)))
    with pytest.raises(UnavailableError, match="no answer"):
        await asker.command(LOG_RUNS, 6, b"%d" % (MESSAGE_BYTES_MAX + 1), timeout_s=1)
    waiting: list[Callable[[bytes], None]] = []
    await owner.serve_commands(LOG_RUNS, 5, lambda _data, respond: waiting.append(respond))
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(asker.command(LOG_RUNS, 5, b"?", timeout_s=10))
        await until(lambda: bool(waiting))
        waiting[0](b"x" * (MESSAGE_BYTES_MAX + 1))
        waiting[0](b"short")
    assert asked.result() == b"short"


async def test_commands_and_claims_do_not_meet(world: World) -> None:
    asker, owner = await world.client(), await world.client()
    await owner.serve_commands(LOG_RUNS, 0, lambda data, respond: respond(b"command " + data))
    await owner.serve_claims(LOG_RUNS, 0, lambda data, respond: respond(b"claim " + data))
    assert await asker.claim(LOG_RUNS, 0, b"c", timeout_s=10) == b"claim c"
    assert await asker.command(LOG_RUNS, 0, b"c", timeout_s=10) == b"command c"


async def test_a_command_that_nobody_serves_is_refused_at_once(world: World) -> None:
    asker, owner = await world.client(), await world.client()
    with pytest.raises(UnavailableError, match="nobody"):
        await asker.command(LOG_RUNS, 7, b"?", timeout_s=60)
    served = await owner.serve_commands(LOG_RUNS, 7, lambda _data, respond: respond(b"!"))
    assert await asker.command(LOG_RUNS, 7, b"?", timeout_s=10) == b"!"
    await served.close()

    async def nobody() -> bool:
        try:
            await asker.command(LOG_RUNS, 7, b"?", timeout_s=1)  # may still meet the subscription that was ended
        except UnavailableError as refusal:
            return "nobody" in refusal.message
        return False

    await until_async(nobody)


async def test_a_command_without_an_answer_ends_in_unavailable(world: World) -> None:
    asker, owner = await world.client(), await world.client()
    await owner.serve_commands(LOG_RUNS, 5, lambda _data, _respond: None)
    with pytest.raises(UnavailableError, match="no answer"):
        await asker.command(LOG_RUNS, 5, b"?", timeout_s=0.1)


async def test_work_comes_by_credit_and_each_order_once(world: World) -> None:
    owner, one, two = await world.client(), await world.client(), await world.client()
    first: list[Delivery] = []
    second: list[Delivery] = []
    source = await one.open_work("runner", first.append)
    other = await two.open_work("runner", second.append)
    for number in range(6):
        owner.publish_work("runner", b"%d" % number)
    source.want(2)
    await until(lambda: len(first) == 2)
    passed = await owner.passed("runner")
    assert (passed.last, passed.delivered) == (6, 2)
    assert second == []
    other.want(10)
    await until(lambda: len(second) == 4)
    assert len(first) == 2
    assert {each.data for each in first + second} == {b"0", b"1", b"2", b"3", b"4", b"5"}
    owner.publish_work("runner", b"later")
    await until(lambda: len(second) == 5, "credit stands while there is nothing to do")


async def test_a_pool_that_nobody_named_before_works(world: World) -> None:
    owner, worker = await world.client(), await world.client()
    pool = f"my_tools_{uuid.uuid4().hex[:6]}"
    got: list[Delivery] = []
    source = await worker.open_work(pool, got.append)
    source.want(1)
    owner.publish_work(pool, b"order")
    await until(lambda: [each.data for each in got] == [b"order"])
    assert (await owner.passed(pool)).made > 0


async def test_orders_wait_for_the_first_worker(world: World) -> None:
    owner = await world.client()
    owner.publish_work("integrations", b"early")

    async def there() -> bool:
        return (await owner.passed("integrations")).last == 1

    await until_async(there)
    worker = await world.client()
    got: list[Delivery] = []
    source = await worker.open_work("integrations", got.append)
    source.want(5)
    await until(lambda: [each.data for each in got] == [b"early"])


async def test_trigger_events_come_until_they_are_settled_and_are_shared(world: World) -> None:
    sender, planner = await world.client(), await world.client()
    name = f"order.placed.{uuid.uuid4().hex[:8]}"
    handled: list[Delivery] = []
    tries: list[Delivery] = []

    async def deliver(message: Delivery) -> None:
        if message.subject != name:
            return
        tries.append(message)
        if len(tries) == 1:
            problem = "not yet"
            raise UnavailableError(problem)
        handled.append(message)

    await planner.open_triggers(deliver)
    message_id = uuid.uuid4().hex
    published = await sender.publish_trigger(name, b'{"id": 1}', message_id=message_id)
    await until(lambda: len(handled) == 1)
    assert len(tries) == 2
    assert handled[0] == tries[0]
    assert (handled[0].data, handled[0].message_id, handled[0].sequence) == (
        b'{"id": 1}',
        message_id,
        published.sequence,
    )
    assert await sender.publish_trigger(name, b'{"id": 1}', message_id=message_id) == published
    assert (await sender.publish_trigger(name, b"{}")).sequence > published.sequence
    await until(lambda: len(handled) == 2)
    assert handled[1].message_id == ""


async def test_another_trigger_event_under_a_known_message_id_is_refused(world: World) -> None:
    one, two = await world.client(), await world.client()
    name, message_id = f"known_{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    long = b'"' + b"x" * (MESSAGE_BYTES_MAX - 2) + b'"'
    first = await one.publish_trigger(name, long, message_id=message_id)
    assert (first.unsaid, await two.publish_trigger(name, long, message_id=message_id)) == (False, first)
    for other, data in ((name, b'{"n": 2}'), (f"{name}.other", long)):
        with pytest.raises(UnprocessableError, match=message_id):
            await two.publish_trigger(other, data, message_id=message_id)
    assert (await two.publish_trigger(name, b'{"n": 2}')).sequence == first.sequence + 1


async def test_a_trigger_published_while_no_planner_lives_waits_for_one(world: World) -> None:
    sender = await world.client()
    name = f"waits_{uuid.uuid4().hex[:8]}"
    got: list[str] = []

    async def deliver(message: Delivery) -> None:
        got.append(message.subject)

    await sender.publish_trigger(name, b"{}")
    planner = await world.client()
    await planner.open_triggers(deliver)
    await until(lambda: name in got)


async def test_a_trigger_that_a_planner_left_unfinished_goes_to_another(world: World) -> None:
    sender, one, two = await world.client(), await world.client(), await world.client()
    name = f"handed_over_{uuid.uuid4().hex[:8]}"
    begun: list[str] = []
    done: list[str] = []

    async def never(message: Delivery) -> None:
        begun.append(message.subject)
        await asyncio.Event().wait()

    async def deliver(message: Delivery) -> None:
        done.append(message.subject)

    reader = await one.open_triggers(never)
    await sender.publish_trigger(name, b"{}")
    await until(lambda: name in begun)
    await two.open_triggers(deliver)
    await reader.close()
    await until(lambda: name in done)


@pytest.mark.parametrize("name", ["", "a b", "a..b", "a.*", ">", "x" * 300, "a.", "é"])
async def test_a_trigger_name_that_no_subject_can_carry_is_refused(world: World, name: str) -> None:
    bus = await world.client()
    with pytest.raises(ValidationError):
        await bus.publish_trigger(name, b"{}")


async def test_lines_are_stored_or_come_again(world: World) -> None:
    worker, api = await world.client(), await world.client()
    tries: list[bytes] = []
    stored: list[bytes] = []

    async def deliver(message: Delivery) -> None:
        tries.append(message.data)
        if len(tries) == 1:
            problem = "the database is away"
            raise UnavailableError(problem)
        stored.append(message.data)

    await api.open_lines(deliver)
    await worker.publish_lines(b"[1]")
    await until(lambda: stored == [b"[1]"])
    assert tries == [b"[1]", b"[1]"]


async def test_the_feed_reaches_every_reader_of_its_log_alone(world: World) -> None:
    owner, one, two = await world.client(), await world.client(), await world.client()
    heard: list[list[bytes]] = [[], [], []]
    await one.open_feed(LOG_RUNS, heard[0].append)
    await two.open_feed(LOG_RUNS, heard[1].append)
    await two.open_feed(LOG_APPROVALS, heard[2].append)
    await _settle_subscriptions(one, two)
    owner.publish_feed(LOG_RUNS, b"[]")
    owner.publish_feed(LOG_APPROVALS, b"[1]")
    await until(lambda: heard == [[b"[]"], [b"[]"], [b"[1]"]])


async def test_control_and_presence_reach_everybody_the_sender_too(world: World) -> None:
    one, two = await world.client(), await world.client()
    control: list[bytes] = []
    presence: list[bytes] = []
    for bus in (one, two):
        await bus.open_control(control.append)
        await bus.open_presence(presence.append)
    await _settle_subscriptions(one, two)
    one.publish_control(b"drain")
    two.publish_presence(b"beat")
    await until(lambda: control == [b"drain"] * 2 and presence == [b"beat"] * 2)


async def test_an_end_reaches_the_place_that_it_is_told_to(world: World) -> None:
    one, two, owner = await world.client(), await world.client(), await world.client()
    heard: list[list[bytes]] = [[], []]
    await one.open_ends("one", heard[0].append)
    await two.open_ends("two", heard[1].append)
    await _settle_subscriptions(one, two)
    owner.publish_end("one", b"1")
    owner.publish_end("nobody", b"0")
    owner.publish_end("two", b"2")
    await until(lambda: heard == [[b"1"], [b"2"]])


async def test_closing_a_subscription_ends_it(world: World) -> None:
    one, two = await world.client(), await world.client()
    closed: list[bytes] = []
    open_: list[bytes] = []
    subscription = await one.open_control(closed.append)
    await one.open_control(open_.append)
    await subscription.close()
    await _settle_subscriptions(one, two)
    two.publish_control(b"x")
    await until(lambda: open_ == [b"x"])
    assert closed == []


async def _settle_subscriptions(*buses: Bus) -> None:
    """Make sure that the server knows all subscriptions: a round trip behind them on the same connection."""
    for bus in buses:
        with contextlib.suppress(UnavailableError):
            await bus.command(LOG_RUNS, 0, b"?", timeout_s=1)
