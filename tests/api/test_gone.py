"""A run that was purged, or whose month is away, is told from one that never was: by HTTP and on the command line."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from headrace import codec, ids
from headrace.decider import Context, Rejection
from headrace.events.base import Actor
from headrace.events.steering import RunPurged
from headrace.log import moving
from headrace.log.months import Months
from headrace.log.port import Batch, NewEvent
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import rebuild
from headrace.messages import NoteOutcomeReceived, Wake
from headrace.vocabulary import LOG_APPROVALS
from headrace_gatekeeper.approvals.room import ApprovalRoom
from tests.api.kit import World, living, step, until, workflow
from tests.gatekeeper.test_approvals import DIGEST, opening
from tests.planner.runs_kit import Sim
from tests.shared.log_months_kit import CLOCK, IN_IT, LONG_AGO, done, mixed
from tests.shared.log_runs_kit import META, OWNER, write

BELOW: Final = (
    "", "/artifacts", "/events", "/effects", "/explain", "/logs", "/steps/one", "/steps/one/output", "/result", "/plan",
)  # fmt: skip
COMMANDS: Final = (("show",), ("events",), ("events", "-f"), ("logs",), ("effects",), ("explain",), ("result",))
WHY: Final = "no longer needed"
ADMIN: Final = Actor(id="tok_admin", name="Root", roles=("admin",))
Old = tuple[World, str, str]


async def refusals(http: httpx2.AsyncClient, run_id: str) -> list[dict[str, Any]]:
    """Ask for everything of a run, and to act on it; gives the errors, each of which is a 404 of the type not_found."""
    told = [await http.get(f"/runs/{run_id}{path}") for path in BELOW]
    told += [
        await http.get(f"/runs/{run_id}/{path}", headers={"Accept": "text/event-stream"}) for path in ("events", "logs")
    ]
    told.append(await http.get(f"/artifacts?run_id={run_id}"))
    told.append(await http.post(f"/runs/{run_id}", json={"action": "cancel"}))
    assert {answer.status_code for answer in told} == {404}
    errors = [answer.json()["error"] for answer in told]
    assert {error["type"] for error in errors} == {"not_found"}
    return errors


async def test_every_part_of_a_run_is_asked_for_here(http: httpx2.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    parts = {
        path.partition("{run_id}")[2] for path, ways in paths.items() if "/runs/{run_id}" in path and "get" in ways
    }
    assert parts == {path.replace("/one", "/{step}") for path in BELOW}


async def purged(http: httpx2.AsyncClient) -> str:
    run_id: str = (await http.post("/runs", json={"spec": workflow("w", [step("echo")])})).json()["id"]

    async def gone() -> bool:
        return (await http.post(f"/runs/{run_id}", json={"action": "purge", "reason": WHY})).status_code == 200

    await until(gone)
    return run_id


async def test_a_purged_run_is_told_as_purged_when_by_whom_and_why(http: httpx2.AsyncClient) -> None:
    run_id = await purged(http)
    for error in await refusals(http, run_id):
        said = error["details"]["purged"]
        assert (said["by"]["name"], said["reason"]) == ("admin", WHY)
        assert error["message"] == f"run {run_id!r} was purged at {said['at']} by admin: {WHY}"


async def test_what_another_workspace_purged_and_what_never_was_is_not_known(
    world: World, http: httpx2.AsyncClient
) -> None:
    run_id = await purged(http)
    async with world.http("stranger") as other:
        for error in await refusals(other, run_id):
            assert (error["message"], error["details"]) == (f"there is no run {run_id!r}", {})
    never = ids.make(ids.RUN, CLOCK.now_ms(), b"never was")
    beyond_the_calendar = "run_" + "7" + "z" * 25
    for unknown in (never, beyond_the_calendar, "nonsense", "no%00thing_" + never.removeprefix("run_")):
        assert {error["message"].partition(" run ")[0] for error in await refusals(http, unknown)} == {"there is no"}
        assert not any(error["details"] for error in await refusals(http, unknown))


async def released(log: PostgresLog) -> None:
    """Give back what was held to write old histories."""
    held = (await log.heartbeat(OWNER, {"runs": 1, "approvals": 1, "catalogue": 1}, lease_s=60.0)).tenures
    await log.release(OWNER, [(one.log, one.partition) for one in held])


@pytest.fixture
async def old(postgres_url: str) -> AsyncIterator[Old]:
    """Give a world with a run of a month long ago, and the database's address."""
    log = await PostgresLog.open(postgres_url, CLOCK)
    try:
        sims, _ = await mixed(log)
        await released(log)
        async with living(log, CLOCK) as world:
            yield world, sims[0].id, postgres_url
    finally:
        await log.close()


async def test_a_run_of_a_month_that_is_away_is_told_with_what_brings_it_back(old: Old, tmp_path: Path) -> None:
    world, run_id, url = old
    file = tmp_path / "january.zip"
    async with world.http() as http, Months.keeping(url) as months:
        assert (await http.get(f"/runs/{run_id}")).status_code == 200
        assert await months.detach(LONG_AGO) == []
        for error in await refusals(http, run_id):
            told = error["details"]["month"]
            assert (told["month"], told["state"], told["archive"]) == ("2026-01", "detached", None)
            assert told["fate"] == "away"
            assert f"run '{run_id}' is not in the log: its month 2026-01 left the log at" in error["message"]
            assert "`headrace db restore 2026-01`" in error["message"]
        await others_are_not_known(world, http, run_id)

        await moving.archive(months, LONG_AGO, file)
        for error in await refusals(http, run_id):
            told = error["details"]["month"]
            assert (told["state"], told["archive"][:7], told["fate"]) == ("dropped", "sha256:", "away")
            assert f"run '{run_id}' is not in the log: its month 2026-01 was archived at" in error["message"]
            assert "`headrace db restore FILE`" in error["message"]
        await others_are_not_known(world, http, run_id)

        await moving.restore(months, file)
        assert isinstance(world.log, PostgresLog)
        await rebuild(world.log, month=LONG_AGO)
        assert (await http.get(f"/runs/{run_id}")).status_code == 200
        never = ids.make(ids.RUN, IN_IT, b"never was")
        assert (await http.get(f"/runs/{never}")).json()["error"]["details"] == {}, "its month is here again"


async def others_are_not_known(world: World, http: httpx2.AsyncClient, run_id: str) -> None:
    """See that of a month that is away only what was in it is told, and only to its own workspace."""
    never = ids.make(ids.RUN, IN_IT, b"never was")
    for unknown, kind in ((never, "runs"), (ids.make(ids.APPROVAL, IN_IT, b"never was"), "approvals")):
        error = (await http.get(f"/{kind}/{unknown}")).json()["error"]
        assert (error["type"], error["details"]) == ("not_found", {}), error
    async with world.http("stranger") as other:
        error = (await other.get(f"/runs/{run_id}")).json()["error"]
        assert (error["message"], error["details"]) == (f"there is no run {run_id!r}", {})


def purged_long_ago(number: int) -> Sim:
    """Give a run of a month long ago that was purged then."""
    run = done(IN_IT + number, number)
    event = RunPurged(by=ADMIN, reason=WHY)
    run.run = run.room.evolve(run.run, event, run.now)
    run.history.append((event, run.now))
    return run


async def asked_long_ago(log: PostgresLog) -> str:
    """Write an approval of a month long ago that was decided then; gives its id."""
    room, approval_id = ApprovalRoom(), ids.make(ids.APPROVAL, IN_IT, b"asked", 1)
    state, history = room.initial(approval_id, "default"), []
    for command in (opening(expires_at=IN_IT + 1_000), Wake(), NoteOutcomeReceived()):
        context = Context(now=IN_IT + 2_000, stream_id=approval_id, workspace="default")
        made = room.decide(state, command, context)
        assert not isinstance(made, Rejection), made
        for event in made:
            state = room.evolve(state, event, IN_IT)
            history.append(event)
    held = (await log.heartbeat(OWNER, {"runs": 1, "approvals": 1, "catalogue": 1}, lease_s=60.0)).tenures
    own = next(one for one in held if (one.log, one.partition) == (LOG_APPROVALS, 1))
    events = [
        NewEvent(approval_id, version, event.type_name(), event.SCHEMA, "default", IN_IT, codec.encode(event), META)
        for version, event in enumerate(history, 1)
    ]
    batch = Batch(
        log=LOG_APPROVALS, partition=1, epoch=own.epoch, expected_position=own.last_position, events=events,
        rows=list(room.rows(state, None)),
    )  # fmt: skip
    assert not (await log.append_events([batch])).stale
    return approval_id


async def test_an_approval_of_a_month_that_is_away_is_told_with_what_brings_it_back(
    postgres_url: str, tmp_path: Path
) -> None:
    log = await PostgresLog.open(postgres_url, CLOCK)
    try:
        approval_id, run = await asked_long_ago(log), purged_long_ago(7)
        await write(log, run)
        await released(log)
        async with living(log, CLOCK) as world, world.http() as http, Months.keeping(postgres_url) as months:
            assert (await http.get(f"/approvals/{approval_id}")).json()["status"] == "expired"
            assert (await http.get(f"/runs/{run.id}")).json()["error"]["details"]["purged"]["reason"] == WHY
            assert await months.detach(LONG_AGO) == []
            await approval_is_away(http, approval_id, "`headrace db restore 2026-01`")
            await purged_before(http, run.id, "left the log at")
            await moving.archive(months, LONG_AGO, tmp_path / "january.zip")
            await approval_is_away(http, approval_id, "`headrace db restore FILE`")
            await purged_before(http, run.id, "was archived at")
            async with world.http("stranger") as other:
                assert (await other.get(f"/approvals/{approval_id}")).json()["error"]["details"] == {}
    finally:
        await log.close()


async def approval_is_away(http: httpx2.AsyncClient, approval_id: str, back: str) -> None:
    decision = {"action": "approve", "digest": DIGEST}
    told = [await http.get(f"/approvals/{approval_id}"), await http.post(f"/approvals/{approval_id}", json=decision)]
    assert {answer.status_code for answer in told} == {404}
    many = {"decisions": [{"approval_id": approval_id, **decision}]}
    batch = (await http.post("/approvals/batch", json=many)).json()["items"][0]
    for error in (*(answer.json()["error"] for answer in told), batch["error"]):
        assert error["message"].startswith(f"approval '{approval_id}' is not in the log: its month 2026-01 "), error
        assert back in error["message"]
        assert error["details"]["month"]["fate"] == "away"


async def purged_before(http: httpx2.AsyncClient, run_id: str, how: str) -> None:
    error = (await http.get(f"/runs/{run_id}")).json()["error"]
    assert error["message"].startswith(f"run '{run_id}' was purged before its month 2026-01 {how}"), error
    assert error["details"]["month"]["fate"] == "purged"


async def test_of_a_month_archived_before_marks_were_kept_nobody_says_for_certain(old: Old, tmp_path: Path) -> None:
    world, run_id, url = old
    async with world.http() as http, Months.keeping(url) as months:
        assert await months.detach(LONG_AGO) == []
        await moving.archive(months, LONG_AGO, tmp_path / "january.zip")
        await months.connection.execute("delete from headrace.departed")
        for error in await refusals(http, run_id):
            assert f"there is no run '{run_id}': its month 2026-01 was archived at" in error["message"]
            assert "; if this was one of then, `headrace db restore FILE` brings it back" in error["message"]
            assert error["details"]["month"]["fate"] is None


async def test_the_command_line_says_that_a_run_was_purged(world: World, http: httpx2.AsyncClient) -> None:
    run_id = await purged(http)
    for command, *options in COMMANDS:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "headrace.cli.main", "runs", command, run_id, *options,
            "--url", world.url, "--token", world.tokens["viewer"],
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert (process.returncode, out) == (1, b""), (command, out, err)
        assert f"not_found: run '{run_id}' was purged at " in err.decode(), command
        assert f"by admin: {WHY}" in err.decode(), command
