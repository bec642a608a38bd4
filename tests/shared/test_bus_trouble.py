"""A bus that is short of something, or away when one begins to listen: it is waited for, and no service ends."""

from types import SimpleNamespace
from typing import Any

import pytest

from headrace.bus.answers import ApiError, answer_of, raise_refusal
from headrace.bus.opening import until_open
from headrace.errors import UnavailableError
from headrace.testing.virtual import VirtualClock
from tests.shared.host_toy import on_virtual_time

FULL = {"code": 500, "err_code": 10012, "description": "write meta.inf.tmp: no space left on device"}
STARTING = {"code": 503, "err_code": 10008, "description": "jetstream system temporarily unavailable"}
MISSING = {"code": 404, "err_code": 10059, "description": "stream not found"}


@pytest.mark.parametrize("error", [FULL, STARTING])
def test_what_the_server_is_short_of_may_go_away(error: dict[str, object]) -> None:
    with pytest.raises(UnavailableError, match=str(error["description"])):
        raise_refusal({"error": error}, "$JS.API.CONSUMER.CREATE")


def test_what_was_asked_wrongly_does_not_go_away() -> None:
    with pytest.raises(ApiError) as refusal:
        raise_refusal({"error": MISSING}, "$JS.API.STREAM.INFO")
    assert refusal.value.code == 10059


@pytest.mark.parametrize("said", [b"ok", b"[]", b'{"thanks": true}', b"", b"\xff\xfe"])
def test_who_answers_what_is_published_besides_jetstream_ends_nobody(said: bytes) -> None:
    reply: Any = SimpleNamespace(data=said)
    with pytest.raises(UnavailableError, match="who is not JetStream"):
        answer_of(reply, "headrace.trigger.order", "seq")
    for good in (b'{"stream": "s", "seq": 7}', b'{"error": {"code": 503}}'):
        reply.data = good
        assert answer_of(reply, "headrace.trigger.order", "seq")


@on_virtual_time
async def test_who_begins_to_listen_while_the_bus_is_away_listens_once_it_is_back() -> None:
    tries: list[int] = []

    async def way() -> str:
        tries.append(1)
        if len(tries) < 4:
            message = "NATS does not answer"
            raise UnavailableError(message)
        return "listening"

    assert await until_open(way, VirtualClock()) == "listening"
    assert len(tries) == 4
