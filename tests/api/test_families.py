"""Children, signals and events over HTTP and on the command line: who made whom, what is waited for, what moves it."""

from typing import Any

import httpx2

from tests.api.kit import World, step, until, workflow
from tests.api.test_cli import Run, cli
from tests.api.test_run_control import act, over, refusal, waits
from tests.api.test_runs import Body, get, run_of

__all__ = ["cli"]
WAIT = {"id": "w", "wait": {"signal": "go.on"}}


async def applied(http: httpx2.AsyncClient, document: dict[str, Any]) -> None:
    answer = await http.post("/workflows", json={"spec": document})
    assert answer.status_code in {200, 201}, answer.text


async def family(http: httpx2.AsyncClient, *, items: int | None = None) -> tuple[Body, list[Body]]:
    """Give a run and its children, which wait for a signal."""
    await applied(http, workflow("kid", [WAIT], outputs={"said": "{{ steps.w.output.data }}"}))
    inner: dict[str, Any] = {"id": "inner", "sub_workflow": "kid"}
    if items is not None:
        inner["map"] = list(range(items))
    run = await run_of(http, inner, wait=0)

    async def there() -> list[Body] | None:
        found = (await get(http, f"/runs?parent={run['id']}"))["items"]
        ready = all(child["waiting_for"] == "signal" for child in found)
        return found if len(found) == (items or 1) and ready else None

    return run, list(await until(there))


async def test_a_run_and_its_children_know_each_other(http: httpx2.AsyncClient, cli: Run) -> None:
    run, (child,) = await family(http)
    shown = await waits(http, run, "children")
    (listed,) = shown["children"]
    assert (listed["id"], listed["instance"], listed["status"], listed["depth"]) == (child["id"], "inner", "waiting", 1)
    assert (shown["children_total"], shown["parent"]) == (1, None)
    above = (await get(http, f"/runs/{child['id']}"))["parent"]
    assert (above["id"], above["step"], above["status"]) == (run["id"], "inner", "waiting")
    reason = (await get(http, f"/runs/{run['id']}/explain"))["reasons"][0]
    assert f"child run {child['id']} (waiting, waits for signal)" in reason["message"]
    assert f"headrace runs explain {child['id']}" in reason["remedy"]
    assert child["id"] in (await cli("runs", "show", run["id"]))[1]
    assert f"{run['id']}, step inner" in (await cli("runs", "show", child["id"]))[1]
    assert child["id"] in (await cli("runs", "list", "--parent", run["id"]))[1]
    await act(http, child, "signal", name="go.on", data=7)
    assert (await over(http, run))["steps"][0]["output"] == {"said": 7}


async def test_children_are_listed_page_by_page_and_by_status(http: httpx2.AsyncClient) -> None:
    run, found = await family(http, items=3)
    first = await get(http, f"/runs?parent={run['id']}&limit=2")
    rest = await get(http, f"/runs?parent={run['id']}&limit=2&cursor={first['next_cursor']}")
    assert [each["id"] for each in first["items"] + rest["items"]] == [each["id"] for each in found]
    assert rest["next_cursor"] is None
    assert len((await get(http, f"/runs?parent={run['id']}&status=waiting"))["items"]) == 3
    assert (await get(http, f"/runs?parent={run['id']}&status=failed"))["items"] == []
    assert (await act(http, run, "cancel"))["status"] in {"waiting", "running", "cancelled"}
    assert (await over(http, run))["status"] == "cancelled"
    assert {(await over(http, each))["status"] for each in found} == {"cancelled"}


async def test_a_signal_is_sent_once_and_unknown_names_are_refused(http: httpx2.AsyncClient, cli: Run) -> None:
    run = await run_of(http, WAIT, {"id": "v", "wait": {"signal": "then"}, "depends_on": ["w"]}, wait=0)
    await waits(http, run, "signal")
    explained = (await get(http, f"/runs/{run['id']}/explain"))["reasons"][0]
    assert f"headrace runs signal {run['id']} go.on" in explained["remedy"]
    assert "it waits for: go.on, then" in await refusal(http, run, "signal", 422, name="gone")
    assert "`name`" in await refusal(http, run, "signal", 400)
    assert "takes no 'name'" in await refusal(http, run, "cancel", 400, name="go.on")
    key = {"Idempotency-Key": "the-same"}
    body = {"action": "signal", "name": "go.on", "data": {"n": 1}}
    for _ in range(2):
        assert (await http.post(f"/runs/{run['id']}", json=body, headers=key)).status_code == 200
    code, said, complaint = await cli("runs", "signal", run["id"], "then", "--data", '{"m": 2}', "--id", "s2")
    assert code == 0, said + complaint
    done = await over(http, run)
    assert [each["output"]["data"] for each in done["steps"]] == [{"n": 1}, {"m": 2}]
    assert done["steps"][0]["output"]["by"] == "admin"
    assert "is over" in await refusal(http, run, "signal", 409, name="go.on")


async def test_nobody_makes_a_child_by_hand(http: httpx2.AsyncClient, world: World) -> None:
    run = await run_of(http, step("echo"))
    answer = await http.post("/runs", json={"plan_digest": run["plan_digest"], "parent": {"run_id": run["id"]}})
    assert answer.status_code == 400
    assert "unknown field 'parent'" in answer.text
    assert await world.log.count("children", {}) == 0
