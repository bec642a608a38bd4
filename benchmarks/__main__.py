"""`python -m benchmarks` runs all benchmarks, `python -m benchmarks W10 --json` one, as one JSON line.

`--scale N` divides the size of a workload by N, to try it quickly.
"""

import argparse
import asyncio
import json
import sys
from typing import Any, Final

from benchmarks import plots
from benchmarks.chain import chain
from benchmarks.chains import long_chain, long_fused, many_chains, many_fused, one_by_one, steady
from benchmarks.crash import nobody_killed, planner_killed, worker_killed
from benchmarks.fairness import fairness
from benchmarks.people import approved
from benchmarks.scale import map_of_items, parked
from benchmarks.stand import SLOTS, Workload, machine, stand
from benchmarks.stored import full_store, idle
from benchmarks.sweeps import batches, fullness
from benchmarks.table import middle, versions, write
from benchmarks.wide import fan_out
from headrace.errors import HeadraceError

WORKLOADS: Final[dict[str, Workload]] = {
    "W1a": many_chains,
    "W1b": many_fused,
    "W2": one_by_one,
    "W3": fan_out,
    "W4a": worker_killed,
    "W4b": planner_killed,
    "W4c": nobody_killed,
    "W5": approved,
    "W6": long_chain,
    "W6b": long_fused,
    "W7": steady,
    "W8": full_store,
    "W9": idle,
    "W10": map_of_items,
    "parked": parked,
    "fairness": fairness,
}
CHAIN: Final = "chain"
PLOTS: Final = "plots"
APART: Final = (CHAIN, PLOTS)
"""Not workloads of the table."""
ROUNDS: Final = 3
"""How often the table measures what takes a moment, each time in a fresh installation; it shows the medians."""
QUICK: Final = ("W2", "W3", "W4a", "W4b", "W5", "W6", "W6b", "W7")
"""What takes a moment. W1a and W1b have rounds of their own."""


def main() -> int:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join((*APART, *WORKLOADS))}; none means all")
    parser.add_argument("--json", action="store_true", help="one JSON line each")
    parser.add_argument("--table", action="store_true", help="also write benchmarks/RESULTS.md")
    parser.add_argument("--scale", type=int, default=1, help="divide the size of workloads by this")
    given = parser.parse_args()
    unknown = set(given.names) - {*APART, *WORKLOADS}
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join((*APART, *WORKLOADS))}")
    found: dict[str, dict[str, Any]] = {}
    for name in given.names or (CHAIN, *WORKLOADS):
        if name == CHAIN:
            asyncio.run(chain())
            continue
        if name == PLOTS:
            swept = [asyncio.run(_measure(sweep, given.scale))["points"] for sweep in (batches, fullness)]
            print(f"written: {plots.write(*swept)}")
            continue
        try:
            rounds = ROUNDS if given.table and name in QUICK else 1
            measured = [asyncio.run(_measure(WORKLOADS[name], given.scale)) for _ in range(rounds)]
            found[name] = measured[0] if rounds == 1 else middle(name, measured)
        except (AssertionError, OSError, RuntimeError, HeadraceError) as problem:
            if not given.table:
                raise
            found[name] = {"failed": str(problem)[:200] or type(problem).__name__}
        _show(name, found[name], as_json=given.json)
    if given.table:
        print(f"written: {write(found)}")
    return 1 if any("failed" in figures for figures in found.values()) else 0


async def _measure(workload: Workload, scale: int) -> dict[str, Any]:
    async with stand() as prepared:
        before = prepared.cpu_s()
        figures = await workload(prepared, max(scale, 1))
        after = prepared.cpu_s()
        cpu = {name: round(after[name] - before.get(name, 0.0), 2) for name in after}
        peak = {name: round(prepared.peak_mb(name), 1) for name in prepared.pids()}
        servers = await versions(prepared)
    settings = {"scale": scale, "slots": SLOTS, "servers": servers}
    return {**figures, "cpu_s": cpu, "peak_mb": peak, **settings, "machine": machine()}


def _show(name: str, figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"workload": name, **figures}), flush=True)
        return
    print(f"{name}:")
    for key, value in figures.items():
        shown = (
            {k: round(v, 2) if isinstance(v, float) else v for k, v in value.items()}
            if isinstance(value, dict)
            else value
        )
        print(f"  {key:<18} {round(shown, 3) if isinstance(shown, float) else shown}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
