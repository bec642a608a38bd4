"""Workflows, plans, tools, workers, connections, triggers over HTTP."""

from typing import Any

import httpx2
from pydantic import BaseModel

from headrace.log.port import Parked
from headrace_api import shapes, worker_shapes
from headrace_api.routes import health
from tests.api.kit import SIGN_OFF, World, step, until, workflow

Body = dict[str, Any]


async def get(http: httpx2.AsyncClient, path: str, shape: type[BaseModel] | None = None) -> Body:
    response = await http.get(path)
    assert response.status_code == 200, response.text
    if shape is not None:
        shape.model_validate_json(response.content)
    return dict(response.json())


async def test_every_answer_has_its_published_shape(http: httpx2.AsyncClient) -> None:
    spec = workflow("shaped", [step("echo"), step("filed", "two"), SIGN_OFF])
    applied = await http.post("/workflows", json={"spec": spec})
    assert applied.status_code == 201, applied.text
    run = (await http.post("/runs", json={"workflow": "shaped"})).json()

    async def asked() -> list[Any]:
        return list((await get(http, f"/approvals?run_id={run['id']}"))["items"])

    (approval,) = await until(asked)
    digest = run["plan_digest"]
    published: dict[str, type[BaseModel]] = {
        "/runs": shapes.Page[shapes.Run],
        f"/runs/{run['id']}": shapes.WholeRun,
        f"/runs/{run['id']}/explain": shapes.Explained,
        f"/runs/{run['id']}/plan": shapes.RunPlan,
        f"/runs/{run['id']}/events": shapes.Page[shapes.RunEvent],
        f"/runs/{run['id']}/logs": shapes.Page[shapes.RunLine],
        f"/runs/{run['id']}/artifacts": shapes.Page[shapes.Artifact],
        "/approvals": shapes.Page[shapes.Approval],
        f"/approvals/{approval['id']}": shapes.Approval,
        "/workflows": shapes.Page[shapes.Workflow],
        "/workflows/shaped": shapes.WholeWorkflow,
        "/workflows/shaped/versions": shapes.Page[shapes.WorkflowVersion],
        "/workflows/shaped/runs": shapes.Page[shapes.Run],
        "/plans": shapes.Page[shapes.Plan],
        f"/plans/{digest}": shapes.WholePlan,
        f"/plans/{digest}/authorizations": shapes.Page[shapes.Authorization],
        "/workers": worker_shapes.Workers,
        "/tools": shapes.Page[shapes.Tool],
        "/tools/echo": shapes.Tool,
        "/tokens": shapes.Page[shapes.Token],
        "/connections": shapes.Page[shapes.Connection],
        "/dashboards": shapes.Page[shapes.Workflow],
        "/me": shapes.Me,
        "/doctor": health.Doctor,
        "/readyz": health.Health,
    }
    for path, shape in published.items():
        await get(http, path, shape)


async def test_applying_again_changes_nothing_and_a_change_is_a_version(http: httpx2.AsyncClient) -> None:
    first = await http.put("/workflows/w", json={"spec": workflow("w", [step("echo")])})
    again = await http.put("/workflows/w", json={"spec": workflow("w", [step("echo")])})
    other = await http.put("/workflows/w", json={"spec": workflow("w", [step("echo", value=2)])})
    assert [first.json()["version"], again.json()["version"], other.json()["version"]] == [1, 1, 2]
    versions = (await get(http, "/workflows/w/versions"))["items"]
    assert [each["version"] for each in versions] == [2, 1]
    odd = await http.put("/workflows/v", json={"spec": workflow("w", [step("echo")])})
    assert odd.status_code == 400


async def test_the_plan_of_a_workflow_is_there_as_soon_as_it_is_applied(http: httpx2.AsyncClient) -> None:
    for number in range(12):
        spec = workflow("planned", [step("echo", value=number)])
        applied = await http.post("/workflows", json={"spec": spec})
        digest = applied.json()["plan_digest"]
        assert (await get(http, f"/plans/{digest}", shapes.WholePlan))["digest"] == digest


async def test_a_workflow_runs_by_its_trigger_with_the_payload(http: httpx2.AsyncClient) -> None:
    spec = workflow(
        "w", [{"id": "one", "transform": "{{ trigger.weekday }}"}], outputs={"day": "{{ steps.one.output }}"}
    )
    await http.post("/workflows", json={"spec": spec})
    answer = await http.post("/workflows/w/trigger", json={"weekday": 5}, headers={"Prefer": "wait=20"})
    assert answer.json()["outputs"] == {"day": 5}, answer.text
    assert (await http.post("/workflows/ghost/trigger", json={})).status_code == 404


async def test_a_tool_plan_needs_its_digest_authorised_row_70(http: httpx2.AsyncClient, world: World) -> None:
    call = {"arguments": {"value": "{{ not a template }}"}}
    refused = await http.post("/tools/echo/run", json=call)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "not_authorized"), refused.text
    assert "echo" not in world.performed
    (plan,) = (await get(http, "/plans?kind=ToolPlan"))["items"]
    assert (await get(http, f"/plans/{plan['digest']}/authorizations"))["items"] == []
    asked = await http.post(f"/plans/{plan['digest']}/authorizations", json={})
    assert (asked.status_code, asked.json()["status"]) == (202, "pending"), asked.text
    approval_id = asked.json()["approval_id"]

    async def opened() -> Any:
        response = await http.get(f"/approvals/{approval_id}")
        return response.json() if response.status_code == 200 else None

    approval = await until(opened)
    async with world.http("approver") as approver:
        decide = {"action": "approve", "digest": approval["digest"]}
        assert (await approver.post(f"/approvals/{approval_id}", json=decide)).status_code == 200

    async def authorised() -> bool:
        return bool((await get(http, f"/plans/{plan['digest']}"))["authorization"]["status"] == "approved")

    await until(authorised)
    run = await http.post("/tools/echo/run", json=call, headers={"Prefer": "wait=20"})
    assert run.json()["steps"][0]["output"] == {"said": {"value": "{{ not a template }}"}}, run.text


async def test_workers_are_active_while_they_beat_row_14(http: httpx2.AsyncClient) -> None:
    body = await get(http, "/workers")
    assert body["workers_active"] is True
    assert (body["items"][0]["id"], body["items"][0]["status"]) == ("wrk_one", "idle")


async def test_tools_carry_how_they_have_done(http: httpx2.AsyncClient) -> None:
    tool = await get(http, "/tools/echo")
    assert (tool["success_count"], tool["error_count"], tool["avg_execution_time_ms"]) == (3, 1, 1.5)
    ghost = await http.get("/tools/ghost")
    assert (ghost.status_code, ghost.json()["error"]["type"]) == (404, "not_found")
    called = await http.post("/tools/ghost/run", json={})
    assert (called.status_code, called.json()["error"]["type"]) == (400, "tool_not_found")


async def test_connections_never_show_secrets(http: httpx2.AsyncClient) -> None:
    body = {"integration": "github", "settings": {"base_url": "http://x"}, "secrets": {"token": "env:GITHUB_TOKEN"}}
    saved = await http.put("/connections/github", json=body)
    assert saved.status_code == 200, saved.text
    assert saved.json()["secrets"] == ["token"]
    assert "GITHUB_TOKEN" not in (await http.get("/connections")).text
    raw = await http.put("/connections/other", json={**body, "secrets": {"token": "ghp_secret"}})
    assert (raw.status_code, "ghp_secret" in raw.text) == (400, False)
    assert (await http.delete("/connections/github")).status_code == 204
    assert (await http.get("/connections/github")).status_code == 404


async def test_an_integration_that_no_worker_offers_is_refused_once_any_offers_one(
    http: httpx2.AsyncClient, world: World
) -> None:
    early = await http.put("/connections/early", json={"integration": "ledger"})
    assert early.status_code == 200, "no worker has offered any yet"
    await world.announce_integration("github.issues", "github")
    assert (await http.put("/connections/second", json={"integration": "github"})).status_code == 200
    refused = await http.put("/connections/third", json={"integration": "githbu"})
    said = "no worker has ever offered an integration 'githbu'; did you mean github?"
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, said)
    assert refused.json()["error"]["details"]["problems"][0]["field"] == "integration"
    kept = await http.put("/connections/early", json={"integration": "ledger", "settings": {"base_url": "http://x"}})
    assert kept.status_code == 200, "what is kept may be changed"


async def test_a_trigger_event_is_published_under_its_key(http: httpx2.AsyncClient) -> None:
    told = await http.post("/triggers/push", json={"a": 1}, headers={"Idempotency-Key": "m-1"})
    assert (told.status_code, told.json()["message_id"]) == (202, "m-1")
    for name in ("a*b", "a..b", "%C3%BC", ".a"):
        refused = await http.post(f"/triggers/{name}", json={})
        assert (refused.status_code, "is not the name of a trigger" in refused.text) == (400, True)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    told = await http.post("/triggers/push", content=b'{"a": 1}', headers=form)
    assert (told.status_code, "sent with Content-Type: application/json" in told.json()["error"]["message"]) == (
        400,
        True,
    )


async def test_lines_that_are_none_are_parked_and_doctor_shows_them(http: httpx2.AsyncClient, world: World) -> None:
    await world.bus.publish_lines(b"not json")

    async def parked() -> Any:
        return (await get(http, "/doctor"))["parked"]

    (kept,) = await until(parked)
    assert (kept["source"], kept["body_preview"]) == ("lines", "not json")
    told = await get(http, "/doctor")
    assert any("headrace doctor --dismiss ID" in problem for problem in told["problems"])
    body = {"action": "dismiss", "parked": [kept["id"], kept["id"] + 1]}
    assert (await http.post("/doctor", json=body)).json() == {"dismissed": [kept["id"]]}
    assert (await http.post("/doctor", json=body)).json() == {"dismissed": []}
    assert (await get(http, "/doctor"))["parked"] == []
    assert (await http.post("/doctor", json={"action": "dismiss", "parked": []})).status_code == 400


async def test_parked_messages_are_shown_to_whom_they_concern(http: httpx2.AsyncClient, world: World) -> None:
    async def park(body: bytes, stream_id: str | None = None) -> None:
        await world.log.park(Parked(source="x", error=f"error {body!r}", body=body, at=1, stream_id=stream_id))

    run = (await http.post("/runs", json={"spec": workflow("w", [step("echo")])})).json()["id"]
    await park(b"theirs by its stream", run)
    await park(b'{"workspace":"default","body":"theirs by what it says"}')
    await park(b'[{"workspace":"default","text":"theirs in a list"}]')
    await park(b'{"workspace":"elsewhere","body":"the stranger\'s"}')
    await park(b"anybody's")
    async with world.http("stranger") as elsewhere:
        shown = (await get(elsewhere, "/doctor"))["parked"]
        assert [each["body_preview"][-12:] for each in shown] == ["anybody's", '"the stranger\'s"}'[-12:]]
        every = [each["id"] for each in (await get(http, "/doctor"))["parked"]]
        assert len(every) == 4
        told = await elsewhere.post(
            "/doctor", json={"action": "dismiss", "parked": [*every, *(one["id"] for one in shown)]}
        )
        assert sorted(told.json()["dismissed"]) == sorted(each["id"] for each in shown)
    assert len((await get(http, "/doctor"))["parked"]) == 3
