"""A trigger event under an Idempotency-Key is published once, whichever api is asked, however often and however late."""

import asyncio
from typing import Any

import httpx2
import msgspec

from headrace.bus.memory import MemoryBus
from headrace.bus.memory_broker import LOST
from headrace.errors import HeadraceError, UnprocessableError
from headrace_api import triggering
from headrace_api.asking import Asking
from headrace_api.commands import Commander
from headrace_api.desk import Desk
from tests.api.kit import WORKSPACE, World

KEY = {"Idempotency-Key": "delivery-1"}


async def post(http: httpx2.AsyncClient, name: str, event: Any, key: dict[str, str] | None = None) -> httpx2.Response:
    return await http.post(f"/triggers/{name}", json=event, headers=KEY if key is None else key)


def published(world: World) -> int:
    return world.bus.broker.triggers.last


def check_refused(response: httpx2.Response) -> None:
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (422, "validation_error")
    assert "the Idempotency-Key 'delivery-1' was used for another trigger event" in error["message"]
    assert "under a key of its own" in error["message"]


async def test_a_repeat_meets_the_first_answer_and_publishes_nothing(http: httpx2.AsyncClient, world: World) -> None:
    first = await post(http, "push", {"a": 1})
    await post(http, "push", {"a": 2}, {})
    for late in (False, True):
        if late:  # the bus remembers ids for two minutes, a key is kept for a week
            world.bus.broker.triggers.wipe()
        again = await post(http, "push", {"a": 1})
        assert (again.status_code, again.json()) == (202, first.json())
        assert published(world) == 2
        check_refused(await post(http, "push", {"a": 2}))
        check_refused(await post(http, "pull", {"a": 1}))
        assert published(world) == 2


async def test_without_a_key_each_event_is_one_of_its_own(http: httpx2.AsyncClient, world: World) -> None:
    told = [(await post(http, "push", {"a": 1}, {})).json() for _ in range(2)]
    assert told[0]["message_id"] != told[1]["message_id"]
    assert published(world) == 2


async def test_two_apis_that_are_asked_at_once_publish_one_event(world: World) -> None:
    bus = MemoryBus(world.clock, world.bus.broker)
    other = Desk(world.log, bus, world.keys, world.clock, commander=Commander(bus, world.keys, world.clock))
    caller = await world.desk.tokens.caller(world.tokens["admin"], None)
    desks = [Asking(desk, caller, "delivery-1", 0.0, again=True) for desk in (world.desk, other)]

    async def told(place: int, data: bytes) -> Any:
        try:
            return await triggering.publish(desks[place % 2], "push", data)
        except HeadraceError as problem:
            return problem

    answers = await asyncio.gather(*(told(place, b"%d" % (place // 2 % 2)) for place in range(8)))
    good = [one for one in answers if isinstance(one, dict)]
    refused = [one for one in answers if not isinstance(one, dict)]
    assert (len(good), len(refused)) == (4, 4)
    assert all(one == good[0] for one in good)
    assert all(isinstance(one, UnprocessableError) for one in refused), refused
    assert published(world) == 1
    await bus.close()


async def test_a_repeat_of_what_nobody_acknowledged_is_published(http: httpx2.AsyncClient, world: World) -> None:
    broker = world.bus.broker
    fate, broker.fate = broker.fate, lambda subject, data: LOST if subject.endswith(".push") else fate(subject, data)
    assert (await post(http, "push", {"a": 1})).status_code == 503
    broker.fate = fate
    check_refused(await post(http, "push", {"a": 2}))
    assert (await post(http, "push", {"a": 1})).json()["sequence"] == 1


async def test_the_id_of_somebody_else_s_event_is_refused_even_when_that_is_settled(
    http: httpx2.AsyncClient, world: World
) -> None:
    await world.bus.publish_trigger("push", b'{"of":"a nats client"}', message_id="delivery-1")
    check_refused(await post(http, "push", {"a": 1}))
    triggers = world.bus.broker.triggers
    triggers.waiting.clear()
    triggers.trim()
    async with world.http("stranger") as elsewhere:
        check_refused(await post(elsewhere, "push", {"a": 1}))
    assert published(world) == 1


async def test_a_broken_off_request_may_come_again_after_its_event_is_settled(
    http: httpx2.AsyncClient, world: World
) -> None:
    body = b'{"a":1}'
    sent = await world.bus.publish_trigger("push", body, message_id="delivery-1")
    caller = await world.desk.tokens.caller(world.tokens["admin"], None)
    assert caller.workspace == WORKSPACE
    claim = triggering.claim_of(Asking(world.desk, caller, "delivery-1", 0.0, again=True), "push", body)
    assert await world.log.keep_answer(*triggering.PLACE, claim) is None
    world.bus.broker.triggers.waiting.clear()
    world.bus.broker.triggers.trim()
    told = await post(http, "push", {"a": 1})
    assert (told.status_code, told.json()["sequence"]) == (202, sent.sequence)
    assert msgspec.json.decode((await world.log.answers([(*triggering.PLACE, claim.key)]))[
        (*triggering.PLACE, claim.key)].answer) == told.json()  # fmt: skip


async def test_a_name_that_is_none_takes_no_key(http: httpx2.AsyncClient, world: World) -> None:
    for name in ("%00", "a*b", "x" * 300):
        refused = await post(http, name, {"a": 1})
        assert (refused.status_code, "is not the name of a trigger" in refused.text) == (400, True), refused.text
    assert (await post(http, "push", {"a": 1})).status_code == 202
    assert published(world) == 1
