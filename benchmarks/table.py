"""The table of all workloads: what was measured, what is aimed at, on which machine."""

import statistics
from pathlib import Path
from typing import Any, Final

import asyncpg

from benchmarks.stand import Stand, machine

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
WANTED: Final[dict[str, tuple[str, str, str]]] = {
    "W1a": ("10-step chains, each step dispatched on its own", "steps_s", "6,000 steps/s"),
    "W1b": ("the same, fused by the compiler", "steps_s", "25,000 steps/s"),
    "W2": ("one 1-step run at a time, over HTTP", "p50_ms p99_ms", "p50 ≤ 3 ms, p99 ≤ 8 ms"),
    "W3": ("one run, 1,000 parallel steps, join", "secs", "0.25 s"),
    "W4a": ("kill -9 of the worker in the middle of W1a", "lost twice secs_to_full_rate secs_taken_up", "0; in flight; 5 s; 12 s"),
    "W4b": ("kill -9 of the planner in the middle of W1a", "lost twice secs_to_full_rate secs_taken_up", "0; in flight; 5 s; 12 s"),
    "W4c": ("the same load, nobody killed: the lowest rate of its parts beside the highest", "level", "level"),
    "W5": ("2,000 runs parked on an approval, then all approved", "secs_to_park secs_to_finish kb_a_run", "1 s, 1 s, 0 KB"),
    "W6": ("40-step chain, one run, unfused", "secs", "0.15 s"),
    "W6b": ("40-step chain, one run, fused", "secs", "0.03 s"),
    "W7": ("100 runs/s steady: added latency a step", "p50_ms_step p99_ms_step", "p50 ≤ 5 ms, p99 ≤ 25 ms"),
    "W8": ("W1a against a full store, beside an empty one", "ratio ratio_us_step stored_runs", "≥ 0.9 with 1,000,000 + 100,000 runs"),
    "W9": ("idle for a minute", "core_percent statements_s", "< 1 % of a core, < 2 statements/s"),
    "W10": ("one run with a map of 100,000 items", "secs us_item us_item_of_1000", "< 20 s, constant time an item"),
    "parked": ("10,000 runs parked, four times", "runs_s mb_before mb_after kb_a_run", "0 KB"),
}  # fmt: skip


WORST: Final = ("lost", "twice")
"""Of several rounds these are shown as the worst of them."""


def middle(name: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Give what several rounds of a workload came to: the median of each figure of the table, and `each` of them.

    A figure that one of them did not reach (None) is not reached.
    """
    each: dict[str, list[Any]] = {figure: [one[figure] for one in rounds] for figure in WANTED[name][1].split()}
    merged: dict[str, Any] = {}
    for figure, values in each.items():
        if all(isinstance(value, int | float) for value in values):
            merged[figure] = max(values) if figure in WORST else statistics.median(values)
        elif None in values:
            merged[figure] = None
    return {**rounds[-1], **merged, "each": each}


async def versions(stand: Stand) -> dict[str, str]:
    """Say which servers were measured, and that Postgres flushes what it commits."""
    connection = await asyncpg.connect(stand.stack.database_url)
    try:
        names = ("server_version", "fsync", "synchronous_commit")
        return {name: await connection.fetchval("select current_setting($1)", name) for name in names}
    finally:
        await connection.close()


def write(found: dict[str, dict[str, Any]]) -> Path:
    """Write the table of what was measured."""
    about = machine()
    servers: dict[str, str] = next((figures["servers"] for figures in found.values() if "servers" in figures), {})
    scale = max((figures.get("scale", 1) for figures in found.values()), default=1)
    sizes = f" Sizes are divided by {scale}." if scale > 1 else ""
    intro = (
        f"Made by `make bench` at {about['at']}: {about['cores']} cores, {about['system']}, Python {about['python']}, "
        f"PostgreSQL {servers.get('server_version', '?')} with fsync {servers.get('fsync', '?')} and synchronous_commit "
        f"{servers.get('synchronous_commit', '?')}, NATS with JetStream on disk; load, servers, services and worker share "
        f"the machine. Of what takes a moment, and of W1, the medians of three rounds. One process a service, everything as shipped. docs/performance.md says what dominates.{sizes}"
    )
    lines = [
        "# What was measured",
        "",
        intro,
        "",
        "| workload | what | measured | goal |",
        "| --- | --- | --- | --- |",
    ]
    for name, (what, figures, wanted) in WANTED.items():
        measured = _measured(found.get(name), figures.split())
        lines.append(f"| {name} | {what} | {measured} | {wanted} |")
    lines.append("")
    if "W1a" in found:
        micros = found["W1a"]["us_step"]
        lines += [
            "CPU a step in W1a (µs): "
            + ", ".join(f"{part} {spent:g}" for part, spent in sorted(micros.items(), key=lambda one: -one[1]))
            + f"; together {found['W1a']['us_step_all']:.0f}.",
            "",
        ]
    RESULTS.write_text("\n".join(lines))
    return RESULTS


def _measured(figures: dict[str, Any] | None, names: list[str]) -> str:
    if figures is None:
        return "not run"
    if "failed" in figures:
        return f"failed: {figures['failed']}"
    return ", ".join(f"{name} {_shown(figures.get(name))}" for name in names)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)
