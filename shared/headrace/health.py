"""Health of a process, and the HTTP routes that tell of it (plain ASGI: they answer whatever else is going on)."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from headrace import telemetry

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Reply = tuple[HTTPStatus, bytes, str]


class Health:
    """What has to be so that this process can do its work, by name."""

    def __init__(self) -> None:
        self.draining = False
        self._checks: dict[str, tuple[Callable[[], bool], bool]] = {}

    def add(self, name: str, check: Callable[[], bool], *, required: bool = True) -> None:
        """Add a check, or replace the one of that name. One not required is shown and makes nothing unready."""
        self._checks[name] = (check, required)

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Tell whether all that is required is so, and every check by name."""
        results = {name: (check(), required) for name, (check, required) in self._checks.items()}
        ready = not self.draining and all(good for good, required in results.values() if required)
        checks = {name: {"ready": good, "required": required} for name, (good, required) in results.items()}
        return ready, {"ready": ready, "draining": self.draining, "checks": checks}


def routes(service: str, health: Health, describe: Callable[[], Any]) -> list[tuple[str, ASGIApp]]:
    """Make the routes of every process: alive, ready, metrics, and what it says on NATS (AsyncAPI 3)."""

    def alive(_scope: Scope) -> Reply:
        return _json(HTTPStatus.OK, {"alive": True, "service": service})

    def ready(_scope: Scope) -> Reply:
        good, report = health.report()
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        return _json(status, {"service": service, **report})

    def metrics(scope: Scope) -> Reply:
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
        body, content_type = telemetry.render(accept.decode("latin-1"))
        return HTTPStatus.OK, body, content_type

    def asyncapi(_scope: Scope) -> Reply:
        return _json(HTTPStatus.OK, describe())

    return [
        ("/healthz", _route(alive)),
        ("/readyz", _route(ready)),
        ("/metrics", _route(metrics)),
        ("/asyncapi", _route(asyncapi)),
    ]


def _json(status: HTTPStatus, body: Any) -> Reply:
    return status, json.dumps(body).encode(), "application/json"


def _route(answer: Callable[[Scope], Reply]) -> ASGIApp:
    """Answer GET and HEAD with what a function says."""

    async def route(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["method"] in {"GET", "HEAD"}:
            status, body, content_type = answer(scope)
        else:
            status, body, content_type = HTTPStatus.METHOD_NOT_ALLOWED, b"", "text/plain"
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return route
