"""The projection tables: one name for each column, its type, and each table's key (pure).

Postgres has them in its migrations (a test holds the two together); the memory twin keeps rows by the key. A row
belongs to one partition. Times are milliseconds since 1970. `json` columns hold any JSON value. The first table of each
log carries `wake_at` and `busy`, which make timers, repeats and a new owner's start bounded, indexed queries.
"""

from hashlib import sha256
from typing import Final

import msgspec

from headrace.vocabulary import LOG_APPROVALS, LOG_CATALOGUE, LOG_FLOW, LOG_RUNS


class Table(msgspec.Struct, frozen=True):
    """A projection table. `moving`: the columns that can change once a row is there; empty: any."""

    log: str
    key: tuple[str, ...]
    columns: dict[str, str]
    moving: tuple[str, ...] = ()


TABLES: Final[dict[str, Table]] = {
    "runs": Table(
        log=LOG_RUNS,
        key=("id",),
        columns={
            "id": "text",
            "workspace": "text",
            "partition": "int",
            "version": "int",
            "kind": "text",
            "name": "text",
            "workflow": "text",
            "workflow_version": "int",
            "plan_digest": "text",
            "inputs_digest": "text",
            "status": "text",
            "waiting_for": "text",
            "error_type": "text",
            "error_message": "text",
            "attempt": "int",
            "retry_of": "text",
            "requester_id": "text",
            "requester_name": "text",
            "subject": "text",
            "stage": "text",
            "labels": "json",
            "cancel_requested": "bool",
            "workers_active": "bool",
            "created_at": "bigint",
            "started_at": "bigint",
            "finished_at": "bigint",
            "steps_total": "int",
            "steps_done": "int",
            "detail": "json",
            "wake_at": "bigint",
            "busy": "bool",
        },
        moving=(
            "version",
            "status",
            "waiting_for",
            "error_type",
            "error_message",
            "cancel_requested",
            "started_at",
            "finished_at",
            "steps_done",
            "detail",
            "wake_at",
            "busy",
        ),
    ),
    "steps": Table(
        log=LOG_RUNS,
        key=("run_id", "step"),
        columns={
            "run_id": "text",
            "step": "text",
            "workspace": "text",
            "ordinal": "int",
            "kind": "text",
            "status": "text",
            "attempt": "int",
            "attempt_id": "text",
            "worker": "text",
            "started_at": "bigint",
            "finished_at": "bigint",
            "items_total": "int",
            "items_done": "int",
            "items_failed": "int",
            "error_type": "text",
            "error_message": "text",
            "output": "json",
            "blob": "text",
            "output_bytes": "bigint",
            "detail": "json",
        },
    ),
    "artifacts": Table(
        log=LOG_RUNS,
        key=("id",),
        columns={
            "id": "text",
            "workspace": "text",
            "run_id": "text",
            "step": "text",
            "item": "int",
            "attempt_id": "text",
            "type": "text",
            "label": "text",
            "value": "json",
            "body": "json",
            "blob": "text",
            "size_bytes": "bigint",
            "media_type": "text",
            "subject": "text",
            "created_at": "bigint",
        },
    ),
    "approvals": Table(
        log=LOG_APPROVALS,
        key=("id",),
        columns={
            "id": "text",
            "workspace": "text",
            "partition": "int",
            "version": "int",
            "subject": "text",
            "step": "text",
            "plan_digest": "text",
            "digest": "text",
            "shown": "json",
            "status": "text",
            "roles": "json",
            "quorum": "int",
            "decisions": "json",
            "requester_id": "text",
            "requester_name": "text",
            "reason": "text",
            "created_at": "bigint",
            "expires_at": "bigint",
            "closed_at": "bigint",
            "wake_at": "bigint",
            "busy": "bool",
        },
    ),
    "plans": Table(
        log=LOG_CATALOGUE,
        key=("id",),
        columns={
            "id": "text",
            "workspace": "text",
            "partition": "int",
            "version": "int",
            "digest": "text",
            "name": "text",
            "kind": "text",
            "gated": "bool",
            "authorization": "text",
            "approval_id": "text",
            "decided_by": "json",
            "reason": "text",
            "created_at": "bigint",
            "created_by": "text",
            "wake_at": "bigint",
            "busy": "bool",
        },
    ),
    "workflows": Table(
        log=LOG_CATALOGUE,
        key=("id",),
        columns={
            "id": "text",
            "workspace": "text",
            "name": "text",
            "kind": "text",
            "version": "int",
            "plan_digest": "text",
            "problems": "json",
            "spec": "json",
            "triggers": "json",
            "labels": "json",
            "updated_at": "bigint",
            "updated_by": "text",
        },
    ),
    "tools": Table(
        log=LOG_CATALOGUE,
        key=("id",),
        columns={
            "id": "text",
            "workspace": "text",
            "name": "text",
            "version": "text",
            "digest": "text",
            "kind": "text",
            "effect": "text",
            "access": "text",
            "pool": "text",
            "manifest": "json",
            "announced_at": "bigint",
            "worker": "text",
        },
    ),
    "tokens": Table(
        log=LOG_CATALOGUE,
        key=("id",),
        columns={
            "id": "text",
            "workspace": "text",
            "name": "text",
            "roles": "json",
            "secret_hash": "text",
            "created_at": "bigint",
            "created_by": "text",
            "revoked_at": "bigint",
        },
    ),
    "connections": Table(
        log=LOG_CATALOGUE,
        key=("id",),
        columns={
            "id": "text",
            "workspace": "text",
            "name": "text",
            "integration": "text",
            "settings": "json",
            "secrets": "json",
            "status": "text",
            "updated_at": "bigint",
            "updated_by": "text",
            "deleted": "bool",
        },
    ),
    "flows": Table(
        log=LOG_FLOW,
        key=("id",),
        columns={
            "id": "text",
            "workspace": "text",
            "partition": "int",
            "version": "int",
            "kind": "text",
            "key": "text",
            "limit": "int",
            "period_ms": "bigint",
            "held": "int",
            "queued": "int",
            "detail": "json",
            "updated_at": "bigint",
            "wake_at": "bigint",
            "busy": "bool",
        },
    ),
    "children": Table(
        log=LOG_RUNS,
        key=("id",),
        columns={
            "id": "text",
            "workspace": "text",
            "parent_id": "text",
            "step": "text",
            "item": "int",
            "iteration": "int",
            "attempt": "int",
            "depth": "int",
            "created_at": "bigint",
        },
    ),
    "waits": Table(
        log=LOG_RUNS,
        key=("id",),
        columns={
            "id": "text",
            "run_id": "text",
            "step": "text",
            "workspace": "text",
            "name": "text",
            "open": "bool",
        },
    ),
}

LAYOUT: Final = sha256(repr([(name, [*table.columns.items()]) for name, table in TABLES.items()]).encode()).hexdigest()
"""Names the tables, their columns and the order of these: who names another one has rows of another shape."""
MAIN: Final = {LOG_RUNS: "runs", LOG_APPROVALS: "approvals", LOG_CATALOGUE: "plans", LOG_FLOW: "flows"}
"""The table of each log that carries `partition`, `wake_at` and `busy`."""
PURGED: Final = "run.purged"
"""The event with which the rows of a run go, in the same append."""
OF_A_RUN: Final = {"runs": "id", "steps": "run_id", "artifacts": "run_id", "children": "id", "waits": "run_id"}
"""The tables whose rows a purged run loses, and the column that names it."""
