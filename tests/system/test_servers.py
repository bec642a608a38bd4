"""The embedded servers beneath `headrace up`: one that dies is started again, and a run goes on."""

from pathlib import Path

import psutil
import pytest

from tests.system.kit import Up, command_of, gone, running_up, until

pytestmark = [pytest.mark.system, pytest.mark.slow]
SERVERS = {"PostgreSQL": ("postgres", "-p"), "nats-server": ("nats-server", "nats.conf")}
LONG = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: long}
spec:
  steps:
    - id: before
      tool: file_glob
      with: {pattern: "*"}
    - id: pause
      depends_on: [before]
      wait: 2s
    - id: after
      depends_on: [pause]
      tool: file_glob
      with: {pattern: "*"}
"""


def server(up: Up, name: str) -> psutil.Process | None:
    """Find the process of an embedded server by its command, if it runs."""
    program, argument = SERVERS[name]
    for child in up.tree.children(recursive=True):
        command = command_of(child)
        if command and Path(command[0]).name == program and argument in " ".join(command[1:]):
            return child
    return None


async def test_a_server_that_is_killed_is_started_again_and_the_run_finishes(tmp_path: Path) -> None:
    with running_up(tmp_path, tmp_path) as up:
        await up.ready()
        for name in SERVERS:
            await killed_under_a_run(up, name)
        assert up.process.poll() is None


async def killed_under_a_run(up: Up, name: str) -> None:
    """Kill a server in the middle of a run, and see both it and the run go on."""
    async with up.client() as client:
        run = await client.create_run(spec=LONG)
        async for event in client.run_events(run.id):
            if event.event == "timer.started":
                break
        killed = server(up, name)
        assert killed is not None
        command = command_of(killed)
        killed.kill()
        again = await until(lambda: another(up, name, killed), f"{name} to be started again")
        assert command_of(again) == command, "on its port, over its data"
        assert up.said.count(f"{name} ended (SIGKILL); starting it again in 0") == 1
        *events, complete = [event async for event in client.run_events(run.id)]
    assert complete.data["status"] == "succeeded", complete.data
    assert [event.data["type"] for event in events].count("step.succeeded") == 3


def another(up: Up, name: str, before: psutil.Process) -> psutil.Process | None:
    """Give the process of a server once it is not the one from before."""
    found = server(up, name)
    return None if found is None or found.pid == before.pid else found


async def test_a_server_that_cannot_start_any_more_is_refused_with_its_last_words(tmp_path: Path) -> None:
    with running_up(tmp_path, tmp_path) as up:
        await up.ready()
        family = up.family()
        with (up.home / "postgres" / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write("no_such_setting = 'at all'\n")
        killed = server(up, "PostgreSQL")
        assert killed is not None
        killed.kill()
        assert await up.ended(60) == 1, up.said
        assert "PostgreSQL ended 6 times in a row: " in up.said
        assert 'unrecognized configuration parameter "no_such_setting"' in up.said
        assert str(up.home / "postgres" / "server.log") in up.said
        assert "Traceback" not in up.said
        assert gone(family) == []
