"""Every refusal of what a request says names the field as it was sent, in `details.problems`, and no option of a command."""

from typing import Any, Final

import httpx2
import pytest

from headrace import codec
from headrace.errors import ValidationError
from tests.api.kit import SIGN_OFF, World, step, until, workflow

ECHO: Final = workflow("w", [step("echo")])
COUNTS: Final = workflow("counts", [step("echo")], inputs={"n": {"type": "integer"}, "few": {"type": "array"}})
ASKED: Final = workflow("asked", [SIGN_OFF])
WAITS: Final = workflow("waits", [{"id": "word", "wait": {"signal": "go", "timeout": "1h"}}])
Case = tuple[str, str, Any, str]
ANYWHERE: Final[tuple[Case, ...]] = (
    ("GET", "/runs?statsu=queued", None, "statsu"),
    ("GET", "/runs?status=odd", None, "status"),
    ("GET", "/runs?label=odd", None, "label"),
    ("GET", "/runs?limit=0", None, "limit"),
    ("GET", "/runs?cursor=odd", None, "cursor"),
    ("GET", "/approvals?status=odd", None, "status"),
    ("POST", "/tools/ghost/run", {}, "name"),
    ("GET", "/blobs/odd", None, "digest"),
    ("POST", "/runs", {"spec": ECHO, "inputs": []}, "inputs"),
    ("POST", "/runs", {"spec": ECHO, "inputs": {"x": 1}}, "inputs.x"),
    ("POST", "/runs", {"spec": COUNTS, "inputs": {"n": 2**53, "few": [1]}}, "inputs.n"),
    ("POST", "/runs", {"spec": COUNTS, "inputs": {"n": 1, "few": [{"a": 10**400}]}}, "inputs.few"),
    ("POST", "/runs/bulk", {"action": "cancel", "query": {}, "dry_run": True}, "query"),
    ("PUT", "/connections/a", {"integration": "x", "settings": {"rate_limit": "often"}}, "settings.rate_limit"),
    ("POST", "/runs/bulk", {"action": "cancel", "query": {"status": ["odd"]}, "dry_run": True}, "query.status"),
    ("POST", "/runs/bulk", {"action": "cancel", "query": {"status": ["queued"]}}, "preview"),
    ("PUT", "/workflows/other", {"spec": ECHO}, "spec.metadata.name"),
    ("POST", "/triggers/a*b", {}, "name"),
    ("POST", "/tokens", {"name": "x", "roles": ["odd"]}, "roles.0"),
    ("POST", "/tokens", {"name": " ", "roles": ["viewer"]}, "name"),
    ("PUT", "/connections/a b", {"integration": "x"}, "name"),
    ("PUT", "/connections/a", {"integration": "x y"}, "integration"),
    ("POST", "/simulate", {"spec": ECHO, "stubs": {"two": 1}}, "stubs.two"),
    ("POST", "/simulate", {"spec": ECHO, "stubs": {"one": 1}}, "stubs.one"),
    ("POST", "/simulate", {"spec": ASKED, "stubs": {"sign_off": {}}}, "stubs.sign_off"),
    ("POST", "/simulate", {"spec": ECHO, "fail": {"two": None}}, "fail.two"),
    ("POST", "/simulate", {"spec": ASKED, "fail": {"sign_off": None}}, "fail.sign_off"),
    ("POST", "/simulate", {"spec": ECHO, "approve": ["two"]}, "approve"),
    ("POST", "/simulate", {"spec": ECHO, "reject": ["two"]}, "reject"),
    ("POST", "/simulate", {"spec": workflow("p", [{"id": "c", "sub_workflow": {"workflow": "kid"}}])}, "also"),
)
ON_A_RUN: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({"action": "odd"}, "action"),
    ({"action": "cancel", "from": "word"}, "from"),
    ({"action": "signal"}, "name"),
    ({"action": "signal", "name": "odd"}, "name"),
    ({"action": "signal", "name": "go", "data": "x" * 40_000}, "data"),
    ({"action": "settle", "answer": "happened"}, "step"),
    ({"action": "settle", "step": "word"}, "answer"),
    ({"action": "settle", "step": "a[", "answer": "happened"}, "step"),
    ({"action": "settle", "step": "word", "answer": "odd"}, "answer"),
    ({"action": "settle", "step": "word", "answer": "give_up", "output": 1}, "output"),
)


def check(response: httpx2.Response, field: str) -> None:
    error = response.json()["error"]
    assert response.status_code in {400, 422}, response.text
    assert [one["field"] for one in error["details"]["problems"]] == [field], response.text
    assert all(one["message"] for one in error["details"]["problems"])
    assert "--" not in response.text


@pytest.mark.parametrize(("method", "path", "body", "field"), ANYWHERE)
async def test_a_refusal_names_the_field_as_it_was_sent(
    http: httpx2.AsyncClient, method: str, path: str, body: Any, field: str
) -> None:
    check(await http.request(method, path, json=body, timeout=60.0), field)


async def test_so_does_that_of_an_action_on_a_run(http: httpx2.AsyncClient) -> None:
    made = (await http.post("/runs", json={"spec": WAITS})).json()["id"]

    async def waits() -> bool:
        return bool((await http.get(f"/runs/{made}")).json()["status"] == "waiting")

    await until(waits)
    for body, field in ON_A_RUN:
        check(await http.post(f"/runs/{made}", json=body), field)


async def test_so_does_that_of_a_key(http: httpx2.AsyncClient) -> None:
    check(await http.post("/runs", json={"spec": ECHO}, headers={"Idempotency-Key": "k" * 256}), "Idempotency-Key")
    for body, path in ((ECHO, "/runs"), (ASKED, "/workflows")):
        await http.post(path, json={"spec": body}, headers={"Idempotency-Key": "k"})
        check(await http.post(path, json={"spec": WAITS}, headers={"Idempotency-Key": "k"}), "Idempotency-Key")


async def test_what_is_refused_of_many_runs_says_it_too(http: httpx2.AsyncClient) -> None:
    told = await http.post("/runs/batch", json={"runs": [{"spec": ECHO, "inputs": {"x": 1}}, {"plan_digest": "odd"}]})
    first, second = (item["error"] for item in told.json()["items"])
    assert [one["field"] for one in first["details"]["problems"]] == ["inputs.x"]
    assert second["type"] == "not_found"


async def test_what_a_simulation_rests_on_is_named_by_fields(http: httpx2.AsyncClient) -> None:
    spec = workflow("w", [SIGN_OFF, {"id": "word", "wait": {"signal": "go"}}, step("echo")])
    told = (await http.post("/simulate", json={"spec": spec, "approve": []}, timeout=60.0)).json()
    remedies = {each["step"]: each["remedy"] for each in told["open"]}
    assert remedies == {
        "sign_off": "suppose a decision: 'sign_off' in `approve` or `reject`",
        "word": "suppose that it comes: `signals.go`",
    }
    assert any("(`stubs.STEP` says others)" in each for each in told["supposed"])
    failed = (await http.post("/simulate", json={"spec": ECHO, "fail": {"one": "timeout"}}, timeout=60.0)).json()
    assert "supposed to fail (`fail.one`)" in failed["error"]["message"]


async def test_a_number_beyond_a_double_is_refused_by_its_input(http: httpx2.AsyncClient) -> None:
    text = codec.dumps({"spec": COUNTS, "inputs": {"n": 1, "few": []}}).replace(b"[]}", b"[1e999]}")
    answer = await http.post("/runs", content=text, headers={"Content-Type": "application/json"})
    check(answer, "inputs.few")
    assert "beyond 1.8e308" in answer.text


async def test_an_empty_key_is_refused_by_the_client_s_way_too(world: World) -> None:
    async with world.client() as client:
        with pytest.raises(ValidationError, match="Idempotency-Key must be 1 to 255 printable characters"):
            await client.trigger("push", {}, key="")
