"""GitHub as a real HTTP server of the tests: 250 issues on 3 pages, 30 of them pull requests, kinds of 403, and echoes of the token."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.runner.http_server import Answer, Seen

SECRET = "ghp_canary0123456789"
ISSUES = 250
PULL_REQUESTS = frozenset(range(5, 245, 8))


def issue(number: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": 1_000 + number,
        "number": number,
        "title": f"Issue {number}",
        "state": "open",
        "user": {"login": "ada"},
        "labels": [{"name": "bug"}],
        "comments": 2,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-02T00:00:00Z",
        "closed_at": None,
        "html_url": f"https://github.com/octo/demo/issues/{number}",
    }
    return made | ({"pull_request": {"url": "x"}} if number in PULL_REQUESTS else {})


def github(seen: Seen) -> Answer:
    """Answer as api.github.com does, for two repositories."""
    url = urlsplit(seen.path)
    host = f"http://{seen.headers['host']}"
    if seen.headers.get("authorization") != f"Bearer {SECRET}":
        return 401, {"x-github-request-id": "A:1"}, b'{"message": "Bad credentials"}'
    if url.path == "/repos/octo/limited/issues":
        limits = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "4102444800", "x-github-request-id": "B:2"}
        return 403, limits, b'{"message": "API rate limit exceeded", "documentation_url": "x"}'
    if url.path == "/repos/octo/forbidden/issues":
        return (
            403,
            {"x-github-request-id": "C:3"},
            b'{"message": "Resource not accessible", "errors": [{"code": "no"}]}',
        )
    if url.path == "/repos/octo/echo/issues":
        return 200, {"content-type": "application/json"}, json.dumps([issue(1) | {"title": f"I am {SECRET}"}]).encode()
    if url.path == "/repos/octo/echoed/issues":
        return 403, {"x-github-request-id": "D:4"}, json.dumps({"message": f"not for {SECRET}"}).encode()
    if url.path == "/repos/octo/astray/issues":
        return 200, {"link": '<http://127.0.0.2:1/steal>; rel="next"'}, b"[]"
    query = parse_qs(url.query)
    page, size = int(query.get("page", ["1"])[0]), int(query["per_page"][0])
    numbers = range((page - 1) * size + 1, min(page * size, ISSUES) + 1)
    headers = {"content-type": "application/json"}
    if page * size < ISSUES:
        kept = f"state={query['state'][0]}&per_page={size}&after=opaque%3D%3D"
        headers["link"] = f'<{host}{url.path}?{kept}&page={page + 1}>; rel="next", <{host}/last>; rel="last"'
    return 200, headers, json.dumps([issue(number) for number in numbers]).encode()
