"""`headrace demo` from outside: it tells its story, exits 0, and leaves no process behind however it ends."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.system.kit import SERVICES, Command, command_of, gone, until

pytestmark = [pytest.mark.system, pytest.mark.slow]
DEMO_S = 90.0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path, "demo", HEADRACE_DATA_DIR=str(tmp_path / "home"))
    yield command
    left = command.family() if command.process.poll() is None else []
    for each in left:
        each.kill()


async def middle_of_the_run(demo: Command) -> list[psutil.Process]:
    """Wait until the run is under way, and give all processes of the demo."""

    def look() -> bool:
        assert demo.process.poll() is None, demo.said
        return "run started" in demo.said

    await until(look, "the demo's run to start", DEMO_S)
    family = demo.family()
    assert {name for each in family for name in SERVICES if command_of(each)[-1:] == [name]} >= {"api", "runner"}
    return family


async def test_it_tells_the_whole_story_exits_0_and_leaves_no_process_behind(demo: Command) -> None:
    family = await middle_of_the_run(demo)
    assert await demo.ended(DEMO_S) == 0, demo.said
    assert gone(family) == []
    said = demo.said
    assert re.search(r"sha256:[0-9a-f]{64}", said)
    assert "killed with SIGKILL" in said
    assert "the planner came back" in said
    assert re.search(r"ada.*approves it: refused \(forbidden\)", said)
    tampered = next(line for line in said.splitlines() if "tampered" in line)
    assert "plan_id_mismatch" in tampered
    assert len(set(re.findall(r"sha256:[0-9a-f]{64}", tampered))) == 2
    assert "sign_off: approved by grace" in said
    assert re.search(r"verified: \d+ events in \d+ hash chains", said)
    assert "nothing changed" in said
    report = Path(next(line for line in said.splitlines() if line.strip().startswith("report: ")).split(": ", 1)[1])
    assert report.read_text().startswith("# ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_it_leaves_no_process_behind_when_it_is_stopped(demo: Command, number: signal.Signals) -> None:
    family = await middle_of_the_run(demo)
    demo.send(number)
    assert await demo.ended() != 0
    assert gone(family) == []
