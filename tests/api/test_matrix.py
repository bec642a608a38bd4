"""Every route × every role, and × another workspace's objects: who may not is told so, and what is not theirs is not there."""

import re
from typing import Any, Final

import httpx2

from headrace import codec
from headrace_api.admission import OWN_TOKEN, PUBLIC, needed
from headrace_api.guarding import Door
from tests.api.kit import SIGN_OFF, World, step, until, workflow
from tests.api.test_guards import LATER, PARAMETER, walk

ROLES: Final = ("viewer", "approver", "operator", "admin")
DIGEST: Final = "sha256:" + "0" * 64
ARTIFACT: Final = "art_01m7yc606jfm9rr4stgyyzzjg1"
NOBODYS: Final[dict[str, str]] = {
    "run_id": "run_01m7yc606jfm9rr4stgyyzzjg1",
    "approval_id": "apr_01m7yc606jfm9rr4stgyyzzjg1",
    "digest": DIGEST,
    "step": "nothing",
    "worker_id": "wrk_nothing",
    "flow_id": "flw_01m7yc606jfm9rr4stgyyzzjg1",
    "token_id": "tok_01m7yc606jfm9rr4stgyyzzjg1",
    "name": "nothing",
}
"""What no workspace has, in the form of what one may have."""
BODIES: Final[dict[str, Any]] = {
    "act_on_run": {"action": "cancel"},
    "decide_approval": {"action": "approve", "digest": DIGEST},
    "put_workflow": None,
    "save_connection": None,
    "put_blob": None,
    "publish_trigger": None,
}
"""What is sent to a route; None where the path names what is made, so that there is nothing of others to meet."""


async def test_each_route_is_for_its_roles_and_no_others(world: World) -> None:
    odd: dict[str, int] = {}
    for role in ROLES:
        async with httpx2.AsyncClient(base_url=world.url, headers={"X-API-Key": world.tokens[role]}) as http:
            for door in walk(world):
                if door.path in PUBLIC or door.name in OWN_TOKEN or door.name.startswith(LATER):
                    continue
                body: Any = None if door.method == "GET" else {}
                code = (await http.request(door.method, PARAMETER.sub("x", door.path), json=body)).status_code
                if (code == 403) != (role not in needed(door.name, door.method)) or code == 401:
                    odd[f"{role} {door.method} {door.path}"] = code
    assert odd == {}


async def objects(world: World) -> dict[str, list[str]]:
    """Make one of everything in a workspace; gives what a path's parameter may name, by the parameter."""
    async with world.http() as http:
        spec = workflow("mine", [step("filed"), SIGN_OFF], concurrency={"key": "k", "limit": 1})
        assert (await http.post("/workflows", json={"spec": spec})).status_code == 201
        board = {
            "apiVersion": "headrace/v1", "kind": "Dashboard", "metadata": {"name": "board"},
            "spec": {"views": [{"id": "one", "type": "table", "title": "One", "source": {"tool": "echo", "with": {}}}]},
        }  # fmt: skip
        await http.post("/workflows", json={"spec": board})
        run = (await http.post("/runs", json={"workflow": "mine"})).json()
        await http.post("/runs", json={"workflow": "mine"})

        async def listed(path: str) -> Any:
            return (await http.get(path)).json()["items"]

        (approval,) = await until(lambda: listed(f"/approvals?run_id={run['id']}"))
        (artifact,) = await until(lambda: listed(f"/artifacts?run_id={run['id']}"))
        flow, *_ = await until(lambda: listed("/flows"))
        await http.put("/connections/mine", json={"integration": "github", "secrets": {"token": "env:T"}})
        body = b"a body"
        await world.log.put_blob(codec.sha256(body), body, "default")
        token = (await http.get("/me")).json()["id"]
    return {
        "run_id": [run["id"]],
        "approval_id": [approval["id"]],
        "digest": [run["plan_digest"], artifact["id"], codec.sha256(body)],
        "step": ["one", "sign_off"],
        "flow_id": [flow["id"]],
        "token_id": [token],
        "name": ["mine", "board", "echo", run["workflow"]],
    }


async def test_what_another_workspace_has_is_answered_as_what_nobody_has(world: World) -> None:
    mine = await objects(world)
    told: dict[str, tuple[Any, Any]] = {}
    async with httpx2.AsyncClient(base_url=world.url, headers={"X-API-Key": world.tokens["stranger"]}) as http:
        for door in walk(world):
            names = re.findall(r"\{(\w+)\}", door.path)
            if not names or "rest" in names or names == ["worker_id"]:  # workers serve all workspaces
                continue
            for own in mine[names[0]]:
                none = {"digest": ARTIFACT} if own.startswith("art_") else {}
                theirs, nobodys = await asked(http, door, {names[0]: own}), await asked(http, door, none)
                if theirs != nobodys:
                    told[f"{door.method} {door.path} {own}"] = (theirs, nobodys)
    assert told == {}, "\n".join(f"{k} {v}" for k, v in told.items())


async def asked(http: httpx2.AsyncClient, door: Door, named: dict[str, str]) -> Any:
    """Ask for something; gives the answer without the name that was asked for."""
    values = NOBODYS | named
    body = None if door.method == "GET" else BODIES.get(door.name, {})
    path = PARAMETER.sub(lambda found: values[found[0][1:-1]], door.path)
    response = await http.request(door.method, path, json=body)
    if response.is_success:
        return response.status_code, "let in"
    error = response.json()["error"]
    message = str((error["message"], error["details"]))
    for value in values.values():
        message = message.replace(value, "…")
    return response.status_code, message


async def test_what_another_workspace_has_is_not_met_by_naming_it_in_a_query_or_a_body(world: World) -> None:
    mine = await objects(world)
    run, approval = mine["run_id"][0], mine["approval_id"][0]
    plan, artifact, _ = mine["digest"]
    queries = [
        *(
            (f"/{path}", "cursor", own)
            for path, own in (("runs", run), ("approvals", approval), ("artifacts", artifact))
        ),
        *(("/runs", name, run) for name in ("parent", "retry_of")),
        *((path, "plan_digest", plan) for path in ("/runs", "/approvals")),
        *((path, "run_id", run) for path in ("/artifacts", "/approvals")),
    ]
    nobodys = {run: NOBODYS["run_id"], approval: NOBODYS["approval_id"], plan: DIGEST, artifact: ARTIFACT}
    async with world.http("stranger") as http:
        for path, name, own in queries:
            theirs, none = [(await http.get(f"{path}?{name}={each}")) for each in (own, nobodys[own])]
            assert theirs.status_code == none.status_code, (path, name)
            items = theirs.json().get("items")
            assert items == none.json().get("items"), (path, name)
            assert not items, (path, name)
        for path, body in (("/runs", {"plan_digest": plan}), ("/runs", {"workflow": "mine"})):
            assert (await http.post(path, json=body)).status_code == 404
        told = (await http.post("/runs/batch", json={"runs": [{"plan_digest": plan}]})).json()
        assert (told["created"], told["items"][0]["error"]["type"]) == (0, "not_found")
