"""One request, as routes see it: who asks, under which key, and what it works with."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, Query, Request, Response, Security, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer

from headrace.clock import mint
from headrace.envelope import Message
from headrace.errors import NotFoundError, UnavailableError, ValidationError
from headrace.ids import REQUEST
from headrace.log.port import After
from headrace.log.tables import TABLES
from headrace.messages import Answer
from headrace.vocabulary import IDEMPOTENCY_KEY_CHARS_MAX, PAGE_DEFAULT, PAGE_MAX
from headrace_api import cursors, performing, shapes, views
from headrace_api.admission import Caller
from headrace_api.answers import answer
from headrace_api.bodies import idempotency_key
from headrace_api.desk import Desk
from headrace_api.gone import without_row

WAIT_MAX_S: Final = 60.0
WAIT: Final = re.compile(r"(?:^|[,;\s])wait=(\d{1,4})(?:$|[,;\s])")

_bearer = HTTPBearer(auto_error=False, description="hr_<id>_<secret>, made by `headrace tokens create`")
_api_key = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same token, for tools that send keys so")


class Asking(msgspec.Struct, frozen=True):
    """A request that was let in. `again` says that it may come again under its key, which its sender chose."""

    desk: Desk
    caller: Caller
    key: str
    wait_s: float
    again: bool = False

    @property
    def workspace(self) -> str:
        """Give the caller's workspace."""
        return self.caller.workspace

    async def send(
        self, log: str, body: Message, *, stream_id: str | None = None, keyed: bool = True, end_to: str = ""
    ) -> Answer:
        """Send a command as this caller; `keyed` puts it under the request's idempotency key."""
        return await self.desk.commander.send(
            log, body, self.caller, stream_id=stream_id, key=self.key if keyed else None, end_to=end_to
        )

    async def check_stands(self) -> None:
        """Refuse to go on for a caller whose token was revoked meanwhile, or when this api ends.

        Raises UnauthorizedError, UnavailableError.
        """
        if self.desk.ending:
            message = "this api ends; nothing is lost: ask again, under the same Idempotency-Key"
            raise UnavailableError(message, details={"retry_after_s": 1})
        await self.desk.tokens.check_stands(self.caller)

    async def row(self, table: str, key: dict[str, Any], what: str) -> dict[str, Any]:
        """Read one of the workspace's own rows; raises NotFoundError naming `what`."""
        row = await self.desk.own_row(table, key, self.workspace)
        if row is None:
            message = f"there is no {what}"
            raise NotFoundError(message)
        return row

    async def run(self, run_id: str) -> dict[str, Any]:
        """Read one of the workspace's own runs; raises NotFoundError, which says what became of it as far as known."""
        row = await self.desk.own_row("runs", {"id": run_id}, self.workspace)
        if row is None:
            raise await self.without("run", run_id)
        return performing.Performed(self.desk.presence).shown(row)

    async def approval(self, approval_id: str) -> dict[str, Any]:
        """Read one of the workspace's own approvals; raises NotFoundError, which says what became of it."""
        row = await self.desk.own_row("approvals", {"id": approval_id}, self.workspace)
        if row is None:
            raise await self.without("approval", approval_id)
        return row

    async def without(self, what: str, stream_id: str) -> NotFoundError:
        """Make the error of a run or an approval without a row."""
        return without_row(what, stream_id, self.workspace, await self.desk.gone(stream_id, self.workspace))

    async def page(
        self,
        table: str,
        where: dict[str, Any],
        paging: "Paging",
        view: Any,
        *,
        order: str = "id",
        descending: bool = True,
    ) -> Response:
        """Read a page of the workspace's own rows, as `view` shows them; raises ValidationError for an unknown cursor."""
        rows = await self.desk.log.rows(
            table,
            {"workspace": self.workspace, **where},
            order=order,
            descending=descending,
            after=await self._after(table, order, paging.cursor),
            limit=paging.limit + 1,
        )
        shown = [{**view(row), views.AFTER: cursors.written(table, row, order)} for row in rows]
        return answer(views.page(shown, paging.limit))

    async def _after(self, table: str, order: str, cursor: str | None) -> str | After | None:
        if cursor is None:
            return None
        if order == TABLES[table].key[-1]:
            return cursors.by_id(table, cursor)
        after = cursors.by_value(table, order, cursor)
        if after is not None:
            return after
        row = await self.desk.own_row(table, {"id": cursor}, self.workspace)
        if row is None:
            raise cursors.no_cursor(cursor)
        return After(cursor, row[order])


class Paging(msgspec.Struct, frozen=True):
    """Which page of a list."""

    cursor: str | None
    limit: int


def paging(
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before", max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
) -> Paging:
    """Read which page is asked for."""
    return Paging(cursor or None, limit)


async def asking(
    request: Request, _bearer: Annotated[object, Security(_bearer)], _key: Annotated[object, Security(_api_key)]
) -> Asking:
    """Check the caller's roles for this route, its idempotency key, and that no query parameter is unknown."""
    route, desk, caller = request.scope["route"], request.app.state.desk, request.state.caller
    assert isinstance(route, APIRoute)
    caller.require(route.name, request.method)
    known = {field.alias for field in get_flat_params(route.dependant) if isinstance(field.field_info, params.Query)}
    for name in request.query_params:
        if name not in known:
            told = f"known are: {', '.join(sorted(known))}" if known else "this route has none"
            message = f"unknown query parameter {name!r}; {told}"
            raise ValidationError(message, details={"field": name})
    headers = request.headers
    reading = request.method == "GET"
    return let_in(desk, caller, headers.get("idempotency-key"), headers.get("prefer", ""), reading=reading)


def let_in(desk: Desk, caller: Caller, given_key: str | None, prefer: str, *, reading: bool = False) -> Asking:
    """Make the request of a caller whose roles were checked; raises ValidationError for a wrong idempotency key."""
    given = idempotency_key(given_key, IDEMPOTENCY_KEY_CHARS_MAX)
    key = given or ("" if reading else mint(desk.clock, REQUEST))
    wanted = WAIT.search(prefer) if prefer else None
    return Asking(desk, caller, key, min(float(wanted[1]), WAIT_MAX_S) if wanted else 0.0, given is not None)


Asked = Annotated[Asking, Depends(asking)]
Paged = Annotated[Paging, Depends(paging)]


def says(model: type[Any], status: int = 200, also: Sequence[int] = ()) -> dict[int | str, dict[str, Any]]:
    """Document a route's answers: `model` on success, the error envelope else."""
    good: dict[int | str, dict[str, Any]] = {code: {"model": model, "description": "ok"} for code in (status, *also)}
    return {**good, **refusals()}


def refusals() -> dict[int | str, dict[str, Any]]:
    """Document what every route may answer with: the error envelope."""
    return {"default": {"model": shapes.ErrorEnvelope, "description": "refused, or failed"}}


def raw_answers(media_type: str, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Document a route that answers with bytes."""
    schema = {"type": "string", "format": "binary"}
    return {
        status: {"description": "ok", "content": {media_type: {"schema": schema}}},
        **refusals(),
    }
