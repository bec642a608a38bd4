"""Projection rows as the bodies that callers meet (pure): snake_case, RFC 3339 times, statuses of VOCABULARY."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from headrace.log.tables import TABLES
from headrace.plans.model import Plan
from headrace.vocabulary import INLINE_BYTES_MAX, PREVIEW_CHARS, StepStatus

Row = Mapping[str, Any]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
RESULT_FIELDS: Final = frozenset({"step", "status", "attempt_id", "output", "output_preview", "error", "evidence"})
STARTED: Final = frozenset({"succeeded", "failed", "cancelled", "running", "waiting"})
DOWNLOAD: Final = "/api/artifacts/"
AFTER: Final = "\x00after"
"""Where an item carries its cursor until the page is made."""


def at(millis: int | None) -> str | None:
    """Write milliseconds since 1970 as RFC 3339 in UTC."""
    if millis is None:
        return None
    return (EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def error(row: Row) -> dict[str, Any] | None:
    """Give the error columns of a run or step as an error."""
    if not row.get("error_type"):
        return None
    detail = row.get("detail") or {}
    full = detail.get("error") or {"details": detail.get("error_details")}
    return {
        "type": row["error_type"],
        "message": row.get("error_message") or "",
        "details": full.get("details") or {},
        "plugin": full.get("plugin"),
    }


def waiting(reasons: Sequence[Row]) -> list[dict[str, Any]]:
    """Give what a run waits for."""
    return [{**reason, "until": at(reason.get("until")), **_evidence_of(reason)} for reason in reasons]


def _evidence_of(reason: Row) -> dict[str, Any]:
    known = reason.get("evidence")
    return {"evidence": {**known, "claimed_at": at(known.get("claimed_at"))}} if known else {}


def run(row: Row) -> dict[str, Any]:
    """Give a run as it stands in a list."""
    return {
        "id": row["id"],
        "status": row["status"],
        "waiting_for": row["waiting_for"],
        "kind": row["kind"],
        "name": row["name"],
        "workflow": row["workflow"],
        "workflow_version": row["workflow_version"],
        "plan_digest": row["plan_digest"],
        "inputs_digest": row["inputs_digest"],
        "error": error(row),
        "attempt": row["attempt"],
        "retry_of": row["retry_of"],
        "rerun_from": (row["detail"] or {}).get("rerun_from"),
        "requester": {"id": row["requester_id"], "name": row["requester_name"]},
        "subject": row["subject"],
        "stage": row["stage"],
        "labels": row["labels"] or {},
        "cancel_requested": bool(row["cancel_requested"]),
        "workers_active": bool(row["workers_active"]),
        "created_at": at(row["created_at"]),
        "started_at": at(row["started_at"]),
        "finished_at": at(row["finished_at"]),
        "steps_total": row["steps_total"],
        "steps_done": row["steps_done"],
    }


def run_whole(row: Row, steps: Sequence[Row]) -> dict[str, Any]:
    """Give a run with its inputs, outputs, steps and what it waits for."""
    detail = row["detail"] or {}
    return {
        **run(row),
        "inputs": detail.get("inputs"),
        "trigger": detail.get("trigger"),
        "outputs": detail.get("outputs"),
        "waiting": waiting(detail.get("waiting") or []),
        "connections": detail.get("connections") or [],
        "steps": [step(each) for each in in_order(steps)],
    }


def in_order(steps: Sequence[Row]) -> list[Row]:
    """Put the steps of a run into the order of its plan."""
    return sorted(steps, key=lambda row: (row["ordinal"], row["step"]))


def with_pending(steps: Sequence[Row], plan: Plan | None, *, run_over: bool) -> list[Row]:
    """Add the steps that have not begun, from the plan, in its order; those of a run that is over never will."""
    begun = {row["step"] for row in steps}
    planned = plan.steps if plan is not None else ()
    places = {each.id: place for place, each in enumerate(planned)}
    found: list[Row] = [{**row, "ordinal": places.get(row["step"], row["ordinal"])} for row in steps]
    for each in planned:
        if each.id not in begun:
            blank: dict[str, Any] = dict.fromkeys(TABLES["steps"].columns)
            status = StepStatus.CANCELLED if run_over else StepStatus.PENDING
            found.append(
                {
                    **blank,
                    "step": each.id,
                    "kind": each.shown_kind,
                    "status": status,
                    "attempt": 0,
                    "ordinal": places[each.id],
                }
            )
    return found


def step(row: Row) -> dict[str, Any]:
    """Give a step of a run; a large output as a preview marked as such, and where the whole is."""
    detail = row["detail"] or {}
    large = row["blob"] is not None or (row["output_bytes"] or 0) > INLINE_BYTES_MAX
    return {
        "step": row["step"],
        "kind": row["kind"],
        "status": row["status"],
        "attempt": row["attempt"],
        "attempt_id": row["attempt_id"],
        "worker": row["worker"],
        "started_at": at(row["started_at"]),
        "finished_at": at(row["finished_at"]),
        "items_total": row["items_total"],
        "items_done": row["items_done"],
        "items_failed": row["items_failed"],
        "error": error(row),
        "output": None if large else row["output"],
        "output_preview": preview(row) if large else None,
        "reason": detail.get("reason"),
        "evidence": evidence(detail.get("evidence")),
        "arguments_digest": detail.get("arguments_digest"),
        "approval_id": detail.get("approval_id"),
        "due_at": at(detail.get("due_at")),
        "failed_items": detail.get("failed_items") or {},
        "attempts": [attempt(each) for each in detail.get("attempts") or []],
        "reused_from": detail.get("reused_from"),
    }


def attempt(kept: Row) -> dict[str, Any]:
    """Give a failed attempt of a step."""
    return {name: at(value) if name.endswith("_at") else value for name, value in kept.items()}


def lineage(row: Row) -> dict[str, Any]:
    """Give a run that did another one again."""
    return {
        "id": row["id"],
        "status": row["status"],
        "attempt": row["attempt"],
        "rerun_from": (row["detail"] or {}).get("rerun_from"),
        "created_at": at(row["created_at"]),
    }


def preview(row: Row) -> dict[str, Any]:
    """Give the beginning of a large output, marked as a preview, and where the whole is downloaded."""
    kept, digest = row["output"], row["blob"]
    text = kept.get("preview", "") if isinstance(kept, Mapping) else kept
    return {
        "preview": True,
        "text": text[:PREVIEW_CHARS] if isinstance(text, str) else "",
        "digest": digest,
        "size_bytes": row["output_bytes"],
        "download": f"{DOWNLOAD}{digest}" if digest else f"/api/runs/{row['run_id']}/steps/{row['step']}/output",
    }


def evidence(kept: Row | None) -> dict[str, Any] | None:
    """Give where a result came from."""
    if not kept:
        return None
    return {**kept, "fetched_at": at(kept.get("fetched_at"))}


def result(row: Row, steps: Sequence[Row], outputs: object) -> dict[str, Any]:
    """Give the result of a finished run: its outputs, what each step gave, and of a dashboard one result per view."""
    return {
        "id": row["id"],
        "status": row["status"],
        "error": error(row),
        "outputs": outputs,
        "started_at": at(row["started_at"]),
        "finished_at": at(row["finished_at"]),
        "steps": [
            {name: value for name, value in step(each).items() if name in RESULT_FIELDS}
            for each in in_order(steps)
            if each["status"] in STARTED
        ],
        "views": outputs if row["kind"] == "Dashboard" else None,
    }


def artifact(row: Row) -> dict[str, Any]:
    """Give a kept output; `uri` is where it is: its own path or url, or where its body is downloaded."""
    value, blob = row["value"], row["blob"]
    return {
        "id": row["id"],
        "run_id": row["run_id"],
        "step": row["step"],
        "item": row["item"],
        "attempt_id": row["attempt_id"],
        "type": row["type"],
        "label": row["label"],
        "value": value,
        "uri": value if isinstance(value, str) else (f"{DOWNLOAD}{blob}" if blob else f"{DOWNLOAD}{row['id']}"),
        "digest": blob,
        "download": f"{DOWNLOAD}{blob or row['id']}",
        "size_bytes": row["size_bytes"],
        "media_type": row["media_type"],
        "subject": row["subject"],
        "created_at": at(row["created_at"]),
    }


def approval(row: Row) -> dict[str, Any]:
    """Give an approval with exactly what is decided on, and its digest."""
    return {
        "id": row["id"],
        "status": row["status"],
        "run_id": row["subject"] if str(row["subject"]).startswith("run_") else None,
        "subject": row["subject"],
        "step": row["step"],
        "plan_digest": row["plan_digest"],
        "digest": row["digest"],
        "shown": row["shown"],
        "roles": row["roles"] or [],
        "quorum": row["quorum"],
        "decisions": [decision(each) for each in row["decisions"] or []],
        "requester": {"id": row["requester_id"], "name": row["requester_name"]},
        "reason": row["reason"],
        "created_at": at(row["created_at"]),
        "expires_at": at(row["expires_at"]),
        "closed_at": at(row["closed_at"]),
    }


def decision(kept: Row) -> dict[str, Any]:
    """Give one person's decision."""
    return {name: at(value) if name == "at" and isinstance(value, int) else value for name, value in kept.items()}


def plan(row: Row) -> dict[str, Any]:
    """Give a recorded plan as it stands in a list."""
    return {
        "digest": row["digest"],
        "name": row["name"],
        "kind": row["kind"],
        "gated": bool(row["gated"]),
        "authorization": authorization(row),
        "created_at": at(row["created_at"]),
        "created_by": row["created_by"],
    }


def authorization(row: Row) -> dict[str, Any]:
    """Give how far a plan's standing authorisation is: none, pending, approved, rejected or expired."""
    return {
        "status": row["authorization"] or "none",
        "approval_id": row["approval_id"],
        "decided_by": row["decided_by"] or [],
        "reason": row["reason"],
    }


def workflow(row: Row) -> dict[str, Any]:
    """Give a workflow as it stands in a list."""
    return {
        "id": row["id"],
        "name": row["name"],
        "kind": row["kind"],
        "version": row["version"],
        "plan_digest": row["plan_digest"],
        "valid": not row["problems"],
        "problems": row["problems"] or [],
        "triggers": row["triggers"] or [],
        "labels": row["labels"] or {},
        "updated_at": at(row["updated_at"]),
        "updated_by": row["updated_by"],
    }


def workflow_whole(row: Row) -> dict[str, Any]:
    """Give a workflow with its document."""
    return {**workflow(row), "spec": row["spec"]}


def token(row: Row) -> dict[str, Any]:
    """Give an access token, never its secret nor the hash of it."""
    return {
        "id": row["id"],
        "name": row["name"],
        "roles": row["roles"] or [],
        "created_at": at(row["created_at"]),
        "created_by": row["created_by"],
        "revoked_at": at(row["revoked_at"]),
    }


def connection(row: Row) -> dict[str, Any]:
    """Give a connection; of its secrets only their names."""
    return {
        "name": row["name"],
        "integration": row["integration"],
        "settings": row["settings"] or {},
        "secrets": sorted(row["secrets"] or {}),
        "status": row["status"],
        "updated_at": at(row["updated_at"]),
        "updated_by": row["updated_by"],
    }


def page(items: Sequence[dict[str, Any]], limit: int, cursor: str = AFTER) -> dict[str, Any]:
    """Make a page of at most `limit` of `items` (read with one more); `cursor` names the item field to go on after."""
    shown = items[:limit]
    after = str(shown[-1][cursor]) if len(items) > limit else None
    return {
        "items": [{name: value for name, value in item.items() if name != AFTER} for item in shown],
        "next_cursor": after,
    }
