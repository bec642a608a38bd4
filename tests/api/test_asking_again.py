"""Who waits for an owner that is gone asks again as soon as another one says that it serves."""

import asyncio
from typing import cast

from headrace import codec
from headrace.bus.port import Bus
from headrace.clock import SystemClock
from headrace.events.base import Actor
from headrace.keys import COMMANDS, OWNERS, Keys
from headrace.messages import Answer
from headrace.steering import PauseRun
from headrace.vocabulary import LOG_RUNS, Role
from headrace.wire import Probe
from headrace_api.admission import Caller
from headrace_api.commands import ASK_S, Commander
from headrace_api.presence import Presence

MASTER = Keys(master=b"m" * 32)
KEYS = Keys(single={COMMANDS: MASTER.key(COMMANDS)})
SOON_S = ASK_S / 2


class Owners:
    """The way to owners: the first one that is asked dies of it, the next one answers."""

    connected = True

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.waits = asyncio.Event()

    async def command(self, _log: str, _partition: int, data: bytes, *, timeout_s: float) -> bytes:
        self.asked.append(data)
        if len(self.asked) == 1:
            self.waits.set()
            await asyncio.sleep(timeout_s)
        return codec.encode(Answer(status=200, body=codec.raw({"id": "run_1"})))


async def test_a_command_whose_owner_is_gone_is_sent_again_as_soon_as_another_one_serves() -> None:
    owners, clock = Owners(), SystemClock()
    commander, presence = Commander(cast("Bus", owners), KEYS, clock), Presence(clock, KEYS)
    presence.served = commander.ask_again
    caller = Caller(actor=Actor(id="tok_1", name="ann", roles=(Role.OPERATOR,)), workspace="default", traceparent="")
    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as group:
        answer = group.create_task(commander.send_to(LOG_RUNS, 0, PauseRun(), caller, stream_id="run_1"))
        await owners.waits.wait()
        for served in (0, 1):
            presence.deliver(MASTER.pack(OWNERS, codec.encode(Probe(owner="next", nonce="1", served=served))))
    assert answer.result().status == 200
    assert len(owners.asked) == 2
    assert owners.asked[0] == owners.asked[1]


def test_an_owner_that_serves_what_it_did_is_no_news() -> None:
    presence, heard = Presence(SystemClock(), KEYS), []
    presence.served = lambda: heard.append("news")
    for served in (0, 0, 1, 1, 1, 2, 2):
        presence.deliver(MASTER.pack(OWNERS, codec.encode(Probe(owner="one", nonce="1", served=served))))
    assert len(heard) == 2
