"""What an approval shows: its projection row, the answer to a decision, and why it is not moving (pure)."""

from collections.abc import Sequence
from typing import Final

import msgspec

from headrace import codec, ids
from headrace.codec import storable
from headrace.decider import Laid, Reason
from headrace.log.tables import TABLES
from headrace.vocabulary import WaitingFor
from headrace_gatekeeper.approvals.react import wake_at
from headrace_gatekeeper.approvals.state import Approval

KINDS: Final = TABLES["approvals"].columns


class Said(msgspec.Struct, frozen=True):
    """One person's word, as it is shown."""

    id: str
    name: str
    action: str
    digest: str
    reason: str
    at: int


class Standing(msgspec.Struct, frozen=True):
    """Where an approval stands, for whoever decided."""

    id: str
    status: str
    subject: str
    step: str
    plan_digest: str
    digest: str
    roles: tuple[str, ...]
    quorum: int
    decisions: list[Said]
    reason: str
    expires_at: int | None


def row(state: Approval) -> Laid | None:
    """Give the row of table `approvals`, which follows from the state alone."""
    opened = state.opened
    if opened is None:
        return None
    values = (
        state.id,
        storable(state.workspace),
        ids.partition_of(state.id),
        state.version,
        storable(opened.subject),
        storable(opened.step),
        storable(opened.plan_digest),
        opened.digest,
        bytes(opened.shown).decode(),
        str(state.status),
        codec.texts(opened.roles),
        opened.quorum,
        codec.texts(_decisions(state)) if state.decisions else "[]",
        storable(opened.requester.id),
        storable(opened.requester.name),
        storable(state.reason),
        state.opened_at,
        opened.expires_at,
        state.closed_at,
        wake_at(state),
        state.untold,
    )
    return Laid("approvals", values, KINDS)


def answer(state: Approval) -> object:
    """Give the body that meets whoever decided: where the approval stands now."""
    opened = state.opened
    if opened is None:
        return {"id": state.id, "status": None}
    return Standing(
        id=state.id,
        status=str(state.status),
        subject=opened.subject,
        step=opened.step,
        plan_digest=opened.plan_digest,
        digest=opened.digest,
        roles=opened.roles,
        quorum=opened.quorum,
        decisions=_decisions(state),
        reason=state.reason,
        expires_at=opened.expires_at,
    )


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


def _decisions(state: Approval) -> list[Said]:
    return [Said(made.by.id, made.by.name, made.action, made.digest, made.reason, made.at) for made in state.decisions]
