"""Events of an approval (log `approvals`, written by the gatekeeper) (pure)."""

from headrace.codec import Raw
from headrace.events.base import Actor, Event


class ApprovalOpened(Event, frozen=True, kw_only=True, tag="approval.opened"):
    """Written when a person is asked: what was shown and its digest, who may decide, how many, until when."""

    subject: str
    plan_digest: str
    digest: str
    shown: Raw
    requester: Actor
    reply_to: str
    step: str = ""
    roles: tuple[str, ...] = ("approver",)
    quorum: int = 1
    expires_at: int | None = None


class DecisionMade(Event, frozen=True, kw_only=True, tag="approval.decided"):
    """Written when one person approves or rejects exactly what `digest` names."""

    by: Actor
    action: str
    digest: str
    reason: str = ""


class ApprovalClosed(Event, frozen=True, kw_only=True, tag="approval.closed"):
    """Written when the outcome stands: approved, rejected, expired or superseded."""

    status: str
    reason: str = ""


class OutcomeReceived(Event, frozen=True, kw_only=True, tag="approval.outcome_received"):
    """Written when the asker has the outcome on record, so that it need not be told again."""


ApprovalEvent = ApprovalOpened | DecisionMade | ApprovalClosed | OutcomeReceived
