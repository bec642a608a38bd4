"""What an approval remembers (pure)."""

import msgspec

from headrace.events.approvals import ApprovalOpened
from headrace.events.base import Actor
from headrace.vocabulary import ApprovalStatus


class Decision(msgspec.Struct, frozen=True):
    """One person's word on what was shown, at a time in milliseconds since 1970."""

    by: Actor
    action: str
    digest: str
    reason: str
    at: int


class Approval(msgspec.Struct, kw_only=True):
    """An approval: what was asked, what was decided, and whether the asker has the outcome."""

    id: str
    workspace: str
    version: int = 0
    opened: ApprovalOpened | None = None
    opened_at: int = 0
    decisions: list[Decision] = []
    status: ApprovalStatus = ApprovalStatus.PENDING
    reason: str = ""
    closed_at: int | None = None
    received: bool = False

    @property
    def closed(self) -> bool:
        """Tell whether the outcome stands."""
        return self.status != ApprovalStatus.PENDING

    @property
    def untold(self) -> bool:
        """Tell whether the asker still has to be told the outcome. Who superseded it asked for no answer."""
        return self.closed and not self.received and self.status != ApprovalStatus.SUPERSEDED

    def decision_of(self, actor: Actor) -> Decision | None:
        """Give what a person decided here, if anything."""
        return next((decision for decision in self.decisions if decision.by.id == actor.id), None)

    @property
    def approvers(self) -> tuple[Actor, ...]:
        """Give who approved, in order."""
        return tuple(decision.by for decision in self.decisions if decision.action == APPROVE)

    def over_at(self, now: int) -> bool:
        """Tell whether the time to decide is over."""
        return self.opened is not None and self.opened.expires_at is not None and now >= self.opened.expires_at


APPROVE = "approve"
REJECT = "reject"
