"""The client: repeats what may be repeated, resumes streams, raises the api's own errors."""

from collections.abc import AsyncIterator, Callable, Coroutine

import httpx2
import pytest

from headrace import errors
from headrace.client.client import Client
from headrace.client.transport import PATIENCE_S, TIMEOUT_S, Transport
from headrace.testing.virtual import VirtualClock, in_virtual_time
from headrace_api.routes.dashboards import WAIT_S

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


@in_virtual_time
async def test_time_that_the_api_was_asked_to_wait_uses_up_no_patience_and_is_not_waited_twice() -> None:
    clock, asked = VirtualClock(), list[tuple[str, str]]()

    async def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.headers["prefer"], request.headers["idempotency-key"]))
        if len(asked) > 2:
            return httpx2.Response(200, json={"ok": True})
        await clock.sleep(39.5 if len(asked) == 1 else 18)
        if len(asked) == 1:
            return httpx2.Response(503, json=AWAY)  # as an api says that ends
        message = "cut off"
        raise httpx2.ReadError(message, request=request)

    async with waiting(handle, clock) as api:
        assert await api.post("/runs", {}, wait_s=60) == {"ok": True}
    assert [prefer for prefer, _ in asked] == ["wait=60", "wait=20", "wait=2"]
    assert len({key for _, key in asked}) == 1


@in_virtual_time
async def test_an_api_that_is_not_there_is_given_up_as_soon_however_long_it_was_to_wait() -> None:
    clock = VirtualClock()

    async def handle(request: httpx2.Request) -> httpx2.Response:
        message = "refused"
        raise httpx2.ConnectError(message, request=request)

    async with waiting(handle, clock) as api:
        with pytest.raises(errors.UnavailableError, match="cannot be reached"):
            await api.post("/runs", {}, wait_s=60)
    assert PATIENCE_S - 3 < clock.monotonic() < PATIENCE_S


def waiting(handle: Callable[[httpx2.Request], Coroutine[None, None, httpx2.Response]], clock: VirtualClock) -> Client:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handle), timeout=None)
    return Client("http://api", transport=Transport("http://api", "hr_x", http=http, clock=clock))


def test_a_dashboard_that_takes_long_is_answered_before_the_client_gives_it_up() -> None:
    assert WAIT_S + 5 <= TIMEOUT_S


class Silent(httpx2.AsyncByteStream):
    """A stream that has nothing to tell: it greets, beats some times, and is cut, or ends with `last`."""

    def __init__(self, clock: VirtualClock, beats: int, last: bytes = b"") -> None:
        self._clock, self._beats, self._last = clock, beats, last

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b": headrace\n\n"
        for _ in range(self._beats):
            await self._clock.sleep(15)
            yield b": heartbeat\n\n"
        if self._last:
            yield self._last
        else:
            message = "the connection was closed by something between"
            raise httpx2.ReadError(message)


def silent(clock: VirtualClock, streams: list[Silent]) -> Client:
    left = iter(streams)
    http = httpx2.AsyncClient(
        transport=httpx2.MockTransport(lambda _: httpx2.Response(200, stream=next(left))), timeout=None
    )
    return Client("http://api", transport=Transport("http://api", "hr_x", http=http, clock=clock))


@in_virtual_time
async def test_a_stream_with_nothing_to_tell_may_be_cut_any_number_of_times_while_the_api_is_there() -> None:
    clock = VirtualClock()
    cut = [Silent(clock, 4) for _ in range(10)]
    async with silent(clock, [*cut, Silent(clock, 1, b'event: complete\ndata: {"status":"succeeded"}\n\n')]) as api:
        events = [event.event async for event in api.run_events("run_x")]
    assert (events, clock.monotonic() > 600) == (["complete"], True)


@in_virtual_time
async def test_a_stream_that_is_cut_each_time_before_the_api_has_looked_is_given_up() -> None:
    clock = VirtualClock()
    async with silent(clock, [Silent(clock, 0) for _ in range(100)]) as api:
        with pytest.raises(errors.UnavailableError, match="cannot be reached"):
            [event async for event in api.run_events("run_x")]
    assert PATIENCE_S < clock.monotonic() < PATIENCE_S * 2
