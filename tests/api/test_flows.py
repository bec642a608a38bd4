"""Keys that runs share, over HTTP: a line and who holds it up, priority, and a workspace that has too many runs."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from headrace.clock import SystemClock
from headrace.events.base import RateLimit
from headrace.log.postgres import PostgresLog
from tests.api.kit import World, living, step, until, workflow

Body = dict[str, Any]
KEYED = {"concurrency": {"key": "{{ inputs.env }}"}, "inputs": {"env": {"type": "string", "default": "prod"}}}


async def posted(http: httpx2.AsyncClient, status: int = 202, **body: Any) -> Body:
    response = await http.post("/runs", json=body)
    assert response.status_code == status, response.text
    return dict(response.json())


async def got(http: httpx2.AsyncClient, path: str) -> Body:
    response = await http.get(path)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def becomes(http: httpx2.AsyncClient, run: Body, status: str) -> Body:
    async def there() -> Body | None:
        body = await got(http, f"/runs/{run['id']}")
        return body if body["status"] == status else None

    return dict(await until(there))


async def in_line(http: httpx2.AsyncClient, run: Body) -> Body:
    async def waits() -> Body | None:
        body = await got(http, f"/runs/{run['id']}/explain")
        return body if "held by" in body["reasons"][0]["message"] else None

    return dict(await until(waits))


async def test_row_60_the_second_run_waits_as_queued_and_runs_after_the_first(
    world: World, http: httpx2.AsyncClient
) -> None:
    spec = workflow("deploy", [step("hold")], **KEYED)
    first = await posted(http, spec=spec)
    await becomes(http, first, "running")
    second = await posted(http, spec=spec)
    third = await posted(http, spec=spec, priority=10)
    explained = await in_line(http, second)
    assert explained["status"] == "queued"
    reason = explained["reasons"][0]
    assert reason["waiting_for"] == "concurrency"
    assert f"held by run {first['id']}" in reason["message"]
    assert "'prod' (one run at a time)" in reason["message"]
    assert f"headrace runs cancel {first['id']}" in reason["remedy"]
    await in_line(http, third)
    (known,) = (await got(http, "/flows?kind=concurrency"))["items"]
    assert (known["key"], known["limit"], known["held"], known["queued"]) == ("prod", 1, 1, 2)
    assert [one["run_id"] for one in known["holders"]] == [first["id"]]
    assert [one["run_id"] for one in known["queue"]] == [third["id"], second["id"]]
    assert (await got(http, f"/flows/{known['id']}"))["queue"][0]["priority"] == 10
    world.go.set()
    begun = [(await becomes(http, run, "succeeded"))["started_at"] for run in (first, third, second)]
    assert begun == sorted(begun)


async def test_keys_are_listed_once_each_though_some_are_used_while_their_list_is_read(
    http: httpx2.AsyncClient,
) -> None:
    spec = workflow("deploy", [step("hold")], **KEYED)
    for env in ("a", "b", "c"):
        await becomes(http, await posted(http, spec=spec, inputs={"env": env}), "running")
    order = [each["key"] for each in (await got(http, "/flows?kind=concurrency"))["items"]]
    assert set(order) == {"a", "b", "c"}
    first = await got(http, "/flows?kind=concurrency&limit=2")
    await in_line(http, await posted(http, spec=spec, inputs={"env": order[1]}))
    second = await got(http, f"/flows?kind=concurrency&limit=2&cursor={first['next_cursor']}")
    assert [[each["key"] for each in page["items"]] for page in (first, second)] == [order[:2], order[2:]]
    alone = first["next_cursor"].partition(".")[0]
    moved = await got(http, f"/flows?kind=concurrency&limit=2&cursor={alone}")
    assert moved["items"], "a cursor that an api of before gave: the id alone"


async def test_on_conflict_reject_says_so_in_the_run_and_names_the_holder(http: httpx2.AsyncClient) -> None:
    concurrency = {"key": "only", "on_conflict": "reject"}
    spec = workflow("only", [step("hold")], concurrency=concurrency)
    first = await posted(http, spec=spec)
    await becomes(http, first, "running")
    second = await becomes(http, await posted(http, spec=spec), "failed")
    assert second["error"]["type"] == "concurrency_limit"
    assert first["id"] in second["error"]["message"]


async def test_a_key_of_another_workspace_is_not_shown(world: World, http: httpx2.AsyncClient) -> None:
    run = await posted(http, spec=workflow("deploy", [step("hold")], **KEYED))
    await becomes(http, run, "running")
    (known,) = (await got(http, "/flows"))["items"]
    async with world.http("stranger") as other:
        assert (await got(other, "/flows"))["items"] == []
        assert (await other.get(f"/flows/{known['id']}")).status_code == 404


@pytest.mark.parametrize("priority", [101, -101, 1.5, "high"])
async def test_a_priority_that_is_none_is_refused_by_name(http: httpx2.AsyncClient, priority: object) -> None:
    body = await posted(http, 400, spec=workflow("w", [step("echo")]), priority=priority)
    assert "priority" in body["error"]["message"]


# --- a workspace with too many unfinished runs -------------------------------------------------------------------


@pytest.fixture
async def small(postgres_url: str) -> AsyncIterator[World]:
    clock = SystemClock()
    log = await PostgresLog.open(postgres_url, clock)
    try:
        async with living(log, clock, unfinished_runs_max=2) as made:
            yield made
    finally:
        await log.close()


async def test_a_workspace_with_too_many_unfinished_runs_is_told_which_limit_and_when_to_come_again(
    small: World,
) -> None:
    async with small.http() as http:
        digest = (await http.post("/plans", json={"spec": workflow("w", [step("hold")])})).json()["digest"]
        again = {"Idempotency-Key": "the-first"}
        first = await http.post("/runs", json={"plan_digest": digest}, headers=again)
        await posted(http, plan_digest=digest)
        refused = await http.post("/runs", json={"plan_digest": digest})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        error = refused.json()["error"]
        assert error["type"] == "rate_limited"
        assert "2 unfinished runs" in error["message"]
        assert "HEADRACE_UNFINISHED_RUNS_MAX" in error["message"]
        repeat = await http.post("/runs", json={"plan_digest": digest}, headers=again)
        assert repeat.json()["id"] == first.json()["id"]
        small.go.set()

        async def room() -> bool:
            return (await http.post("/runs", json={"plan_digest": digest})).status_code == 202

        await until(room)


# --- rate limits -------------------------------------------------------------------------------------------------


async def test_a_tool_shows_its_rate_limit_and_an_attempt_that_waits_for_it_says_until_when(
    world: World, http: httpx2.AsyncClient
) -> None:
    await world.announce_limited("slow", RateLimit(limit=1, period_s=3_600))
    assert (await got(http, "/tools/slow"))["rate_limit"] == "1/1h"
    assert (await got(http, "/tools/echo"))["rate_limit"] is None
    spec = workflow("slow", [step("slow")])
    await becomes(http, await posted(http, spec=spec), "succeeded")
    waiting = await becomes(http, await posted(http, spec=spec), "waiting")
    assert waiting["waiting_for"] == "rate_limit"

    async def told() -> Body | None:
        (reason,) = (await got(http, f"/runs/{waiting['id']}/explain"))["reasons"]
        return dict(reason) if reason["until"] else None

    reason = await until(told)
    assert "the rate limit of slow (1 in 3600 s)" in reason["message"]
    assert "number 1 of 1 in line" in reason["message"]
    (known,) = (await got(http, "/flows?kind=rate_limit"))["items"]
    assert (known["key"], known["held"], known["opens_at"]) == ("slow", 1, reason["until"])
    assert known["period_s"] == 3_600
