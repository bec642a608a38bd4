"""Server-sent events, through the client that users import."""

import asyncio
from typing import Any

import httpx2

from headrace.client.streams import Event
from tests.api.kit import World, step, until, workflow


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


async def test_accept_asks_for_a_stream_too(http: httpx2.AsyncClient) -> None:
    body = {"spec": workflow("w", [step("echo")])}
    run = (await http.post("/runs", json=body, headers={"Prefer": "wait=20"})).json()
    streamed = await http.get(f"/runs/{run['id']}/events", headers={"Accept": "text/event-stream"})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert "event: complete" in streamed.text
    assert (await http.get(f"/runs/{run['id']}/events?stream=false")).json()["items"]
