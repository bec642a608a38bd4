"""Server-sent events: what is recorded, once each and in order, then what follows, woken by the feed.

Each event has an id; a client that comes back says `Last-Event-ID` and goes on after it, from the log. A stream of a
run ends with the event `complete`, which carries the run's status. A stream whose token is revoked, or whose run is
purged or archived meanwhile, ends with the event `refused`, which carries the error; the feed wakes it for that. Lines
that begin with `:` are heartbeats.
"""

import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from fastapi import Request
from starlette.responses import StreamingResponse

from headrace import codec
from headrace.clock import Clock
from headrace.errors import NotFoundError, UnauthorizedError, UnavailableError
from headrace.log.port import Recorded
from headrace.vocabulary import LOG_RUNS, RUN_FINAL
from headrace.wire import Line
from headrace_api import starting, views
from headrace_api.answers import request_id
from headrace_api.asking import Asking
from headrace_api.cursors import number
from headrace_api.feed import REPAIR_S, lines_of

_log = logging.getLogger(__name__)
HEARTBEAT_S: Final = 15.0
LINES_REPAIR_S: Final = 2.0
"""Lines are taken by one api of several, so that the others look for themselves."""
LINES_SETTLE_S: Final = 0.5
"""How long after its end a run's lines may still arrive before its stream says that it is complete."""
READ_FIRST: Final = 8
READ_MAX: Final = 500
READ_BYTES: Final = 256 * 1024
"""How much of a run one that follows it may hold here, or a page that grew fourfold: it may be slow to read, or never do."""
GROWTH_MAX: Final = 4
END_OF_LINES: Final = "end"
FIRST_CURSOR: Final = "0"
REFUSED: Final = "refused"
VERSION_MAX: Final = 2**31 - 1
LINE_MAX: Final = 2**63 - 1
"""The greatest event id of a run and the greatest cursor of a line, as the log numbers them."""
SSE: Final = "text/event-stream"
EVENT_LINES: Final = {
    "run.queued": ("info", "Run queued"),
    "run.failed": ("error", "Run failed"),
    "run.cancelled": ("warning", "Run cancelled"),
}


def wanted(request: Request, stream: bool | None) -> bool:  # noqa: FBT001  (a query parameter)
    """Tell whether a caller wants a stream rather than a page."""
    return stream if stream is not None else SSE in request.headers.get("accept", "")


def last_id(request: Request, cursor: str | None) -> str | None:
    """Give the id after which a stream goes on."""
    return request.headers.get("last-event-id") or cursor


def respond(asking: Asking, request: Request, frames: AsyncIterator[bytes]) -> StreamingResponse:
    """Answer with a stream, for as long as the caller's token stands and the run is there."""
    asked_for_head = request.scope["state"].get("head", False)
    told = () if asked_for_head else _while_admitted(frames, request_id(request), asking.desk.clock)
    return StreamingResponse(told, media_type=SSE, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def _while_admitted(frames: AsyncIterator[bytes], request: str, clock: Clock) -> AsyncIterator[bytes]:
    try:
        async for each in frames:
            yield each
    except (
        UnavailableError
    ) as problem:  # the answer has begun: it ends here, and who follows comes back after its last id
        _log.info("request %s: its stream ends early: %s", request, problem.message)
    except (UnauthorizedError, NotFoundError) as problem:
        error = {**problem.envelope(), "timestamp": views.at(clock.now_ms()), "request_id": request}
        yield frame(REFUSED, {"error": error})


def frame(event: str, data: object, identifier: str | None = None) -> bytes:
    """Write one event. JSON holds no line break, so its data is one line."""
    told = f"id: {identifier}\n".encode() if identifier is not None else b""
    return told + f"event: {event}\n".encode() + b"data: " + codec.dumps(data) + b"\n\n"


def version(cursor: str | None) -> int:
    """Read the version after which events are wanted; raises ValidationError."""
    if cursor is None:
        return 0
    return number(cursor, VERSION_MAX, "the version of an event, as its id says")


def event(recorded: Recorded) -> dict[str, Any]:
    """Give an event as callers see it."""
    return {
        "id": str(recorded.version),
        "type": recorded.type,
        "at": views.at(recorded.at),
        "version": recorded.version,
        "position": recorded.position,
        "data": codec.Raw(recorded.data),
        "meta": codec.Raw(recorded.meta) if recorded.meta else None,
    }


class Pages:
    """How many rows to read at a time: few of large ones and many of small ones, as the last page had them."""

    def __init__(self) -> None:
        self.rows = READ_FIRST

    def had(self, sizes: Iterable[int]) -> None:
        """Take note of the sizes in bytes of a page's rows."""
        known = list(sizes)
        fitting = READ_BYTES * len(known) // max(sum(known), 1)
        self.rows = max(1, min(fitting, self.rows * GROWTH_MAX, READ_MAX))


async def events(asking: Asking, run_id: str, after: int) -> AsyncIterator[bytes]:
    """Stream a run's events after a version, to its end."""
    clock, log, pages = asking.desk.clock, asking.desk.log, Pages()
    yield b": headrace\n\n"
    spoke = clock.monotonic()
    with asking.desk.feed.watch(run_id, asking.caller.actor.id) as watcher:
        while True:
            await asking.check_stands()
            row = await asking.run(run_id)
            while read := await log.stream(LOG_RUNS, run_id, after, pages.rows):
                pages.had(len(recorded.data) for recorded in read)
                for recorded in read:
                    yield frame(recorded.type, event(recorded), str(recorded.version))
                after, spoke = read[-1].version, clock.monotonic()
                await asking.check_stands()
            if row["status"] in RUN_FINAL and after >= row["version"]:
                yield complete(row)
                return
            await watcher.wait(REPAIR_S)
            if clock.monotonic() - spoke >= HEARTBEAT_S:
                yield b": heartbeat\n\n"
                spoke = clock.monotonic()


def complete(row: dict[str, Any]) -> bytes:
    """Write the last event of a stream: the run's status."""
    told = {
        "id": row["id"],
        "status": row["status"],
        "error": views.error(row),
        "finished_at": views.at(row["finished_at"]),
    }
    return frame("complete", told)


def line(identifier: int, kept: Line) -> dict[str, Any]:
    """Give a line as callers see it."""
    return {
        "cursor": str(identifier),
        "at": views.at(kept.at),
        "level": kept.level,
        "text": kept.text,
        "step": kept.step,
        "index": kept.index,
        "attempt_id": kept.attempt_id,
        "sequence": kept.sequence,
        "stream": kept.stream,
    }


def event_line(recorded: Recorded, cursor: str, name: str = "") -> dict[str, Any]:
    """Give an event of the run itself as a line (row 12: "Run queued …" comes first); `name` is the run's."""
    level, text = EVENT_LINES[recorded.type]
    data = codec.loads(recorded.data)
    told = (data.get("error") or {}).get("message") or data.get("reason") or data.get("workflow") or name
    joint = " of " if recorded.type == "run.queued" else ": "
    return {
        "cursor": cursor,
        "at": views.at(recorded.at),
        "level": level,
        "text": f"{text}{joint}{told}" if told else text,
        "step": None,
        "index": None,
        "attempt_id": None,
        "sequence": None,
        "stream": "event",
    }


async def first_line(asking: Asking, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the line that every run begins with."""
    read = await asking.desk.log.stream(LOG_RUNS, row["id"], limit=1)
    return [event_line(each, FIRST_CURSOR, row["name"]) for each in read if each.type in EVENT_LINES]


async def last_line(asking: Asking, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the line with which a run that did not succeed ends."""
    if row["status"] not in {"failed", "cancelled"}:
        return []
    ended = await starting.ending(asking, row)
    return [event_line(ended, END_OF_LINES)] if ended is not None and ended.type in EVENT_LINES else []


async def lines(asking: Asking, run_id: str, after: str | None) -> AsyncIterator[bytes]:
    """Stream a run's lines after a cursor, to its end."""
    clock, pages = asking.desk.clock, Pages()
    yield b": headrace\n\n"
    spoke, ended = clock.monotonic(), False
    if after is None:
        for told in await first_line(asking, await asking.run(run_id)):
            yield frame("line", told, FIRST_CURSOR)
    cursor = line_cursor(after)
    with asking.desk.feed.watch(run_id, lines_of(run_id), asking.caller.actor.id) as watcher:
        while True:
            await asking.check_stands()
            row = await asking.run(run_id)
            fresh = False
            while cursor is not None and (read := await asking.desk.log.read_lines(run_id, cursor, pages.rows)):
                pages.had(len(kept.line.text) for kept in read)
                for kept in read:
                    yield frame("line", line(kept.id, kept.line), str(kept.id))
                cursor, spoke, fresh = read[-1].id, clock.monotonic(), True
                await asking.check_stands()
            if row["status"] in RUN_FINAL and ((ended and not fresh) or cursor is None):
                for told in await last_line(asking, row) if cursor is not None else ():
                    yield frame("line", told, END_OF_LINES)
                yield complete(row)
                return
            ended = row["status"] in RUN_FINAL
            await watcher.wait(LINES_SETTLE_S if ended else LINES_REPAIR_S)
            if clock.monotonic() - spoke >= HEARTBEAT_S:  # also of a run in which much happens, and nothing is printed
                yield b": heartbeat\n\n"
                spoke = clock.monotonic()


def line_cursor(cursor: str | None) -> int | None:
    """Read the cursor after which lines are wanted; None is after the last. Raises ValidationError."""
    if cursor == END_OF_LINES:
        return None
    if cursor is None:
        return 0
    return number(cursor, LINE_MAX, "the cursor of a line")
