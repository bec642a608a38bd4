"""What HTTP itself asks of a server, and what is no request at all: methods, bodies that cannot be read, what fails inside."""

import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from headrace.bus.memory import MemoryBus
from headrace.clock import SystemClock
from headrace.keys import Keys
from headrace.log.memory import MemoryLog
from headrace_api.desk import Desk
from headrace_api.guarding import doors
from tests.api.kit import World, application, step, workflow

HALF = "half \ud800 of a pair"
"""JSON can say it, as an escape; nothing that keeps texts can hold it."""
HELD = workflow("held", [step("hold")])
JSON = {"Content-Type": "application/json"}


def told(response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, (response.status_code, response.text)
    error = response.json()["error"]
    assert set(error) == {"type", "message", "details", "plugin", "timestamp", "request_id"}
    assert error["request_id"] == response.headers["x-request-id"]
    return dict(error)


async def send(http: httpx2.AsyncClient, method: str, path: str, body: Any) -> httpx2.Response:
    """Send a body as Python's own JSON writes it: with escapes, NaN and all."""
    return await http.request(method, path, content=json.dumps(body), headers=JSON)


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/runs", {"plan_digest": HALF}, "plan_digest"),
        ("POST", "/runs", {"workflow": "w", "labels": {HALF: "a"}}, "labels"),
        ("POST", "/runs", {"workflow": "w", "workspace": HALF}, "workspace"),
        ("POST", "/runs/batch", {"runs": [{"plan_digest": HALF}]}, "runs.0.plan_digest"),
        ("PUT", "/connections/c", {"integration": "github", "secrets": {HALF: "env:A"}}, "secrets"),
        ("PUT", "/connections/c", {"integration": "github", "secrets": {"a": f"env:{HALF}"}}, "secrets.a"),
        ("PUT", "/connections/c", {"integration": "github", "settings": {"a": HALF}}, "settings"),
        ("PUT", "/connections/c", {"integration": "github", "settings": {"a": float("nan")}}, "settings"),
        ("PUT", "/connections/c", {"integration": "github", "settings": {"a": [float("inf")]}}, "settings"),
        ("POST", "/runs/run_1", {"action": "approve", "digest": HALF}, "digest"),
        ("POST", "/runs/run_1", {"action": "settle", "step": "a", "answer": "give_up", "index": 10**30}, "index"),
        ("POST", "/runs/bulk", {"action": "purge", "query": {"workflow": "w"}, "preview": HALF}, "preview"),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_its_field(
    http: httpx2.AsyncClient, method: str, path: str, body: Any, field: str
) -> None:
    error = told(await send(http, method, path, body), 400)
    assert error["type"] == "validation_error"
    assert error["details"]["problems"][0]["field"].startswith(field)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/runs", {"workflow": "w", "priority": False}, "priority"),
        ("/runs", {"workflow": "w", "priority": "5"}, "priority"),
        ("/runs", {"workflow": "w", "workflow_version": True}, "workflow_version"),
        ("/runs/batch", {"runs": [{"workflow": "w", "priority": False}]}, "runs.0.priority"),
        ("/runs/bulk", {"action": "purge", "query": {"workflow": "w"}, "dry_run": "no"}, "dry_run"),
        ("/runs/bulk", {"action": "purge", "query": {"workflow": "w"}, "dry_run": 1}, "dry_run"),
        ("/runs/bulk", {"action": "purge", "query": {"workflow": "w"}, "limit": "7"}, "limit"),
        ("/workers/wrk_one", {"action": "rescue", "force": "yes"}, "force"),
        ("/plans/sha256:0/authorizations", {"quorum": True}, "quorum"),
    ],
)
async def test_a_value_of_another_type_is_refused_and_not_read_as_what_it_might_mean(
    http: httpx2.AsyncClient, path: str, body: Any, field: str
) -> None:
    error = told(await send(http, "POST", path, body), 400)
    assert error["details"]["problems"][0]["field"] == field
    assert error["message"].startswith(f"{field}: must be ")


async def test_a_simulation_takes_the_texts_and_numbers_that_a_run_takes(http: httpx2.AsyncClient) -> None:
    inputs = {"n": {"type": "integer"}, "text": {"type": "string"}}
    spec = workflow(
        "w", [{"id": "one", "transform": {"n": "{{ inputs.n }}", "text": "{{ inputs.text }}"}}], inputs=inputs
    )
    body = {"spec": spec, "inputs": {"n": 7, "text": HALF}}
    assert (await send(http, "POST", "/runs", body)).status_code == 202
    predicted = await send(http, "POST", "/simulate", body)
    assert predicted.status_code == 200, predicted.text
    body["inputs"]["n"] = float("nan")
    assert "NaN" in told(await send(http, "POST", "/simulate", body), 400)["message"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"workflow": "\xff"}', "not UTF-8: invalid start byte at byte 14"),
        (b'{"inputs": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"priority": ' + b"9" * 5_000 + b"}", "digits"),
        (b'{"workflow": ', "at character 13"),
    ],
)
@pytest.mark.parametrize("path", ["/runs", "/workflows", "/workflows/w/trigger"])
async def test_a_body_that_cannot_be_read_says_why(
    http: httpx2.AsyncClient, path: str, content: bytes, why: str
) -> None:
    error = told(await http.post(path, content=content, headers=JSON), 400)
    assert "the body is not JSON" in error["message"]
    assert why in error["message"]


async def test_a_method_that_a_path_does_not_take_is_answered_with_all_that_it_does(
    http: httpx2.AsyncClient, world: World
) -> None:
    taken: dict[str, set[str]] = {}
    with application(world.desk) as front:
        for door in doors(front._app):  # type: ignore[attr-defined]  # the routes behind the front door
            if not door.name.startswith("later_"):
                taken.setdefault(door.path, set()).add(door.method)
    for path, methods in taken.items():
        response = await http.request("TRACE", f"{world.url}{path}")
        told(response, 405)
        expected = methods | {"HEAD"} if "GET" in methods else methods
        assert expected <= set(response.headers["allow"].split(", ")), path
    exact = await http.delete("/runs"), await http.post("/tools"), await http.get("/triggers/t")
    assert [each.headers["allow"] for each in exact] == ["GET, HEAD, POST", "GET, HEAD", "POST"]


class DefectiveLog(MemoryLog):
    """A log with a defect where rows are read."""

    async def row(self, table: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        message = f"a defect, at the row of a {table} with a secret"
        raise RuntimeError(message)


async def test_what_nobody_expected_is_answered_in_the_envelope_and_tells_nothing_of_the_inside() -> None:
    clock = SystemClock()
    desk = Desk(DefectiveLog(clock), MemoryBus(clock), Keys(master=b"k" * 32), clock)
    with application(desk) as app:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://api") as http:
            error = told(await http.get("/api/readyz"), 500)
    assert error["type"] == "execution_error"
    assert "secret" not in str(error)


async def test_what_can_be_read_can_be_asked_for_by_head(http: httpx2.AsyncClient, world: World) -> None:
    run = (await http.post("/runs", json={"spec": HELD})).json()["id"]
    for path in ("/healthz", "/readyz", "/openapi.json", "/runs", f"/runs/{run}", "/runs/nothing", f"{world.url}/"):
        read, asked = await http.get(path), await http.head(path)
        assert (asked.status_code, asked.content) == (read.status_code, b""), path
        same = {name for name in read.headers if name not in {"date", "x-request-id"}}
        assert {name: asked.headers.get(name) for name in same} == {name: read.headers[name] for name in same}, path
    followed = await http.head(f"/runs/{run}/events?stream=true")
    assert (followed.status_code, followed.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    async with httpx2.AsyncClient(base_url=world.url) as stranger:
        assert (await stranger.head("/api/runs")).status_code == 401
    assert (await http.head("/runs/bulk")).status_code != 200


async def test_the_document_names_the_headers_and_contents_that_are_read_and_sent(
    http: httpx2.AsyncClient, world: World
) -> None:
    document = (await http.get("/openapi.json")).json()
    operations = {
        each["operationId"]: (method, each) for path in document["paths"].values() for method, each in path.items()
    }

    def answers(name: str) -> Any:
        return operations[name][1]["responses"]

    def headers_read(name: str) -> set[str]:
        return {each["name"] for each in operations[name][1].get("parameters", ()) if each["in"] == "header"}

    for name, (method, operation) in operations.items():
        assert ("Idempotency-Key" in headers_read(name)) == (method == "post"), name
        assert ("WWW-Authenticate" in answers(name).get("401", {}).get("headers", {})) == ("security" in operation), (
            name
        )
        assert all("X-Request-Id" in each["headers"] for each in answers(name).values()), name
    assert operations["put_blob"][1]["requestBody"]["content"].keys() == {"application/octet-stream"}
    assert operations["get_blob"][1]["security"] == operations["get_run"][1]["security"]
    assert "Last-Event-ID" in headers_read("list_run_events")

    made = await http.post("/runs", json={"spec": HELD}, headers={"Prefer": "wait=0"})
    assert "Prefer" in headers_read("create_run")
    assert "Location" in made.headers
    assert "Location" in answers("create_run")["202"]["headers"]
    followed = await http.head(f"/runs/{made.json()['id']}/events?stream=true")
    assert followed.headers["content-type"].partition(";")[0] in answers("list_run_events")["200"]["content"]
    actions = document["components"]["schemas"]["ActionBody"]["properties"]["action"]["enum"]
    unknown = told(await http.post(f"/runs/{made.json()['id']}", json={"action": "dance"}), 400)
    assert ", ".join(actions) in unknown["message"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_path_with_a_slash_too_many_is_not_there_and_sends_no_token_anywhere(
    http: httpx2.AsyncClient, method: str
) -> None:
    error = told(await http.request(method, "/runs/", headers={"Host": "elsewhere.example"}), 404)
    assert "did you mean /api/runs?" in error["message"]
