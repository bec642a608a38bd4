"""What happens to an approval (pure). Expiry counts as a rejection for whoever asked; see `react`."""

from collections.abc import Sequence
from typing import assert_never

from headrace import codec
from headrace.decider import Context, Rejection
from headrace.errors import (
    ConflictError,
    DigestMismatchError,
    ForbiddenError,
    HeadraceError,
    NotFoundError,
    ValidationError,
)
from headrace.events.approvals import ApprovalClosed, ApprovalEvent, ApprovalOpened, DecisionMade, OutcomeReceived
from headrace.messages import (
    Advance,
    ApprovalCommand,
    DecideApproval,
    NoteOutcomeReceived,
    OpenApproval,
    SupersedeApproval,
    Wake,
)
from headrace.vocabulary import ApprovalStatus, Role
from headrace_gatekeeper.approvals.state import APPROVE, REJECT, Approval

Decided = Sequence[ApprovalEvent] | Rejection
EXPIRED = "nobody decided in time"


def decide(state: Approval, command: ApprovalCommand, context: Context) -> Decided:
    """Say what a command does to an approval."""
    match command:
        case OpenApproval():
            return _open(state, command)
        case DecideApproval():
            return _decide(state, command, context)
        case SupersedeApproval():
            return _supersede(state, command, context)
        case NoteOutcomeReceived():
            if state.opened is None:
                return _unknown(context)
            return (OutcomeReceived(),) if state.untold else ()
        case Wake():
            late = state.opened is not None and not state.closed and state.over_at(context.now)
            return (_closed(ApprovalStatus.EXPIRED, EXPIRED),) if late else ()
        case Advance():
            return ()
        case _:
            assert_never(command)


def _open(state: Approval, command: OpenApproval) -> Decided:
    if state.opened is not None:
        if state.opened.digest == command.digest:
            return ()
        message = f"approval {state.id} already asks about {state.opened.digest}, not about {command.digest}"
        return Rejection(ConflictError(message))
    shown = codec.digest_of(command.shown)
    if shown != command.digest:
        return Rejection(_mismatch(f"the digest of what is shown is {shown}", command.digest, shown))
    if command.quorum < 1 or not command.roles:
        message = f"an approval needs at least one role and one person, not {command.roles!r} and {command.quorum}"
        return Rejection(ValidationError(message))
    opened = ApprovalOpened(
        subject=command.subject,
        plan_digest=command.plan_digest,
        digest=command.digest,
        shown=command.shown,
        requester=command.requester,
        reply_to=command.reply_to,
        step=command.step,
        roles=command.roles,
        quorum=command.quorum,
        expires_at=command.expires_at,
    )
    return (opened,)


def _supersede(state: Approval, command: SupersedeApproval, context: Context) -> Decided:
    """Close a question, also one that has not arrived yet: it comes with what takes it back, and finds itself closed."""
    closed = _closed(ApprovalStatus.SUPERSEDED, command.reason)
    if state.opened is not None:
        return () if state.closed else (closed,)
    opened = None if command.asked is None else _open(state, command.asked)
    if opened is None or isinstance(opened, Rejection):
        return () if command.reply_to else _unknown(context)
    return (*opened, closed)


def _decide(state: Approval, command: DecideApproval, context: Context) -> Decided:
    opened = state.opened
    if opened is None:
        return _unknown(context)
    earlier = state.decision_of(context.actor)
    if earlier is not None and (earlier.action, earlier.digest) == (command.action, command.digest):
        return ()
    problem = _problem(state, opened, command, context)
    if problem is not None:
        return Rejection(problem)
    made = DecisionMade(by=context.actor, action=command.action, digest=command.digest, reason=command.reason)
    if command.action == REJECT:
        return made, _closed(ApprovalStatus.REJECTED, command.reason)
    if len(state.approvers) + 1 >= opened.quorum:
        return made, _closed(ApprovalStatus.APPROVED, command.reason)
    return (made,)


def _problem(
    state: Approval, opened: ApprovalOpened, command: DecideApproval, context: Context
) -> HeadraceError | None:
    """Say why this person may not decide this now, or None."""
    actor, roles = context.actor, set(context.actor.roles)
    if command.action not in {APPROVE, REJECT}:
        return ValidationError(
            f"the action must be {APPROVE} or {REJECT}, not {command.action!r}", details={"field": "action"}
        )
    if actor.id == opened.requester.id:
        return ForbiddenError(f"{actor.name} asked for this and may not decide it; somebody else must")
    if not roles & {*opened.roles, Role.ADMIN}:
        wanted = " or ".join(opened.roles)
        return ForbiddenError(f"{actor.name} may not decide this: it takes the role {wanted}")
    if state.closed:
        return _too_late(state, state.status)
    if state.over_at(context.now):
        return _too_late(state, ApprovalStatus.EXPIRED)
    earlier = state.decision_of(actor)
    if earlier is not None and earlier.action != command.action:
        word = f"decided to {earlier.action}"
        return ConflictError(f"{actor.name} already {word}; a decision stands", details={"status": state.status.value})
    if command.digest != opened.digest:
        return _mismatch(f"the digest of what was shown is {opened.digest}", command.digest, opened.digest)
    return None


def _too_late(state: Approval, status: ApprovalStatus) -> HeadraceError:
    message = f"approval {state.id} is already {status.value}"
    return ConflictError(message, details={"status": status.value})


def _mismatch(says: str, given: str, expected: str) -> HeadraceError:
    message = f"{says}, but the decision is about {given}"
    return DigestMismatchError(message, details={"expected": expected, "given": given})


def _closed(status: ApprovalStatus, reason: str) -> ApprovalClosed:
    return ApprovalClosed(status=status.value, reason=reason)


def _unknown(context: Context) -> Rejection:
    return Rejection(NotFoundError(f"there is no approval {context.stream_id}"))
