"""Applies each seeded bug to a copy of the product and lets the simulation, or tests, look for it.

Prints a table; exits 1 when a bug survives, 2 when one no longer applies.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.chaos.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[3]
COPIED = ("shared", "services", "tests")
SEEDS = 600
LIMIT_S = 1_200
BROKEN = re.compile(r"^FIRST seed (\d+) after (\d+) schedules, ([\d.]+ s) of CPU: (.*)$", re.MULTILINE)


class DriftError(Exception):
    """The text that a seeded bug replaces does not stand in its file exactly once."""


class Outcome:
    """What became of a seeded bug: by what it was caught (nothing: it survived), and after how much."""

    def __init__(self, mutant: Mutant, caught: str, after: str, seconds: float) -> None:
        self.mutant, self.caught, self.after, self.seconds = mutant, caught, after, seconds


def seeded(mutant: Mutant, into: Path) -> None:
    """Make a copy of the product with the mistake in it; raises DriftError."""
    for name in COPIED:
        shutil.copytree(ROOT / name, into / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", into)
    for edit in mutant.edits:
        path = into / edit.path
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            message = f"{mutant.name}: {edit.path} holds this {text.count(edit.old)} times, not once:\n{edit.old}"
            raise DriftError(message)
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def paths(tree: Path) -> str:
    """Give the Python path under which a copy is what is imported."""
    return os.pathsep.join(map(str, (tree / "shared", *sorted((tree / "services").iterdir()), tree)))


def hunted(mutant: Mutant, first: int) -> Outcome:
    """Look for one seeded bug, from this seed on."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headrace-mutant-") as folder:
        tree = Path(folder)
        seeded(mutant, tree)
        command = [sys.executable, "-m", "headrace.testing.simulation", "--stop"]
        command += ["--first", str(first), "--seeds", str(SEEDS)]
        if mutant.tests:
            command = [sys.executable, "-m", "pytest", "-x", "-q", *mutant.tests]
        env = {**os.environ, "PYTHONPATH": paths(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, cwd=tree, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Outcome(mutant, "", f"{LIMIT_S} s", time.monotonic() - began)
    seconds = time.monotonic() - began
    if mutant.tests:
        failed = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
        return Outcome(mutant, f"test {failed[1].rpartition('::')[2]}" if failed else "", "", seconds)
    found = BROKEN.search(done.stdout)
    if found is None and done.returncode != 0:
        return Outcome(mutant, f"simulation: {_last_line(done.stderr)}", "1 seed", seconds)
    if found is None:
        return Outcome(mutant, "", f"{SEEDS} seeds", seconds)
    return Outcome(mutant, found[4], f"{found[2]} seeds, {found[3]}", seconds)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it ended"


def main(arguments: list[str]) -> int:
    """Hunt all seeded bugs, or those whose name holds a text."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutants", description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="only those whose name holds this")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many at once")
    given = parser.parse_args(arguments)
    chosen = [mutant for mutant in MUTANTS if given.only in mutant.name]
    try:
        for mutant in chosen:
            check_applies(mutant)
    except DriftError as problem:
        sys.stdout.write(f"a seeded bug no longer applies. {problem}\n")
        return 2
    survived = 0
    sys.stdout.write(f"{'seeded bug':<72} | {'after':<20} | {'time':>6} | caught by\n")
    with ThreadPoolExecutor(given.processes) as pool:
        for outcome in pool.map(partial(hunted, first=given.first), chosen):
            survived += not outcome.caught
            caught = outcome.caught[:110] or "NOBODY"
            sys.stdout.write(f"{outcome.mutant.name:<72} | {outcome.after:<20} | {outcome.seconds:5.0f}s | {caught}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} seeded bugs, {survived} survived\n")
    return 1 if survived else 0


def check_applies(mutant: Mutant) -> None:
    """Raise DriftError when a seeded bug no longer applies to the product as it stands."""
    texts: dict[str, str] = {}
    for edit in mutant.edits:
        text = texts.get(edit.path) or (ROOT / edit.path).read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            message = f"{mutant.name}: {edit.path} holds this {text.count(edit.old)} times, not once:\n{edit.old}"
            raise DriftError(message)
        texts[edit.path] = text.replace(edit.old, edit.new)
