"""The edge: who is let in, what is refused and how, what is published about it."""

import re
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import validate

from headrace import __version__
from headrace_api.admission import MAY
from headrace_api.app import make_routes
from tests.api.kit import TOOLS, WORKSPACE, World, step, until, workflow

Body = dict[str, Any]


def error(response: httpx2.Response, status: int) -> Body:
    assert response.status_code == status, response.text
    body: Body = response.json()["error"]
    assert set(body) == {"type", "message", "details", "plugin", "timestamp", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return body


async def test_no_token_or_a_wrong_one_is_401_row_87(world: World) -> None:
    good = world.tokens["admin"]
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"X-API-Key": good[:-1] + "x"}, {"X-API-Key": "hr_x_y"}):
        async with httpx2.AsyncClient(base_url=world.url, headers=headers) as http:
            refused = await http.get("/api/runs")
            assert error(refused, 401)["type"] == "unauthorized"
            assert good[-20:] not in refused.text
    async with httpx2.AsyncClient(base_url=world.url, headers={"X-API-Key": good}) as http:
        assert (await http.get("/api/runs")).status_code == 200


async def test_a_browser_without_a_token_is_told_what_this_is_and_how_to_sign_in(world: World) -> None:
    async with httpx2.AsyncClient(base_url=world.url, headers={"Accept": "text/html"}) as http:
        pages = [await http.get(path) for path in ("/", "/api", "/api/docs", "/docs")]
        assert {page.status_code for page in pages} == {200}
        assert {page.headers["content-type"] for page in pages} == {"text/html; charset=utf-8"}
        (text,) = {page.text for page in pages}
        assert f"headrace {__version__}" in text
        assert "Authorization: Bearer" in text
        assert "default-src 'none'" in pages[0].headers["content-security-policy"]
        for link in re.findall(r'href="([^"]+)"', text):
            assert (await http.get(link)).status_code == 200, link
        assert error(await http.get("/api/else"), 401)["type"] == "unauthorized"


async def test_roles_are_held_to(world: World) -> None:
    async with world.http("viewer") as http:
        assert (await http.get("/runs")).status_code == 200
        told = error(await http.post("/runs", json={"workflow": "w"}), 403)
        assert "operator" in told["message"]
        assert (await http.get("/tokens")).status_code == 403


async def test_a_token_is_shown_once_and_worthless_when_revoked(http: httpx2.AsyncClient, world: World) -> None:
    asked = {"name": "ci", "roles": ["operator"]}
    made = await http.post("/tokens", json=asked, headers={"Idempotency-Key": "ci-1"})
    assert made.status_code == 201, made.text
    again = await http.post("/tokens", json=asked, headers={"Idempotency-Key": "ci-1"})
    assert again.json() == made.json()
    listed = await http.get("/tokens")
    assert made.json()["token"][-20:] not in listed.text
    assert "hash" not in listed.text
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    async with httpx2.AsyncClient(base_url=world.url, headers=headers) as user:
        assert (await user.get("/api/me")).json()["name"] == "ci"
        assert (await http.delete(f"/tokens/{made.json()['id']}")).status_code == 200

        async def refused() -> bool:
            return (await user.get("/api/me")).status_code == 401

        await until(refused)


async def test_unknown_routes_methods_and_later_routes_answer_in_the_envelope(http: httpx2.AsyncClient) -> None:
    assert error(await http.get("/nothing"), 404)["type"] == "not_found"
    assert "DELETE" in error(await http.delete("/runs"), 405)["message"]
    assert "not built yet" in error(await http.get("/skills"), 404)["message"]
    assert "not built yet" in error(await http.post("/webhooks/a/b"), 404)["message"]


async def test_bad_json_unknown_fields_and_queries_are_named(http: httpx2.AsyncClient) -> None:
    broken = await http.post("/runs", content=b'{"workflow": ', headers={"Content-Type": "application/json"})
    assert "character 13" in error(broken, 400)["message"]
    typo = await http.post("/runs", json={"workflo": "w"})
    assert "did you mean workflow?" in error(typo, 400)["message"]
    assert "exactly one of" in error(await http.post("/runs", json={}), 400)["message"]
    assert "unknown query parameter 'statuss'" in error(await http.get("/runs?statuss=x"), 400)["message"]
    assert error(await http.get("/runs?limit=101"), 400)["type"] == "validation_error"
    assert error(await http.get("/runs/run_xyz/events?cursor=abc"), 404)["type"] == "not_found"
    missing = await http.post("/approvals/apr_x", json={"action": "approve"})
    assert error(missing, 400)["type"] == "missing_argument"


async def test_a_body_over_the_limit_is_413(http: httpx2.AsyncClient) -> None:
    large = b'{"spec": "' + b"x" * (9 * 1024 * 1024) + b'"}'
    headers = {"Content-Type": "application/json"}
    assert error(await http.post("/runs", content=large, headers=headers), 413)["type"] == "validation_error"

    async def pieces() -> Any:
        for _ in range(9):
            yield b"x" * (1024 * 1024)

    assert error(await http.post("/runs", content=pieces(), headers=headers), 413)
    two = {"spec": workflow("w", [step("echo", value="x" * 2_000_000)])}
    assert error(await http.post("/runs", json=two), 413)


NO_STEPS: Body = workflow("w", [])
WAIT: Body = {"id": "one", "wait": {"duration": "1s"}}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("/runs?limit=abc", "limit: must be a whole number, not 'abc'"),
        ("/runs?limit=0", "limit: must be at least 1, not '0'"),
        ("/runs?limit=1000", "limit: must be at most 100, not '1000'"),
        (
            "/flows?kind=rate_limt",
            "kind: must be one of concurrency, rate_limit, not 'rate_limt'; did you mean rate_limit?",
        ),
        ("/runs/run_x/logs?stream=maybe", "stream: must be true or false, not 'maybe'"),
    ],
)
async def test_a_wrong_query_is_told_by_field_and_what_is_expected(
    http: httpx2.AsyncClient, query: str, says: str
) -> None:
    told = error(await http.get(query), 400)
    field, _, message = says.partition(": ")
    assert (told["message"], told["details"]["problems"]) == (says, [{"field": field, "message": message}])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"spec": 3}, "spec: must be an object or a text, not integer"),
        ({"workflow": "w", "priority": 1.5}, "priority: must be a whole number, not 1.5"),
        ({"workflow": "w", "priority": "hr_secret"}, "priority: must be a whole number, not string"),
        ({"workflow": "w", "labels": {"a[0]": 1}}, "labels.a[0]: must be a text, not integer"),
        ({"workflow": "", "inputs": []}, "workflow: must not be empty; inputs: must be an object, not array"),
        ({"workflow": "w" * 201}, "workflow: may hold 200 characters at most"),
    ],
)
async def test_a_wrong_body_is_told_by_field_and_what_is_expected(
    http: httpx2.AsyncClient, body: dict[str, object], says: str
) -> None:
    assert error(await http.post("/runs", json=body), 400)["message"] == says


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (NO_STEPS, "step"),
        (workflow("", [WAIT]), "name"),
        (workflow("a name", [WAIT]), "name"),
        (workflow("w", [WAIT], timeout="0s"), "timeout"),
        (workflow("w", [WAIT], concurrency=0), "concurrency"),
        (workflow("w", [WAIT, WAIT]), "duplicate step ID"),
        (workflow("w", [{**WAIT, "depends_on": ["ghost"]}]), "unknown step"),
        (workflow("w", [{"id": "one", "tool": "rm -rf /"}]), "rm -rf /"),
        ("apiVersion: headrace/v1\nkind: Workflow\n  oops: 1\n", "line 3"),
        ({"apiVersion": "headrace/v9", "kind": "Workflow", "metadata": {"name": "w"}, "spec": {}}, "apiVersion"),
    ],
)
async def test_bad_documents_are_refused_over_http_row_45(http: httpx2.AsyncClient, spec: Any, told: str) -> None:
    for path in ("/workflows", "/plans", "/runs"):
        refused = await http.post(path, json={"spec": spec})
        body = error(refused, 400)
        assert told in str(body["message"]), (path, body)


async def test_the_openapi_document_is_valid_and_complete(world: World) -> None:
    async with httpx2.AsyncClient(base_url=world.url) as http:
        document = (await http.get("/api/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    validate(document)
    operations = {
        operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()
    }
    assert set(MAY) <= set(operations)
    for name, operation in operations.items():
        assert operation["responses"]["default"], name
        good = [code for code in operation["responses"] if code.startswith("2")]
        assert good, name
        for code in good:
            assert operation["responses"][code].get("content") or code == "204", name
    assert len(make_routes(world.desk).openapi()["paths"]) == len(document["paths"])


async def test_writing_routes_all_name_their_roles(world: World) -> None:
    for path in make_routes(world.desk).openapi()["paths"].values():
        for method, operation in path.items():
            if method != "get" and operation["operationId"] != "put_blob":
                assert operation["operationId"] in MAY


async def test_answers_carry_request_id_and_security_headers(http: httpx2.AsyncClient) -> None:
    response = await http.get("/runs", headers={"X-Request-Id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert response.headers["x-content-type-options"] == "nosniff"
    odd = await http.get("/runs", headers={"X-Request-Id": "a b<script>"})
    assert odd.headers["x-request-id"].startswith("req_")


async def test_while_the_bus_is_away_reads_work_and_writes_say_503(http: httpx2.AsyncClient, world: World) -> None:
    world.api_bus.disconnect()
    assert (await http.get("/runs")).status_code == 200
    ready = await http.get("/readyz")
    assert ready.json() == {"status": "reads only", "checks": {"database": True, "bus": False, "streams": True}}
    refused = await http.post("/runs", json={"workflow": "w", "plan_digest": None}, headers={"Idempotency-Key": "k"})
    assert refused.status_code == 404
    refused = await http.post("/runs", json={"spec": workflow("w", [WAIT])})
    assert error(refused, 503)["type"] == "unavailable"
    assert int(refused.headers["retry-after"]) >= 1


async def test_a_forged_blob_token_and_a_wrong_digest_are_refused(world: World) -> None:
    token = world.keys.blob_token("att_x", WORKSPACE, world.clock.now_ms() + 60_000)
    old = world.keys.blob_token("att_x", WORKSPACE, world.clock.now_ms() - 1)
    digest = "sha256:" + "0" * 64
    async with httpx2.AsyncClient(base_url=f"{world.url}/api/blobs") as http:
        for bad in (None, old, token[:-1] + ("0" if token[-1] != "0" else "1"), world.tokens["admin"]):
            headers = {"Authorization": f"Bearer {bad}"} if bad else {}
            assert error(await http.put(f"/{digest}", content=b"x", headers=headers), 401)
        good = {"Authorization": f"Bearer {token}"}
        assert "digest" in error(await http.put(f"/{digest}", content=b"x", headers=good), 400)["message"]
        assert error(await http.get(f"/{digest}", headers=good), 404)
        assert error(await http.put("/sha256:xyz", content=b"x", headers=good), 400)


@pytest.mark.parametrize(
    "path",
    [
        *("/runs", "/runs?parent=run_01m7yc606jfm9rr4stgyyzzjg1", "/approvals", "/plans", "/workflows", "/tools"),
        *("/connections", "/dashboards", "/tokens", "/artifacts", "/flows"),
    ],
)
@pytest.mark.parametrize(
    "cursor",
    [
        "junk",
        "wrk_01m7yc606jfm9rr4stgyyzzjg1",
        "wrk_01m7yc606jfm9rr4stgyyzzjg1.dHJ1ZQ",  # true
        "wrk_01m7yc606jfm9rr4stgyyzzjg1.W10",  # []
        "wrk_01m7yc606jfm9rr4stgyyzzjg1.é",
        "wrk_01m7yc606jfm9rr4stgyyzzjg1.",
        "junk.MQ",
        "%00",
        "9" * 40,
    ],
)
async def test_a_cursor_that_no_page_gave_is_400_and_named(http: httpx2.AsyncClient, path: str, cursor: str) -> None:
    told = error(await http.get(f"{path}{'&' if '?' in path else '?'}cursor={cursor}"), 400)
    assert told["message"].startswith("cursor: ")
    assert told["details"]["problems"][0]["field"] == "cursor"


async def test_a_cursor_of_events_and_lines_is_held_to_its_form_too(http: httpx2.AsyncClient) -> None:
    body = {"spec": workflow("w", [step("echo")])}
    run = (await http.post("/runs", json=body, headers={"Prefer": "wait=20"})).json()
    for path in ("events", "logs", "events?stream=true", "logs?stream=true"):
        for cursor in ("junk", "-1", "9" * 40):
            told = error(await http.get(f"/runs/{run['id']}/{path}{'&' if '?' in path else '?'}cursor={cursor}"), 400)
            assert told["details"]["problems"][0]["field"] == "cursor"


async def test_every_page_of_a_list_is_reached_by_its_cursor(http: httpx2.AsyncClient) -> None:
    first = (await http.get("/tools?limit=3")).json()
    second = (await http.get(f"/tools?limit=100&cursor={first['next_cursor']}")).json()
    names = [item["name"] for item in first["items"] + second["items"]]
    assert (names, second["next_cursor"]) == (sorted(TOOLS), None)


async def test_a_document_of_50_mb_is_413_in_the_envelope(http: httpx2.AsyncClient) -> None:
    large = b'{"spec": "' + b"x" * 50_000_000 + b'"}'
    told = error(await http.post("/plans", content=large, headers={"Content-Type": "application/json"}), 413)
    assert told["details"]["limit_bytes"] < 50_000_000


async def test_health_says_the_version(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/healthz")).json()["version"] == __version__
