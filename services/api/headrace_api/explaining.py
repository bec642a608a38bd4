"""Why a run is not moving, from what is recorded, which workers live, and what they say they do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from headrace.plans.model import COMPENSATION_SUFFIX, CallStep, GateStep, Plan, PlanStep, SubWorkflowStep
from headrace.vocabulary import (
    POOL_GATES,
    POOL_INTEGRATIONS,
    POOL_RUNNER,
    RUN_FINAL,
    STEP_FINAL,
    RunStatus,
    StepStatus,
    WaitingFor,
)
from headrace_api import flowing, performing, views, waiting
from headrace_api.presence import Held, Presence, Seen, blocked_by

LOOP: Final = "loop"
NOTHING: Final = "nothing to do"
UNDOING_UNTIL: Final = "undoing_until"
SERVICE_OF_POOL: Final = {POOL_RUNNER: "runner", POOL_GATES: "gatekeeper", POOL_INTEGRATIONS: "integrations"}


def explain(
    row: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]],
    plan: Plan | None,
    presence: Presence,
    flows: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Give the reasons, the most pressing first. `flows` are the keys that the run waits for, as they stand now."""
    if row["status"] in RUN_FINAL:
        error = views.error(row)
        why = "" if error is None else f" ({_kind(error['type'], row['status'])}{error['message']})"
        told = f"it is over: {row['status']}{why}"
        again = "nothing to do" if row["status"] == RunStatus.SUCCEEDED else f"again: `headrace runs retry {row['id']}`"
        return [_reason(None, None, told, again, None), *_doubts(row, plan)]
    detail = row["detail"] or {}
    reasons = [_waiting(row, each, flows, steps) for each in detail.get("waiting") or []]
    ending = [*_ending(row, steps, {each["step"] for each in reasons if each["waiting_for"] == WaitingFor.INPUT})]
    waits = {each["step"] for each in reasons if each["waiting_for"]}
    unknown = _unknown(row, steps)
    unserved = unserved_pools(row, steps, plan, presence)
    pools = [_reason(named[0], None, *not_served(presence, pool), None) for pool, named in unserved.items()]
    held = [each for each in performing.in_hands(presence, row["id"], steps) if each.holding.step not in unknown]
    pools.extend(_held(held, presence, waits))
    told_of = {each["step"] for each in pools}.union(*unserved.values())
    handed = [step for step in steps if step["step"] not in told_of and _out(row, step, waits) != 0]
    pools.extend(_in_line([step for step in handed if not _stops(row, step)], plan, presence))
    told_of.update(each["step"] for each in (*pools, *ending))
    pools.extend(_under_way(row, [step for step in steps if step["step"] not in told_of], waits))
    reasons += [*ending, *pools]
    if not reasons:
        reasons.append(
            _reason(
                None, None, f"it is {row['status']} and waits for nothing that is recorded", "`headrace doctor`", None
            )
        )
    return reasons


def _ending(
    row: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], people: set[str | None]
) -> Iterator[dict[str, Any]]:
    """Say that a run comes to its end: it is cancelled, or what it did is undone; `people` must speak of these steps."""
    undoing = [step["step"] for step in steps if step["step"].endswith(COMPENSATION_SUFFIX) and not _over(step)]
    if row["cancel_requested"] and not undoing:
        told, remedy = (
            ("a cancel was asked for: it ends once that is known", "nothing to do but to say so")
            if people
            else (
                "a cancel was asked for: attempts under way are being stopped",
                "nothing to do: it ends within seconds; `headrace workers` shows them",
            )
        )
        yield _reason(None, None, told, remedy, None)
    elif not undoing and UNDOING_UNTIL in (row["detail"] or {}):
        told = "it failed: attempts under way are being stopped, then what its steps did is undone"
        yield _reason(None, None, told, f"{NOTHING} but to say so" if people else f"{NOTHING}: it ends by itself", None)
    if undoing:
        asked = "a cancel was asked for; " if row["cancel_requested"] else ""
        told = f"{asked}what its steps did is being undone, {undoing[0].removesuffix(COMPENSATION_SUFFIX)} now"
        until = views.at((row["detail"] or {}).get(UNDOING_UNTIL))
        remedy = "nothing to do: it ends by itself once all is undone" + (", or then" if until else "")
        yield _reason(undoing[0], None, told, "nothing to do but to say so" if undoing[0] in people else remedy, until)


def _out(row: Mapping[str, Any], step: Mapping[str, Any], waits: set[str | None]) -> int | None:
    """Count what of a step is handed to workers: of a map any number, since each of its items may wait for its own thing.

    None where that is not on record: then nothing of the run waits, or its row was written before it was kept.
    """
    known = (row["detail"] or {}).get("at_workers")
    if step["items_total"] is not None and step["step"] not in waits and known is None:
        return None
    if step["items_total"] is not None:
        return int((known or {}).get(step["step"], 0))
    return int(step["step"] not in waits)


def _stops(row: Mapping[str, Any], step: Mapping[str, Any]) -> bool:
    """Tell whether what is under way of a step is being stopped, since the run comes to its end."""
    ending = row["cancel_requested"] or UNDOING_UNTIL in (row["detail"] or {})
    return bool(ending) and not step["step"].endswith(COMPENSATION_SUFFIX)


def _under_way(
    row: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], waits: set[str | None]
) -> Iterator[dict[str, Any]]:
    """Say of steps how far they are; a loop is as far as its body, and a map has items instead of an attempt at a worker."""
    for step in steps:
        name, out, stops = step["step"], _out(row, step, waits), _stops(row, step)
        if step["status"] != StepStatus.RUNNING or step["kind"] == LOOP or (out == 0 and (stops or name in waits)):
            continue
        remedy = NOTHING
        if step["items_total"] is None:
            told = f"step {name} runs, attempt {step['attempt']}" + (f", at {step['worker']}" if step["worker"] else "")
        else:
            does = "is being stopped" if stops else "rests" if out == 0 else "runs"
            told = f"step {name} {does}: {step['items_done']} of {step['items_total']} items are over"
            told += f", {out} {'is' if out == 1 else 'are'} with workers" if out else ""
            remedy += " but to resume the run" if out == 0 else ""
        yield _reason(name, None, told, remedy, None)


def _kind(kind: str, status: str) -> str:
    return "" if kind == status else f"{kind}: "


def _doubts(row: Mapping[str, Any], plan: Plan | None) -> Iterator[dict[str, Any]]:
    """Name what may have happened or not, and will not be asked about any more; of a child its own history has it."""
    names = (row["detail"] or {}).get("unknown_outcomes") or []
    families = {step.id for step in plan.steps if isinstance(step.body, SubWorkflowStep)} if plan is not None else set()
    own = [name for name in names if _step_of(name) not in families]
    below = [name for name in names if _step_of(name) in families]
    if own:
        told = f"whether {', '.join(own)} happened is unknown: the act was permitted, and nobody said what became of it"
        remedy = f"look at the outside system; `headrace runs effects {row['id']}` has worker, time and key"
        yield _reason(_step_of(own[0]), None, told, remedy, None)
    if below:
        told = f"whether all that {', '.join(below)} did happened is unknown: a child run says so"
        remedy = f"look which: `headrace runs show {row['id']}` names the child runs, `headrace runs explain` says it of each"
        yield _reason(_step_of(below[0]), None, told, remedy, None)


def _step_of(name: str) -> str:
    return name.partition("[")[0].partition("#")[0]


def _over(step: Mapping[str, Any]) -> bool:
    return step["status"] in STEP_FINAL


def _held(held: Sequence[Held], presence: Presence, waits: set[str | None]) -> list[dict[str, Any]]:
    """Say who performs which step, how far it is, and whether its worker is blocked; of many items of a map, one."""
    by_step: dict[str, list[Held]] = {}
    for each in held:
        by_step.setdefault(each.holding.step, []).append(each)
    found = []
    for step, of_step in sorted(by_step.items()):
        living = [each for each in of_step if not presence.silent(each.seen)]
        if living:
            found.append(_performed(step, sorted(living, key=_telling)))
        elif step not in waits:  # else its silence was proven, and what became of the attempt is known
            found.append(_silent(step, of_step[0]))
    return found


def _silent(step: str, held: Held) -> dict[str, Any]:
    worker = held.seen.beat.worker
    told = f"step {step} is with worker {worker}, of which nothing was heard since {views.at(held.seen.at)}"
    remedy = f"nothing to do: its attempt is lost once that silence is proven; or at once: `headrace workers rescue {worker}`"
    return _reason(step, None, told, remedy, None)


def _telling(held: Held) -> tuple[bool, bool, int]:
    return held.seen.beat.blocked is None, not held.holding.begun, held.holding.since


def _performed(step: str, held: Sequence[Held]) -> dict[str, Any]:
    first, worker = held[0].holding, held[0].seen.beat.worker
    since = views.at(first.since)
    others = f" ({len(held)} attempts in all)" if len(held) > 1 else ""
    if held[0].seen.beat.blocked is not None:
        told = f"step {step} is at worker {worker}, which is blocked {blocked_by(held[0].seen)}: it lives, so nothing is lost"
        remedy = f"mend the tool; or let others take its work: `headrace workers rescue {worker} --force`"
        return _reason(step, None, told + others, remedy, None)
    if not first.begun:
        told = f"step {step} waits since {since} in worker {worker}, whose {held[0].seen.beat.slots} slots are taken"
        return _reason(step, None, told + others, "nothing to do; more workers would take it sooner", None)
    progress = "" if first.progress is None else f": {round(first.progress * 100)}%"
    message = f" {first.message}" if first.message else ""
    told = f"step {step} is performed by worker {worker} since {since}{progress}{message}"
    return _reason(step, None, told + others, "nothing to do", None)


def _unknown(row: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> set[str | None]:
    """Name the steps of which people must say what happened; of a map the other items go on."""
    mapped = {step["step"] for step in steps if step["items_total"] is not None}
    waits = (row["detail"] or {}).get("waiting") or []
    return {each.get("step") for each in waits if each.get("for") == WaitingFor.INPUT} - mapped


def unserved_pools(
    row: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], plan: Plan | None, presence: Presence
) -> dict[str, list[str]]:
    """Give the pools that nobody serves, with the steps of a run whose work waits for them.

    While steps are being undone nothing else begins.
    """
    if plan is None:
        return {}
    pools, unknown = presence.pools(), _unknown(row, steps)
    over = {step["step"] for step in steps if _over(step)}
    begun = {step["step"] for step in steps} - over
    undo = [step for step in plan.compensations if step.id in begun]
    wanted: dict[str, list[str]] = {}
    for step in undo or plan.steps:
        if step.id not in over and step.id not in unknown and set(step.needs) <= over:
            pin = plan.tools.get(_tool(step))
            if pin is not None and pin.pool not in pools:
                wanted.setdefault(pin.pool, []).append(step.id)
    return wanted


def _in_line(steps: Sequence[Mapping[str, Any]], plan: Plan | None, presence: Presence) -> list[dict[str, Any]]:
    """Say of steps, or a map's items, that were handed to a served pool and no worker says it holds, what they wait for."""
    if plan is None:
        return []
    every = (*plan.steps, *plan.compensations)
    pool_of = {step.id: plan.tools[name].pool for step in every if (name := _tool(step)) in plan.tools}
    found = []
    for step in steps:
        pool = pool_of.get(step["step"], "")
        mapped = step["items_total"] is not None
        waits = step["status"] == (StepStatus.RUNNING if mapped else StepStatus.QUEUED)
        taking = presence.serving(pool) if pool and waits else []
        if taking:
            message, remedy = _handed(step["step"], pool, taking)
            over = f" ({step['items_done']} of {step['items_total']} items are over)" if mapped else ""
            found.append(_reason(step["step"], None, message + over, remedy, None))
    return found


def _handed(step: str, pool: str, taking: Sequence[Seen]) -> tuple[str, str]:
    """Say how full the pool is that a step was handed to, and what would move it."""
    slots = sum(seen.beat.slots for seen in taking)
    taken = min(slots, sum(each.begun for seen in taking for each in seen.beat.holding))
    workers = "1 worker" if len(taking) == 1 else f"{len(taking)} workers"
    if all(seen.beat.blocked is not None for seen in taking):
        who = f"worker {taking[0].beat.worker}, blocked {blocked_by(taking[0])}" + (
            f"; all {len(taking)} of them are" if len(taking) > 1 else ""
        )
        remedy = "nothing to do: it is taken when the worker goes on; another worker would take it sooner"
        return f"step {step} waits in line for the pool {pool!r}, which only blocked workers serve: {who}", remedy
    if taken >= slots:
        full = "the only slot of its only worker is" if slots == 1 else f"all {slots} slots of its {workers} are"
        message = f"step {step} waits in line for the pool {pool!r}: {full} taken"
        return message, "nothing to do: it is taken in its turn; more workers would take it sooner"
    message = f"step {step} was handed to the pool {pool!r} ({workers}, {taken} of {slots} slots taken), and none says yet that it performs it"
    return message, "nothing to do: a worker says so within seconds; if it stays so, `headrace doctor`"


def not_served(presence: Presence, pool: str) -> tuple[str, str]:
    """Say that nobody takes work of a pool, and what would change that."""
    draining = presence.draining(pool)
    if not draining:
        return f"no worker serves the pool {pool!r} ({_since(presence, pool)})", _start_worker(pool)
    names = f"worker {draining[0]}" + (f" and {len(draining) - 1} more" if len(draining) > 1 else "")
    message = f"no worker takes work of the pool {pool!r}: {names} {'drain' if len(draining) > 1 else 'drains'}"
    return message, f"`headrace workers resume {draining[0]}`; or {_start_worker(pool)}"


def _since(presence: Presence, pool: str) -> str:
    """Say since when none lives, as far as this process can know."""
    served_at = presence.pool_served_at(pool)
    if served_at is not None:
        return f"none alive since {views.at(served_at)}"
    return f"none was heard since this api began to listen at {views.at(presence.listening_since)}"


def _waiting(
    row: Mapping[str, Any],
    kept: Mapping[str, Any],
    flows: Mapping[str, Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    waits = str(kept.get("for") or "")
    if waits == WaitingFor.RETRY:
        paused = any(each.get("for") == WaitingFor.RESUME for each in row["detail"]["waiting"])
        of_step = next((step for step in steps if step["step"] == kept.get("step")), None)
        message, remedy = waiting.retried(kept, _last_error(of_step), paused=paused)
        return _reason(kept.get("step") or None, waits, message, remedy, views.at(kept.get("until")))
    if waits in flowing.WAITS:
        message, what, when = flowing.told(row["id"], kept, flows.get(str(kept.get("flow_id"))))
        return _reason(kept.get("step") or None, waits, message, what, when)
    message, remedy = waiting.told(row["id"], row["requester_name"], kept)
    return _reason(kept.get("step") or None, waits or None, message, remedy, views.at(kept.get("until")))


def _last_error(step: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Give the error of a step's last failed attempt; not of a map, whose items fail each in their own way."""
    tried = (step["detail"] or {}).get("attempts") if step is not None and step["items_total"] is None else None
    return tried[-1]["error"] if tried else None


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
