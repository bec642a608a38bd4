"""Projections held against an independent reading of the events (FACTS C, invariant 5, without the engine's folds)."""

from collections.abc import Sequence
from typing import Final

from headrace.log.port import ReadLog
from headrace.testing.checker.histories import Watch, Watched
from headrace.testing.checker.history import Finding

PAGE: Final = 1_000
FINAL: Final = {"run.succeeded": "succeeded", "run.failed": "failed", "run.cancelled": "cancelled"}
STEPS: Final = {"step.succeeded": "succeeded", "step.skipped": "skipped", "step.failed": "failed"}


async def compare(log: ReadLog, watch: Watch) -> list[Finding]:
    """Find rows that say something else than the events do."""
    found: list[Finding] = []
    for run_id, run in watch.watched.items():
        row = await log.row("runs", {"id": run_id})
        if row is None:
            found.append(Finding("projections", "the run has no row", run_id))
            continue
        found += [Finding("projections", told, run_id) for told in _run(run, row)]
        steps = await log.rows("steps", {"run_id": run_id}, order="step", descending=False, limit=PAGE)
        found += [Finding("projections", told, run_id) for told in _steps(run, steps)]
    for approval_id, known in watch.approvals.items():
        row = await log.row("approvals", {"id": approval_id})
        expected = known["closed"] or "pending"
        if row is None or row["status"] != expected:
            told = f"the row says {row and row['status']}, the events {expected}"
            found.append(Finding("projections", told, approval_id))
    return found


def _run(run: Watched, row: dict[str, object]) -> list[str]:
    told: list[str] = []
    if row["version"] != run.version:
        told.append(f"the row is of version {row['version']}, the run of {run.version}")
    if run.ended is not None and row["status"] != FINAL[run.ended]:
        told.append(f"the row says {row['status']}, the events {run.ended}")
    if run.ended is None and row["status"] in FINAL.values():
        told.append(f"the row says {row['status']}, but no event does")
    return told


def _steps(run: Watched, rows: Sequence[dict[str, object]]) -> list[str]:
    said = {row["step"]: row["status"] for row in rows}
    told: list[str] = []
    for (step, iteration, index), kind in run.over.items():
        wanted = STEPS.get(kind)
        if index is None and iteration == 0 and wanted is not None and said.get(step) not in {wanted, "cancelled"}:
            told.append(f"the row of step {step} says {said.get(step)}, the events {kind}")
    return told
