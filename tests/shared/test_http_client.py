"""The HTTP client tells every lost connection as one."""

import httpx2
import pytest

from headrace.http_client import HttpClient


class Asks(httpx2.AsyncBaseTransport):
    """A transport that asks something for its peer, as anyio asks the socket of a connection."""

    def __init__(self, asked: object) -> None:
        self._asked = asked

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=str(self._asked.getpeername()), request=request)  # type: ignore[attr-defined]  # that is the case


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_connection_closed_as_it_was_made_is_a_lost_connection(method: str) -> None:
    async with HttpClient(transport=Asks(None)) as http:
        with pytest.raises(httpx2.ConnectError, match="closed as it was made"):
            await http.request(method, "http://somewhere/")
        with pytest.raises(httpx2.ConnectError, match="closed as it was made"):
            async with http.stream(method, "http://somewhere/"):
                pass


async def test_another_mistake_stays_what_it_is() -> None:
    async with HttpClient(transport=Asks(object())) as http:
        with pytest.raises(AttributeError):
            await http.get("http://somewhere/")
