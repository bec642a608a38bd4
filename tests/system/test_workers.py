"""Workers as real processes, seen through the HTTP api: blocked, killed, stopped, missing."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.client.client import Client
from headrace.client.views import Run
from headrace.vocabulary import PRESENCE_LOST_S
from tests.system.kit import Command, Site, until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
POOL = "stubborn"
BLOCKED_S = PRESENCE_LOST_S + 4.0
"""Longer than a worker may be silent."""
TOOLS = '''
import asyncio
import time
from pathlib import Path

import headrace
from headrace.ports.tool import ToolContext


@headrace.tool
async def blocks(seconds: float) -> dict[str, str]:
    """Block the event loop by mistake."""
    time.sleep(seconds)
    return {"said": "awake"}


@headrace.tool
async def hangs(mark: str, context: ToolContext) -> dict[str, str]:
    """Hang until somebody made a file."""
    context.progress(0.25, "waiting")
    while not Path(mark).exists():
        await asyncio.sleep(0.05)
    return {"said": "done"}
'''


class Worker(Command):
    """`headrace worker stubborn.py` beside an installation."""

    def __init__(self, site: Site, folder: Path, name: str) -> None:
        file = folder / f"{POOL}.py"
        file.write_text(TOOLS)
        super().__init__(
            folder / name,
            "worker",
            str(file),
            HEADRACE_NATS_URL=site.nats.url,
            HEADRACE_SECRET_FILE=str(site.up.home / "secret"),
            HEADRACE_API_URL=site.up.url,
            HEADRACE_HEALTH_PORT="0",
            MAX_CONCURRENT="2",
        )
        self.id = ""

    async def joined(self, client: Client) -> None:
        """Wait until the api hears it."""

        async def look() -> bool:
            assert self.process.poll() is None, self.said
            known = [each["id"] for each in await workers(client) if each["id"] not in Worker.known]
            if known:
                self.id = known[0]
                Worker.known.add(self.id)
            return bool(known)

        await until(look, "the worker to be heard", 60)

    known: set[str] = set()
    """The workers of processes that joined before."""


async def workers(client: Client) -> list[dict[str, Any]]:
    """Give the workers of the pool."""
    return [each for each in (await client.get("/workers"))["items"] if POOL in each["pools"]]


@contextmanager
def worker(site: Site, folder: Path, name: str) -> Iterator[Worker]:
    """Start a worker, and make sure that it is gone afterwards."""
    made = Worker(site, folder, name)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()


async def begin(client: Client, tool: str, **arguments: Any) -> Run:
    """Create a run of one step."""
    spec = {
        "apiVersion": "headrace/v1",
        "kind": "Workflow",
        "metadata": {"name": f"job-{tool}"},
        "spec": {"steps": [{"id": "one", "tool": tool, "with": arguments}]},
    }
    return await client.create_run(spec=spec)


async def explained(client: Client, run: Run) -> str:
    """Give all reasons in one text."""
    return " | ".join(each["message"] for each in (await client.get(f"/runs/{run.id}/explain"))["reasons"])


async def is_held(client: Client, run: Run) -> bool:
    """Tell whether a worker says that it performs the run."""
    return any(held["run_id"] == run.id and held["begun"] for each in await workers(client) for held in each["holding"])


async def test_a_worker_blocked_for_longer_than_it_may_be_silent_is_named_and_not_lost(
    site: Site, tmp_path: Path
) -> None:
    with worker(site, tmp_path, "one") as one:
        async with site.up.client() as client:
            await one.joined(client)
            run = await begin(client, "blocks", seconds=BLOCKED_S)

            async def blocked() -> Any:
                return next((each["blocked"] for each in await workers(client) if each["blocked"]), None)

            found = await until(blocked, "the worker to be called blocked")
            assert found["tool"] == "blocks"
            assert "is blocked since" in await explained(client, run)
            assert any("is blocked since" in problem for problem in (await client.get("/doctor"))["problems"])
            answer = await client.post(f"/workers/{one.id}", {"action": "health_check"})
            assert answer["worker"]["blocked"]["tool"] == "blocks"
            async with asyncio.timeout(60):
                over = await client.until_over(run.id)
            assert (over.status, over.steps[0].attempt) == ("succeeded", 1)
            events = [event["type"] async for event in client.pages(f"/runs/{run.id}/events")]
            assert "attempt.failed" not in events
        assert "worker blocked" in one.said
        assert "held up by the tool blocks" in one.said
        assert "time.sleep(seconds)" in one.said
        assert "answers again" in one.said


async def test_work_of_a_killed_worker_is_taken_up_and_a_stopped_one_finishes_what_it_has_begun(
    site: Site, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    async with site.up.client() as client, AsyncExitStack() as stack:
        one = stack.enter_context(worker(site, tmp_path, "one"))
        await one.joined(client)
        two = stack.enter_context(worker(site, tmp_path, "two"))
        await two.joined(client)
        run = await begin(client, "hangs", mark=str(mark))
        await until(lambda: is_held(client, run), "the run to be performed")
        said = await explained(client, run)
        assert "25% waiting" in said
        holder = _holds(await workers(client), run)
        assert holder in said
        first, other = (one, two) if holder == one.id else (two, one)
        first.process.kill()

        async def taken_up() -> bool:
            return _holds(await workers(client), run) not in {"", holder}

        await until(taken_up, "the other worker to take the run up", 40)
        other.send(signal.SIGTERM)
        mark.write_text("go")
        async with asyncio.timeout(30):
            over = await client.until_over(run.id)
        assert (over.status, over.steps[0].attempt) == ("succeeded", 2)
        assert await other.ended() == 0, other.said

        async def left() -> bool:
            return other.id not in {each["id"] for each in await workers(client)}

        await until(left, "the stopped worker to be gone at once", 10)


async def test_a_run_waits_for_a_worker_says_so_and_starts_when_one_joins_row_17(site: Site, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.write_text("go")
    async with site.up.client() as client:
        with worker(site, tmp_path, "one") as one:
            await one.joined(client)
            one.send(signal.SIGTERM)
            assert await one.ended() == 0, one.said
        await until(
            lambda: nobody_serves(client), "the workers killed before to be taken for dead", 2 * PRESENCE_LOST_S
        )
        run = await begin(client, "hangs", mark=str(mark))
        assert run.status == "queued"
        assert run.workers_active is False
        said = await explained(client, run)
        assert f"no worker serves the pool '{POOL}' (none alive since" in said
        with worker(site, tmp_path, "two"):
            async with asyncio.timeout(60):
                over = await client.until_over(run.id)
        assert over.status == "succeeded"


async def nobody_serves(client: Client) -> bool:
    """Tell whether no worker takes work from the pool."""
    return bool((await client.get("/workers/health"))["pools"].get(POOL, {}).get("workers", 0) == 0)


def _holds(listed: list[dict[str, Any]], run: Run) -> str:
    """Give the id of the worker that holds a run."""
    held = [each["id"] for each in listed if any(held["run_id"] == run.id for held in each["holding"])]
    return held[-1] if held else ""
