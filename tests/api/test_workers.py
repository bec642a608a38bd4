"""Workers over HTTP: who lives, what people may ask of them, and what happens to work when they come and go."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from headrace import codec
from headrace.keys import POOL
from headrace.wire import Beat
from headrace_api import lacking
from headrace_api.asking import Asking
from tests.api.kit import SIGN_OFF, World, step, until, workflow
from tests.api.live_worker import begun, fresh, let_go, live, seen_cancelled

GRACE_S = 5.0
"""Less than CANCEL_GRACE_S, after which a run is over whatever its workers say."""


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


async def create(http: httpx2.AsyncClient, name: str) -> dict[str, Any]:
    answer = await http.post("/runs", json={"spec": workflow("job", [step(name)])})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def finished(http: httpx2.AsyncClient, run_id: str, status: str) -> dict[str, Any]:
    async def there() -> Any:
        run = (await http.get(f"/runs/{run_id}")).json()
        return run if run["status"] == status else None

    return dict(await until(there))


async def events(http: httpx2.AsyncClient, run_id: str) -> list[str]:
    return [each["type"] for each in (await http.get(f"/runs/{run_id}/events")).json()["items"]]


async def reasons(http: httpx2.AsyncClient, run_id: str) -> str:
    told = (await http.get(f"/runs/{run_id}/explain")).json()
    return " | ".join(f"{each['message']} -> {each['remedy']}" for each in told["reasons"])


async def test_a_worker_says_what_it_holds_and_how_far_it_is(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with live(world, tmp_path) as one:
        run = await create(http, "waits")
        await until(lambda: begun)
        answer = await http.post(f"/workers/{one.id}", json={"action": "health_check"})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["latency_ms"] >= 0
        (held,) = told["worker"]["holding"]
        assert (held["run_id"], held["tool"], held["begun"]) == (run["id"], "waits", True)
        assert (held["progress"], held["message"]) == (0.4, "nearly half")
        explained = await reasons(http, run["id"])
        assert f"step one is performed by worker {one.id}" in explained
        assert "40% nearly half" in explained
        async with world.http("stranger") as stranger:
            (item,) = [each for each in (await stranger.get("/workers")).json()["items"] if each["id"] == one.id]
            assert item["holding"][0]["run_id"] is None
            assert item["holding"][0]["message"] is None
        numbers = (await http.get("/workers/health")).json()
        assert (numbers["active_runs"], numbers["queued_runs"]) == (1, 0)
        assert numbers["pools"]["mine"]["workers"] == 1
        let_go.set()
        await finished(http, run["id"], "succeeded")
        await http.post(f"/workers/{one.id}", json={"action": "health_check"})
        listed = (await http.get("/workers")).json()
        assert listed["totals"]["done"] >= 1
        assert listed["failure_rate"] == 0.0


async def test_how_long_work_waited_and_how_many_workers_live_is_measured(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async def measured(name: str) -> float:
        lines = (await http.get("/metrics")).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    waited = 'headrace_schedule_to_start_seconds_count{pool="mine"}'
    before = await measured(waited)
    async with live(world, tmp_path):
        let_go.set()
        run = await create(http, "waits")
        await finished(http, run["id"], "succeeded")
        assert await measured(waited) == before + 1
        assert await measured("headrace_workers_alive") == 2


async def test_a_worker_that_does_not_answer_a_health_check_is_503_and_stale(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with live(world, tmp_path) as one:
        one.bus.disconnect()
        beat = Beat(worker=one.id, service="runner", host="here", pools=("mine",), slots=1)
        asking = asyncio.ensure_future(http.post(f"/workers/{one.id}", json={"action": "health_check"}))
        while not asking.done():  # it is heard of all the time, with beats that answer nothing
            world.bus.publish_presence(world.keys.pack(POOL + "mine", codec.encode(beat)))
            await asyncio.wait([asking], timeout=0.1)
        answer = await asking
        assert answer.status_code == 503
        assert answer.json()["error"]["details"]["status"] == "stale"
        one.bus.reconnect()


async def test_without_a_worker_a_run_is_accepted_and_starts_when_one_joins_row_17(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with live(world, tmp_path):
        pass
    let_go.set()
    run = await create(http, "waits")
    assert run["status"] == "queued"
    assert run["workers_active"] is False
    explained = await reasons(http, run["id"])
    assert "no worker serves the pool 'mine' (none alive since 20" in explained
    assert "headrace worker mine.py" in explained
    assert (await http.get(f"/runs/{run['id']}")).json()["status"] == "queued"
    async with live(world, tmp_path):
        await finished(http, run["id"], "succeeded")


@pytest.mark.parametrize("undone", [True, False])
async def test_a_pool_that_a_run_waits_for_shows_in_health_though_nobody_is_missed_there(
    world: World, http: httpx2.AsyncClient, tmp_path: Path, *, undone: bool
) -> None:
    async with live(world, tmp_path):
        pass
    assert (await http.post("/workers", json={"action": "cleanup"})).json()["pools"] == ["mine"]
    assert (await http.get("/workers/health")).json()["status"] == "healthy"
    steps = [{**step("echo", "did"), "compensate": {"tool": "waits"}}, {**step("broken", "bad"), "depends_on": ["did"]}]
    made = await http.post("/runs", json={"spec": workflow("job", steps if undone else [step("waits")])})
    run_id = made.json()["id"]

    async def missed() -> Any:
        health = (await http.get("/workers/health")).json()
        return health if health["status"] == "degraded" else None

    health = await until(missed)
    (problem,) = health["problems"]
    assert problem.startswith("no worker serves the pool 'mine' (none alive since 20")
    assert f"and run {run_id} waits for it: start one: `headrace worker mine.py`" in problem
    assert health["pools"]["mine"]["workers"] == 0
    assert "no worker serves the pool 'mine'" in await reasons(http, run_id)
    let_go.set()
    async with live(world, tmp_path):
        await finished(http, run_id, "failed" if undone else "succeeded")
        assert (await http.get("/workers/health")).json()["status"] == "healthy"


async def test_a_drained_worker_takes_nothing_and_lives_until_it_is_resumed(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with live(world, tmp_path) as one:
        answer = await http.post(f"/workers/{one.id}", json={"action": "drain"})
        assert answer.json()["worker"]["status"] == "draining", answer.text
        let_go.set()
        run = await create(http, "waits")
        assert run["workers_active"] is False
        assert "no worker takes work of the pool 'mine'" in await reasons(http, run["id"])
        assert begun == []
        answer = await http.post(f"/workers/{one.id}", json={"action": "resume"})
        assert answer.json()["worker"]["status"] == "idle", answer.text
        await finished(http, run["id"], "succeeded")


async def test_what_a_stopping_worker_cannot_finish_is_taken_up_by_another(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with live(world, tmp_path) as one:
        run = await create(http, "waits")
        await until(lambda: begun)
        async with live(world, tmp_path):
            await one.stop()
            await until(lambda: len(begun) == 2)
            assert world.desk.presence.worker(one.id) is None
            let_go.set()
            done = await finished(http, run["id"], "succeeded")
    assert done["steps"][0]["attempt"] == 2
    assert (await events(http, run["id"])).count("attempt.failed") == 1


async def test_a_stopping_worker_finishes_what_it_can(world: World, http: httpx2.AsyncClient, tmp_path: Path) -> None:
    async with live(world, tmp_path, drain_s=20.0) as one:
        run = await create(http, "waits")
        await until(lambda: begun)
        one.task.cancel()
        await until(lambda: one.worker.beat().draining)
        let_go.set()
        done = await finished(http, run["id"], "succeeded")
    assert done["steps"][0]["attempt"] == 1


async def approved_write(world: World, http: httpx2.AsyncClient) -> str:
    """Create a run that writes, and let somebody agree to it."""
    spec = workflow("write", [SIGN_OFF, {**step("writes"), "depends_on": ["sign_off"]}])
    run_id = str((await http.post("/runs", json={"spec": spec})).json()["id"])

    async def asked_for() -> Any:
        return (await http.get(f"/approvals?run_id={run_id}")).json()["items"]

    (approval,) = await until(asked_for)
    async with world.http("approver") as approver:
        told = {"action": "approve", "digest": approval["digest"]}
        assert (await approver.post(f"/approvals/{approval['id']}", json=told)).status_code == 200
    await until(lambda: begun)
    return run_id


async def test_a_stopping_worker_finishes_the_write_that_it_claimed(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with live(world, tmp_path, drain_s=20.0) as one:
        run_id = await approved_write(world, http)
        one.task.cancel()
        await until(lambda: one.worker.beat().draining)
        let_go.set()
        await finished(http, run_id, "succeeded")
    assert len(begun) == 1


async def test_a_claimed_write_that_a_stopping_worker_cannot_finish_is_not_done_again_but_asked_about(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with live(world, tmp_path) as one:
        run_id = await approved_write(world, http)
        async with live(world, tmp_path):
            await one.stop()
            run = await finished(http, run_id, "waiting")
            assert run["waiting_for"] == "input"
    assert len(begun) == 1


async def test_only_a_silent_worker_is_rescued_unless_forced_and_others_take_its_work(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with live(world, tmp_path) as one:
        run = await create(http, "waits")
        await until(lambda: begun)
        async with world.http("viewer") as viewer:
            refused = await viewer.post(f"/workers/{one.id}", json={"action": "rescue", "force": True})
            assert refused.status_code == 403
        refused = await http.post(f"/workers/{one.id}", json={"action": "rescue"})
        assert refused.status_code == 409, refused.text
        assert "it was heard" in refused.json()["error"]["message"]
        async with live(world, tmp_path):
            await http.post(f"/workers/{one.id}", json={"action": "drain"})
            await http.post(f"/workers/{one.id}", json={"action": "health_check"})
            answer = await http.post(f"/workers/{one.id}", json={"action": "rescue", "force": True})
            assert answer.json()["lost_attempts"] == 1, answer.text
            await until(lambda: len(begun) == 2)
            let_go.set()
            done = await finished(http, run["id"], "succeeded")
    assert done["steps"][0]["attempt"] == 2
    told = await events(http, run["id"])
    assert told.count("attempt.failed") == 1
    assert told.count("step.succeeded") == 1


@pytest.mark.parametrize("name", ["waits", "waits_in_thread", "waits_in_process"])
async def test_a_cancel_reaches_a_running_attempt(
    world: World, http: httpx2.AsyncClient, tmp_path: Path, name: str
) -> None:
    async with live(world, tmp_path) as one:
        run = await create(http, name)
        await until(lambda: begun)
        children = await until(lambda: children_of(world, run["id"])) if name == "waits_in_process" else []
        async with asyncio.timeout(GRACE_S):
            answer = await http.post(f"/runs/{run['id']}", json={"action": "cancel", "reason": "enough"})
            assert answer.status_code == 200, answer.text
            await until(lambda: not one.worker.beat().holding)
            await finished(http, run["id"], "cancelled")
            if name == "waits_in_thread":
                await until(lambda: seen_cancelled)
            await until(lambda: all(map(is_gone, children)))
        assert one.worker.beat().cancelled_total == 1


async def test_a_cancel_reaches_an_attempt_also_while_its_worker_drains(
    world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with live(world, tmp_path, drain_s=20.0) as one:
        run = await create(http, "waits")
        await until(lambda: begun)
        one.task.cancel()
        await until(lambda: one.worker.beat().draining)
        async with asyncio.timeout(GRACE_S):
            await http.post(f"/runs/{run['id']}", json={"action": "cancel"})
            await asyncio.wait({one.task})
            await finished(http, run["id"], "cancelled")
        assert one.worker.beat().cancelled_total == 1


async def children_of(world: World, run_id: str) -> list[str]:
    return [kept.line.text for kept in await world.log.read_lines(run_id) if kept.line.text.isdigit()]


def is_gone(process_id: str) -> bool:
    status = Path("/proc") / process_id / "status"
    return not status.exists() or "State:\tZ" in status.read_text()


async def test_unknown_workers_and_actions_are_refused_by_name(http: httpx2.AsyncClient) -> None:
    unknown = await http.post("/workers/wrk_nobody", json={"action": "drain"})
    assert unknown.status_code == 404
    assert "wrk_nobody" in unknown.json()["error"]["message"]
    wrong = await http.post("/workers/wrk_one", json={"action": "explode"})
    assert wrong.status_code == 400
    assert "health_check" in wrong.json()["error"]["message"]


@pytest.mark.parametrize("together", [1, 2, 3, 4, 9, 1_000])
async def test_the_steps_of_many_runs_are_read_whole_however_few_are_read_together(world: World, together: int) -> None:
    three = [{"id": name, "transform": 1} for name in ("a", "b", "c")]
    async with world.http() as http:
        made = [
            (await http.post("/runs", json={"spec": workflow("w", steps)}, headers={"Prefer": "wait=20"})).json()["id"]
            for steps in (three, three[:1], three)
        ]
    caller = await world.desk.tokens.caller(world.tokens["admin"], None)
    read = await lacking.steps_of_runs(Asking(world.desk, caller, "", 0.0), made, together)
    steps = {run_id: sorted(each["step"] for each in found) for run_id, found in read.items()}
    assert steps == dict(zip(made, (["a", "b", "c"], ["a"], ["a", "b", "c"]), strict=True))
