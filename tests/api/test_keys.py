"""What an Idempotency-Key counts for: one kind of request in a workspace, or one run, and the request as its sender made it."""

from typing import Any

import httpx2

from headrace import ids
from tests.api.kit import World, step, workflow

KEY = {"Idempotency-Key": "once"}


def hold(name: str = "held") -> dict[str, Any]:
    return workflow(name, [step("hold")])


def check_refused(response: httpx2.Response, key: str = "once") -> None:
    assert response.status_code == 422, response.text
    said = f"the Idempotency-Key '{key}' was used for another request: send this one under a key of its own"
    assert response.json()["error"]["message"] == said


async def test_a_key_on_one_run_says_nothing_of_another_whichever_partition_they_share(
    http: httpx2.AsyncClient,
) -> None:
    by_partition: dict[int, str] = {}
    neighbours: tuple[str, str] | None = None
    while neighbours is None:
        made = (await http.post("/runs", json={"spec": hold()})).json()["id"]
        other = by_partition.setdefault(ids.partition_of(made), made)
        neighbours = (other, made) if other != made else None
    for run_id in (*neighbours, *neighbours):
        told = await http.post(f"/runs/{run_id}", json={"action": "pause"}, headers=KEY)
        assert told.status_code == 200, told.text
    check_refused(await http.post(f"/runs/{neighbours[1]}", json={"action": "cancel"}, headers=KEY))


async def test_a_key_that_made_a_run_may_act_on_it(http: httpx2.AsyncClient) -> None:
    made = (await http.post("/runs", json={"spec": hold()}, headers=KEY)).json()["id"]
    assert (await http.post(f"/runs/{made}", json={"action": "pause"}, headers=KEY)).status_code == 200


async def test_whatever_makes_runs_shares_its_keys(http: httpx2.AsyncClient) -> None:
    await http.post("/workflows", json={"spec": hold()})
    await http.post("/runs", json={"workflow": "held"}, headers=KEY)
    check_refused(await http.post("/workflows/held/trigger", json={"a": 1}, headers=KEY))
    check_refused(await http.post("/runs", json={"spec": hold("else")}, headers=KEY))


async def test_a_key_counts_within_its_workspace(http: httpx2.AsyncClient, world: World) -> None:
    named = {"name": "ours", "roles": ["viewer"]}
    await http.post("/tokens", json=named, headers=KEY)
    check_refused(await http.post("/tokens", json={**named, "name": "other"}, headers=KEY))
    async with world.http("stranger") as elsewhere:
        assert (await elsewhere.post("/tokens", json={**named, "name": "other"}, headers=KEY)).status_code == 201


async def test_a_repeat_meets_its_run_though_the_workflow_has_a_newer_version(http: httpx2.AsyncClient) -> None:
    await http.post("/workflows", json={"spec": hold()})
    asked: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        ("/runs", {"workflow": "held", "labels": {"a": "b"}}, {"Idempotency-Key": "one"}),
        ("/workflows/held/trigger", {"n": 1}, {"Idempotency-Key": "two"}),
        ("/runs/batch", {"runs": [{"workflow": "held"}]}, {"Idempotency-Key": "three"}),
    ]
    first = [(await http.post(path, json=body, headers=headers)).json() for path, body, headers in asked]
    newer = workflow("held", [step("hold", "one", more=1)])
    assert (await http.post("/workflows", json={"spec": newer})).json()["version"] == 2
    for (path, body, headers), told in zip(asked, first, strict=True):
        again = await http.post(path, json=body, headers=headers)
        assert again.status_code == 202, again.text
        assert again.json().get("id") == told.get("id")
        assert again.json().get("items") == told.get("items")
    other = {"workflow": "held", "labels": {"a": "c"}}
    check_refused(await http.post("/runs", json=other, headers={"Idempotency-Key": "one"}), "one")
    explicit = {"workflow": "held", "labels": {"a": "b"}, "workflow_version": 2}
    check_refused(await http.post("/runs", json=explicit, headers={"Idempotency-Key": "one"}), "one")
    assert len((await http.get("/runs")).json()["items"]) == 3
