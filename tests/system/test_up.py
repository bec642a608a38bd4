"""`headrace up` from outside: ready, refusing what it must, keeping data over a stop, and giving each only its own."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.dev.embedded import free_port
from tests.system.kit import SERVICES, Command, Up, gone, running_up, until

pytestmark = [pytest.mark.system, pytest.mark.slow]
SECRET = "GITHUB_TOKEN_OF_THE_TEST"
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
      wait: 5s
    - id: after
      depends_on: [pause]
      tool: file_glob
      with: {pattern: "*"}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    root = tmp_path_factory.mktemp("root")
    with running_up(tmp_path_factory.mktemp("up"), root, **{SECRET: "hush", "HEADRACE_LOG_LEVEL": "info"}) as started:
        await started.ready()
        yield started


module_loop = pytest.mark.asyncio(loop_scope="module")


@module_loop
async def test_it_says_where_everything_is(up: Up) -> None:
    assert up.url in up.said
    assert str(up.home / "token") in up.said
    assert "headrace run examples/repo-report.yaml" in up.said
    assert (up.home / "api").read_text().strip() == up.url


@module_loop
async def test_its_token_opens_the_api(up: Up) -> None:
    async with up.client() as client:
        assert (await client.me()).roles == ["admin"]


@module_loop
async def test_it_says_what_another_terminal_needs_to_find_it(up: Up) -> None:
    assert f"export HEADRACE_DATA_DIR={up.home}" in up.said


@module_loop
async def test_its_files_are_its_users_alone(up: Up) -> None:
    assert up.home.stat().st_mode & 0o777 == 0o700
    for name in ("secret", "token", "database", "nats.url"):
        assert (up.home / name).stat().st_mode & 0o777 == 0o600


@module_loop
async def test_each_service_is_given_its_own_keys_and_no_others(up: Up) -> None:
    given = {name: up.service(name).environ() for name in SERVICES}
    holds_master = {name for name, env in given.items() if env.get("HEADRACE_SECRET_FILE")}
    assert holds_master == {"planner", "gatekeeper"}
    labels = {
        name: {part.split("=")[0] for part in env.get("HEADRACE_KEYS", "").split(",")} for name, env in given.items()
    }
    assert labels["runner"] == {"pool:runner"}
    assert labels["integrations"] == {"pool:integrations"}
    assert {"commands", "blobs"} <= labels["api"]
    assert {name for name, env in given.items() if SECRET in env} == {"integrations"}
    assert {name for name, env in given.items() if env.get("HEADRACE_DATABASE_URL")} == {"api", "planner", "gatekeeper"}


@module_loop
async def test_a_second_one_on_the_same_folder_is_refused(up: Up, tmp_path: Path) -> None:
    second = Command(tmp_path, "up", HEADRACE_DATA_DIR=str(up.home), HEADRACE_API_PORT=str(free_port()))
    assert await second.ended() == 1
    assert f"headrace already runs on {up.home} (process {up.process.pid})" in second.said
    assert "Traceback" not in second.said


@module_loop
async def test_a_taken_port_is_named(up: Up, tmp_path: Path) -> None:
    second = Command(tmp_path, "up", HEADRACE_DATA_DIR=str(tmp_path / "home"), HEADRACE_API_PORT=str(up.port))
    assert await second.ended() == 1
    assert f"port {up.port}" in second.said
    assert "HEADRACE_API_PORT" in second.said
    assert "Traceback" not in second.said


@module_loop
async def test_a_service_that_dies_is_started_again(up: Up) -> None:
    before = up.service("integrations")
    before.kill()

    def look() -> bool:
        try:
            return up.service("integrations").pid != before.pid
        except LookupError:
            return False

    await until(look, "integrations to be started again")
    assert "integrations ended (SIGKILL); starting it again" in up.said


async def test_stopped_in_the_middle_of_a_run_it_goes_on_where_it_was(tmp_path: Path) -> None:
    with running_up(tmp_path, tmp_path) as up:
        await up.ready()
        async with up.client() as client:
            run = await client.create_run(spec=LONG)
            async for event in client.run_events(run.id):
                if event.event == "timer.started":
                    break
        up.send(signal.SIGINT)
        assert await up.ended() == 0, up.said
        assert not (up.home / "api").exists()
    with running_up(tmp_path, tmp_path, HEADRACE_API_PORT=str(up.port)) as again:
        await again.ready()
        async with again.client() as client:
            told = [event async for event in client.run_events(run.id)]
            assert (await client.run(run.id)).status == "succeeded"
        assert [event.data["type"] for event in told[:-1] if event.data["type"] == "step.succeeded"] == [
            "step.succeeded"
        ] * 3
        assert len({event.id for event in told[:-1]}) == len(told) - 1


async def test_killed_it_leaves_no_process_behind(tmp_path: Path) -> None:
    up = Up(tmp_path, tmp_path)
    await up.ready()
    family = up.family()
    assert len(family) > len(SERVICES)
    up.send(signal.SIGKILL)
    assert await up.ended() == -signal.SIGKILL
    assert gone(family) == []
