"""The client: repeats what may be repeated, resumes streams, raises the api's own errors."""

from collections.abc import Callable

import httpx2
import pytest

from headrace import errors
from headrace.client.client import Client
from headrace.client.transport import Transport

Handler = Callable[[httpx2.Request], httpx2.Response]
AWAY = {"error": {"type": "unavailable", "message": "away", "details": {"retry_after_s": 0.01}}}


def client(handler: Handler, patience_s: float = 5.0) -> Client:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    return Client("http://api", transport=Transport("http://api", "hr_x", http=http, patience_s=patience_s))


async def test_a_post_is_sent_again_under_the_same_key() -> None:
    keys: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            message = "refused"
            raise httpx2.ConnectError(message, request=request)
        return httpx2.Response(503, json=AWAY) if len(keys) == 2 else httpx2.Response(200, json={"ok": True})

    async with client(handle) as api:
        assert await api.post("/triggers/x", {}) == {"ok": True}
    assert len(keys) == 3
    assert len(set(keys)) == 1


async def test_patience_ends() -> None:
    async with client(lambda _: httpx2.Response(503, json=AWAY), patience_s=0.0) as api:
        with pytest.raises(errors.UnavailableError, match="away"):
            await api.get("/runs")


@pytest.mark.parametrize(
    ("status", "type", "kind"),
    [
        (404, "not_found", errors.NotFoundError),
        (422, "validation_error", errors.UnprocessableError),
        (413, "validation_error", errors.TooLargeError),
        (409, "plan_id_mismatch", errors.DigestMismatchError),
    ],
)
async def test_refusals_are_the_apis_own_errors(status: int, type: str, kind: type[Exception]) -> None:
    told = {"error": {"type": type, "message": "no", "details": {"a": 1}}}
    async with client(lambda _: httpx2.Response(status, json=told)) as api:
        with pytest.raises(kind) as caught:
            await api.get("/x")
    assert isinstance(caught.value, errors.HeadraceError)
    assert caught.value.details == {"a": 1}


async def test_an_answer_that_is_no_envelope_is_named_as_such() -> None:
    async with client(lambda _: httpx2.Response(400, text="<html>")) as api:
        with pytest.raises(errors.HeadraceError, match="not one of headrace's"):
            await api.get("/x")


async def test_a_broken_stream_goes_on_after_its_last_event() -> None:
    asked: list[str | None] = []
    first = b'id: 1\nevent: a\ndata: {"n":1}\n\n: heartbeat\n\nid: 2\nevent: a\ndata: {"n":2}\n\nid: 3\nevent: a\nda'
    second = b'id: 3\nevent: a\ndata: {"n":3}\n\nevent: complete\ndata: {"status":"succeeded"}\n\n'

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("last-event-id"))
        return httpx2.Response(200, content=first if len(asked) == 1 else second)

    async with client(handle) as api:
        events = [event async for event in api.run_events("run_x")]
    assert [event.data.get("n") for event in events] == [1, 2, 3, None]
    assert asked == [None, "2"]
