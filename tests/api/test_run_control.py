"""Steering runs over HTTP and on the command line: pause, resume, settle, effects, retry and rerun with their lineage."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx2

from headrace import codec, ids
from headrace.events.catalogue import ToolManifest
from headrace.keys import OWNERS, POOL
from headrace.messages import AnnounceTool, ClaimWrite, LoseAttempt, Told
from headrace.vocabulary import LOG_CATALOGUE, LOG_RUNS
from headrace.wire import WorkOrder
from tests.api.kit import RUNNER, SIGN_OFF, WORKSPACE, World, step, until, workflow
from tests.api.test_cli import Run, cli
from tests.api.test_runs import Body, get, run_of

__all__ = ["cli"]
SENT = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"], "additionalProperties": False}
LATER = {"id": "later", "wait": {"duration": "1h"}}


async def act(http: httpx2.AsyncClient, run: Body, action: str, status: int = 200, **more: Any) -> Body:
    response = await http.post(f"/runs/{run['id']}", json={"action": action, **more})
    assert response.status_code == status, response.text
    return dict(response.json())


async def refusal(http: httpx2.AsyncClient, run: Body, action: str, status: int, **more: Any) -> str:
    return str((await act(http, run, action, status, **more))["error"]["message"])


async def waits(http: httpx2.AsyncClient, run: Body, waiting_for: str) -> Body:
    async def there() -> Body | None:
        body = await get(http, f"/runs/{run['id']}")
        return body if body["waiting_for"] == waiting_for else None

    return dict(await until(there))


async def over(http: httpx2.AsyncClient, run: Body) -> Body:
    async def there() -> Body | None:
        body = await get(http, f"/runs/{run['id']}")
        return body if body["status"] in {"succeeded", "failed", "cancelled"} else None

    return dict(await until(there))


async def announce_send(world: World) -> None:
    """Let a tool be known that acts on the world and must not do so twice."""
    manifest = ToolManifest(
        name="send", version="1", effect="notify", access="auto", idempotent=False, pool=RUNNER,
        input_schema={"type": "object", "additionalProperties": True}, output_schema=SENT, description="sends",
    )  # fmt: skip
    stream = ids.definition("tol", WORKSPACE, "send")
    told = Told(
        stream_id=stream, body=codec.raw(AnnounceTool(manifest=manifest, worker="wrk_one")), workspace=WORKSPACE
    )
    await world.bus.tell(LOG_CATALOGUE, 0, world.keys.pack(POOL + RUNNER, codec.encode(told)))

    async def known() -> bool:
        return await world.log.row("tools", {"id": stream}) is not None

    await until(known)


async def lose_while_sending(world: World, number: int = 1) -> WorkOrder:
    """Let a worker claim the newest order to send, and then be found dead."""

    def ordered() -> WorkOrder | None:
        found = [order for order in world.ordered if order.tool == "send"]
        return found[number - 1] if len(found) >= number else None

    order: WorkOrder = await until(ordered)
    partition = ids.partition_of(order.run_id)
    claim = ClaimWrite(
        run_id=order.run_id, step=order.step, attempt=order.attempt, attempt_id=order.attempt_id, nonce="n",
        arguments_digest=order.arguments_digest, worker="wrk_dead", index=order.index,
    )  # fmt: skip
    packed = world.keys.pack(POOL + RUNNER, codec.encode(claim))
    granted = codec.loads(world.keys.unpack(await world.bus.claim(LOG_RUNS, partition, packed, timeout_s=5))[1])
    assert granted["granted"], granted
    lost = LoseAttempt(step=order.step, attempt=order.attempt, attempt_id=order.attempt_id, worker="wrk_dead")
    told = Told(stream_id=order.run_id, body=codec.raw(lost), workspace=WORKSPACE)
    await world.bus.tell(LOG_RUNS, partition, world.keys.pack(OWNERS, codec.encode(told)))
    return order


async def test_a_run_is_paused_and_resumed_with_who_did_it(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, step("echo"), SIGN_OFF, wait=0)
    await waits(http, run, "approval")
    paused = await act(http, run, "pause", reason="a look first")
    assert (paused["status"], paused["waiting_for"]) == ("waiting", "resume")
    assert paused["waiting"][0]["message"] == "paused by admin (a look first)"
    explained = await get(http, f"/runs/{run['id']}/explain")
    assert f"headrace runs resume {run['id']}" in explained["reasons"][0]["remedy"]
    assert (await act(http, run, "resume"))["waiting_for"] == "approval"
    assert (await act(http, run, "cancel", reason="done"))["status"] == "cancelled"
    assert "is over: cancelled" in await refusal(http, run, "resume", 409)
    assert "it is cancelled" in await refusal(http, run, "pause", 409)


async def test_a_run_that_waits_for_its_start_is_started_paused_or_cancelled_row_10(http: httpx2.AsyncClient) -> None:
    spec = {"spec": workflow("w", [step("echo")], automation="human_approval")}
    run, other = [(await http.post("/runs", json=spec)).json() for _ in range(2)]
    assert (await waits(http, run, "start"))["steps"][0]["status"] == "pending"
    await act(http, run, "start")
    assert (await over(http, run))["status"] == "succeeded"
    assert (await act(http, other, "cancel"))["status"] == "cancelled"
    assert "is over" in await refusal(http, other, "start", 409)


async def test_a_viewer_steers_nothing(http: httpx2.AsyncClient, world: World) -> None:
    run = await run_of(http, LATER, wait=0)
    for role in ("viewer", "approver"):
        async with world.http(role) as other:
            for action in ("pause", "resume", "settle", "rerun", "cancel"):
                assert (await other.post(f"/runs/{run['id']}", json={"action": action})).status_code == 403


async def test_a_field_that_means_nothing_for_an_action_is_refused(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, LATER, wait=0)
    assert "takes no 'from'; it goes with: rerun" in await refusal(http, run, "retry", 400, **{"from": "later"})
    assert "settle needs the step and the answer" in await refusal(http, run, "settle", 400)
    assert "names no step" in await refusal(http, run, "settle", 400, step="a[", answer="happened")


async def test_a_step_that_never_began_has_no_attempt_when_its_run_is_cancelled(
    http: httpx2.AsyncClient, world: World
) -> None:
    await announce_send(world)
    never = [
        {"id": "after", "depends_on": ["one"], "transform": 1},
        {**step("echo", "all"), "depends_on": ["after"], "map": [1]},
    ]
    run = (await http.post("/runs", json={"spec": workflow("w", [step("send", to="ada"), *never])})).json()
    await act(http, run, "cancel")
    body = await over(http, run)
    shown = [(each["step"], each["kind"], each["status"], each["attempt"]) for each in body["steps"]]
    assert shown == [
        ("one", "tool", "cancelled", 1), ("after", "transform", "cancelled", 0), ("all", "map", "cancelled", 0),
    ]  # fmt: skip


async def test_a_lost_write_waits_for_a_person_who_says_that_it_happened(
    http: httpx2.AsyncClient, world: World
) -> None:
    await announce_send(world)
    run = await run_of(http, step("send", to="ada"), wait=0)
    order = await lose_while_sending(world)
    body = await waits(http, run, "input")
    evidence = body["waiting"][0]["evidence"]
    assert (evidence["worker"], evidence["idempotency_key"]) == ("wrk_dead", f"{run['id']}:one")
    assert evidence["claimed_at"].endswith("Z")
    assert evidence["arguments_digest"] == order.arguments_digest
    (reason,) = (await get(http, f"/runs/{run['id']}/explain"))["reasons"]  # nothing of workers: only people move it
    assert f"headrace runs settle {run['id']} one --happened" in reason["remedy"]
    (effect,) = (await get(http, f"/runs/{run['id']}/effects"))["items"]
    assert (effect["tool"], effect["effect"], effect["outcome"]) == ("send", "notify", "unknown")

    told = await refusal(http, run, "settle", 400, step="one", answer="happened", output={"id": "seven"})
    assert "send gives no such output" in told
    told = await refusal(http, run, "settle", 400, step="one", answer="happened")
    assert "say what it gave" in told
    assert "--output JSON" in told
    told = await refusal(http, run, "settle", 404, step="nix", answer="happened")
    assert "it has: one" in told
    body = await act(http, run, "settle", step="one", answer="happened", output={"id": 7}, reason="it is in the inbox")
    assert (body["status"], body["steps"][0]["output"]) == ("succeeded", {"id": 7})
    (effect,) = (await get(http, f"/runs/{run['id']}/effects"))["items"]
    assert effect["outcome"] == "done"
    assert (effect["settled"]["by"]["name"], effect["settled"]["reason"]) == ("admin", "it is in the inbox")
    assert "is over" in await refusal(http, run, "settle", 409, step="one", answer="give_up")


async def test_every_attempt_of_a_write_has_the_same_key_and_its_own_line_among_the_effects(
    http: httpx2.AsyncClient, world: World
) -> None:
    await announce_send(world)
    run = await run_of(http, step("send", to="ada"), wait=0)
    await lose_while_sending(world)
    await waits(http, run, "input")
    await act(http, run, "settle", step="one", answer="not-happened", reason="nothing arrived")
    await lose_while_sending(world, 2)
    await waits(http, run, "input")
    body = await act(http, run, "settle", step="one", answer="give_up")
    assert body["status"] == "failed"
    first, second = (await get(http, f"/runs/{run['id']}/effects"))["items"]
    assert first["idempotency_key"] == second["idempotency_key"] == f"{run['id']}:one"
    assert first["attempt_id"] != second["attempt_id"]
    assert (first["outcome"], second["outcome"]) == ("not_happened", "given_up")
    page = await get(http, f"/runs/{run['id']}/effects?limit=1")
    assert page["items"] == [first]
    page = await get(http, f"/runs/{run['id']}/effects?limit=1&cursor={page['next_cursor']}")
    assert (page["items"], page["next_cursor"]) == ([second], None)
    refused = await http.get(f"/runs/{run['id']}/effects?cursor=seven")
    assert refused.status_code == 400
    shown = await get(http, f"/runs/{run['id']}/steps/one")
    assert [(each["number"], each["status"]) for each in shown["attempts"]] == [(1, "lost"), (2, "lost")]
    assert shown["attempts"][0]["next_at"].endswith("Z")
    missing = await http.get(f"/runs/{run['id']}/steps/two")
    assert "it has: one" in missing.json()["error"]["message"]


async def test_a_run_that_waits_for_several_approvals_names_them_and_one_alone_is_decided_by_its_digest(
    world: World, http: httpx2.AsyncClient
) -> None:
    run = await run_of(http, SIGN_OFF, {**SIGN_OFF, "id": "second"}, wait=0)

    async def asked() -> Any:
        return len(await pending(http, run)) == 2

    await until(asked)
    both = await pending(http, run)
    told = await act(http, run, "approve", 400, digest=both[0]["digest"])
    assert told["error"]["type"] == "missing_argument"
    assert set(told["error"]["details"]["approvals"]) == {each["id"] for each in both}
    async with world.http("approver") as approver:
        given = {"action": "approve", "digest": both[0]["digest"]}
        assert (await approver.post(f"/approvals/{both[0]['id']}", json=given)).status_code == 200
        told = await act(approver, run, "approve", 400)
        assert told["error"]["details"]["approvals"] == [both[1]["id"]]
        await act(approver, run, "approve", digest=both[1]["digest"])
    assert (await over(http, run))["status"] == "succeeded"
    assert await pending(http, run) == []
    assert "not waiting for an approval" in await refusal(http, run, "approve", 409, digest=both[0]["digest"])


async def pending(http: httpx2.AsyncClient, run: Body) -> list[Body]:
    return list((await get(http, f"/approvals?status=pending&subject={run['id']}"))["items"])


async def test_a_run_that_only_reads_has_no_effects(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, step("echo"))
    assert (await get(http, f"/runs/{run['id']}/effects"))["items"] == []


def chain() -> list[Body]:
    """Three steps: the first two succeed, the last reads an input and fails."""
    first = step("echo", "first", value=1)
    second = {**step("echo", "second", value="{{ steps.first.output.said.value + 1 }}"), "map": "{{ [1, 2] }}"}
    last = {**step("broken", "last", told="{{ inputs.word }}"), "depends_on": ["second"]}
    return [first, second, last]


async def test_a_rerun_lets_results_stand_and_lineage_shows_both_ways(http: httpx2.AsyncClient, world: World) -> None:
    spec = workflow("w", chain(), inputs={"word": {"type": "string", "default": "a"}})
    run = (await http.post("/runs", json={"spec": spec}, headers={"Prefer": "wait=20"})).json()
    assert run["status"] == "failed"
    before = len(world.performed)
    again = await act(http, run, "rerun", 202, **{"from": "last"}, inputs={"word": "b"})
    assert (again["status"], again["attempt"], again["retry_of"], again["rerun_from"]) == (
        "queued", 2, run["id"], "last",
    )  # fmt: skip
    body = await over(http, again)
    assert body["inputs"] == {"word": "b"}
    assert world.performed[before:] == ["broken"]
    first, second, last = body["steps"]
    assert (first["status"], first["reused_from"], first["output"]) == ("succeeded", run["id"], {"said": {"value": 1}})
    assert second["output"] == [{"said": {"value": 2}}, {"said": {"value": 2}}]
    assert [each["kind"] for each in body["steps"]] == ["tool", "map", "tool"]
    whole = await http.get(f"/runs/{again['id']}/steps/second/output")
    assert whole.json() == second["output"]
    assert (last["status"], last["reused_from"]) == ("failed", None)
    retried = await act(http, run, "retry", 202)
    lineage = (await get(http, f"/runs/{run['id']}"))["retried_by"]
    assert {(each["id"], each["rerun_from"]) for each in lineage} == {(again["id"], "last"), (retried["id"], None)}
    assert (await get(http, f"/runs/{retried['id']}"))["retry_of"] == run["id"]


async def test_an_optional_input_that_was_left_out_is_left_out_again(http: httpx2.AsyncClient) -> None:
    spec = workflow("w", [step("broken", "last")], inputs={"word": {"type": "string", "required": False}})
    run = (await http.post("/runs", json={"spec": spec}, headers={"Prefer": "wait=20"})).json()
    assert run["inputs"] == {"word": None}
    for action, more in (("retry", {}), ("rerun", {"from": "last"})):
        again = await over(http, await act(http, run, action, 202, **more))
        assert (again["inputs"], again["retry_of"]) == ({"word": None}, run["id"])


async def test_a_rerun_that_cannot_stand_on_the_earlier_run_is_refused(http: httpx2.AsyncClient) -> None:
    running = await run_of(http, LATER, wait=0)
    assert "Can only rerun runs that are over" in await refusal(http, running, "rerun", 409, **{"from": "later"})
    spec = workflow("w", chain(), inputs={"word": {"type": "string", "default": "a"}})
    run = (await http.post("/runs", json={"spec": spec}, headers={"Prefer": "wait=20"})).json()
    assert "needs the step" in await refusal(http, run, "rerun", 400)
    assert "no step 'nope'" in await refusal(http, run, "rerun", 404, **{"from": "nope"})
    assert "unknown input 'wrod'" in await refusal(http, run, "rerun", 400, **{"from": "last"}, inputs={"wrod": "b"})


async def test_the_command_line_steers_runs(cli: Run, http: httpx2.AsyncClient, world: World) -> None:
    await announce_send(world)
    run = await run_of(http, step("send", to="ada"), wait=0)
    await lose_while_sending(world)
    await waits(http, run, "input")
    assert (await cli("runs", "pause", run["id"], "--reason", "lunch"))[
        1
    ] == f"{run['id']}: waiting, waits for resume\n"
    assert (await cli("runs", "resume", run["id"]))[0] == 0
    code, out, _ = await cli("runs", "show", run["id"])
    assert "waits for input: one: worker wrk_dead was lost while one acted" in out
    code, out, _ = await cli("runs", "effects", run["id"])
    assert (code, "unknown" in out, f"{run['id']}:one" in out) == (0, True, True)
    code, _, err = await cli("runs", "settle", run["id"], "one")
    assert (code, "exactly one of" in err) == (2, True)
    code, out, _ = await cli("runs", "settle", run["id"], "one", "--happened", "--output", '{"id": 7}')
    assert (code, out) == (0, f"{run['id']}: succeeded\n")
    code, out, _ = await cli("runs", "effects", run["id"], "-o", "json")
    assert json.loads(out)[0]["settled"]["answer"] == "happened"

    bad = await run_of(http, *chain()[:1], {**step("broken", "last"), "depends_on": ["first"]})
    code, _, err = await cli("runs", "rerun", bad["id"], "--from", "last", "--set", "word")
    assert (code, "--set 'word' must be NAME=VALUE" in err) == (2, True)
    code, out, _ = await cli("runs", "rerun", bad["id"], "--from", "last")
    assert f"(rerun of {bad['id']} from last)" in out
    again = out.partition(":")[0]
    await over(http, {"id": again})
    code, out, _ = await cli("runs", "show", again)
    assert f"stands from {bad['id']}" in out
    assert "failed attempts" in out
    rounds = {"id": "rounds", "loop": {"while": "iteration < 2", "steps": ["one"]}}
    looped = await run_of(http, rounds, {**step("broken"), "on_error": "continue"})
    _, out, _ = await cli("runs", "show", looped["id"])
    assert [name in out for name in ("one#1 ", "one#2 ")] == [True, True]
    code, out, _ = await cli("runs", "show", bad["id"])
    assert again in out
    assert (await cli("runs", "retry", bad["id"]))[0] == 0


async def _losing(world: World) -> None:
    await lose_while_sending(world)


async def test_a_run_that_is_followed_ends_with_code_3_and_what_to_type(cli: Run, world: World, tmp_path: Path) -> None:
    await announce_send(world)
    file = tmp_path / "w.json"
    file.write_text(json.dumps(workflow("w", [step("send", to="ada")])))
    async with asyncio.TaskGroup() as group:
        group.create_task(_losing(world))
        code, _, err = await cli("run", str(file))
    assert code == 3
    assert re.search(r"headrace runs settle run_\w+ one --happened", err)


async def test_the_client_settles_and_reruns(http: httpx2.AsyncClient, world: World) -> None:
    await announce_send(world)
    run = await run_of(http, step("send", to="ada"), wait=0)
    await lose_while_sending(world)
    await waits(http, run, "input")
    async with world.client() as client:
        settled = await client.settle(run["id"], "one", "happened", output={"id": 1})
        assert settled.status == "succeeded"
        (effect,) = await client.effects(run["id"])
        assert effect["outcome"] == "done"
        again = await client.rerun(run["id"], "one")
        assert (again.retry_of, again.rerun_from) == (run["id"], "one")
        assert (await client.run(run["id"])).retried_by[0].id == again.id
        assert (await client.step(run["id"], "one")).attempts == []


async def test_a_request_without_a_body_is_told_that_it_needs_one(http: httpx2.AsyncClient) -> None:
    run = await run_of(http, LATER, wait=0)
    for path in ("/runs", f"/runs/{run['id']}"):
        answer = await http.post(path)
        assert (answer.status_code, answer.json()["error"]["message"]) == (
            400,
            "the request needs a body: a JSON object",
        )
