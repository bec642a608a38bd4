"""`POST /runs` goes a short way when it is right; nobody can tell which way a request went."""

import json
from typing import Any

import httpx2
import pytest

from tests.api.kit import World, step, until, workflow

SPEC = workflow("w", [step("echo", value=1)])
ODD = {"Content-Type": "application/vnd.run+json"}
"""Read as JSON by the framework, and not known to the short way."""


async def test_both_ways_answer_alike(http: httpx2.AsyncClient) -> None:
    asked = {"spec": SPEC, "cardId": "card-1", "labels": {"a": "b"}, "triggeredBy": "me"}
    short = await http.post("/runs", json=asked)
    long = await http.post("/runs", content=json.dumps(asked), headers=ODD)
    one, other = short.json(), long.json()
    assert (short.status_code, long.status_code) == (202, 202)
    assert one.keys() == other.keys()
    assert {name for name in one if one[name] != other[name]} <= {"id", "created_at"}


async def test_a_new_run_is_answered_with_all_that_its_row_says(http: httpx2.AsyncClient) -> None:
    spec = workflow("w", [step("hold")])
    spec["spec"]["inputs"] = {"n": {"type": "integer", "default": 3}, "m": {"type": "integer"}}
    made = (await http.post("/runs", json={"spec": spec, "inputs": {"m": 1}, "subject": "s", "priority": 2})).json()
    read = (await http.get(f"/runs/{made['id']}")).json()
    same = made.keys() - {"status", "steps", "started_at", "steps_done", "waiting_for", "waiting"}
    assert {name: made[name] for name in same} == {name: read[name] for name in same}
    assert made["inputs"] == {"m": 1, "n": 3}
    assert (made["status"], made["steps"], made["waiting"], made["started_at"]) == ("queued", [], [], None)


async def test_a_repeat_under_the_key_is_answered_alike_and_waits_for_the_same_end(http: httpx2.AsyncClient) -> None:
    asked, headers = {"spec": SPEC}, {"Idempotency-Key": "again", "Prefer": "wait=20"}
    first = (await http.post("/runs", json=asked, headers=headers)).json()
    second = (await http.post("/runs", json=asked, headers=headers)).json()
    assert first["status"] == "succeeded"
    assert second == first


@pytest.mark.parametrize(
    "body", [{}, {"nonsense": 1}, {"workflow": 7}, {"spec": SPEC, "workflow": "w"}, [], None, {"inputs": {}}]
)
async def test_what_is_wrong_is_told_alike(http: httpx2.AsyncClient, body: Any) -> None:
    text = json.dumps(body)
    short = await http.post("/runs", content=text, headers={"Content-Type": "application/json"})
    long = await http.post("/runs", content=text, headers=ODD)
    assert short.status_code in {400, 422}, short.text
    told, same = short.json()["error"], long.json()["error"]
    assert (told["type"], told["message"], told["details"]) == (same["type"], same["message"], same["details"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/runs/batch",
            {"runs": [{"spec": SPEC, "cardId": "c"}, {"workflow": "none"}, {"spec": SPEC, "inputs": {"n": 1}}]},
        ),
        ("/runs/batch", {"runs": []}),
        ("/runs/batch", {"runs": [{"nonsense": 1}]}),
        ("/runs/batch", {}),
        ("/approvals/batch", {"decisions": [{"approval_id": "apr_1", "action": "approve", "digest": "sha256:0"}]}),
        ("/approvals/batch", {"decisions": [{"approval_id": "apr_1"}]}),
    ],
)
async def test_many_at_once_are_answered_alike_both_ways(http: httpx2.AsyncClient, path: str, body: Any) -> None:
    text = json.dumps(body)
    short = await http.post(path, content=text, headers={"Content-Type": "application/json"})
    long = await http.post(path, content=text, headers=ODD)
    assert short.status_code == long.status_code

    def told(answer: Any) -> Any:
        if "error" in answer:
            return [answer["error"][name] for name in ("type", "message", "details")]
        return {**answer, "items": [{**item, "id": item.get("id", "")[:4]} for item in answer["items"]]}

    assert told(short.json()) == told(long.json())


async def test_json_that_is_none_is_told_with_its_place(http: httpx2.AsyncClient) -> None:
    response = await http.post("/runs", content=b'{"spec": ', headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert "not JSON" in response.json()["error"]["message"]


async def test_who_may_not_is_refused_the_short_way_too(world: World) -> None:
    async with world.http("viewer") as http:
        refused = await http.post("/runs", json={"spec": SPEC})
    assert refused.status_code == 403
    assert refused.json()["error"]["type"] == "forbidden"


async def test_a_wrong_key_is_refused_the_short_way_too(http: httpx2.AsyncClient) -> None:
    refused = await http.post("/runs", json={"spec": SPEC}, headers={"Idempotency-Key": "x" * 300})
    assert refused.status_code == 400
    assert "Idempotency-Key" in refused.json()["error"]["message"]


async def test_the_metric_names_the_route_whichever_way_was_taken(http: httpx2.AsyncClient) -> None:
    before = await _counted(http)
    await http.post("/runs", json={"spec": SPEC})
    await http.post("/runs", json={"nonsense": 1})

    async def counted() -> bool:
        return await _counted(http) == before + 2

    await until(counted)


async def _counted(http: httpx2.AsyncClient) -> int:
    text = (await http.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("headrace_http_request_duration_seconds_count")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if 'method="POST"' in line and '/runs"' in line)
