"""`headrace simulate` with tools of another machine: only their manifests are asked for, nothing is recorded there."""

import asyncio
import os
import sys
from pathlib import Path

from headrace import codec
from tests.api.kit import World, step, workflow


async def simulated(world: World, folder: Path, *arguments: str) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.cli.main", "simulate", *arguments, "-o", "json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=folder, env=environment,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_tools_that_are_not_here_are_those_of_a_running_stack_and_nothing_is_left_there(
    world: World, tmp_path: Path
) -> None:
    spec = tmp_path / "w.json"
    spec.write_bytes(codec.dumps(workflow("far", [step("echo", text="hello")])))
    remote = ("--url", world.url, "--token", world.tokens["viewer"])
    code, out, err = await simulated(world, tmp_path, str(spec), *remote)
    assert code == 0, err
    body = codec.loads(out)
    assert [(each["tool"], each["arguments"]) for each in body["effects"]] == [("echo", {"text": "hello"})]
    assert world.performed == []
    assert await world.log.rows("plans", {}) == []
    assert await world.log.rows("runs", {}) == []
    spec.write_bytes(codec.dumps(workflow("far", [step("nowhere")])))
    code, _, err = await simulated(world, tmp_path, str(spec), *remote)
    assert (code, "not installed here: nowhere" in err) == (2, True), err
    code, _, err = await simulated(world, tmp_path, str(spec))
    assert "not installed here: nowhere" in err
