"""What an operator is told to look at first: what does not answer, what nobody owns, what was parked; else nothing."""

from collections.abc import AsyncIterator

import pytest

from headrace.log.port import Parked
from headrace.vocabulary import LOG_APPROVALS, LOG_PARTITIONS
from tests.api.test_workers_presence import Place

NO_WORKER = "no worker lives: runs stay queued until one joins"
FORMATS = dict.fromkeys(LOG_PARTITIONS, 1)


@pytest.fixture
async def owned() -> AsyncIterator[Place]:
    """Give an api over an empty log with an owner of everything, and a worker."""
    made = Place()
    await made.desk.log.heartbeat("one", FORMATS, lease_s=30)
    made.beat()
    yield made
    await made.http.aclose()


async def test_where_all_is_well_there_are_no_problems(owned: Place) -> None:
    told = await owned.get("/doctor")
    assert (told["healthy"], told["problems"]) == (True, [])
    assert told["checks"] == {"database": True, "bus": True, "streams": True}
    assert {row["owner"] for row in told["partitions"]} == {"one"}


async def test_partitions_without_an_owner_are_counted_by_their_log(owned: Place) -> None:
    await owned.desk.log.release("one", [(LOG_APPROVALS, 0), (LOG_APPROVALS, 2)])
    told = await owned.get("/doctor")
    assert (told["healthy"], told["problems"]) == (False, [f"2 partitions of {LOG_APPROVALS} have no owner"])
    owned.clock.ahead_s += 31
    everything = [f"{count} partitions of {log} have no owner" for log, count in LOG_PARTITIONS.items()]
    assert (await owned.get("/doctor"))["problems"] == everything, "their leases are over"


async def test_a_bus_that_is_away_and_workers_that_are_none_are_named(owned: Place) -> None:
    owned.clock.ahead_s += 61
    await owned.desk.log.heartbeat("one", FORMATS, lease_s=30)
    assert (await owned.get("/doctor"))["problems"] == [NO_WORKER]
    owned.beat()
    owned.bus.disconnect()
    told = await owned.get("/doctor")
    assert told["problems"] == ["bus does not answer"]
    assert told["checks"] == {"database": True, "bus": False, "streams": True}


async def test_what_is_parked_is_shown_with_its_beginning(owned: Place) -> None:
    await owned.desk.log.park(
        Parked(source="inbox", error="no such thing", body=b"\xff" * 10_000, at=1, stream_id="run_1")
    )
    told = await owned.get("/doctor")
    (kept,) = told["parked"]
    assert (kept["source"], kept["stream_id"], kept["error"]) == ("inbox", "run_1", "no such thing")
    assert kept["body_bytes"] == 10_000 > len(kept["body_preview"])
    (problem,) = told["problems"]
    assert problem.startswith("1 messages are parked")
