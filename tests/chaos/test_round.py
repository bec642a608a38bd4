"""A short round of chaos over real processes keeps every promise; a full one is `make chaos`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.kit import clean_environment

ROOT = Path(__file__).parents[2]
ROUND_S_MAX = 280
SEED = 11


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(ROUND_S_MAX + 20)
def test_a_short_round_of_chaos_keeps_every_promise() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--short", "--seed", str(SEED)]
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=ROUND_S_MAX, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"PASSED: seed {SEED}" in done.stdout
