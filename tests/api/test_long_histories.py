"""Workflows of very many versions, and runs that ended long before their last event: nothing is cut off silently."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from headrace import codec, ids
from headrace.decider import Row
from headrace.events.base import Actor, ErrorInfo, Event
from headrace.events.catalogue import WorkflowApplied
from headrace.events.runs import LateResultKept, RunFailed, RunSucceeded
from headrace.log.port import Batch, NewEvent
from headrace.vocabulary import LOG_CATALOGUE, LOG_RUNS
from headrace_api import families, starting, streaming
from headrace_api.admission import Caller
from headrace_api.asking import Asking, let_in
from tests.api.test_workers_presence import Place

ANN = Actor(id="tok_ann", name="ann", roles=("operator",))
VERSIONS = 1_040
RUN = ids.derive(ids.RUN, 1_800_000_000_000, 0, "long")


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    yield made
    await made.http.aclose()


def asking(place: Place) -> Asking:
    return let_in(place.desk, Caller(ANN, "default"), None, "", reading=True)


async def append(place: Place, log: str, stream_id: str, events: Sequence[Event], rows: Sequence[Row] = ()) -> None:
    holdings = await place.desk.log.heartbeat("one", {log: 1}, lease_s=30)
    tenure = next(each for each in holdings.tenures if each.partition == ids.partition_of(stream_id))
    new = [
        NewEvent(stream_id, version, event.type_name(), event.SCHEMA, "default", version, codec.encode(event), b"{}")
        for version, event in enumerate(events, 1)
    ]
    batch = Batch(
        log=log, partition=tenure.partition, epoch=tenure.epoch, expected_position=0, events=new, rows=list(rows)
    )
    assert not (await place.desk.log.append_events([batch])).stale


async def applied(place: Place) -> None:
    stream = ids.definition(ids.WORKFLOW, "default", "w")
    events = [
        WorkflowApplied(
            name="w", kind="Workflow", version=n, spec=codec.raw({"n": n}), plan_digest=f"sha256:{n}", by=ANN
        )
        for n in range(1, VERSIONS + 1)
    ]
    columns = {"id": stream, "workspace": "default", "name": "w", "version": VERSIONS, "plan_digest": "sha256:newest"}
    await append(place, LOG_CATALOGUE, stream, events, [Row("workflows", columns)])


async def test_versions_of_a_workflow_come_in_pages_the_newest_first_however_many_there_are(place: Place) -> None:
    await applied(place)
    found: list[int] = []
    query = "?limit=100"
    while query:
        page = await place.get(f"/workflows/w/versions{query}")
        assert len(page["items"]) <= 100
        found += [each["version"] for each in page["items"]]
        query = f"?limit=100&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert found == list(range(VERSIONS, 0, -1))
    (newest,) = (await place.get("/workflows/w/versions?limit=1"))["items"]
    assert (newest["spec"], newest["plan_digest"]) == ({"n": VERSIONS}, f"sha256:{VERSIONS}")
    for cursor in ("x", "-1", "1.5", str(2**31)):
        refused = await place.http.get(f"/workflows/w/versions?cursor={cursor}")
        assert (refused.status_code, refused.json()["error"]["type"]) == (400, "validation_error")
    assert (await place.get("/workflows/w/versions?cursor=1"))["items"] == []


async def test_a_run_may_be_of_any_version_of_its_workflow(place: Place) -> None:
    await applied(place)
    for version in (1, 2, 1_000, VERSIONS - 1):
        found = await starting.of_workflow(asking(place), "w", version)
        assert found == starting.Source(f"sha256:{version}", "w", version)
    assert (await starting.of_workflow(asking(place), "w", VERSIONS)).plan_digest == "sha256:newest"
    for version in (-1, 0, VERSIONS + 1, 2**62):
        with pytest.raises(Exception, match=f"has no version {version}; the newest is {VERSIONS}"):
            await starting.of_workflow(asking(place), "w", version)


@pytest.mark.parametrize("late", [0, 1, 49, 50, 51, 400])
async def test_how_a_run_ended_is_found_behind_any_number_of_late_results(place: Place, late: int) -> None:
    after = [LateResultKept(step="m", attempt=1, attempt_id=f"att_{n}", status="succeeded") for n in range(late)]
    failed = RunFailed(error=ErrorInfo(type="timeout", message="it took too long"))
    await append(place, LOG_RUNS, RUN, [*after[:3], failed, *after])
    row = {"id": RUN, "status": "failed", "version": len(after[:3]) + 1 + late, "name": "w"}
    (line,) = await streaming.last_line(asking(place), row)
    assert (line["text"], line["level"]) == ("Run failed: it took too long", "error")


async def test_large_outputs_are_found_behind_any_number_of_late_results(place: Place) -> None:
    late = [LateResultKept(step="m", attempt=1, attempt_id=f"att_{n}", status="succeeded") for n in range(120)]
    ended = RunSucceeded(outputs=codec.raw({"text": "large"}))
    await append(place, LOG_RUNS, RUN, [*late[:3], ended, *late])
    row: dict[str, Any] = {
        **dict.fromkeys(("error_type", "started_at", "finished_at")),
        "id": RUN,
        "status": "succeeded",
        "version": 124,
        "kind": "Workflow",
        "detail": {},
    }
    assert (await starting.result(asking(place), row))["outputs"] == {"text": "large"}


async def test_children_that_are_waited_for_are_counted_whole_and_those_that_wait_themselves_come_first(
    place: Place,
) -> None:
    steps, shown = [f"s{number}" for number in range(7)], 20
    kids = {step: [ids.derive(ids.RUN, 1_800_000_000_000, 0, step, str(n)) for n in range(shown)] for step in steps}
    rows = [
        Row("runs", {"id": child, "workspace": "default", "status": "running", "waiting_for": None, "partition": 0})
        for found in kids.values()
        for child in found
    ]
    stuck, unknown, alone = kids["s6"][7], kids["s6"][3], kids["s5"][0]
    rows.append(Row("runs", {**rows[0].columns, "id": stuck, "status": "waiting", "waiting_for": "signal"}))
    rows = [row for row in rows if row.columns["id"] != unknown]
    await append(place, LOG_RUNS, RUN, [RunSucceeded(outputs=codec.raw(None))], rows)
    waits = [
        {"for": "children", "step": step, "children": found, "message": f"500 child runs: {', '.join(found)}, …"}
        for step, found in kids.items()
    ]
    waits.append({"for": "children", "step": "one", "children": [alone], "message": f"a child run: {alone}"})
    told = (await families.with_statuses(asking(place), {"detail": {"waiting": waits}}))["detail"]["waiting"]
    assert told[6]["children"][0] == stuck
    assert told[6]["message"].startswith(
        f"500 child runs: {stuck} (waiting, waits for signal); {kids['s6'][0]} (running)"
    )
    assert told[6]["message"].endswith(f"{kids['s6'][-1]} (running); …")
    assert [said for each in told for said in each["message"].split("; ") if "not on record" in said] == [
        f"{unknown} (not on record yet)"
    ]
    assert told[7]["message"] == f"child run {alone} (running)"
