"""Many runs, and many decisions, in one request: each stands for itself, and a batch that comes again does nothing twice."""

import json
from pathlib import Path
from typing import Any

import httpx2

from tests.api.kit import SIGN_OFF, World, step, until, workflow
from tests.api.test_cli import Run, cli, written

__all__ = ["cli"]


async def batch(http: httpx2.AsyncClient, runs: list[Any], key: str | None = None) -> dict[str, Any]:
    answer = await http.post("/runs/batch", json={"runs": runs}, headers={"Idempotency-Key": key} if key else {})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def recorded(http: httpx2.AsyncClient, *steps: Any, **more: Any) -> str:
    answer = await http.post("/plans", json={"spec": workflow("w", list(steps), **more)})
    assert answer.status_code == 200, answer.text
    digest: str = answer.json()["digest"]
    return digest


async def succeeded(http: httpx2.AsyncClient, run_id: str) -> dict[str, Any]:
    async def over() -> Any:
        found = (await http.get(f"/runs/{run_id}")).json()
        return found if found["status"] == "succeeded" else None

    run: dict[str, Any] = await until(over)
    return run


async def test_a_batch_creates_its_runs_in_order_and_names_what_is_wrong_with_the_others(
    http: httpx2.AsyncClient,
) -> None:
    inputs = {"n": {"type": "integer"}}
    digest = await recorded(http, step("echo", value="{{ inputs.n }}"), inputs=inputs, outputs="{{ steps.one.output }}")
    unknown = "sha256:" + "0" * 64
    told = await batch(
        http,
        [
            {"plan_digest": digest, "inputs": {"n": 1}},
            {"plan_digest": unknown, "inputs": {"n": 2}},
            {"plan_digest": digest, "inputs": {"n": "many"}},
            {"spec": workflow("own", [step("echo", value=4)]), "labels": {"a": "b"}},
            {"plan_digest": digest, "inputs": {"n": 5}},
        ],
    )
    assert (told["created"], told["refused"]) == (3, 2)
    kinds = [item["error"]["type"] if "error" in item else item["status"] for item in told["items"]]
    assert kinds == ["queued", "not_found", "validation_error", "queued", "queued"]
    assert "n" in told["items"][2]["error"]["message"]
    outputs = [(await succeeded(http, told["items"][place]["id"]))["outputs"] for place in (0, 4)]
    assert outputs == [{"said": {"value": 1}}, {"said": {"value": 5}}]


async def test_a_batch_that_comes_again_under_its_key_meets_the_same_runs(http: httpx2.AsyncClient) -> None:
    digest = await recorded(http, step("echo", value=1))
    runs = [{"plan_digest": digest} for _ in range(300)]
    long_key = "k" * 255
    first, again = await batch(http, runs, long_key), await batch(http, runs, long_key)
    ids = [item["id"] for item in first["items"]]
    assert len(set(ids)) == 300
    assert [item["id"] for item in again["items"]] == ids
    other = await batch(http, [*runs[:2], {"plan_digest": digest, "subject": "another"}], long_key)
    assert [item.get("id") for item in other["items"]] == [*ids[:2], None]
    assert other["items"][2]["error"]["type"] == "validation_error"


async def test_a_batch_has_a_most_and_a_least(http: httpx2.AsyncClient) -> None:
    for runs in ([], [{"plan_digest": "sha256:" + "0" * 64}] * 1_001):
        answer = await http.post("/runs/batch", json={"runs": runs})
        assert (answer.status_code, "runs" in answer.json()["error"]["message"]) == (400, True)
    answer = await http.post("/runs/batch", json={"runs": [{"plan_digest": "x", "input": {}}]})
    assert "did you mean inputs?" in answer.json()["error"]["message"]


async def test_many_questions_are_decided_at_once_each_by_its_own_digest(
    http: httpx2.AsyncClient, world: World
) -> None:
    digest = await recorded(http, SIGN_OFF)
    await batch(http, [{"plan_digest": digest} for _ in range(4)])

    async def asked() -> Any:
        found = (await http.get("/approvals?status=pending")).json()["items"]
        return found if len(found) == 4 else None

    questions = await until(asked)
    decisions = [{"approval_id": one["id"], "action": "approve", "digest": one["digest"]} for one in questions]
    decisions[1]["digest"] = "sha256:" + "0" * 64
    decisions[2]["action"] = "reject"
    decisions.append({"approval_id": "apr_none", "action": "approve", "digest": "sha256:" + "0" * 64})
    refused = (await http.post("/approvals/batch", json={"decisions": decisions})).json()
    assert (refused["recorded"], {item["error"]["type"] for item in refused["items"]}) == (
        0,
        {"forbidden", "not_found"},
    )
    async with world.http("approver") as approver:
        told = (await approver.post("/approvals/batch", json={"decisions": decisions})).json()
    assert [item["status"] for item in told["items"]] == ["recorded", "refused", "recorded", "recorded", "refused"]
    assert (told["recorded"], told["refused"]) == (3, 2)
    assert told["items"][1]["error"]["type"] == "plan_id_mismatch"

    async def settled() -> bool:
        found = (await http.get("/approvals", params={"status": "approved,rejected"})).json()["items"]
        return sorted(one["status"] for one in found) == ["approved", "approved", "rejected"]

    await until(settled)
    async with world.http("viewer") as viewer:
        assert (await viewer.post("/approvals/batch", json={"decisions": decisions})).status_code == 403
    async with world.http("stranger") as stranger:
        told = (await stranger.post("/approvals/batch", json={"decisions": decisions[:1]})).json()
    assert told["items"][0]["error"]["type"] == "not_found"


async def test_a_run_for_each_line_of_a_file(cli: Run, tmp_path: Path, http: httpx2.AsyncClient) -> None:
    inputs = {"n": {"type": "integer"}}
    file = written(tmp_path, step("echo", value="{{ inputs.n }}"), inputs=inputs, outputs="{{ steps.one.output }}")
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"n": 1}\n\n{"n": 2}\n')
    code, out, err = await cli("runs", "create", file, str(lines), "--key", "once")
    ids = out.split()
    assert (code, len(ids), err) == (0, 2, "")
    assert [(await succeeded(http, one))["outputs"]["said"]["value"] for one in ids] == [1, 2]
    assert (await cli("runs", "create", file, str(lines), "--key", "once"))[1].split() == ids
    lines.write_text('{"n": 1}\n\n{"n": "two"}\n')
    code, out, err = await cli("runs", "create", file, str(lines))
    assert (code, len(out.split())) == (1, 1)
    assert err.startswith("line 3: validation_error")
    code, out, _ = await cli("runs", "create", file, str(lines), "-o", "json")
    assert (code, json.loads(out)["refused"]) == (1, 1)
    lines.write_text("[1]\n")
    code, _, err = await cli("runs", "create", file, str(lines))
    assert (code, "line 1 must be a JSON object" in err) == (2, True)
