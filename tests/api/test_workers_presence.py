"""What the api shows of workers as time goes by, on a clock of the test's own."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from headrace import codec
from headrace.bus.memory import MemoryBus
from headrace.clock import SystemClock
from headrace.events.base import Actor
from headrace.keys import COMMANDS, POOL, Keys
from headrace.log.memory import MemoryLog
from headrace.wire import Beat, Blocked, ForgetWorkers, Holding
from headrace_api.admission import Caller
from headrace_api.app import make_routes
from headrace_api.desk import Desk
from tests.api.kit import until

KEYS = Keys(master=b"k" * 32)


class Moved(SystemClock):
    """A clock that the test moves."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s

    def now_ms(self) -> int:
        return super().now_ms() + int(self.ahead_s * 1_000)


class Place:
    """An api over an empty log, whose presence lives on a clock that can be moved."""

    def __init__(self) -> None:
        self.clock = Moved()
        self.bus = MemoryBus(self.clock)
        self.desk = Desk(MemoryLog(self.clock), self.bus, KEYS, self.clock)
        app = make_routes(self.desk)
        caller = Caller(Actor(id="tok_1", name="ada", roles=("admin",)), "default")

        async def door(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("state", {}).update(caller=caller, request_id="req_1")
            await app(scope, receive, send)

        self.http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=door), base_url="http://headrace/api", timeout=5.0
        )

    def beat(self, worker: str = "wrk_1", pools: tuple[str, ...] = ("runner",), **more: Any) -> None:
        beat = Beat(worker=worker, service="runner", host="h", pools=pools, slots=2, **more)
        self.desk.presence.deliver(KEYS.pack(POOL + "runner", codec.encode(beat)))

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    yield made
    await made.http.aclose()


async def test_workers_are_active_until_61_s_after_the_last_beat_row_14(place: Place) -> None:
    assert (await place.get("/workers"))["workers_active"] is False
    place.beat()
    assert (await place.get("/workers"))["workers_active"] is True
    place.clock.ahead_s += 59
    assert (await place.get("/workers"))["workers_active"] is True
    place.clock.ahead_s += 2
    body = await place.get("/workers")
    assert body["workers_active"] is False
    assert [each["status"] for each in body["items"]] == ["stale"]
    health = await place.get("/workers/health")
    assert health["status"] == "down"
    place.beat()
    assert (await place.get("/workers"))["workers_active"] is True
    place.clock.ahead_s += 121
    assert (await place.get("/workers"))["items"] == []


async def test_health_is_degraded_while_nobody_takes_work_of_a_pool_that_was_served(place: Place) -> None:
    place.beat()
    assert (await place.get("/workers/health"))["status"] == "healthy"
    place.clock.ahead_s += 11
    health = await place.get("/workers/health")
    assert health["status"] == "degraded"
    assert health["problems"][0].startswith("no worker takes work of the pool 'runner' since 20")


async def test_a_pool_that_was_left_in_order_is_missed_until_it_is_served_or_given_up(place: Place) -> None:
    place.beat("wrk_1")
    place.beat("wrk_2", pools=("mine",))
    place.beat("wrk_2", pools=("mine",), leaving=True)
    health = await place.get("/workers/health")
    assert (health["status"], health["pools"]["mine"]["workers"]) == ("degraded", 0)
    assert "no worker takes work of the pool 'mine' since 20" in health["problems"][0]
    assert "`headrace workers cleanup`" in health["problems"][0]
    place.clock.ahead_s += 300
    place.beat("wrk_1")
    assert (await place.get("/workers/health"))["status"] == "degraded", "however long ago that was"
    answer = await place.http.post("/workers", json={"action": "cleanup"})
    assert answer.json() == {"action": "cleanup", "forgotten": [], "pools": ["mine"]}
    health = await place.get("/workers/health")
    assert (health["status"], list(health["pools"])) == ("healthy", ["runner"])
    place.beat("wrk_3", pools=("mine",))
    place.beat("wrk_3", pools=("mine",), leaving=True)
    assert (await place.get("/workers/health"))["status"] == "degraded", "it was served again"


async def test_a_worker_that_leaves_is_gone_at_once(place: Place) -> None:
    place.beat()
    place.beat(leaving=True)
    body = await place.get("/workers")
    assert (body["items"], body["workers_active"]) == ([], False)


async def test_cleanup_forgets_stale_workers_here_and_tells_everybody(place: Place) -> None:
    told: list[bytes] = []
    await place.bus.open_presence(told.append)
    place.beat("wrk_old")
    place.clock.ahead_s += 61
    place.beat("wrk_new")
    answer = await place.http.post("/workers", json={"action": "cleanup"})
    assert answer.json() == {"action": "cleanup", "forgotten": ["wrk_old"], "pools": []}
    assert [each["id"] for each in (await place.get("/workers"))["items"]] == ["wrk_new"]
    await until(lambda: told)
    label, body = KEYS.unpack(told[0])
    assert (label, codec.loads(body)) == (COMMANDS, {"type": "forget_workers", "workers": ["wrk_old"]})


async def test_nobody_forgets_a_worker_that_beats_whatever_is_said(place: Place) -> None:
    place.beat("wrk_new")
    word = codec.encode(ForgetWorkers(workers=("wrk_new",)))
    place.desk.presence.deliver(KEYS.pack(COMMANDS, word))
    assert place.desk.presence.worker("wrk_new") is not None
    place.clock.ahead_s += 61
    place.desk.presence.deliver(Keys(master=b"x" * 32).pack(COMMANDS, word))
    assert place.desk.presence.worker("wrk_new") is not None
    place.desk.presence.deliver(KEYS.pack(COMMANDS, word))
    assert place.desk.presence.worker("wrk_new") is None


async def test_a_blocked_worker_is_shown_with_its_tool_and_is_not_dead(place: Place) -> None:
    blocked = Blocked(since=place.clock.now_ms(), tool="sleepy", attempt_id="att_1")
    held = Holding(
        attempt_id="att_1", tool="sleepy", since=1, run_id="run_1", step="nap", workspace="default", begun=True
    )
    place.beat(blocked=blocked, holding=(held,), abandoned=("tool old att_0",), done_total=3, failed_total=1)
    (item,) = (await place.get("/workers"))["items"]
    assert (item["status"], item["blocked"]["tool"]) == ("processing", "sleepy")
    health = await place.get("/workers/health")
    assert (health["status"], health["totals"]["blocked"], health["failure_rate"]) == ("degraded", 1, 0.25)
    doctor = await place.get("/doctor")
    assert any("wrk_1 is blocked since" in problem and "sleepy" in problem for problem in doctor["problems"])
    assert any("tool old att_0" in problem for problem in doctor["problems"])
    assert doctor["workers_active"] is True
