"""What an approval shows: its projection row, the answer to a decision, and why it is not moving (pure)."""

from collections.abc import Sequence
from typing import Any

from headrace import codec, ids
from headrace.decider import Reason, Row
from headrace.vocabulary import WaitingFor
from headrace_gatekeeper.approvals.react import wake_at
from headrace_gatekeeper.approvals.state import Approval


def row(state: Approval) -> Row | None:
    """Give the row of table `approvals`, which follows from the state alone."""
    opened = state.opened
    if opened is None:
        return None
    return Row(
        "approvals",
        {
            "id": state.id,
            "workspace": state.workspace,
            "partition": ids.partition_of(state.id),
            "version": state.version,
            "subject": opened.subject,
            "step": opened.step,
            "plan_digest": opened.plan_digest,
            "digest": opened.digest,
            "shown": codec.loads(opened.shown),
            "status": state.status.value,
            "roles": list(opened.roles),
            "quorum": opened.quorum,
            "decisions": _decisions(state),
            "requester_id": opened.requester.id,
            "requester_name": opened.requester.name,
            "reason": state.reason,
            "created_at": state.opened_at,
            "expires_at": opened.expires_at,
            "closed_at": state.closed_at,
            "wake_at": wake_at(state),
            "busy": state.untold,
        },
    )


def answer(state: Approval) -> dict[str, Any]:
    """Give the body that meets whoever decided: where the approval stands now."""
    opened = state.opened
    if opened is None:
        return {"id": state.id, "status": None}
    return {
        "id": state.id,
        "status": state.status.value,
        "subject": opened.subject,
        "step": opened.step,
        "plan_digest": opened.plan_digest,
        "digest": opened.digest,
        "roles": list(opened.roles),
        "quorum": opened.quorum,
        "decisions": _decisions(state),
        "reason": state.reason,
        "expires_at": opened.expires_at,
    }


def explain(state: Approval) -> Sequence[Reason]:
    """Say whom it waits for."""
    opened = state.opened
    if opened is None or state.closed:
        return ()
    missing = opened.quorum - len(state.approvers)
    people = "one more person" if missing == 1 else f"{missing} more people"
    role = " or ".join(opened.roles)
    return (
        Reason(
            waiting_for=WaitingFor.APPROVAL.value,
            message=f"waits for {people} with the role {role}; {opened.requester.name}, who asked, does not count",
            remedy=f"headrace approvals approve {state.id}",
            step=opened.step or None,
            until=opened.expires_at,
        ),
    )


def _decisions(state: Approval) -> list[dict[str, Any]]:
    return [
        {
            "id": decision.by.id,
            "name": decision.by.name,
            "action": decision.action,
            "digest": decision.digest,
            "reason": decision.reason,
            "at": decision.at,
        }
        for decision in state.decisions
    ]
