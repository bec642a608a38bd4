"""The application: routes by noun behind one front door, and its OpenAPI document."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from headrace.errors import HeadraceError
from headrace_api.answers import envelope, of_http, request_id
from headrace_api.describing import Described
from headrace_api.desk import Desk
from headrace_api.direct import Direct
from headrace_api.front import Front
from headrace_api.guarding import allowed, check
from headrace_api.routes import (
    approvals,
    batches,
    blobs,
    connections,
    dashboards,
    flows,
    health,
    later,
    outputs,
    page,
    plans,
    run_actions,
    run_bulk,
    run_history,
    run_streams,
    runs,
    simulate,
    tokens,
    tools,
    workers,
    workflows,
)
from headrace_api.wrongs import of_validation

PREFIX: Final = "/api"
VERSION: Final = "1"
ABOUT: Final = """\
Specs become plans, plans become runs. Every answer comes from the log; every write is answered after its commit.

- Lists are `{"items", "next_cursor"}`; go on with `?cursor=`.
- Every POST takes an `Idempotency-Key` (1 to 255 characters, kept for 7 days): the same key and body meet the same
  answer, another body under the key is 422. A key counts within its workspace for one of: everything that makes a run;
  trigger events; workflows, tokens and authorizations; the actions on one run; the decisions on one approval. It says
  nothing of the others.
- Bodies are JSON (RFC 8259): a name that an object gives twice, and NaN or Infinity, are refused by their field.
- Errors are `{"error": {"type", "message", "details", "plugin", "timestamp", "request_id"}}`.
- `Prefer: wait=30` on a POST that makes a run waits for its end.
"""
ROUTERS: Final = (
    run_bulk.router,
    batches.router,
    runs.router,
    run_actions.router,
    run_history.router,
    run_streams.router,
    outputs.router,
    plans.router,
    simulate.router,
    approvals.router,
    workflows.router,
    tools.router,
    workers.router,
    connections.router,
    dashboards.router,
    flows.router,
    blobs.router,
    tokens.router,
    health.router,
    later.router,
)


def create_app(desk: Desk) -> ASGIApp:
    """Make the application over a desk; raises LookupError for a route that nobody guards."""
    app = make_routes(desk)
    check(app)
    return Front(app, desk, Direct(app, desk))


def make_routes(desk: Desk) -> FastAPI:
    """Make the routes without the front door: what the OpenAPI document describes."""
    app = Described(
        title="headrace",
        version=VERSION,
        description=ABOUT,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        strict_content_type=False,
        redirect_slashes=False,  # to where Host says, and by http behind a proxy that speaks https: with the token
    )
    app.state.desk = desk
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.include_router(health.public, prefix=PREFIX)
    app.include_router(page.router)
    app.add_exception_handler(HeadraceError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Exception, _failed)
    return app


def _refused(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HeadraceError)
    return envelope(problem, problem.status, request_id(request), _now(request))


def _invalid(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    error = of_validation([dict(each) for each in problem.errors()])
    return envelope(error, error.status, request_id(request), _now(request))


def _framework(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    error = of_http(problem, request.url.path, request.method)
    response = envelope(error, problem.status_code, request_id(request), _now(request))
    for name, value in (problem.headers or {}).items():
        response.headers[name] = value
    if problem.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names the methods of the first route of that path alone.
        response.headers["Allow"] = ", ".join(allowed(request.app, request.url.path))
    return response


def _failed(_: Request, problem: Exception) -> Response:
    """Leave what nobody expected to the front door: the framework would answer it with a text."""
    raise problem


def _now(request: Request) -> int:
    now: Any = request.app.state.desk.clock.now_ms()
    return int(now)
