"""What an approval remembers of its events (pure)."""

from typing import assert_never

from headrace.events.approvals import ApprovalClosed, ApprovalEvent, ApprovalOpened, DecisionMade, OutcomeReceived
from headrace.vocabulary import ApprovalStatus
from headrace_gatekeeper.approvals.state import Approval, Decision


def evolve(state: Approval, event: ApprovalEvent, at: int) -> Approval:
    """Remember an event that happened at `at`; updates the state in place."""
    state.version += 1
    match event:
        case ApprovalOpened():
            state.opened = event
            state.opened_at = at
        case DecisionMade(by=by, action=action, digest=digest, reason=reason):
            state.decisions.append(Decision(by=by, action=action, digest=digest, reason=reason, at=at))
        case ApprovalClosed(status=status, reason=reason):
            state.status = ApprovalStatus(status)
            state.reason = reason
            state.closed_at = at
        case OutcomeReceived():
            state.received = True
        case _:
            assert_never(event)
    return state
