"""Runs are found by the status that they are shown with: a queued run that is performed is running, and no queued one."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from headrace import codec
from headrace.clock import SystemClock
from headrace.keys import POOL
from headrace.log.postgres import PostgresLog
from headrace.wire import Beat, Holding
from tests.api.kit import World, living, step, until, workflow


@pytest.fixture
async def alone(postgres_url: str) -> AsyncIterator[World]:
    """Give an installation whose owners hear of no worker."""
    clock = SystemClock()
    log = await PostgresLog.open(postgres_url, clock)
    try:
        async with living(log, clock, beating=False) as made:
            yield made
    finally:
        await log.close()


def holds(world: World, *run_ids: str) -> None:
    """Let a worker say to the api that it performs runs."""
    holding = tuple(
        Holding(attempt_id=f"att_{number}", tool="hold", since=1, run_id=run_id, step="one", begun=True)
        for number, run_id in enumerate(run_ids)
    )
    beat = Beat(worker="wrk_1", service="runner", host="h", pools=("runner",), slots=9, holding=holding)
    world.desk.presence.deliver(world.keys.pack(f"{POOL}runner", codec.encode(beat)))


async def listed(http: httpx2.AsyncClient, **asked: Any) -> list[str]:
    """Page through a list; each page but the last is full, and each run is shown with a status that was asked for."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await http.get("/runs", params={"limit": 2, **asked, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [each["id"] for each in page["items"]]
        if "status" in asked:
            assert {each["status"] for each in page["items"]} <= set(asked["status"].split(","))
        if page["next_cursor"] is None:
            return found
        assert len(page["items"]) == 2
        cursor = {"cursor": page["next_cursor"]}


async def test_lists_bulk_previews_and_counts_agree_with_what_is_shown(alone: World) -> None:
    async with alone.http() as http:
        ids = []
        for _ in range(7):
            answer = await http.post("/runs", json={"spec": workflow("w", [step("hold")])})
            ids.append(answer.json()["id"])
        await until(lambda: len(alone.performed) == 7)
        assert await listed(http, status="queued") == ids[::-1]
        held = [ids[0], ids[3], ids[4], ids[6]]
        left = [run_id for run_id in ids if run_id not in held]
        holds(alone, *held)
        assert await listed(http, status="queued") == left[::-1]
        assert await listed(http, status="running") == held[::-1]
        assert await listed(http, status="waiting,running") == held[::-1]
        assert await listed(http, status="queued,running") == ids[::-1]
        assert await listed(http) == ids[::-1]
        for status, meant in (("queued", left), ("running", held)):
            body = {"action": "cancel", "query": {"status": [status]}, "dry_run": True}
            preview = (await http.post("/runs/bulk", json=body)).json()
            assert (preview["count"], [each["id"] for each in preview["examples"]]) == (len(meant), meant)
            assert {each["status"] for each in preview["examples"]} == {status}
        numbers = (await http.get("/workers")).json()
        assert (numbers["active_runs"], numbers["queued_runs"]) == (4, 3)
        body = {"action": "cancel", "query": {"status": ["queued"]}, "preview": None}
        body["preview"] = (await http.post("/runs/bulk", json={**body, "dry_run": True})).json()["preview"]
        assert (await http.post("/runs/bulk", json=body)).json()["done"] == 3
        assert await listed(http, status="running") == held[::-1]
