"""Acting on a run: cancel, start, pause, resume, settle, retry, rerun, purge, and deciding on what it waits for."""

import re
from typing import Any, Final

from fastapi import APIRouter, Response

from headrace import codec, errors
from headrace.envelope import Message
from headrace.messages import CancelRun, CreateRun, DecideApproval, StartRun
from headrace.steering import PauseRun, PurgeRun, ResumeRun, SettleOutcome, SignalRun
from headrace.vocabulary import LOG_APPROVALS, LOG_RUNS, RUN_FINAL, RunStatus
from headrace_api import shapes, starting, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Asking, says
from headrace_api.bodies import ACTIONS, ActionBody
from headrace_api.routes.runs import created, queued, run_row

router = APIRouter(tags=["runs"])
INSTANCE: Final = re.compile(r"^(?P<step>[^#\[\]]+)(?:#\d+)?(?:\[(?P<index>\d{1,9})\])?$")


@router.post("/runs/{run_id}", name="act_on_run", responses=says(shapes.WholeRun, 200, [202]))
async def act_on_run(asked: Asked, run_id: str, body: ActionBody) -> Response:
    """Act on a run: cancel, start, pause, resume, settle, signal, retry or rerun (a new run), purge, approve or reject."""
    action = body.action.lower()
    if action not in ACTIONS:
        message = f"unknown action {body.action!r}; known are: {', '.join(ACTIONS)}"
        raise errors.ValidationError(message, details={"field": "action"})
    _only_its_own(action, body)
    row = await run_row(asked, run_id)
    if action in {"approve", "reject"}:
        return await _decide(asked, row, body, action)
    asked.caller.require("create_run", "POST")
    if action in {"retry", "rerun"}:
        return await created(asked, await again(asked, row, body))
    command = _signal(asked, body) if action == "signal" else _command(action, body)
    await asked.send(LOG_RUNS, command, stream_id=run_id)
    if action == "purge":
        return answer(views.run_whole(row, []))  # as it was: there is nothing of it any more
    now = await run_row(asked, run_id)
    return answer(views.run_whole(now, await starting.steps_of(asked, run_id)))


SPELLED: Final = {"from_step": "from"}
"""How a request spells a field that is named otherwise here."""
FIELDS_OF: Final = {
    "from_step": {"rerun"},
    "inputs": {"rerun"},
    "step": {"settle"},
    "index": {"settle"},
    "answer": {"settle"},
    "output": {"settle"},
    "name": {"signal"},
    "data": {"signal"},
    "signal_id": {"signal"},
    "digest": {"approve", "reject"},
}


def _only_its_own(action: str, body: ActionBody) -> None:
    """Refuse a field that means nothing for this action, since its sender believes that it does."""
    for name, actions in FIELDS_OF.items():
        if name in body.model_fields_set and action not in actions:
            field = SPELLED.get(name, name)
            message = f"the action {action!r} takes no {field!r}; it goes with: {', '.join(sorted(actions))}"
            raise errors.ValidationError(message, details={"field": field})


def _command(action: str, body: ActionBody) -> Message:
    match action:
        case "cancel":
            return CancelRun(reason=body.reason)
        case "start":
            return StartRun()
        case "pause":
            return PauseRun(reason=body.reason)
        case "resume":
            return ResumeRun()
        case "purge":
            return PurgeRun(reason=body.reason)
        case _:
            return _settling(body)


def _signal(asked: Asking, body: ActionBody) -> SignalRun:
    """Make a signal; without an id of its own the Idempotency-Key tells a repeat."""
    if body.name is None:
        message = "signal needs the name that a step waits for: `name`"
        raise errors.MissingArgumentError(message, details={"field": "name"})
    return SignalRun(name=body.name, signal_id=body.signal_id or asked.key, data=codec.raw(body.data))


def _settling(body: ActionBody) -> SettleOutcome:
    if body.step is None or body.answer is None:
        message = "settle needs the step and the answer: happened (with its output), not_happened or give_up"
        raise errors.MissingArgumentError(message, details={"field": "step" if body.step is None else "answer"})
    named = INSTANCE.match(body.step)
    if named is None:
        message = f"{body.step!r} names no step; write `notify`, or `notify[3]` for an item of a map"
        raise errors.ValidationError(message, details={"field": "step"})
    index = int(named["index"]) if named["index"] is not None else body.index
    answer_ = body.answer.lower().replace("-", "_")
    return SettleOutcome(
        step=named["step"], index=index, answer=answer_, output=codec.raw(body.output), reason=body.reason
    )


async def again(asked: Asking, row: dict[str, Any], body: ActionBody) -> CreateRun:
    """Make the run that does an earlier one again: all of it, or (`rerun`) from a step on."""
    rerun = body.action.lower() == "rerun"
    if not rerun and row["status"] not in {RunStatus.FAILED, RunStatus.CANCELLED}:
        message = f"Can only retry failed or cancelled runs; {row['id']} is {row['status']}"
        raise errors.ConflictError(message, details={"status": row["status"]})
    if rerun and row["status"] not in RUN_FINAL:
        message = f"Can only rerun runs that are over; {row['id']} is {row['status']}"
        raise errors.ConflictError(message, details={"status": row["status"]})
    if rerun and not body.from_step:
        message = "rerun needs the step from which to perform anew: `from`"
        raise errors.MissingArgumentError(message, details={"field": "from"})
    first, inputs = await queued(asked, row["id"])
    return CreateRun(
        plan_digest=first.plan_digest,
        inputs=codec.raw({**inputs, **body.inputs}) if body.inputs else first.inputs,
        workflow=first.workflow,
        workflow_version=first.workflow_version,
        trigger=first.trigger,
        subject=first.subject,
        stage=first.stage,
        labels=first.labels,
        priority=first.priority,
        attempt=row["attempt"] + 1,
        retry_of=row["id"],
        rerun_from=body.from_step if rerun else None,
    )


async def _decide(asked: Asking, row: dict[str, Any], body: ActionBody, action: str) -> Response:
    """Decide on the one approval that a run waits for (row 55: a run that waits for none says how it stands)."""
    where = {"workspace": asked.workspace, "subject": row["id"], "status": "pending"}
    open_ones = await asked.desk.log.rows("approvals", where, limit=2)
    if not open_ones:
        message = f"run {row['id']} is {row['status']}, not waiting for an approval"
        raise errors.ConflictError(message, details={"status": row["status"], "waiting_for": row["waiting_for"]})
    if len(open_ones) > 1 or body.digest is None:
        message = f"decide by POST /api/approvals/{open_ones[0]['id']} with the digest of what it shows"
        told = {"field": "digest", "approvals": [each["id"] for each in open_ones]}
        raise errors.MissingArgumentError(message, details=told)
    command = DecideApproval(action=action, digest=body.digest, reason=body.reason)
    await asked.send(LOG_APPROVALS, command, stream_id=open_ones[0]["id"])
    now = await run_row(asked, row["id"])
    return answer(views.run_whole(now, await starting.steps_of(asked, row["id"])))
