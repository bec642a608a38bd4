"""Processes load what they need: a package that one of them does not use costs it time at each start, and memory."""

import json
import subprocess
import sys

import pytest

from tests.system.kit import ROOT, clean_environment

SERVICE = "import headrace.cli.main, headrace.cli.serve; from headrace import service; service.load({!r})"
COMMAND = "from headrace.cli.main import invoke; invoke({!r})"
TOLD = "\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
TERMINAL = ("typer", "rich", "pygments", "prompt_toolkit", "headrace.cli.commands", "headrace.cli.options")
WEB = ("fastapi", "headrace_api")
DATABASE = ("asyncpg",)
CLIENT = ("headrace.client.client",)
TESTING = ("headrace.testing", "headrace.dev", "headrace.log.memory", "headrace.bus.memory")
TRACING = ("opentelemetry.sdk",)
SERVING = ("headrace.serving", "prometheus_client", "opentelemetry", "nats", "faststream", "uvicorn")
OWNERS = ("headrace_planner", "headrace_gatekeeper")
WORKERS = ("headrace_runner", "headrace_integrations", "ast_grep_py")
NEVER = (*TESTING, *TRACING)
STARTS = {
    "planner": (
        SERVICE.format("planner"),
        (*NEVER, *TERMINAL, *WEB, *CLIENT, *WORKERS, "headrace_gatekeeper", "httpx2"),
    ),
    "gatekeeper": (SERVICE.format("gatekeeper"), (*NEVER, *TERMINAL, *WEB, *CLIENT, *WORKERS, "headrace_planner")),
    "api": (SERVICE.format("api"), (*NEVER, *TERMINAL, *CLIENT, *OWNERS, *WORKERS, "headrace.specs.models", "httpx2")),
    "runner": (
        SERVICE.format("runner"),
        (*NEVER, *TERMINAL, *WEB, *CLIENT, *DATABASE, *OWNERS, "headrace_integrations"),
    ),
    "integrations": (
        SERVICE.format("integrations"),
        (*NEVER, *TERMINAL, *WEB, *CLIENT, *DATABASE, *OWNERS, "headrace_runner", "ast_grep_py"),
    ),
    "--help": (
        COMMAND.format(["--help"]),
        (
            *NEVER,
            *WEB,
            *CLIENT,
            *DATABASE,
            *OWNERS,
            *WORKERS,
            *SERVING,
            "asyncio",
            "httpx2",
            "pydantic",
            "prompt_toolkit",
        ),
    ),
    "runs list": (
        COMMAND.format(["runs", "list", "--url", "nowhere://"]),
        (*NEVER, *WEB, *DATABASE, *OWNERS, *WORKERS, *SERVING, "rich", "cel", "headrace.cli.workers", "prompt_toolkit"),
    ),
    "validate": (
        COMMAND.format(["validate", "examples/repo-report.yaml"]),
        (*NEVER, *WEB, *CLIENT, *DATABASE, *OWNERS, *WORKERS, *SERVING, "asyncio", "httpx2", "rich", "prompt_toolkit"),
    ),
    "up": (
        "import headrace.cli.main, headrace.cli.serve, headrace.dev.up",
        (*TRACING, *TERMINAL, *WEB, *OWNERS, *WORKERS),
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_process_loads_nothing_that_it_does_not_use(name: str) -> None:
    code, unused = STARTS[name]
    done = subprocess.run(
        [sys.executable, "-c", code + TOLD],
        env=clean_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.rsplit("\n", 2)[-2]))
    assert "headrace.cli.main" in loaded
    assert loaded.isdisjoint(unused), f"{name} loads {sorted(loaded.intersection(unused))}"
