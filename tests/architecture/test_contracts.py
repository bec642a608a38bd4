"""The import contracts hold, and each is seen to break on an import that it forbids."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

BROKEN = {
    "services meet on the bus": ("services/runner/headrace_runner/sample.py", "import headrace_planner.service"),
    "shared code knows no service": ("shared/headrace/errors.py", "import headrace_api.service"),
    "inside shared, imports point down": ("shared/headrace/ids.py", "import headrace.decider"),
    "pure modules do not touch the world": ("shared/headrace/plans/sample.py", "import headrace.clock"),
    "siblings do not import each other in circles": ("shared/headrace/bus/limits.py", "import headrace.bus.jetstream"),
    "CEL": ("shared/headrace/specs/sample.py", "import cel"),
    "the database's driver": ("services/api/headrace_api/sample.py", "import asyncpg"),
    "NATS": ("services/runner/headrace_runner/sample.py", "import nats"),
    "HTTP clients": ("services/planner/headrace_planner/sample.py", "import httpx2"),
    "the web server": ("services/planner/headrace_planner/sample.py", "import uvicorn"),
    "the web framework": ("services/planner/headrace_planner/sample.py", "import fastapi"),
    "the terminal": ("services/planner/headrace_planner/sample.py", "import rich"),
}
"""A contract's first words, and an import that breaks it."""


def lint(root: Path) -> str:
    """Run import-linter on a tree; its packages are found there before the installed ones."""
    packages = [root / "shared", *sorted((root / "services").iterdir())]
    found_at = os.pathsep.join(str(package) for package in packages)
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": found_at, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def lines_about(output: str, contract: str) -> list[str]:
    return [
        line for line in output.splitlines() if line.startswith(contract) and (" KEPT" in line or " BROKEN" in line)
    ]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give what import-linter says of a copy of this tree in which every contract is broken."""
    copy = tmp_path_factory.mktemp("tree")
    for part in ("shared", "services"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path, line in BROKEN.values():
        with (copy / path).open("a") as file:
            file.write(f"\n{line}\n")
    return lint(copy)


def test_the_contracts_hold() -> None:
    output = lint(ROOT)
    assert "0 broken." in output, output


def test_every_contract_has_a_sample() -> None:
    assert [c["name"] for c in CONTRACTS if not c["name"].startswith(tuple(BROKEN))] == []


@pytest.mark.parametrize("contract", BROKEN)
def test_an_import_that_breaks_a_contract_is_found(broken: str, contract: str) -> None:
    said = lines_about(broken, contract)
    assert said, broken
    assert all(" BROKEN" in line for line in said), broken
