"""Runs over HTTP."""

from typing import Any

import httpx2

from headrace import codec
from tests.api.kit import BIG, SIGN_OFF, World, step, until, workflow

Body = dict[str, Any]


async def run_of(http: httpx2.AsyncClient, *steps: Body, wait: int = 20, **more: object) -> Body:
    body = {"spec": workflow("a-run", list(steps)), **more}
    response = await http.post("/runs", json=body, headers={"Prefer": f"wait={wait}"} if wait else {})
    assert response.status_code in {200, 202}, response.text
    return dict(response.json())


async def get(http: httpx2.AsyncClient, path: str, status: int = 200) -> Body:
    response = await http.get(path)
    assert response.status_code == status, response.text
    return dict(response.json())


async def test_a_new_run_is_queued_with_attempt_one_row_1(http: httpx2.AsyncClient) -> None:
    asked = {"spec": workflow("w", [step("hold")]), "cardId": "card-1", "stage": "build", "triggeredBy": "me"}
    response = await http.post("/runs", json=asked)
    body = response.json()
    assert response.status_code == 202, body
    assert body["id"].startswith("run_")
    assert (body["status"], body["attempt"], body["subject"], body["stage"]) == ("queued", 1, "card-1", "build")
    assert body["workers_active"] is True
    assert body["labels"] == {"triggered_by": "me"}
    assert response.headers["location"] == f"/api/runs/{body['id']}"


async def test_a_run_that_a_worker_took_is_running_row_4(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, step("hold"), wait=0)

    async def running() -> Body | None:
        body = await get(http, f"/runs/{run['id']}")
        return body if body["status"] == "running" else None

    body = await until(running)
    assert body["started_at"].endswith("Z")


async def test_steps_that_have_not_begun_are_pending(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, step("hold"), {**step("echo", "two"), "depends_on": ["one"]}, wait=0)
    body = await get(http, f"/runs/{run['id']}")
    assert [each["step"] for each in body["steps"]] == ["one", "two"]
    assert body["steps"][1]["status"] == "pending"


async def test_waiting_gives_the_final_run(http: httpx2.AsyncClient) -> None:
    body = await run_of(http, step("echo", value=1))
    assert body["status"] == "succeeded", body
    assert body["steps"][0]["output"] == {"said": {"value": 1}}


async def test_a_failure_shows_its_summary_row_7(http: httpx2.AsyncClient) -> None:
    body = await run_of(http, step("broken"))
    assert body["status"] == "failed"
    assert "API rate limit exceeded" in body["error"]["message"]
    explained = await get(http, f"/runs/{body['id']}/explain")
    assert "API rate limit exceeded" in explained["reasons"][0]["message"]


async def test_a_subject_whose_run_has_succeeded_gets_a_new_run_row_3(http: httpx2.AsyncClient) -> None:
    first = await run_of(http, step("echo"), subject="card-1", stage="build")
    assert first["status"] == "succeeded"
    second = await run_of(http, step("echo"), subject="card-1", stage="build")
    assert second["id"] != first["id"]
    assert (second["attempt"], second["retry_of"]) == (1, None)


async def test_only_failed_or_cancelled_runs_are_retried_row_9(http: httpx2.AsyncClient) -> None:
    good = await run_of(http, step("echo"))
    refused = await http.post(f"/runs/{good['id']}", json={"action": "retry"})
    assert refused.status_code == 409
    assert "Can only retry failed or cancelled runs" in refused.json()["error"]["message"]


async def test_a_retry_is_a_new_run_with_attempt_two_row_8(http: httpx2.AsyncClient) -> None:
    bad = await run_of(http, step("broken"))
    body = (await http.post(f"/runs/{bad['id']}", json={"action": "retry"})).json()
    assert body["id"] != bad["id"]
    assert (body["status"], body["attempt"], body["retry_of"]) == ("queued", 2, bad["id"])


async def test_a_cancel_shows_its_reason_row_10(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, {"id": "later", "wait": {"duration": "1h"}}, wait=0)
    answer = await http.post(f"/runs/{run['id']}", json={"action": "cancel", "reason": "not needed"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "cancelled"
    lines = await get(http, f"/runs/{run['id']}/logs")
    assert "not needed" in lines["items"][-1]["text"]


async def test_cancelling_a_finished_run_is_409_row_86(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, step("echo"))
    answer = await http.post(f"/runs/{run['id']}", json={"action": "cancel"})
    assert answer.status_code == 409
    assert "already" in answer.json()["error"]["message"]


async def test_a_result_is_409_while_running_and_404_when_unknown_row_85(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, step("hold"), wait=0)
    answer = await http.get(f"/runs/{run['id']}/result")
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "conflict")
    missing = await http.get("/runs/run_00000000000000000000000000/result")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found")


async def test_a_result_gives_outputs_and_steps(http: httpx2.AsyncClient) -> None:
    asked = {"spec": workflow("w", [step("echo", value=4)], outputs={"twice": "{{ steps.one.output.said.value * 2 }}"})}
    run = (await http.post("/runs", json=asked, headers={"Prefer": "wait=20"})).json()
    body = await get(http, f"/runs/{run['id']}/result")
    assert body["outputs"] == {"twice": 8}
    assert body["steps"][0]["attempt_id"].startswith("att_")


async def test_outputs_too_large_for_a_row_are_given_with_the_result_all_the_same(http: httpx2.AsyncClient) -> None:
    same = "{{ steps.one.output.said.text }}"
    spec = workflow("w", [step("echo", text="x" * 20_000)], outputs={"first": same, "second": same})
    run = (await http.post("/runs", json={"spec": spec}, headers={"Prefer": "wait=20"})).json()
    assert run["status"] == "succeeded"
    body = await get(http, f"/runs/{run['id']}/result")
    assert {name: len(text) for name, text in body["outputs"].items()} == {"first": 20_000, "second": 20_000}


async def test_three_lines_make_four_with_run_queued_first_row_12(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, step("chatty"))

    async def four() -> list[Body] | None:
        items = (await get(http, f"/runs/{run['id']}/logs"))["items"]
        return list(items) if len(items) >= 4 else None

    lines = await until(four)
    assert len(lines) == 4
    assert lines[0]["text"].startswith("Run queued")
    assert [(line["level"], line["step"]) for line in lines[1:]] == [("info", "one")] * 3
    page = await get(http, f"/runs/{run['id']}/logs?limit=2")
    rest = await get(http, f"/runs/{run['id']}/logs?limit=2&cursor={page['next_cursor']}")
    assert [line["text"] for line in page["items"] + rest["items"]] == [line["text"] for line in lines]


async def test_an_artifact_is_listed_for_run_and_subject_row_13(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, step("filed"), subject="card-7")
    for path in (f"/runs/{run['id']}/artifacts", "/artifacts?subject=card-7"):
        (kept,) = (await get(http, path))["items"]
        assert (kept["type"], kept["label"], kept["uri"]) == ("file", "report", "out/report.md")


async def test_a_large_output_is_a_preview_and_downloads_whole_row_51(http: httpx2.AsyncClient, world: World) -> None:
    run = await run_of(http, step("big"))
    assert run["status"] == "succeeded", run["error"]
    shown = run["steps"][0]["output_preview"]
    assert run["steps"][0]["output"] is None
    assert (shown["preview"], shown["size_bytes"] > 5_000_000) == (True, True)
    assert shown["text"].startswith('{"text":"xxx')
    whole = await http.get(f"/artifacts/{shown['digest']}")
    assert codec.loads(whole.content) == {"text": BIG}
    assert codec.sha256(whole.content) == shown["digest"]
    assert (await http.get(f"/blobs/{shown['digest']}")).content == whole.content
    async with world.http("stranger") as stranger:
        assert (await stranger.get(f"/artifacts/{shown['digest']}")).status_code == 404
        assert (await stranger.get(f"/runs/{run['id']}")).status_code == 404


async def test_deciding_on_a_run_that_waits_for_none_says_how_it_stands_row_55(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, step("echo"))
    answer = await http.post(f"/runs/{run['id']}", json={"action": "approve"})
    assert answer.status_code == 409
    assert answer.json()["error"]["details"]["status"] == "succeeded"


async def test_an_unknown_action_is_refused_by_name(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, step("echo"))
    answer = await http.post(f"/runs/{run['id']}", json={"action": "explode"})
    assert answer.status_code == 400
    assert "unknown action 'explode'" in answer.json()["error"]["message"]


async def test_lists_go_page_by_page_and_filters_read_older_spellings(http: httpx2.AsyncClient) -> None:
    made = [(await run_of(http, step("echo"), subject="s"))["id"] for _ in range(3)]
    first = await get(http, "/runs?subject=s&limit=2&status=SUCCESS")
    second = await get(http, f"/runs?subject=s&limit=2&status=done&cursor={first['next_cursor']}")
    assert [run["id"] for run in first["items"] + second["items"]] == made[::-1]
    assert second["next_cursor"] is None
    assert (await get(http, "/runs?status=CRASHED"))["items"] == []
    assert (await get(http, "/runs?parent=run_none&label=a=b"))["items"] == []
    refused = await http.get("/runs?status=dancing")
    assert (refused.status_code, "succeeded" in refused.json()["error"]["message"]) == (400, True)


async def test_runs_are_listed_by_all_labels_that_are_named(http: httpx2.AsyncClient) -> None:
    both = (await run_of(http, step("echo"), labels={"team": "infra", "env": "a=b"}))["id"]
    one = (await run_of(http, step("echo"), labels={"team": "infra"}))["id"]
    await run_of(http, step("echo"), labels={"team": "web"})
    first = await get(http, "/runs?label=team=infra&limit=1")
    second = await get(http, f"/runs?label=team=infra&limit=1&cursor={first['next_cursor']}")
    assert [run["id"] for run in first["items"] + second["items"]] == [one, both]
    assert second["next_cursor"] is None
    assert [run["id"] for run in (await get(http, "/runs?label=team=infra&label=env=a=b"))["items"]] == [both]
    for wrong, said in (
        ("team", "must be NAME=VALUE"),
        ("team=a&label=team=b", "another value than"),
        (":=b", "found by the name"),
    ):
        refused = await http.get(f"/runs?label={wrong}")
        assert (refused.status_code, said in refused.json()["error"]["message"]) == (400, True), refused.text


async def test_a_key_meets_the_same_run_and_another_body_is_422(http: httpx2.AsyncClient) -> None:
    spec = {"spec": workflow("w", [step("echo")])}
    headers = {"Idempotency-Key": "k-1"}
    one = (await http.post("/runs", json=spec, headers=headers)).json()
    two = (await http.post("/runs", json=spec, headers=headers)).json()
    assert (one["id"], two["status"]) == (two["id"], "queued")
    other = await http.post("/runs", json={**spec, "subject": "else"}, headers=headers)
    assert (other.status_code, other.json()["error"]["type"]) == (422, "validation_error")
    long = await http.post("/runs", json=spec, headers={"Idempotency-Key": "k" * 256})
    assert long.status_code == 400


async def test_a_maps_large_output_is_shown_as_a_preview_and_downloaded_whole(http: httpx2.AsyncClient) -> None:
    words = {"words": {"type": "array"}}
    each = {"id": "one", "map": "{{ inputs.words }}", "tool": "echo", "with": {"value": "{{ item }}"}}
    large = {"id": "two", "map": "{{ [1, 2] }}", "tool": "big", "with": {}, "depends_on": ["one"]}
    given = [str(number) * 9_000 for number in range(9)]
    body = {"spec": workflow("w", [each, large], inputs=words), "inputs": {"words": given}}
    run = (await http.post("/runs", json=body, headers={"Prefer": "wait=20"})).json()
    echoed, bodies = run["steps"]
    assert (run["status"], echoed["output"], echoed["output_preview"]["digest"]) == ("succeeded", None, None)
    path = echoed["output_preview"]["download"].removeprefix("/api")
    assert (await http.get(path)).json() == [{"said": {"value": word}} for word in given]
    path = bodies["output_preview"]["download"].removeprefix("/api")
    assert (await http.get(path)).json() == [{"text": BIG}, {"text": BIG}]
    assert (await http.get(f"/runs/{run['id']}/steps/three/output")).status_code == 404


async def test_a_step_without_an_output_says_how_it_stands(http: httpx2.AsyncClient) -> None:
    body = {"spec": workflow("w", [step("echo", value=1), {**step("broken", "two"), "depends_on": ["one"]}])}
    run = (await http.post("/runs", json=body, headers={"Prefer": "wait=20"})).json()
    assert (await http.get(f"/runs/{run['id']}/steps/one/output")).json() == {"said": {"value": 1}}
    refused = await http.get(f"/runs/{run['id']}/steps/two/output")
    assert (refused.status_code, refused.json()["error"]["details"]["status"]) == (409, "failed")


async def test_an_approval_is_decided_by_somebody_else_on_its_digest(http: httpx2.AsyncClient, world: World) -> None:
    run = await run_of(http, SIGN_OFF, wait=0)

    async def pending() -> list[Body]:
        return list((await get(http, f"/approvals?status=pending&run_id={run['id']}"))["items"])

    (approval,) = await until(pending)
    assert codec.digest(approval["shown"]) == approval["digest"]
    decide = {"action": "approve", "digest": approval["digest"]}
    path = f"/approvals/{approval['id']}"
    assert (await http.post(path, json=decide)).status_code == 403
    async with world.http("viewer") as viewer:
        assert (await viewer.post(path, json=decide)).status_code == 403
    async with world.http("approver") as approver:
        wrong = await approver.post(path, json={**decide, "digest": "sha256:" + "0" * 64})
        assert (wrong.status_code, wrong.json()["error"]["type"]) == (409, "plan_id_mismatch")
        assert approval["digest"] in wrong.text
        good = await approver.post(path, json={**decide, "reason": "fine"})
        assert (good.status_code, good.json()["status"]) == (200, "approved")
        late = await approver.post(path, json={**decide, "action": "reject"})
        assert (late.status_code, "approved" in late.text) == (409, True)

    async def over() -> bool:
        return bool((await get(http, f"/runs/{run['id']}"))["status"] == "succeeded")

    await until(over)


async def test_a_runs_events_and_orders_belong_to_the_trace_of_the_request(
    world: World, http: httpx2.AsyncClient
) -> None:
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for given, kept in ((good, good), ("nonsense" + "x" * 5_000, None), (good + "-more", None), (None, None)):
        headers = {"Prefer": "wait=20", **({"traceparent": given} if given else {})}
        run = (await http.post("/runs", json={"spec": workflow("w", [step("echo")])}, headers=headers)).json()
        first, *_ = (await http.get(f"/runs/{run['id']}/events")).json()["items"]
        assert (first["type"], first["meta"].get("traceparent")) == ("run.queued", kept)
        assert world.ordered[-1].traceparent == kept
