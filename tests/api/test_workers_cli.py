"""`headrace workers`: what it prints, and with which code it ends."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from headrace.cli.main import invoke
from tests.api.kit import World, step, until, workflow
from tests.api.live_worker import begun, fresh, let_go, live

Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


@pytest.fixture
def workers(world: World, capsys: pytest.CaptureFixture[str]) -> Run:
    async def run(*arguments: str, role: str = "operator") -> tuple[int, str, str]:
        given = ["workers", *arguments, "--url", world.url, "--token", world.tokens[role]]
        code = await asyncio.to_thread(invoke, given)
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return code, told.out, told.err

    return run


async def test_workers_are_listed_shown_drained_resumed_and_rescued(
    workers: Run, world: World, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async with live(world, tmp_path) as one:
        await http.post("/runs", json={"spec": workflow("job", [step("waits")])})
        await until(lambda: begun)
        code, out, _ = await workers("health", one.id)
        assert code == 0
        assert f"{one.id} answered in " in out
        assert "40% nearly half" in out
        for arguments in ((), ("list",)):
            code, out, _ = await workers(*arguments)
            assert code == 0
            assert one.id in out
            assert "runs: 1 running, 0 queued" in out
        code, out, _ = await workers("show", one.id, "-o", "json")
        assert (code, json.loads(out)["holding"][0]["tool"]) == (0, "waits")
        code, out, _ = await workers("health")
        assert (code, out.splitlines()[0]) == (0, "healthy")
        assert (await workers("drain", one.id))[:2] == (0, f"{one.id}: draining\n")
        code, _, err = await workers("rescue", one.id)
        assert code == 1
        assert "error: conflict: " in err
        code, _, err = await workers("rescue", one.id, "--force", role="viewer")
        assert code == 1
        assert "error: forbidden: " in err
        code, out, _ = await workers("rescue", one.id, "--force")
        assert (code, out) == (0, f"{one.id}: 1 attempt was given up\n")
        assert (await workers("resume", one.id))[0] == 0
        let_go.set()
        assert await workers("cleanup") == (0, "no worker is stale, no pool unserved\n", "")
