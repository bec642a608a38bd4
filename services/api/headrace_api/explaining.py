"""Why a run is not moving, from what is recorded and which workers live (pure)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace.plans.model import CallStep, GateStep, Plan, PlanStep
from headrace.vocabulary import POOL_GATES, POOL_INTEGRATIONS, POOL_RUNNER, RUN_FINAL, WaitingFor
from headrace_api import views

REMEDIES: Final = {
    WaitingFor.APPROVAL: "somebody with one of the roles decides: `headrace approvals list`",
    WaitingFor.START: "somebody starts it: `headrace runs start {id}`",
    WaitingFor.TIMER: "nothing to do: it goes on at that time",
    WaitingFor.RETRY: "nothing to do: it tries again at that time",
    WaitingFor.CONNECTION: "connect the integration: `headrace connections set`",
}

SERVICE_OF_POOL: Final = {POOL_RUNNER: "runner", POOL_GATES: "gatekeeper", POOL_INTEGRATIONS: "integrations"}


def explain(
    row: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], plan: Plan | None, pools: set[str]
) -> list[dict[str, Any]]:
    """Give the reasons, the most pressing first."""
    if row["status"] in RUN_FINAL:
        error = views.error(row)
        told = f"it is over: {row['status']}" + (f" ({error['type']}: {error['message']})" if error else "")
        return [_reason(None, None, told, "nothing to do; a retry is a new run", None)]
    detail = row["detail"] or {}
    reasons = [_waiting(row["id"], each) for each in detail.get("waiting") or []]
    if row["cancel_requested"]:
        reasons.append(
            _reason(None, None, "a cancel was asked for; attempts are still under way", "wait a moment", None)
        )
    reasons.extend(_without_workers(steps, plan, pools))
    for step in steps:
        if step["status"] == "running":
            told = f"step {step['step']} runs, attempt {step['attempt']}" + (
                f", at {step['worker']}" if step["worker"] else ""
            )
            reasons.append(_reason(step["step"], None, told, "nothing to do", None))
    if not reasons:
        reasons.append(
            _reason(
                None, None, f"it is {row['status']} and waits for nothing that is recorded", "`headrace doctor`", None
            )
        )
    return reasons


def _without_workers(steps: Sequence[Mapping[str, Any]], plan: Plan | None, pools: set[str]) -> list[dict[str, Any]]:
    """Name the pools that work of this run waits for and nobody serves."""
    if plan is None:
        return []
    over = {step["step"] for step in steps if step["status"] in {"succeeded", "failed", "skipped", "cancelled"}}
    wanted: dict[str, str] = {}
    for step in plan.steps:
        if step.id not in over and set(step.needs) <= over:
            pin = plan.tools.get(_tool(step))
            if pin is not None and pin.pool not in pools:
                wanted.setdefault(pin.pool, step.id)
    return [
        _reason(step, None, f"no worker serves the pool {pool!r}", _start_worker(pool), None)
        for pool, step in wanted.items()
    ]


def _waiting(run_id: str, kept: Mapping[str, Any]) -> dict[str, Any]:
    waits = str(kept.get("for") or "")
    until = views.at(kept.get("until"))
    approval = kept.get("approval_id")
    told = kept.get("message") or f"it waits for {waits}" + (f" {approval}" if approval else "") + (
        f" until {until}" if until else ""
    )
    remedy = REMEDIES.get(WaitingFor(waits), "") if waits in set(WaitingFor) else ""
    if approval:
        remedy = f"somebody with one of its roles decides: `headrace approvals show {approval}`"
    return _reason(kept.get("step") or None, waits or None, str(told), remedy.format(id=run_id), until)


def _reason(step: str | None, waiting_for: str | None, message: str, remedy: str, until: str | None) -> dict[str, Any]:
    return {"step": step, "waiting_for": waiting_for, "message": message, "remedy": remedy, "until": until}


def _tool(step: PlanStep) -> str:
    """Give the name under which the plan pins what performs a step, or nothing for the planner's own steps."""
    if isinstance(step.body, CallStep):
        return step.body.tool
    return f"gate.{step.body.gate}" if isinstance(step.body, GateStep) else ""


def _start_worker(pool: str) -> str:
    """Name the command that starts a worker of a pool: a service of ours, or a file of the user's own tools."""
    service = SERVICE_OF_POOL.get(pool)
    return f"start one: `headrace serve {service}`" if service else f"start one: `headrace worker {pool}.py`"
