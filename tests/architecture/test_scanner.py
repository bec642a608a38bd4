"""Each rule of the scanner bites on a sample, leaves its neighbour alone, and finds nothing in this tree."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture import scanner

ROOT = Path(__file__).parents[2]
RUNNER = "services/runner/headrace_runner/service.py"
PURE = "services/planner/headrace_planner/runs/decide.py"

BITES = [
    ("events are appended in one place", RUNNER, "await log.append_events(batch)"),
    ("tools are performed in one place", RUNNER, "tool.perform(context, given)"),
    ("tools are performed in one place", RUNNER, "plugin.run(payload)"),
    ("no SQL in Python", RUNNER, 'QUERY = "select id from runs where busy"'),
    ("no SQL in Python", RUNNER, 'QUERY = f"delete from {table}"'),
    ("one reader of the clock", RUNNER, "import time\nstarted = time.monotonic()"),
    ("one reader of the clock", RUNNER, "from time import monotonic"),
    ("one reader of the clock", RUNNER, "at = datetime.now(UTC)"),
    ("one reader of the environment", RUNNER, 'os.environ["HOME"]'),
    ("one reader of the environment", RUNNER, "from os import getenv"),
    ("subjects have one home", RUNNER, 'SUBJECT = "headrace.work.runner"'),
    ("subjects have one home", RUNNER, 'subject = f"headrace.inbox.{log}.{partition}"'),
    ("metrics and spans have one home", RUNNER, 'Counter("done_total", "Attempts done.")'),
    ("metrics and spans have one home", RUNNER, 'tracer.start_as_current_span("attempt")'),
    ("nothing is patched", "tests/test_it.py", 'monkeypatch.setattr(module, "now", fake)'),
    ("nothing is patched", "tests/test_it.py", "from unittest.mock import patch"),
    ("no task is lost", RUNNER, "asyncio.create_task(work())"),
    ("no task is lost", RUNNER, "await asyncio.gather(one(), two())"),
    ("no task is lost", RUNNER, "asyncio.get_running_loop().create_task(work())"),
    ("nothing waits for ever", "shared/headrace/bus/jetstream.py", "await client.request(subject, body)"),
    ("nothing waits for ever", RUNNER, "client = httpx2.AsyncClient()"),
    ("errors are not swallowed", RUNNER, "try:\n    work()\nexcept Exception:\n    count += 1"),
    ("errors are not swallowed", RUNNER, "try:\n    work()\nexcept (ValueError, BaseException):\n    count += 1"),
    ("errors are not swallowed", RUNNER, "with contextlib.suppress(Exception):\n    work()"),
    ("pure modules touch nothing", PURE, "async def decide() -> None:\n    await other()"),
    ("pure modules touch nothing", PURE, "name = uuid4()"),
    ("pure modules touch nothing", PURE, "delay = random.uniform(0, 1)"),
    ("pure modules touch nothing", "shared/headrace/new.py", '"""Something (pure)."""\n\nprint(1)'),
    ("pure modules keep nothing", PURE, "SEEN: dict[str, int] = {}"),
    ("pure modules keep nothing", PURE, "def count() -> None:\n    global seen\n    seen += 1"),
    ("a match is closed", PURE, "match event:\n    case RunQueued():\n        pass\n    case _:\n        pass"),
    ("a match is closed", PURE, "match status:\n    case Status.QUEUED:\n        pass\n    case Status.RUNNING:\n        pass"),
    ("a match is closed", PURE, "match value:\n    case str():\n        pass"),
    ("packages import nothing", "shared/headrace/log/__init__.py", "from headrace.log.port import Log"),
    ("an event is a fact", "shared/headrace/events/runs.py", 'class StartRun(Event, frozen=True, tag="run.start"):\n    """Written when it starts."""'),
    ("an event is a fact", "shared/headrace/events/runs.py", 'class RunStarted(Event, tag="run.started"):\n    """Written when it starts."""'),
    ("an event is a fact", "shared/headrace/events/runs.py", 'class RunStarted(Event, frozen=True, tag="run.started"):\n    """A start."""'),
    ("nothing is left undone", RUNNER, "# TODO later"),
    ("an ignore says why", RUNNER, "import os  # noqa: F401"),
    ("an ignore says why", RUNNER, "import os  # noqa"),
    ("an ignore says why", RUNNER, "value = call()  # type: ignore[arg-type]"),
    ("a file has at most 400 lines", RUNNER, "a = 1\n" * 401),
    ("a file has at most 250 lines", PURE, "a = 1\n" * 251),
    ("a function has at most 60 lines", RUNNER, "def long() -> None:\n" + "    work()\n" * 60),
    ("not Python", RUNNER, "def ("),
    ("the log is append-only", "shared/headrace/log/queries.sql", "update events set data = ''"),
    ("the log is append-only", "shared/headrace/log/queries.sql", "DELETE FROM events;"),
]  # fmt: skip

PASSES = [
    ("shared/headrace/host/turn.py", "await log.append_events(batch)"),
    ("shared/headrace/worker/tool_runner.py", "await tool.perform(context, given)"),
    ("tests/system/test_it.py", 'QUERY = "update runs set status = 1"'),
    (RUNNER, '"""select is a word, and so is headrace.work.runner, in a docstring from us."""'),
    (RUNNER, 'GROUP = "headrace.services"'),
    (RUNNER, "async def run() -> None:\n    async with asyncio.TaskGroup() as group:\n        group.create_task(work())"),
    (RUNNER, "try:\n    work()\nexcept Exception:\n    log()\n    raise"),
    (RUNNER, "import os  # noqa: F401  (read by the plug-in)"),
    (RUNNER, "value = call()  # type: ignore[arg-type]  # the callee checks it"),
    ("shared/headrace/bus/jetstream.py", "async def ask() -> None:\n    async with asyncio.timeout(1):\n        await c.request(s)"),
    (PURE, "match event:\n    case RunQueued():\n        pass\n    case _:\n        assert_never(event)"),
    (PURE, "KINDS: Final = {1: 2}"),
    ("shared/headrace/log/guard.sql", "create trigger t before update or delete on events execute function refuse();"),
    ("services/x/odd.py", "a = 1\n" * 399),
]  # fmt: skip


def scan(root: Path, path: str, text: str) -> list[str]:
    file = root / path
    file.parent.mkdir(parents=True)
    file.write_text(text + "\n")
    return scanner.scan(root)


@pytest.mark.parametrize(("rule", "path", "text"), BITES, ids=[f"{n}-{b[0]}" for n, b in enumerate(BITES)])
def test_a_rule_bites_on_its_sample(tmp_path: Path, rule: str, path: str, text: str) -> None:
    found = scan(tmp_path, path, text)
    assert any(finding.startswith(f"{path}:") and f": {rule}" in finding for finding in found), found


@pytest.mark.parametrize(("path", "text"), PASSES, ids=[str(n) for n in range(len(PASSES))])
def test_what_is_allowed_passes(tmp_path: Path, path: str, text: str) -> None:
    assert scan(tmp_path, path, text) == []


def test_every_rule_of_the_table_has_a_sample() -> None:
    assert {rule.name for rule in scanner.RULES} <= {name for name, _, _ in BITES}


def test_this_tree_is_clean() -> None:
    assert "\n".join(scanner.scan(ROOT)) == ""


def test_no_file_needs_an_exception_from_the_size_limit() -> None:
    assert scanner.OVERSIZED == {}


def run_alone(folder: Path) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "tests/architecture/scanner.py")
    return subprocess.run([sys.executable, script, str(folder)], capture_output=True, text=True, check=False)


def test_alone_it_names_file_and_line_of_a_plugin_run_outside_the_tool_runner_row_91(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services/shortcut.py").write_text("def go(plugin, payload):\n    return plugin.run(payload)\n")
    done = run_alone(tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("services/shortcut.py:2: tools are performed in one place: ")


def test_alone_it_says_ok_for_clean_source_row_91(tmp_path: Path) -> None:
    (tmp_path / "fine.py").write_text('"""Nothing to see."""\n')
    done = run_alone(tmp_path)
    assert (done.returncode, done.stdout) == (0, "Execution scanner OK\n")
