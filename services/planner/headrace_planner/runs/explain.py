"""Why a run is not moving, from what it remembers alone (pure)."""

from collections.abc import Sequence

from headrace.decider import Reason
from headrace.vocabulary import HANDED_BACK_AT_ONCE_MAX, HANDED_BACK_MAX, Automation, StepStatus, WaitingFor
from headrace_planner.runs import children, permits, undo, waits, work
from headrace_planner.runs.kept import Try
from headrace_planner.runs.settling import question
from headrace_planner.runs.state import Run


def explain(run: Run) -> Sequence[Reason]:
    """Give every reason; none for a run that is over or moves by itself."""
    if not run.exists or run.final:
        return ()
    data = run.data
    if not data.begun and run.queued.automation == Automation.HUMAN_APPROVAL:
        remedy = f"headrace runs start {data.id}"
        return (Reason(WaitingFor.START, "The run waits for a person to start it.", remedy),)
    reasons: list[Reason] = []
    if data.cancel is not None:
        message = f"{data.cancel.by.name} asked to cancel; attempts under way are being stopped."
        reasons.append(Reason("cancel", message, "wait: it ends by itself"))
    if data.undo is not None and data.undo.item is not None:
        done = run.label((data.undo.item.step, data.undo.item.index))
        message = f"The run {'was cancelled' if data.undo.by else 'failed'}; {done} is being undone, {work.count(run)} more follow."
        step_id = run.graph.undo[data.undo.item.step]
        reasons.append(
            Reason("compensation", message, "wait: it ends by itself, at the latest then", step_id, undo.deadline(run))
        )
    if data.paused is not None and not run.halted:
        why = f" ({data.paused.reason})" if data.paused.reason else ""
        parent = data.paused.parent_id
        who = f"parent {parent}, which {data.paused.by.name} paused" if parent else data.paused.by.name
        message = f"Paused by {who}{why}: nothing new begins."
        reasons.append(Reason(WaitingFor.RESUME, message, f"headrace runs resume {parent or data.id}"))
    for ask in () if run.halted else run.asked():
        who = " or ".join(ask.roles)
        what = f"step {ask.step!r}" if ask.step else "the run's gated tools"
        message = f"Waiting for approval of {what} by {ask.quorum} {who} other than {run.queued.requester.name}."
        remedy = f"headrace approvals approve {ask.approval_id}"
        reasons.append(Reason(WaitingFor.APPROVAL, message, remedy, step=ask.step or None, until=ask.expires_at))
    reasons.extend(permits.reasons(run))
    reasons.extend(() if run.halted else waits.reasons(run))
    reasons.extend(children.reasons(run))
    for step_id, known in run.going():
        if known.status == StepStatus.WAITING and known.due_at is not None and not run.halted:
            reasons.append(
                Reason(WaitingFor.TIMER, f"Step {step_id!r} waits for its time.", "wait", step_id, known.due_at)
            )
    reasons.extend(_under_way(run))
    return reasons


def handed_back(trial: Try) -> str:
    """Say how often leaving workers have handed an attempt back, once that holds it up."""
    held_up = trial.returned >= HANDED_BACK_AT_ONCE_MAX
    return f", handed back {trial.returned} times of at most {HANDED_BACK_MAX}" if held_up else ""


def _under_way(run: Run) -> list[Reason]:
    reasons: list[Reason] = []
    pools: dict[str, list[str]] = {}
    for step_id, index in run.under_way():
        trial = run.trial((step_id, index))
        name = run.label((step_id, index))
        if trial is not None and trial.unknown is not None:
            option = "--happened [--output JSON] | --not-happened | --give-up"
            remedy = f"headrace runs settle {run.data.id} {name} {option}"
            reasons.append(Reason(WaitingFor.INPUT, question(run, trial.unknown), remedy, step_id))
        elif trial is not None and trial.retry_at is not None:
            message = f"{name} waits to be tried again (attempt {trial.attempt}{handed_back(trial)})."
            reasons.append(Reason(WaitingFor.RETRY, message, "wait", step_id, trial.retry_at))
        elif trial is None or not trial.idle:
            back = handed_back(trial) if trial is not None else ""
            pools.setdefault(run.graph.pins[step_id].pool, []).append(name + back)
    for pool, names in pools.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004  (a taste)
        message = f"{shown}: handed to pool {pool!r}, not yet reported."
        reasons.append(
            Reason(
                "worker",
                message,
                f"see `headrace workers` for workers of pool {pool!r}",
                step=names[0].partition(",")[0].partition("[")[0],
            )
        )
    return reasons
