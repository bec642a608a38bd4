"""Lists of runs as they are shown: of a queued run that is performed as running, page by page, nothing twice, nothing lost."""

import random
from typing import Any

import pytest

from headrace import codec, ids
from headrace.decider import Row
from headrace.keys import POOL, Keys
from headrace.log.memory import MemoryLog
from headrace.log.port import Batch, NewEvent
from headrace.testing.virtual import VirtualClock, in_virtual_time
from headrace.vocabulary import LOG_RUNS
from headrace.wire import Beat, Holding
from headrace_api.performing import Performed, in_hands, with_performed
from headrace_api.presence import Presence

KEYS = Keys(master=b"k" * 32)
RUNS = 60
SINCE = 1_000


def run_id(number: int) -> str:
    return ids.derive(ids.RUN, 1_800_000_000_000 + number, 0, "paged", str(number))


async def runs(clock: VirtualClock, statuses: list[str]) -> MemoryLog:
    log = MemoryLog(clock)
    tenure = next(each for each in (await log.heartbeat("one", {LOG_RUNS: 1}, lease_s=9)).tenures if not each.partition)
    rows = [
        Row(
            "runs",
            {"id": run_id(number), "workspace": "default", "partition": 0, "status": status, "started_at": None},
        )
        for number, status in enumerate(statuses)
    ]
    events = [NewEvent(row.columns["id"], 1, "run.queued", 1, "default", 1, b"{}", b"{}") for row in rows]
    await log.append_events(
        [Batch(log=LOG_RUNS, partition=0, epoch=tenure.epoch, expected_position=0, events=events, rows=[*rows])]
    )
    return log


def held(attempt: str, of: str, *, step: str = "s", begun: bool = True, since: int = SINCE) -> Holding:
    return Holding(attempt_id=attempt, tool="t", since=since, run_id=of, step=step, begun=begun)


def beat(presence: Presence, *holding: Holding, worker: str = "wrk_1") -> None:
    told = Beat(worker=worker, service="s", host="h", pools=("p",), slots=9, holding=holding)
    presence.deliver(KEYS.pack(f"{POOL}p", codec.encode(told)))


@pytest.mark.parametrize(
    "wanted", [[], ["queued"], ["running"], ["running", "failed"], ["queued", "failed"], ["queued", "running"]]
)
@in_virtual_time
async def test_pages_of_runs_hold_each_that_is_shown_so_once_and_in_order(wanted: list[str]) -> None:
    clock, dice = VirtualClock(), random.Random(3)  # noqa: S311  (the same runs each time)
    statuses = [dice.choice(["queued", "queued", "running", "failed"]) for _ in range(RUNS)]
    log, presence = await runs(clock, statuses), Presence(clock, KEYS)
    performed = {number for number in range(RUNS) if dice.random() < 0.5}
    beat(presence, *(held(f"att_{number}", run_id(number), begun=number in performed) for number in range(RUNS)))
    shown = {
        run_id(number): "running" if status == "queued" and number in performed else status
        for number, status in enumerate(statuses)
    }
    expected = [one for one in sorted(shown) if not wanted or shown[one] in wanted]
    where: dict[str, Any] = {"workspace": "default", **({"status": wanted} if wanted else {})}
    for limit in (1, 3, 7, RUNS):
        for descending in (False, True):
            found: list[dict[str, Any]] = []
            after: str | None = None
            while rows := await Performed(presence).rows(log, where, descending=descending, after=after, limit=limit):
                assert len(rows) <= limit
                found += rows
                after = rows[-1]["id"]
            assert [row["id"] for row in found] == (expected[::-1] if descending else expected)
            assert {row["id"]: row["status"] for row in found} == {one: shown[one] for one in expected}


@in_virtual_time
async def test_a_run_is_performed_since_the_first_attempt_that_a_worker_is_heard_to_have_begun() -> None:
    clock = VirtualClock()
    presence, row = Presence(clock, KEYS), {"id": "run_1", "status": "queued", "started_at": None}
    assert Performed(presence).shown(row) == row
    beat(presence, held("att_0", "run_1", since=9))
    await clock.sleep(10.5)
    beat(presence, held("att_2", "run_1", since=70), worker="wrk_2")
    beat(presence, held("att_3", "run_1", since=50), held("att_4", "run_1", begun=False, since=20), worker="wrk_3")
    assert Performed(presence).shown(row) == {**row, "status": "running", "started_at": 50}
    assert Performed(presence).shown({**row, "started_at": 30})["started_at"] == 30
    assert Performed(presence).shown({**row, "status": "waiting"})["status"] == "waiting"


@in_virtual_time
async def test_steps_that_a_worker_has_begun_are_shown_as_running_and_items_of_a_map_without_a_worker() -> None:
    clock = VirtualClock()
    presence = Presence(clock, KEYS)
    blank = {"attempt_id": None, "worker": None, "started_at": None, "items_total": None, "detail": None}
    steps: list[dict[str, Any]] = [
        {**blank, "step": "over", "status": "succeeded"},
        {**blank, "step": "plain", "status": "queued"},
        {**blank, "step": "map", "status": "queued", "items_total": 3},
        {**blank, "step": "held", "status": "queued"},
        {**blank, "step": "again", "status": "queued", "detail": {"attempts": [{"attempt_id": "att_first"}]}},
        {**blank, "step": "waits", "status": "waiting"},
    ]
    beat(
        presence,
        held("att_over", "run_1", step="over"),
        held("att_plain", "run_1", step="plain"),
        held("att_map", "run_1", step="map"),
        held("att_held", "run_1", step="held", begun=False),
        held("att_first", "run_1", step="again"),
        held("att_waits", "run_1", step="waits"),
        held("att_other", "run_2", step="held"),
    )
    assert [each.holding.step for each in in_hands(presence, "run_1", steps)] == ["plain", "map", "held", "waits"]
    shown = with_performed(steps, presence, "run_1")
    assert [each["status"] for each in shown] == ["succeeded", "running", "running", "queued", "queued", "waiting"]
    assert [(each["worker"], each["attempt_id"], each["started_at"]) for each in shown[1:3]] == [
        ("wrk_1", "att_plain", SINCE),
        (None, None, SINCE),
    ]
    await clock.sleep(10.5)
    assert with_performed(steps, presence, "run_1") == steps
