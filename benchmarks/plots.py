"""docs/plots.md: the two sweeps as plots and as tables. Mermaid is what repositories and docs sites draw by themselves."""

from pathlib import Path
from typing import Any, Final

from benchmarks import sizes
from benchmarks.stand import machine

PLOTS: Final = Path(__file__).parents[1] / "docs" / "plots.md"
Points = list[dict[str, Any]]


def write(batches: Points, fullness: Points) -> Path:
    """Write both plots; gives where."""
    about, costs = machine(), sizes.fitted(batches)
    text = [
        "# Plots",
        "",
        (
            f"Made by `python -m benchmarks plots` at {about['at']} on {about['cores']} cores, Python {about['python']}; "
            "W1a, each step dispatched on its own, everything on the one machine. See [performance.md](performance.md)."
        ),
        "",
        "## Throughput against how much travels together",
        "",
        "The more runs are under way at once, the more events one append carries; nothing waits to fill a batch.",
        "",
        *_plot("steps/s by events in one append", batches, "events_append", "steps_s", "steps/s"),
        "",
        *_table(batches, {"window": "runs at once", "events_append": "events an append", **COSTS}),
        "",
        "## Cost against stored runs",
        "",
        "Finished runs in the store, and a tenth as many parked on an approval.",
        "",
        *_plot("CPU a step by stored runs", fullness, "stored", "us_step", "µs of CPU a step"),
        "",
        *_table(fullness, {"stored": "finished runs stored", **COSTS}),
        "",
        "## Machine sizes",
        "",
        ABOUT_SIZES.format(
            planner=costs.planner * 1e6,
            planner_batch=costs.planner_batch * 1e6,
            postgres=costs.postgres * 1e6,
            postgres_batch=costs.postgres_batch * 1e6,
            worker=costs.worker * 1e6,
            nats=costs.nats * 1e6,
        ),
        "",
        *sizes.table(costs),
        "",
    ]
    PLOTS.write_text("\n".join(text))
    return PLOTS


ABOUT_SIZES: Final = """\
Fitted to the first sweep, a step costs its owner {planner:.0f} µs and {planner_batch:.0f} µs a batch, PostgreSQL {postgres:.0f} µs and {postgres_batch:.0f} µs a
batch, a worker {worker:.0f} µs (no-op tools) and nats-server {nats:.0f} µs. `benchmarks/sizes.py` lets runs of ten steps arrive at
random in a queueing simulation with these costs and 1 ms for a disk to flush, and finds the fewest cores with which no
part is busier than 70 % and p99 of a step stays under 50 ms. These are simulated, not measured, figures."""
COSTS: Final = {"steps_s": "steps/s", "us_step": "µs of CPU a step"}


def _plot(title: str, points: Points, along: str, up: str, unit: str) -> list[str]:
    names = ", ".join(f'"{_short(point[along])}"' for point in points)
    values = [round(float(point[up])) for point in points]
    heights = ", ".join(map(str, values))
    axis = f'    y-axis "{unit}" 0 --> {round(max(values) * 1.1)}'
    head = ["```mermaid", "xychart-beta", f'    title "{title}"', f"    x-axis [{names}]", axis]
    return [*head, f"    line [{heights}]", "```"]


def _table(points: Points, columns: dict[str, str]) -> list[str]:
    head = ["| " + " | ".join(columns.values()) + " |", "| " + " | ".join("---:" for _ in columns) + " |"]
    return head + ["| " + " | ".join(_short(point[name]) for name in columns) + " |" for point in points]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
