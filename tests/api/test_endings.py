"""Who waits for a run's end is told by its owner how it ended: exactly what reading it then gives."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from headrace import codec
from headrace.bus.memory_broker import ARRIVES, LOST, Fate
from headrace.log.postgres import PostgresLog
from headrace_api import views
from tests.api.kit import BIG, SIGN_OFF, World, step, until, workflow
from tests.api.test_families import applied
from tests.api.test_run_control import act, waits
from tests.api.test_runs import Body, get

WAIT = {"Prefer": "wait=20"}
ENDINGS: dict[str, tuple[list[Body], Body]] = {
    "one step": ([step("echo", value=1)], {"outputs": {"said": "{{ steps.one.output }}"}}),
    "a chain": ([step("echo", "b"), {**step("echo", "a"), "depends_on": ["b"]}], {}),
    "a failure": ([step("broken"), {**step("echo", "two"), "depends_on": ["one"]}], {}),
    "a large output": ([step("big")], {}),
    "an output too large for its row": ([step("echo", text="{{ inputs.text }}")], {"inputs": {"text": "string"}}),
    "an artifact": ([step("filed")], {}),
    "a map": ([{**step("echo", value="{{ item }}"), "map": [1, 2, 3]}], {}),
    "no step for a worker": ([{"id": "one", "transform": 7}], {"outputs": {"n": "{{ steps.one.output }}"}}),
    "a branch": ([{**step("echo"), "when": "1 > 2"}, step("echo", "two")], {}),
    "a loop": ([{"id": "l", "loop": {"while": "iteration < 2", "steps": ["one"]}}, step("echo")], {}),
    "a child": ([{"id": "inner", "sub_workflow": "kid"}], {}),
}


class Unread:
    """A log of which runs and steps cannot be read."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def row(self, table: str, key: Mapping[str, Any]) -> Any:
        assert table not in {"runs", "steps"}, f"{table} was read"
        return await self._log.row(table, key)

    async def rows(self, table: str, where: Mapping[str, Any], **how: Any) -> Any:
        assert table not in {"runs", "steps"}, f"{table} was read"
        return await self._log.rows(table, where, **how)


async def read(log: Any, run_id: str) -> Body:
    """Give a run as reading it now shows it."""
    row, steps = (
        await log.row("runs", {"id": run_id}),
        await log.rows("steps", {"run_id": run_id}, order="step", limit=500),
    )
    return dict(codec.loads(codec.dumps(views.run_whole(row, steps))))


def overheard(world: World) -> list[str]:
    """Note the subjects of all that is published from now on."""
    said: list[str] = []

    def fate(subject: str, _: bytes) -> Fate:
        said.append(subject)
        return ARRIVES

    world.bus.broker.fate = fate
    return said


async def ended(http: httpx2.AsyncClient, steps: list[Body], more: Body, **asked: Any) -> Body:
    answer = await http.post("/runs", json={"spec": workflow("w", steps, **more), **asked}, headers=WAIT)
    assert answer.status_code == 200, answer.text
    assert answer.headers["location"] == f"/api/runs/{answer.json()['id']}"
    return dict(answer.json())


@pytest.mark.parametrize("kind", ENDINGS)
async def test_what_the_owner_tells_is_what_reading_gives(world: World, http: httpx2.AsyncClient, kind: str) -> None:
    steps, more = ENDINGS[kind]
    await applied(http, workflow("kid", [step("echo", value=2)]))
    asked = {"inputs": {"text": BIG[: 64 * 1024 - 4_000]}} if "inputs" in more else {}
    log, world.desk.log = world.desk.log, Unread(world.desk.log)
    told = await ended(http, steps, more, **asked, subject="s", labels={"a": "b"})
    world.desk.log = log
    assert told == await read(log, told["id"])
    shown = await get(http, f"/runs/{told['id']}")
    begun = {each["step"] for each in told["steps"]}
    shown["steps"] = [each for each in shown["steps"] if each["step"] in begun]
    assert {name: shown[name] for name in told if name != "inputs"} == {
        name: told[name] for name in told if name != "inputs"
    }


@pytest.mark.parametrize("how", ["cancel", "reject"])
async def test_a_run_that_people_end_is_told_alike(world: World, http: httpx2.AsyncClient, how: str) -> None:
    steps = [step("hold")] if how == "cancel" else [SIGN_OFF]
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ended(http, steps, {}))

        async def there() -> Body | None:
            found = (await get(http, "/runs"))["items"]
            return found[0] if found and found[0]["status"] in {"running", "waiting"} else None

        run = await until(there)
        if how == "cancel":
            await act(http, run, "cancel")
        else:
            await waits(http, run, "approval")
            async with world.http("approver") as other:
                (asked,) = (await get(other, "/approvals"))["items"]
                said = {"action": "reject", "digest": asked["digest"], "reason": "no"}
                assert (await other.post(f"/approvals/{asked['id']}", json=said)).status_code == 200
    told = asking.result()
    assert told["status"] == ("cancelled" if how == "cancel" else "failed")
    assert told == await read(world.log, told["id"])


async def test_what_is_not_told_is_read(world: World, http: httpx2.AsyncClient) -> None:
    lost: list[str] = []

    def fate(subject: str, _: bytes) -> Fate:
        if ".ends." not in subject:
            return ARRIVES
        lost.append(subject)
        return LOST

    world.bus.broker.fate = fate
    run = await ended(http, [step("echo", value=1)], {})
    assert run == await read(world.log, run["id"])
    assert len(lost) == 1


async def test_a_long_run_is_read(world: World, http: httpx2.AsyncClient) -> None:
    said = overheard(world)
    run = await ended(http, [{"id": f"s{number}", "transform": number} for number in range(70)], {})
    assert len(run["steps"]) == 70
    assert run == await read(world.log, run["id"])
    assert not [subject for subject in said if ".ends." in subject]


async def test_who_does_not_wait_is_not_told(world: World, http: httpx2.AsyncClient) -> None:
    said = overheard(world)
    made = (await http.post("/runs", json={"spec": workflow("w", [step("echo")])})).json()

    async def over() -> bool:
        return bool((await get(http, f"/runs/{made['id']}"))["status"] == "succeeded")

    await until(over)
    assert not [subject for subject in said if ".ends." in subject]


async def test_what_cannot_be_read_at_the_place_of_ends_is_dropped(world: World, http: httpx2.AsyncClient) -> None:
    assert isinstance(world.log, PostgresLog)
    place = world.desk.endings.place
    for data in (b"not JSON", b"{}", b'{"to":"x.1","stream_id":"run_1","layout":"other","rows":{}}'):
        world.bus.publish_end(place, data)
    assert (await ended(http, [step("echo", value=1)], {}))["status"] == "succeeded"
