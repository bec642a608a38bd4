"""The short way of what is posted most: read, checked and answered without the framework, which costs more than the rest.

It is that of `POST /runs`, of many runs at once, and of many decisions.

Only what is right goes this way. Anything else (a body that is no JSON, a field that is wrong, a query) takes the way of
every other route, from the beginning, so that there is one place that says what is wrong.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import ValidationError as PydanticError
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from headrace import received
from headrace_api.asking import Asking, let_in
from headrace_api.bodies import Body, RunBody
from headrace_api.desk import Desk
from headrace_api.routes.batches import DecisionsBody, RunsBody, create_runs, decide_approvals
from headrace_api.routes.runs import create_run

JSON: Final = "application/json"
TAKEN: Final[tuple[tuple[type[Body], Callable[[Asking, Any], Awaitable[Response]]], ...]] = (
    (RunBody, create_run),
    (RunsBody, create_runs),
    (DecisionsBody, decide_approvals),
)
"""The routes that are taken the short way, each with its body; a route is named as its function is."""


class Way(msgspec.Struct, frozen=True):
    """A route: as the framework knows it, what its body is, and who answers."""

    route: Any
    body: type[Body]
    answer: Callable[[Asking, Any], Awaitable[Response]]


class Direct:
    """Knows the short way."""

    def __init__(self, app: FastAPI, desk: Desk) -> None:
        self._desk = desk
        self._ways: dict[str, Way] = {}
        for body, answer in TAKEN:
            path, route = _found(app, answer.__name__)
            self._ways[path] = Way(route, body, answer)

    def knows(self, scope: Scope, headers: Mapping[bytes, str]) -> bool:
        """Tell whether a request may go the short way."""
        return (
            scope["method"] == "POST"
            and scope["path"] in self._ways
            and not scope["query_string"]
            and not scope.get("root_path")
            and headers.get(b"content-type", "").partition(";")[0].strip().lower() == JSON
        )

    async def answer(self, scope: Scope, body: bytes, headers: Mapping[bytes, str]) -> Response | None:
        """Answer a request; None when it has to go the long way. Raises HeadraceError for what is refused."""
        way = self._ways[scope["path"]]
        try:
            given = way.body.model_validate(received.loads(body))
        except (ValueError, RecursionError, PydanticError):
            return None
        scope["route"] = way.route
        caller = scope["state"]["caller"]
        caller.require(way.route.name, "POST")
        asked = let_in(self._desk, caller, headers.get(b"idempotency-key"), headers.get(b"prefer", ""))
        return await way.answer(asked, given)


def check_json(body: bytes, headers: Mapping[bytes, str]) -> None:
    """Refuse a JSON body that says a thing twice, or a number that is none; raises ValidationError.

    What is no JSON at all is left to the routes, some of which take something else.
    """
    kind = headers.get(b"content-type", JSON).partition(";")[0].strip().lower()
    if kind in {"", JSON} or kind.endswith("+json"):
        with contextlib.suppress(ValueError, RecursionError):
            received.loads(body)


async def whole(receive: Receive) -> tuple[bytes, Receive]:
    """Read a body, and give it with a way to read it once more; one that was broken off is empty."""
    message = await receive()
    parts = [message]
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await receive()
        parts.append(message)
    left = iter(parts)

    async def again() -> Message:
        return next(left, None) or await receive()

    complete = message["type"] == "http.request"
    return b"".join(part.get("body", b"") for part in parts) if complete else b"", again


def _found(app: FastAPI, name: str) -> tuple[str, Any]:
    for context in iter_route_contexts(app.routes):
        route = getattr(context, "original_route", context)
        if isinstance(route, APIRoute) and route.name == name:
            return str(context.path), route
    message = f"there is no route {name!r}"
    raise LookupError(message)
