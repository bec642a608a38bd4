"""Server-sent events, through the client that users import."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx2
import pytest
from starlette.requests import Request

from headrace.client.client import Client
from headrace.client.streams import Event, parsed
from headrace.errors import NotFoundError, UnauthorizedError
from headrace_api import streaming
from headrace_api.asking import let_in
from tests.api.kit import World, step, until, workflow

HOUR_S = 3_600.0


async def collected(events: Any) -> list[Event]:
    return [event async for event in events]


async def test_events_come_once_in_order_and_end_with_complete_row_40(world: World) -> None:
    async with world.client() as client:
        run = await client.create_run(
            spec=workflow("w", [step("hold"), {**step("echo", "two"), "depends_on": ["one"]}])
        )
        async with asyncio.TaskGroup() as group:
            following = group.create_task(collected(client.run_events(run.id)))
            await until(lambda: "hold" in world.performed)
            world.go.set()
        events = following.result()
        stored = [item async for item in client.pages(f"/runs/{run.id}/events")]
    assert [event.id for event in events[:-1]] == [item["id"] for item in stored]
    assert [item["version"] for item in stored] == list(range(1, len(stored) + 1))
    assert events[0].event == "run.queued"
    assert (events[-1].event, events[-1].data["status"]) == ("complete", "succeeded")


async def test_a_stream_goes_on_after_the_last_event_id(world: World) -> None:
    async with world.client() as client:
        run = await client.create_run(spec=workflow("w", [step("echo")]), wait_s=20)
        whole = await collected(client.run_events(run.id))
        rest = await collected(client.run_events(run.id, after=whole[1].id))
    assert rest == whole[2:]


async def test_lines_come_once_in_order_and_end_with_complete_row_40(world: World) -> None:
    async with world.client() as client:
        run = await client.create_run(spec=workflow("w", [step("chatty")]))
        lines = await collected(client.run_lines(run.id))
        again = await collected(client.run_lines(run.id, after=lines[1].id))
    texts = [str(event.data.get("text")) for event in lines]
    assert texts[0].startswith("Run queued")
    assert texts[1:4] == ["line 1", "line 2", "line 3"]
    assert lines[-1].event == "complete"
    assert again == lines[2:]


async def test_a_stream_fills_what_the_feed_lost_from_the_log(world: World) -> None:
    async with world.client() as client:
        run = await client.create_run(spec=workflow("w", [step("hold")]))
        async with asyncio.TaskGroup() as group:
            following = group.create_task(collected(client.run_events(run.id)))
            await until(lambda: "hold" in world.performed)
            world.api_bus.disconnect()
            world.go.set()
        assert following.result()[-1].data["status"] == "succeeded"


@pytest.mark.parametrize("path", ["events", "logs"])
async def test_a_stream_ends_when_its_token_is_revoked_and_says_why(world: World, path: str) -> None:
    world.desk.tokens.cache_s = HOUR_S  # so that nothing but the feed can tell of it
    token = await world.mint("viewer", name="leaver")
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    async with world.client() as client, httpx2.AsyncClient(base_url=world.url, headers=headers) as leaver:
        run = await client.create_run(spec=workflow("w", [step("hold")]))
        await until(lambda: "hold" in world.performed)
        me = (await leaver.get("/api/me", headers={"Accept": "application/json"})).json()
        async with leaver.stream("GET", f"/api/runs/{run.id}/{path}") as streamed:
            told = parsed(streamed.aiter_lines())
            first = await anext(told)
            assert first.event in {"run.queued", "line"}
            await client.revoke_token(me["id"])
            rest = [event async for event in told]
        assert rest[-1].event == "refused"
        error = rest[-1].data["error"]
        assert (error["type"], error["request_id"]) == ("unauthorized", streamed.headers["x-request-id"])
        assert "revoked" in error["message"]
        assert (await client.run(run.id)).status == "running"


async def test_the_client_raises_what_its_stream_was_ended_with(world: World) -> None:
    token = await world.mint("viewer", name="leaver")
    async with world.client() as client, Client(world.url, token, patience_s=5.0) as leaver:
        run = await client.create_run(spec=workflow("w", [step("hold")]))
        me = await leaver.me()
        events = leaver.run_events(run.id)
        assert (await anext(events)).event == "run.queued"
        await client.revoke_token(me.id)
        with pytest.raises(UnauthorizedError, match="revoked"):
            await collected(events)


async def test_a_revocation_that_the_feed_lost_ends_the_stream_too(world: World) -> None:
    world.desk.tokens.cache_s = 0.0
    token = await world.mint("viewer", name="leaver")
    async with world.client() as client, Client(world.url, token, patience_s=5.0) as leaver:
        run = await client.create_run(spec=workflow("w", [step("hold")]))
        me = await leaver.me()
        events = leaver.run_events(run.id)
        assert (await anext(events)).event == "run.queued"
        world.api_bus.disconnect()
        await world.revoke(me.id)
        with pytest.raises(UnauthorizedError):
            await collected(events)


async def test_who_waits_for_a_run_is_sent_away_when_the_token_is_revoked(world: World) -> None:
    token = await world.mint("operator", name="leaver")
    async with world.client() as client, Client(world.url, token, patience_s=1.0) as leaver:
        me = await leaver.me()

        async def wait() -> None:
            with pytest.raises(UnauthorizedError, match="revoked"):
                await leaver.create_run(spec=workflow("w", [step("hold")]), wait_s=60)

        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            await until(lambda: "hold" in world.performed)
            await client.revoke_token(me.id)


async def test_accept_asks_for_a_stream_too(http: httpx2.AsyncClient) -> None:
    body = {"spec": workflow("w", [step("echo")])}
    run = (await http.post("/runs", json=body, headers={"Prefer": "wait=20"})).json()
    streamed = await http.get(f"/runs/{run['id']}/events", headers={"Accept": "text/event-stream"})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert "event: complete" in streamed.text
    assert (await http.get(f"/runs/{run['id']}/events?stream=false")).json()["items"]


@pytest.mark.parametrize("path", ["events", "logs"])
async def test_a_stream_ends_at_once_and_quietly_when_its_api_ends(world: World, path: str) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['admin']}", "Accept": "text/event-stream"}
    async with world.client() as client, httpx2.AsyncClient(base_url=world.url, headers=headers) as follower:
        run = await client.create_run(spec=workflow("w", [step("hold")]))
        await until(lambda: "hold" in world.performed)
        async with follower.stream("GET", f"/api/runs/{run.id}/{path}") as streamed:
            told = parsed(streamed.aiter_lines())
            assert (await anext(told)).event in {"run.queued", "line"}
            world.desk.end()
            rest = [event async for event in told]
        assert all(event.event not in {"refused", "complete", "end"} for event in rest)


async def lines_of(frames: AsyncIterator[Any]) -> AsyncIterator[str]:
    async for each in frames:
        for line in bytes(each).decode().split("\n")[:-1]:
            yield line


@pytest.mark.parametrize("stream", [streaming.events, streaming.lines])
async def test_a_stream_of_a_run_that_is_purged_meanwhile_ends_and_says_so(world: World, stream: Any) -> None:
    caller = await world.desk.tokens.caller(world.tokens["viewer"], None)
    asked = let_in(world.desk, caller, None, "", reading=True)
    request = Request({"type": "http", "headers": [], "state": {"request_id": "req_1"}})
    async with world.client() as client, world.http() as http:
        run = await client.create_run(spec=workflow("w", [step("echo")]), wait_s=20)
        response = streaming.respond(asked, request, stream(asked, run.id, 0 if stream is streaming.events else None))
        frames = cast("AsyncIterator[Any]", response.body_iterator)
        assert await anext(frames) == b": headrace\n\n"  # it has begun, and reads the run only now

        async def purged() -> bool:
            wanted = {"action": "purge", "reason": "too much"}
            return (await http.post(f"/runs/{run.id}", json=wanted)).status_code == 200

        await until(purged)
        told = [event async for event in parsed(lines_of(frames))]
    assert told[-1].event == "refused"
    error = told[-1].data["error"]
    assert (error["type"], error["request_id"]) == ("not_found", "req_1")
    assert error["details"]["purged"]["reason"] == "too much"
    assert "complete" not in {event.event for event in told}


async def test_the_client_raises_that_its_run_was_purged_and_asks_no_more(world: World) -> None:
    async with world.client() as client, world.http() as http:
        run = await client.create_run(spec=workflow("w", [step("echo")]), wait_s=20)

        async def purged() -> bool:
            return (await http.post(f"/runs/{run.id}", json={"action": "purge"})).status_code == 200

        await until(purged)
        with pytest.raises(NotFoundError, match=r"was purged at .* by admin"):
            await collected(client.run_events(run.id))


async def test_who_waits_for_a_run_is_told_to_come_again_when_its_api_ends(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['admin']}", "Prefer": "wait=60"}
    async with httpx2.AsyncClient(base_url=world.url, headers=headers, timeout=30) as follower:
        async with asyncio.TaskGroup() as group:
            asked = {"spec": workflow("w", [step("hold")])}
            waiting = group.create_task(follower.post("/api/runs", json=asked))
            await until(lambda: "hold" in world.performed)
            world.desk.end()
        answered = waiting.result()
        assert (answered.status_code, answered.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("sizes", "held_max", "pages_max"),
    [
        ([30_000] * 600, 8 * 30_000, 80),
        ([1_000_000] * 50, 8_000_000, 50),
        ([300] * 20 + [30_000] * 600, 128 * 30_000, 80),
        ([300] * 10_000, streaming.READ_MAX * 300, 24),
        ([0] * 10_000, 0, 24),
    ],
)
def test_who_follows_a_run_and_never_reads_holds_little_of_it(sizes: list[int], held_max: int, pages_max: int) -> None:
    pages, left, held = streaming.Pages(), list(sizes), []
    while left:
        page, left = left[: pages.rows], left[pages.rows :]
        held.append(sum(page))
        pages.had(page)
    assert max(held) <= held_max
    assert len(held) <= pages_max


async def test_a_long_run_of_large_events_is_followed_whole(world: World) -> None:
    fat = {"id": "each", "map": "{{ inputs.n }}", "tool": "echo", "with": {"value": "{{ inputs.text }}{{ item }}"}}
    spec = workflow("w", [fat], inputs={"n": {"type": "array"}, "text": {"type": "string"}})
    async with world.client() as client:
        run = await client.create_run(spec=spec, inputs={"n": list(range(60)), "text": "x" * 20_000}, wait_s=20)
        followed = await collected(client.run_events(run.id))
        stored = [item async for item in client.pages(f"/runs/{run.id}/events")]
    assert [event.id for event in followed[:-1]] == [item["id"] for item in stored]
    assert sum(len(str(item["data"])) for item in stored) > streaming.READ_BYTES * 4
