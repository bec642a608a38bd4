"""What a definition shows: projection rows, the answer to a command, and why it is not moving (pure)."""

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from headrace import codec, ids
from headrace.decider import Reason, Row
from headrace.vocabulary import WaitingFor
from headrace_planner.catalogue.react import wake_at
from headrace_planner.catalogue.state import (
    PENDING,
    Connection,
    Definition,
    Plan,
    Token,
    Tool,
    Workflow,
)

ACTIVE = "active"
MISSING = "missing"


def row(state: Definition) -> Row | None:
    """Give the one row of a definition, which follows from the state alone."""
    common = {"id": state.id, "workspace": state.workspace}
    match state.thing:
        case None:
            return None
        case Workflow() as workflow:
            return Row("workflows", common | _workflow(state, workflow))
        case Plan() as plan:
            return Row("plans", common | _plan(state, plan))
        case Tool() as tool:
            return Row("tools", common | _tool(state, tool))
        case Token() as token:
            return Row("tokens", common | _token(state, token))
        case Connection() as connection:
            return Row("connections", common | _connection(state, connection))
        case _:
            assert_never(state.thing)


def answer(state: Definition) -> dict[str, Any]:
    """Give the body that the caller of a command meets: what the definition says now, never a secret's hash."""
    shown = row(state)
    if shown is None:
        return {"id": state.id}
    hidden = {"secret_hash", "spec", "manifest", "partition", "wake_at", "busy"}
    return {name: value for name, value in shown.columns.items() if name not in hidden}


def explain(state: Definition) -> Sequence[Reason]:
    """Say what a plan waits for whose authorisation is pending."""
    plan = state.thing
    if not isinstance(plan, Plan) or plan.authorization is None or plan.authorization.status != PENDING:
        return ()
    request = plan.authorization.request
    return (
        Reason(
            waiting_for=WaitingFor.APPROVAL.value,
            message=f"the authorisation of {request.digest} waits for {request.quorum} with {' or '.join(request.roles)}",
            remedy=f"headrace approvals approve {request.approval_id}",
        ),
    )


def _workflow(state: Definition, workflow: Workflow) -> dict[str, Any]:
    applied = workflow.applied
    document = codec.loads(applied.spec)
    return {
        "name": applied.name,
        "kind": applied.kind,
        "version": applied.version,
        "plan_digest": workflow.plan_digest,
        "problems": list(workflow.problems),
        "spec": document,
        "triggers": _within(document, "spec", "triggers") or [],
        "labels": _within(document, "metadata", "labels") or {},
        "updated_at": state.updated_at,
        "updated_by": state.updated_by,
    }


def _plan(state: Definition, plan: Plan) -> dict[str, Any]:
    asked = plan.authorization
    return {
        "partition": ids.partition_of(state.id),
        "version": state.version,
        "digest": plan.recorded.digest,
        "name": plan.recorded.name,
        "kind": plan.recorded.kind,
        "gated": plan.recorded.gated,
        "authorization": plan.standing,
        "approval_id": asked.request.approval_id if asked else None,
        "decided_by": [{"id": actor.id, "name": actor.name} for actor in asked.by] if asked else [],
        "reason": asked.reason if asked else "",
        "created_at": state.created_at,
        "created_by": plan.recorded.by.name,
        "wake_at": wake_at(state),
        "busy": plan.unheard is not None,
    }


def _tool(state: Definition, tool: Tool) -> dict[str, Any]:
    manifest = tool.announced.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": tool.announced.digest,
        "kind": manifest.kind,
        "effect": manifest.effect,
        "access": manifest.access,
        "pool": manifest.pool,
        "manifest": msgspec.to_builtins(manifest),
        "announced_at": state.updated_at,
        "worker": tool.announced.worker,
    }


def _token(state: Definition, token: Token) -> dict[str, Any]:
    return {
        "name": token.created.name,
        "roles": list(token.created.roles),
        "secret_hash": token.created.secret_hash,
        "created_at": state.created_at,
        "created_by": token.created.by.name,
        "revoked_at": token.revoked_at,
    }


def _connection(state: Definition, connection: Connection) -> dict[str, Any]:
    saved = connection.saved
    return {
        "name": saved.name,
        "integration": saved.integration,
        "settings": saved.settings,
        "secrets": saved.secrets,
        "status": MISSING if connection.deleted else ACTIVE,
        "updated_at": state.updated_at,
        "updated_by": state.updated_by,
        "deleted": connection.deleted,
    }


def _within(document: Any, *path: str) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document
