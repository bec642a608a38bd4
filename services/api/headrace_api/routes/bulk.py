"""One action on many runs: what is meant is counted first, and then done page by page, each run by its own rules.

A preview fixes what is meant: its question and the moment up to which runs count, so that one created later is not
touched. Each run is asked under a key made of the preview and its id: a page that comes again does nothing twice.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from pydantic import Field

from headrace import codec, errors
from headrace.messages import CancelRun
from headrace.specs.durations import Duration
from headrace.steering import PurgeRun
from headrace.vocabulary import LOG_RUNS, PAGE_MAX, RUN_FINAL, RunStatus
from headrace_api import cursors, performing, run_shapes, shapes, starting, views
from headrace_api.asking import Asking
from headrace_api.bodies import ActionBody, Body, Labels, Name, Switch, Text, Whole
from headrace_api.routes.run_actions import again
from headrace_api.routes.runs import statuses

Action = Literal["cancel", "retry", "purge"]
FITTING: Final[dict[str, frozenset[str]]] = {
    "cancel": frozenset(RunStatus) - RUN_FINAL,
    "retry": frozenset({RunStatus.FAILED, RunStatus.CANCELLED}),
    "purge": RUN_FINAL,
}
"""The statuses in which an action makes sense, meant where a question names none."""
EXAMPLES_MAX: Final = 5
SCAN_PAGE: Final = 500
COUNTED_MAX: Final = 100_000
AT_ONCE: Final = 16


class BulkQuery(Body):
    """Which runs are meant: all that is said must hold. Without a status: those that the action is for."""

    OLDER: ClassVar[dict[str, str]] = {"label": "labels", "card": "subject", "card_id": "subject"}

    workflow: Name | None = None
    status: list[Text] = []
    labels: Labels = {}
    subject: Name | None = None
    older_than: Duration | None = Field(None, description="Only runs created longer ago, such as 2d.")


class BulkBody(Body):
    """What to do with which runs. First with `dry_run`; then with the `preview` that it gave, page by page."""

    action: Action
    query: BulkQuery
    dry_run: Switch = False
    preview: Text | None = None
    cursor: Text | None = None
    limit: Annotated[Whole, Field(ge=1, le=PAGE_MAX)] = PAGE_MAX
    reason: Text = ""


class Refused(run_shapes.Shape):
    """A run that an action did not reach, and why."""

    id: str
    type: str
    message: str


class BulkAnswer(run_shapes.Shape):
    """A preview (`count`, `examples`), or what became of a page (`done`, `already`, `refused`).

    `count` is what the action is going to be done to. Of the others that the query names, `already` are so (retried by
    somebody, or being cancelled), and the action is not for `unfit`, which it leaves alone.
    """

    action: Action
    preview: str
    before: str
    count: int | None = None
    capped: bool = False
    examples: list[shapes.Run] = []
    done: int = 0
    already: int = 0
    unfit: int = 0
    refused: list[Refused] = []
    next_cursor: str | None = None


class Meant(msgspec.Struct, frozen=True):
    """A question as it is asked of the log: columns, and the moment up to which runs count (ms)."""

    where: dict[str, Any]
    before: int
    preview: str


def meant(asked: Asking, body: BulkBody) -> Meant:
    """Read what a request means; raises ValidationError (nothing named), ConflictError (the preview is of another)."""
    query = body.query
    if not query.model_fields_set:
        message = "say which runs: workflow, status, labels, subject or older_than"
        raise errors.ValidationError(message, details={"field": "query"})
    wanted = statuses(query.status, "query.status") or sorted(FITTING[body.action])
    where = {"workflow": query.workflow, "subject": query.subject, "status": wanted, "labels": query.labels}
    where = {"workspace": asked.workspace, **{name: value for name, value in where.items() if value}}
    if body.dry_run:
        before = asked.desk.clock.now_ms() - int((query.older_than or 0) * 1_000)
    elif body.preview is None:
        message = "ask with dry_run first, and send the preview that it gives"
        raise errors.MissingArgumentError(message, details={"field": "preview"})
    else:
        number = body.preview.partition(".")[0]
        before = int(number) if number.isascii() and number.isdecimal() and len(number) <= len("9999999999999") else 0
    told = {"action": body.action, "where": where, "before": before, "age": query.older_than}
    preview = f"{before}.{codec.digest(told).removeprefix('sha256:')[:32]}"
    if body.preview is not None and body.preview != preview:
        message = "the preview is of another question: ask again with dry_run"
        raise errors.ConflictError(message)
    return Meant(where, before, preview)


async def preview(asked: Asking, body: BulkBody) -> dict[str, Any]:
    """Count what would be done, and show a few, the oldest first."""
    what, counts = meant(asked, body), dict.fromkeys(("done", "already", "unfit"), 0)
    examples: list[dict[str, Any]] = []
    async for rows in _pages(asked, what, None):
        so = await _already(asked, body.action, rows)
        for row in rows:
            fate = "unfit" if row["status"] not in FITTING[body.action] else "already" if row["id"] in so else "done"
            counts[fate] += 1
            if fate == "done" and len(examples) < EXAMPLES_MAX:
                examples.append(views.run(row))
        if sum(counts.values()) >= COUNTED_MAX:
            break
    capped, count = sum(counts.values()) >= COUNTED_MAX, counts.pop("done")
    return _answer(body, what, count=count, capped=capped, examples=examples, **counts)


async def act(asked: Asking, body: BulkBody) -> dict[str, Any]:
    """Do it to the next page of runs; raises UnavailableError when owners do not answer: the page may come again."""
    what = meant(asked, body)
    after = None if body.cursor is None else cursors.by_id("runs", body.cursor)
    page: list[dict[str, Any]] = []
    cursor: str | None = None
    async for rows in _pages(asked, what, after):
        page += [row for row in rows if row["status"] in FITTING[body.action]]
        if len(page) >= body.limit:
            page = page[: body.limit]
            cursor = page[-1]["id"]
            break
    room = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(asked, body, what, row, room)) for row in page]
    outcomes = [task.result() for task in tasks]
    for outcome in outcomes:
        if isinstance(outcome, errors.UnavailableError):
            raise outcome
    refused = [
        {"id": row["id"], "type": outcome.type, "message": outcome.message}
        for row, outcome in zip(page, outcomes, strict=True)
        if isinstance(outcome, errors.HeadraceError)
    ]
    done, already = outcomes.count("done"), outcomes.count("already")
    return _answer(body, what, done=done, already=already, refused=refused, next_cursor=cursor)


def _answer(body: BulkBody, what: Meant, **told: Any) -> dict[str, Any]:
    return {"action": body.action, "preview": what.preview, "before": views.at(what.before), **told}


async def _pages(asked: Asking, what: Meant, after: str | None) -> AsyncIterator[list[dict[str, Any]]]:
    """Give the rows that are meant, the oldest first."""
    performed = performing.Performed(asked.desk.presence)
    while True:
        rows = await performed.rows(asked.desk.log, what.where, descending=False, after=after, limit=SCAN_PAGE)
        yield [row for row in rows if row["created_at"] < what.before]
        if len(rows) < SCAN_PAGE:
            return
        after = rows[-1]["id"]


async def _already(asked: Asking, action: Action, rows: list[dict[str, Any]]) -> set[str]:
    """Name the runs for which nothing is left to do: a cancel is asked for, or somebody has retried them."""
    if action == "cancel":
        return {row["id"] for row in rows if row["cancel_requested"]}
    if action == "purge":
        return set()
    found: set[str] = set()
    wanted, after = {"workspace": asked.workspace, "retry_of": [row["id"] for row in rows]}, None
    while rows and (retries := await asked.desk.log.rows("runs", wanted, after=after, limit=SCAN_PAGE)):
        found |= {each["retry_of"] for each in retries}
        after = retries[-1]["id"]
    return found


async def _one(
    asked: Asking, body: BulkBody, what: Meant, row: dict[str, Any], room: asyncio.Semaphore
) -> str | errors.HeadraceError:
    """Do it to one run; gives `done`, `already`, or why not."""
    own = msgspec.structs.replace(asked, key=f"bulk/{what.preview}/{row['id']}")
    async with room:
        try:
            if body.action == "retry":
                return await _retry(own, row)
            if body.action == "cancel" and row["cancel_requested"]:
                return "already"
            command = CancelRun(reason=body.reason) if body.action == "cancel" else PurgeRun(reason=body.reason)
            await own.send(LOG_RUNS, command, stream_id=row["id"])
        except errors.HeadraceError as refusal:
            return refusal
        return "done"


async def _retry(own: Asking, row: dict[str, Any]) -> str:
    """Make a run of it anew, unless somebody has."""
    if await own.desk.log.rows("runs", {"workspace": own.workspace, "retry_of": row["id"]}, limit=1):
        return "already"
    await starting.create(own, await again(own, row, ActionBody(action="retry")))
    return "done"
