"""Server-sent events, each once and in order: a stream that breaks is opened again after the last id that came."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import httpx2
import msgspec

from headrace import codec, errors
from headrace.client.transport import AGAIN_FIRST_S, AGAIN_MAX_S, Transport, unreachable

COMPLETE: Final = "complete"
REFUSED: Final = "refused"
HEARTBEAT: Final = "heartbeat"
"""The comment that the api writes while there is nothing to tell: it has looked, and follows."""


class Event(msgspec.Struct, frozen=True):
    """One event of a stream: its name, its id (none of `complete`), its data."""

    event: str
    data: dict[str, Any]
    id: str | None = None


async def parsed(lines: AsyncIterator[str], beaten: Callable[[], None] = lambda: None) -> AsyncIterator[Event]:
    """Read server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    A heartbeat is none: of each of them `beaten` is told.
    """
    name, identifier = "message", None
    data: list[str] = []
    async for line in lines:
        if not line:
            if data:
                yield Event(name, codec.loads("\n".join(data)), identifier)
            name, identifier = "message", None
            data.clear()
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                name = value
            case "id":
                identifier = value
            case "data":
                data.append(value)
            case "" if value == HEARTBEAT:
                beaten()
            case _:
                continue


async def follow(transport: Transport, path: str, after: str | None = None) -> AsyncIterator[Event]:
    """Give the events of a stream until it is complete, going on after the last one through any connection trouble.

    Trouble is over with the next event or heartbeat. Raises UnavailableError when it lasts for the transport's patience,
    and what the api ends the stream with: UnauthorizedError when the token was revoked, NotFoundError when the run was purged meanwhile.
    """
    failing_since: float | None = None
    pause = AGAIN_FIRST_S

    def stands() -> None:
        nonlocal failing_since, pause
        failing_since, pause = None, AGAIN_FIRST_S

    while True:
        try:
            async with transport.stream(path, after) as lines:
                async for event in parsed(lines, stands):
                    stands()
                    if event.event == REFUSED:
                        raise errors.from_envelope(event.data["error"])
                    after = event.id or after
                    yield event
                    if event.event == COMPLETE:
                        return
            trouble: errors.HeadraceError = unreachable(transport.url, ConnectionError("the stream ended early"))
        except errors.UnavailableError as problem:
            trouble = problem
        except httpx2.TransportError as problem:
            trouble = unreachable(transport.url, problem)
        now = transport.monotonic()
        failing_since = now if failing_since is None else failing_since
        if now - failing_since > transport.patience_s:
            raise trouble
        await transport.pause(pause)
        pause = min(pause * 2, AGAIN_MAX_S)
