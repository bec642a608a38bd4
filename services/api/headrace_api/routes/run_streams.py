"""A run's events and lines: as pages, or as server-sent events."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from headrace.vocabulary import LOG_RUNS, RUN_FINAL
from headrace_api import shapes, streaming, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Paged, says
from headrace_api.routes.runs import run_row

router = APIRouter(tags=["runs"])
Stream = Annotated[bool | None, Query(description="As server-sent events; so does `Accept: text/event-stream`")]


def followed(page: type[Any]) -> dict[int | str, dict[str, Any]]:
    """Document a route that answers with a page, or with a stream."""
    said = says(page)
    said[200]["content"] = {streaming.SSE: {"schema": {"type": "string"}}}
    return said


@router.get("/runs/{run_id}/events", name="list_run_events", responses=followed(shapes.Page[shapes.RunEvent]))
async def list_run_events(asked: Asked, paged: Paged, request: Request, run_id: str, stream: Stream = None) -> Response:
    """Give a run's events in order. A stream goes on after `Last-Event-ID` and ends with `complete`, or `refused`."""
    await run_row(asked, run_id)
    if streaming.wanted(request, stream):
        after = streaming.version(streaming.last_id(request, paged.cursor))
        return streaming.respond(asked, request, streaming.events(asked, run_id, after))
    after = streaming.version(paged.cursor)
    read = await asked.desk.log.stream(LOG_RUNS, run_id, after, paged.limit + 1)
    return answer(views.page([{**streaming.event(each), views.AFTER: each.version} for each in read], paged.limit))


@router.get("/runs/{run_id}/logs", name="list_run_lines", responses=followed(shapes.Page[shapes.RunLine]))
async def list_run_lines(asked: Asked, paged: Paged, request: Request, run_id: str, stream: Stream = None) -> Response:
    """Give what a run printed, in order. A stream goes on after `Last-Event-ID` and ends with `complete`, or `refused`."""
    row = await run_row(asked, run_id)
    if streaming.wanted(request, stream):
        after = streaming.last_id(request, paged.cursor)
        streaming.line_cursor(after)
        return streaming.respond(asked, request, streaming.lines(asked, run_id, after))
    cursor = streaming.line_cursor(paged.cursor)
    told = await streaming.first_line(asked, row) if paged.cursor is None else []
    read = await asked.desk.log.read_lines(run_id, cursor, paged.limit + 1) if cursor is not None else []
    told.extend(streaming.line(each.id, each.line) for each in read)
    if cursor is not None and len(read) <= paged.limit and row["status"] in RUN_FINAL:
        told.extend(await streaming.last_line(asked, row))
    return answer(views.page([{**each, views.AFTER: each["cursor"]} for each in told], paged.limit))
