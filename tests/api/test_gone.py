"""A run that was purged, or whose month is away, is told from one that never was: by HTTP and on the command line."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from headrace import ids
from headrace.log import moving
from headrace.log.months import Months
from headrace.log.postgres import PostgresLog
from headrace.log.rebuild import rebuild
from tests.api.kit import World, living, step, until, workflow
from tests.shared.log_months_kit import CLOCK, IN_IT, LONG_AGO, mixed
from tests.shared.log_runs_kit import OWNER

BELOW: Final = ("", "/events", "/effects", "/explain", "/logs", "/steps/one", "/steps/one/output", "/result", "/plan")
COMMANDS: Final = (("show",), ("events",), ("events", "-f"), ("logs",), ("effects",), ("explain",), ("result",))
WHY: Final = "no longer needed"
Old = tuple[World, str, str]


async def refusals(http: httpx2.AsyncClient, run_id: str) -> list[dict[str, Any]]:
    """Ask for everything of a run, and to act on it; gives the errors, each of which is a 404 of the type not_found."""
    told = [await http.get(f"/runs/{run_id}{path}") for path in BELOW]
    told += [
        await http.get(f"/runs/{run_id}/{path}", headers={"Accept": "text/event-stream"}) for path in ("events", "logs")
    ]
    told.append(await http.post(f"/runs/{run_id}", json={"action": "cancel"}))
    assert {answer.status_code for answer in told} == {404}
    errors = [answer.json()["error"] for answer in told]
    assert {error["type"] for error in errors} == {"not_found"}
    return errors


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


@pytest.fixture
async def old(postgres_url: str) -> AsyncIterator[Old]:
    """Give a world with a run of a month long ago, and the database's address."""
    log = await PostgresLog.open(postgres_url, CLOCK)
    try:
        sims, _ = await mixed(log)
        held = (await log.heartbeat(OWNER, {"runs": 1, "approvals": 1, "catalogue": 1}, lease_s=60.0)).tenures
        await log.release(OWNER, [(one.log, one.partition) for one in held])
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
            assert f"its month 2026-01 left the log at {told['since']}" in error["message"]
            assert "`headrace db restore 2026-01`" in error["message"]

        await moving.archive(months, LONG_AGO, file)
        for error in await refusals(http, run_id):
            told = error["details"]["month"]
            assert (told["state"], told["archive"][:7]) == ("dropped", "sha256:")
            assert f"its month 2026-01 was archived at {told['since']}" in error["message"]
            assert "`headrace db restore FILE`" in error["message"]

        await moving.restore(months, file)
        assert isinstance(world.log, PostgresLog)
        await rebuild(world.log, month=LONG_AGO)
        assert (await http.get(f"/runs/{run_id}")).status_code == 200
        never = ids.make(ids.RUN, IN_IT, b"never was")
        assert (await http.get(f"/runs/{never}")).json()["error"]["details"] == {}, "its month is here again"


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
