"""One action on many runs: counted first, done in pages, each run by its own rules; purged runs are gone, their events stay."""

import asyncio
import sys
from typing import Any

import httpx2
import pytest

from headrace import codec
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import rebuild
from headrace.vocabulary import LOG_RUNS
from tests.api.kit import SIGN_OFF, World, step, until, workflow


async def made(http: httpx2.AsyncClient, count: int, steps: list[Any], **fields: Any) -> list[str]:
    ids = []
    for _ in range(count):
        answer = await http.post("/runs", json={"spec": workflow("w", steps), **fields})
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["id"])
    return ids


async def bulk(http: httpx2.AsyncClient, action: str, query: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = await http.post("/runs/bulk", json={"action": action, "query": query, **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def all_are(http: httpx2.AsyncClient, ids: list[str], status: str) -> None:
    async def so() -> bool:
        return all([(await http.get(f"/runs/{one}")).json()["status"] == status for one in ids])

    await until(so)


async def test_a_bulk_cancel_is_counted_first_and_leaves_alone_what_was_created_after(http: httpx2.AsyncClient) -> None:
    old = await made(http, 5, [SIGN_OFF], labels={"team": "a"})
    other = await made(http, 1, [SIGN_OFF], labels={"team": "b"})
    await all_are(http, [*old, *other], "waiting")
    query = {"labels": {"team": "a"}}
    preview = await bulk(http, "cancel", query, dry_run=True)
    assert (preview["count"], [each["id"] for each in preview["examples"]]) == (5, old)
    late = await made(http, 1, [SIGN_OFF], labels={"team": "a"})
    first = await bulk(http, "cancel", query, preview=preview["preview"], limit=3, reason="enough")
    assert (first["done"], first["refused"], first["next_cursor"]) == (3, [], old[2])
    second = await bulk(http, "cancel", query, preview=preview["preview"], cursor=first["next_cursor"])
    assert (second["done"], second["next_cursor"]) == (2, None)
    await all_are(http, old, "cancelled")
    again = await bulk(http, "cancel", query, preview=preview["preview"])
    assert (again["done"], again["already"], again["refused"]) == (0, 0, [])
    await all_are(http, [*other, *late], "waiting")


async def test_a_bulk_retry_makes_each_run_once_however_often_it_is_sent(http: httpx2.AsyncClient) -> None:
    failed = await made(http, 3, [step("broken")])
    await all_are(http, failed, "failed")
    preview = (await bulk(http, "retry", {"status": ["failed"]}, dry_run=True))["preview"]
    async with asyncio.TaskGroup() as group:
        sent = [group.create_task(bulk(http, "retry", {"status": ["failed"]}, preview=preview)) for _ in range(2)]
    one, two = (task.result() for task in sent)
    assert one["done"] + one["already"] == two["done"] + two["already"] == 3
    for run_id in failed:
        retries = (await http.get(f"/runs?retry_of={run_id}")).json()["items"]
        assert len(retries) == 1


async def test_a_preview_counts_what_the_action_can_be_done_to_and_says_what_is_left_alone(
    http: httpx2.AsyncClient,
) -> None:
    waiting = await made(http, 1, [SIGN_OFF])
    failed = await made(http, 3, [step("broken")])
    await all_are(http, waiting, "waiting")
    await all_are(http, failed, "failed")
    query = {"status": ["waiting", "failed"]}
    preview = await bulk(http, "cancel", query, dry_run=True)
    assert (preview["count"], preview["unfit"], [each["id"] for each in preview["examples"]]) == (1, 3, waiting)
    told = await bulk(http, "cancel", query, preview=preview["preview"])
    assert (told["done"], told["already"], told["refused"]) == (1, 0, [])
    assert (await http.post(f"/runs/{failed[1]}", json={"action": "retry"})).status_code == 202
    again = await bulk(http, "retry", {"workflow": "w"}, dry_run=True)
    assert again["count"] + again["already"] == 0  # documents of their own are runs of no workflow
    again = await bulk(http, "retry", {"status": ["failed", "waiting"], "older_than": "0.001s"}, dry_run=True)
    assert again["already"] == 1
    assert [each["id"] for each in again["examples"]][:2] == [failed[0], failed[2]]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"action": "cancel", "query": {}}, 400, "say which runs"),
        ({"action": "cancel"}, 400, "query: is required"),
        ({"action": "cancel", "query": {"workflow": "w"}}, 400, "dry_run first"),
        ({"action": "cancel", "query": {"workflow": "w"}, "preview": "1.abc"}, 409, "another question"),
        ({"action": "cancel", "query": {"older_than": "long"}, "dry_run": True}, 422, "not a duration"),
        ({"action": "cancel", "query": {"status": "nix"}, "dry_run": True}, 422, "status"),
        ({"action": "explode", "query": {"workflow": "w"}}, 422, "cancel"),
        ({"action": "cancel", "query": {"work": "w"}}, 422, "unknown field"),
        ({"action": "cancel", "query": {"labels": []}}, 422, "query.labels: must be an object"),
        ({"action": "cancel", "query": {"status": {}}}, 422, "query.status: must be an array"),
    ],
)
async def test_a_request_that_is_not_clear_is_refused(
    http: httpx2.AsyncClient, body: dict[str, Any], status: int, says: str
) -> None:
    answer = await http.post("/runs/bulk", json=body)
    assert says in answer.text
    assert answer.status_code in {status, 400}


async def test_operators_cancel_and_retry_only_admins_purge_viewers_nothing(world: World) -> None:
    for role, action, code in (
        ("operator", "cancel", 200),
        ("operator", "retry", 200),
        ("operator", "purge", 403),
        ("admin", "purge", 200),
        ("approver", "cancel", 403),
        ("viewer", "cancel", 403),
    ):
        async with world.http(role) as http:
            body = {"action": action, "query": {"older_than": "1d"}, "dry_run": True}
            assert (await http.post("/runs/bulk", json=body)).status_code == code, (role, action)


async def test_a_purge_goes_on_page_by_page_though_the_runs_of_a_page_are_gone(http: httpx2.AsyncClient) -> None:
    runs = await made(http, 5, [step("broken")], labels={"old": "yes"})
    await all_are(http, runs, "failed")
    query = {"labels": {"old": "yes"}}
    preview = (await bulk(http, "purge", query, dry_run=True))["preview"]
    done: list[int] = []
    cursor = None
    while not done or cursor is not None:
        page = await bulk(http, "purge", query, preview=preview, limit=2, **({"cursor": cursor} if cursor else {}))
        done.append(page["done"])
        cursor = page["next_cursor"]
    assert (done, (await bulk(http, "purge", query, dry_run=True))["count"]) == ([2, 2, 1], 0)
    told = {"action": "purge", "query": query, "preview": preview, "cursor": "junk"}
    refused = await http.post("/runs/bulk", json=told)
    assert (refused.status_code, refused.json()["error"]["message"].split(":")[0]) == (400, "cursor")


async def test_a_list_goes_on_after_a_run_that_was_purged_meanwhile(http: httpx2.AsyncClient) -> None:
    runs = [
        *await made(http, 3, [step("broken")], subject="s"),
        *await made(http, 1, [step("broken")], subject="s", labels={"old": "yes"}),
        *await made(http, 1, [step("broken")], subject="s"),
    ]
    await all_are(http, runs, "failed")
    first = (await http.get("/runs?subject=s&limit=2")).json()
    query = {"labels": {"old": "yes"}}
    preview = (await bulk(http, "purge", query, dry_run=True))["preview"]
    assert (await bulk(http, "purge", query, preview=preview))["done"] == 1
    assert (await http.get(f"/runs/{runs[3]}")).status_code == 404
    second = (await http.get(f"/runs?subject=s&limit=2&cursor={first['next_cursor']}")).json()
    third = (await http.get(f"/runs?subject=s&limit=2&cursor={second['next_cursor']}")).json()
    listed = [[each["id"] for each in page["items"]] for page in (first, second, third)]
    assert listed == [[runs[4], runs[3]], [runs[2], runs[1]], [runs[0]]]


async def test_a_purged_run_is_gone_from_every_list_its_events_stay_and_a_rebuild_changes_nothing(
    world: World, http: httpx2.AsyncClient
) -> None:
    (gone,) = await made(http, 1, [step("chatty"), step("filed", "two")], labels={"old": "yes"})
    (kept,) = await made(http, 1, [step("chatty"), step("filed", "two")])
    (waiting,) = await made(http, 1, [SIGN_OFF], labels={"old": "yes"})
    await all_are(http, [gone, kept], "succeeded")
    early = await http.post(f"/runs/{waiting}", json={"action": "purge"})
    assert (early.status_code, "cancel it first" in early.text) == (409, True)
    query = {"labels": {"old": "yes"}}
    preview = await bulk(http, "purge", query, dry_run=True)
    assert preview["count"] == 1
    told = await bulk(http, "purge", query, preview=preview["preview"], reason="no longer needed")
    assert (told["done"], told["refused"]) == (1, [])
    assert (await http.get(f"/runs/{gone}")).status_code == 404
    assert gone not in [each["id"] for each in (await http.get("/runs")).json()["items"]]
    for table in ("steps", "artifacts"):
        order = "step" if table == "steps" else "id"
        assert await world.log.rows(table, {"run_id": gone}, order=order) == []
        assert await world.log.rows(table, {"run_id": kept}, order=order) != []
    assert await world.log.read_lines(gone) == []
    last = (await world.log.stream(LOG_RUNS, gone))[-1]
    said = codec.loads(last.data)
    assert (last.type, said["reason"], said["by"]["name"]) == ("run.purged", "no longer needed", "admin")
    again = await http.post(f"/runs/{gone}", json={"action": "purge"})
    assert again.status_code == 404
    assert isinstance(world.log, PostgresLog)
    report = await rebuild(world.log)
    assert report.changed == 0, report.examples


async def test_the_command_line_asks_for_yes_in_a_pipe_and_then_says_what_became_of_each(world: World) -> None:
    async with world.http("operator") as http:
        runs = await made(http, 3, [SIGN_OFF], labels={"team": "a"})
        await all_are(http, runs, "waiting")

    async def command(*arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "headrace.cli.main", "runs", *arguments,
            "--url", world.url, "--token", world.tokens["operator"],
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    code, out, err = await command("cancel", "--label", "team=a")
    assert (code, "3 runs" in out, "--yes does it" in err, runs[0] in out) == (2, True, True, True)
    code, out, err = await command("cancel", "--label", "team=a", "--yes")
    assert (code, "3 cancelled, 0 were already, 0 refused" in out) == (0, True), err
    code, out, err = await command("retry", "--label", "team=a", "--yes", "-o", "json")
    assert (code, codec.loads(out)["done"]) == (0, 3), err
    code, out, err = await command("purge", "--label", "team=a", "--yes")
    assert (code, "forbidden" in err) == (1, True)
    code, _, err = await command("cancel", runs[0], "--workflow", "w")
    assert (code, "not both" in err, "->" in err) == (2, True, False)
