"""What an approval sets going: the asker is told, again and again until it says that it knows (pure)."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final, assert_never

from headrace import ids
from headrace.decider import Effect, Tell
from headrace.envelope import Message
from headrace.events.approvals import ApprovalClosed, ApprovalEvent, ApprovalOpened, DecisionMade, OutcomeReceived
from headrace.messages import (
    Advance,
    ApprovalCommand,
    DecideApproval,
    NoteApprovalReceived,
    NoteOutcomeReceived,
    OpenApproval,
    ResolveApproval,
    SupersedeApproval,
    Wake,
)
from headrace.vocabulary import LOG_CATALOGUE, LOG_RUNS, TELL_REPEAT_S, ApprovalStatus
from headrace_gatekeeper.approvals.state import Approval

ASKERS: Final = MappingProxyType({ids.RUN: LOG_RUNS, ids.PLAN: LOG_CATALOGUE})
"""Which log a stream that asks belongs to, by the prefix of its id."""


def react(state: Approval, event: ApprovalEvent) -> Iterable[Effect]:
    """Say what an event sets going, given the state after it."""
    match event:
        case ApprovalClosed():
            return outstanding(state)
        case ApprovalOpened() | DecisionMade() | OutcomeReceived():
            return ()
        case _:
            assert_never(event)


def receipts(state: Approval, command: ApprovalCommand, now: int) -> Iterable[Effect]:
    """Say what a command earns, also when it repeats another."""
    match command:
        case OpenApproval(reply_to=reply_to):
            receipt = _tell(state, reply_to, NoteApprovalReceived(approval_id=state.id))
            return [*receipt, *outstanding(state)] if state.opened is not None else ()
        case Wake():
            due = wake_at(state)
            return outstanding(state) if due is not None and due <= now else ()
        case SupersedeApproval():
            return _withdrawn(state, command)
        case DecideApproval() | NoteOutcomeReceived() | Advance():
            return ()
        case _:
            assert_never(command)


def outstanding(state: Approval) -> Iterable[Effect]:
    """Give the outcome that the asker has not confirmed yet."""
    if state.opened is None or not state.untold:
        return ()
    return _outcome(state, state.opened)


def _withdrawn(state: Approval, command: SupersedeApproval) -> Iterable[Effect]:
    """Answer an asker that needs no answer any more, so that it need not say so again.

    Nobody may have opened what it takes back; and what is closed and confirmed long since is told once more.
    """
    if not command.reply_to:
        return ()
    if state.opened is None:
        nothing = ResolveApproval(
            approval_id=state.id,
            step=command.step,
            status=ApprovalStatus.SUPERSEDED.value,
            digest=command.digest,
            reason="it was never opened",
        )
        return _tell(state, command.reply_to, nothing)
    return () if state.untold else _outcome(state, state.opened)


def _outcome(state: Approval, opened: ApprovalOpened) -> Iterable[Effect]:
    outcome = ResolveApproval(
        approval_id=state.id,
        step=opened.step,
        status=state.status.value,
        digest=opened.digest,
        by=tuple(decision.by for decision in state.decisions),
        reason=state.reason,
    )
    return _tell(state, opened.reply_to, outcome)


def wake_at(state: Approval) -> int | None:
    """Give when the approval wants a wake-up: when its time is over, or when its outcome is due again."""
    if state.opened is None:
        return None
    if state.untold:
        return (state.closed_at or 0) + int(TELL_REPEAT_S * 1_000)
    return None if state.closed else state.opened.expires_at


def _tell(state: Approval, reply_to: str, command: Message) -> list[Effect]:
    log = ASKERS.get(reply_to.partition("_")[0])
    return [] if log is None else [Tell(log, reply_to, command, state.workspace)]
