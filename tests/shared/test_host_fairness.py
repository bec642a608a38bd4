"""Fair shares at the way in: a burst of one workspace keeps no other one's command from being prepared and decided."""

import asyncio
from typing import Any

from headrace.decider import Context
from headrace.errors import RateLimitedError
from headrace.host.items import Item, Origin, advance
from headrace.host.mailboxes import WORKSPACE_TURN_MAX, Mailboxes, Turns
from tests.shared.host_toy import Add, World, on_virtual_time, until


def item(stream: str, workspace: str | None = None) -> Item:
    return Item(None, Origin.COMMAND, stream, Add(), workspace)  # type: ignore[arg-type]  # no tenure needed


def test_a_workspace_with_a_burst_leaves_another_its_turn_in_the_next_batch() -> None:
    mailboxes = Mailboxes()
    for number in range(10_000):
        mailboxes.put(item(f"noisy{number}", "noisy"))
    mailboxes.put(item("quiet", "quiet"))
    mailboxes.put(item("woken"))
    taken = [one.stream_id for one in mailboxes.take(400)]
    assert len(taken) == 400
    assert taken.index("quiet") == WORKSPACE_TURN_MAX
    assert taken.index("woken") == WORKSPACE_TURN_MAX + 1


def test_items_of_a_stream_stay_in_order_whoever_sends_them() -> None:
    mailboxes = Mailboxes()
    mailboxes.put(advance(None, "one"))  # type: ignore[arg-type]  # no tenure needed
    sent = [item("one", "here") for _ in range(100)]
    for one in sent:
        mailboxes.put(one)
    mailboxes.put(item("two", "here"))
    taken = [one for _ in range(3) for one in mailboxes.take(64)]
    assert [one for one in taken if one.stream_id == "one"][1:] == sent
    assert len(mailboxes) == 0
    assert mailboxes.take(10) == []


def test_what_is_put_back_comes_before_the_rest_of_its_stream() -> None:
    mailboxes = Mailboxes()
    first, second = item("one", "here"), item("one", "here")
    mailboxes.put(second)
    mailboxes.put_back([first])
    assert mailboxes.take(2) == [first, second]


def test_what_is_dropped_leaves_no_empty_turn() -> None:
    mailboxes = Mailboxes()
    mailboxes.put(item("one", "here"))
    kept = item("two", "there")
    mailboxes.put(kept)
    mailboxes.drop(lambda one: one.stream_id == "one")
    assert len(mailboxes) == 1
    assert mailboxes.take(5) == [kept]


def test_turns_take_one_of_each_workspace() -> None:
    turns = Turns()
    for number in range(3):
        turns.put(item(f"a{number}", "a"))
    turns.put(item("b0", "b"))
    turns.put(item("c0", "c"))
    taken = []
    while (one := turns.take()) is not None:
        taken.append(one.stream_id)
    assert taken == ["a0", "b0", "c0", "a1", "a2"]


class SlowPreparer:
    """Takes a tenth of a second for each command."""

    prepares = (Add,)

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def prepare(self, command: Any, context: Context) -> Any:
        self.seen.append(context.workspace)
        await asyncio.sleep(0.1)
        return command


@on_virtual_time
async def test_a_create_is_prepared_in_turn_though_a_thousand_of_another_workspace_wait() -> None:
    async with World() as world:
        preparer = SlowPreparer()
        await world.host(preparers={"runs": preparer})
        async with asyncio.TaskGroup() as group:
            for number in range(1_000):
                group.create_task(world.ask(Add(), key=f"noisy{number}", workspace="noisy"))
            await until(lambda: len(preparer.seen) > 32)
            await world.ask(Add(), key="quiet", workspace="quiet")
            assert preparer.seen.count("noisy") < 200


class Changing:
    """Lets the first command through and refuses every later one, as when something changed in between."""

    prepares = (Add,)

    def __init__(self) -> None:
        self.asked = 0

    async def prepare(self, command: Any, context: Context) -> Any:
        self.asked += 1
        if self.asked > 1:
            message = "too many"
            raise RateLimitedError(message)
        return command


@on_virtual_time
async def test_a_repeat_of_what_was_done_is_answered_as_before_though_it_would_be_refused_now() -> None:
    async with World() as world:
        await world.host(preparers={"runs": Changing()})
        first = await world.ask(Add(), key="once")
        assert (await world.ask(Add(), key="once")).stream_id == first.stream_id
        refused = await world.ask(Add(), key="twice")
        assert refused.error is not None
        assert (refused.status, refused.error.type) == (429, "rate_limited")


class AtOnce(Changing):
    """Needs nothing for some commands: it lets one through, refuses one, and is mistaken about one."""

    def at_once(self, command: Any, context: Context) -> Any:
        match context.key:
            case "default/refused":
                message = "too many"
                raise RateLimitedError(message)
            case "default/mistaken":
                raise ZeroDivisionError
            case "default/waits":
                return None
        return command


@on_virtual_time
async def test_what_needs_nothing_from_outside_is_prepared_at_once_and_refused_like_any_other() -> None:
    async with World() as world:
        preparer = AtOnce()
        await world.host(preparers={"runs": preparer})
        answers = {key: await world.ask(Add(), key=key) for key in ("good", "refused", "mistaken")}
        assert preparer.asked == 0
        assert (answers["good"].error, answers["good"].status) == (None, 201)
        refused, mistaken = answers["refused"].error, answers["mistaken"].error
        assert refused is not None
        assert refused.type == "rate_limited"
        assert mistaken is not None
        assert "ZeroDivisionError" in mistaken.message
        assert (await world.ask(Add(), key="waits")).error is None
        assert preparer.asked == 1


class Lost(Changing):
    """Makes a mistake when it is to name the stream of a command."""

    async def prepare(self, command: Any, context: Context) -> Any:
        return command

    def route(self, command: Any, context: Context) -> str | None:
        if context.key == "default/mistaken":
            raise ZeroDivisionError
        return None


@on_virtual_time
async def test_a_preparer_that_fails_to_name_a_stream_refuses_that_command_alone() -> None:
    async with World() as world:
        await world.host(preparers={"runs": Lost()})
        mistaken = await world.ask(Add(), key="mistaken")
        assert mistaken.error is not None
        assert "ZeroDivisionError" in mistaken.error.message
        assert (await world.ask(Add(), key="good")).status == 201
