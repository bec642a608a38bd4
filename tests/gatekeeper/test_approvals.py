"""An approval binds people to exactly what they were shown."""

from typing import Any

import pytest

from headrace import codec, errors, ids
from headrace.decider import Context, Effect, Rejection, Tell
from headrace.events.approvals import ApprovalClosed, ApprovalEvent, ApprovalOpened, DecisionMade, OutcomeReceived
from headrace.events.base import SYSTEM, Actor
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
from headrace_gatekeeper.approvals.room import ApprovalRoom
from headrace_gatekeeper.approvals.state import Approval

START = 1_790_000_000_000
DAY = 86_400_000
APPROVAL = ids.make("apr", START, b"a" * 16, 1)
RUN = ids.make("run", START, b"r" * 16, 3)
PLAN = ids.definition("pln", "default", "sha256:p")
ASKER = Actor(id="tok_asker", name="Ada", roles=("operator", "approver"))
BEN = Actor(id="tok_ben", name="Ben", roles=("approver",))
CLEO = Actor(id="tok_cleo", name="Cleo", roles=("approver",))
ROOT = Actor(id="tok_root", name="Root", roles=("admin",))
EVE = Actor(id="tok_eve", name="Eve", roles=("operator", "viewer"))
SHOWN = {"run_id": RUN, "step": "sign_off", "prompt": "Publish?"}
DIGEST = codec.digest(SHOWN)


def opening(**changes: Any) -> OpenApproval:
    given: dict[str, Any] = {
        "subject": "run",
        "plan_digest": "sha256:p",
        "digest": DIGEST,
        "shown": codec.raw(SHOWN),
        "requester": ASKER,
        "reply_to": RUN,
        "step": "sign_off",
        "expires_at": START + DAY,
    }
    return OpenApproval(**(given | changes))


class Desk:
    """One approval, driven as the owner host drives it."""

    def __init__(self) -> None:
        self.room = ApprovalRoom()
        self.state: Approval = self.room.initial(APPROVAL, "default")
        self.now = START
        self.told: list[Effect] = []

    def send(self, command: ApprovalCommand, actor: Actor = SYSTEM) -> list[ApprovalEvent]:
        context = Context(now=self.now, stream_id=APPROVAL, workspace="default", actor=actor)
        decided = self.room.decide(self.state, command, context)
        if isinstance(decided, Rejection):
            raise decided.error
        for event in decided:
            self.state = self.room.evolve(self.state, event, self.now)
            self.told.extend(self.room.react(self.state, event))
        self.told.extend(self.room.receipts(self.state, command, context))
        return list(decided)

    def opened(self, **changes: Any) -> "Desk":
        self.send(opening(**changes))
        self.told.clear()
        return self

    def decide(
        self, who: Actor, action: str = "approve", digest: str = DIGEST, reason: str = ""
    ) -> list[ApprovalEvent]:
        return self.send(DecideApproval(action=action, digest=digest, reason=reason), who)

    def row(self) -> dict[str, Any]:
        (row,) = self.room.rows(self.state, None)
        return row.columns


def test_an_opened_approval_is_pending_and_the_asker_gets_a_receipt() -> None:
    desk = Desk()
    desk.send(opening())
    assert desk.row()["status"] == "pending"
    assert desk.told == [Tell("runs", RUN, NoteApprovalReceived(approval_id=APPROVAL), "default")]


def test_open_delivered_twice_changes_nothing_and_earns_the_receipt_again() -> None:
    desk = Desk().opened()
    before = codec.encode(desk.state)
    assert desk.send(opening()) == []
    assert codec.encode(desk.state) == before
    assert [effect.command for effect in desk.told if isinstance(effect, Tell)] == [
        NoteApprovalReceived(approval_id=APPROVAL)
    ]


def test_an_opening_whose_digest_is_not_of_what_is_shown_is_refused() -> None:
    with pytest.raises(errors.DigestMismatchError):
        Desk().send(opening(digest="sha256:other"))


def test_an_approval_asks_about_one_thing_for_ever() -> None:
    other = {**SHOWN, "prompt": "Delete?"}
    desk = Desk().opened()
    with pytest.raises(errors.ConflictError, match="already asks about"):
        desk.send(opening(shown=codec.raw(other), digest=codec.digest(other)))
    assert desk.row()["digest"] == DIGEST


@pytest.mark.parametrize("wrong", [{"quorum": 0}, {"quorum": -1}, {"roles": ()}])
def test_an_approval_that_nobody_need_give_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.ValidationError, match="at least one role and one person"):
        Desk().send(opening(**wrong))


def test_one_approval_of_one_closes_it_and_tells_the_asker_who_and_why() -> None:
    desk = Desk().opened()
    assert [type(event) for event in desk.decide(BEN, reason="looks right")] == [DecisionMade, ApprovalClosed]
    outcome = ResolveApproval(
        approval_id=APPROVAL, step="sign_off", status="approved", digest=DIGEST, by=(BEN,), reason="looks right"
    )
    assert desk.told == [Tell("runs", RUN, outcome, "default")]
    assert desk.row()["decisions"][0]["reason"] == "looks right"


def test_the_requester_may_not_decide_even_as_admin() -> None:
    desk = Desk().opened(requester=ROOT)
    for action in ("approve", "reject"):
        with pytest.raises(errors.ForbiddenError, match="asked for this"):
            desk.decide(ROOT, action)
    assert desk.row()["status"] == "pending"


def test_a_person_without_the_role_may_not_decide() -> None:
    with pytest.raises(errors.ForbiddenError, match="the role approver"):
        Desk().opened().decide(EVE)


def test_an_admin_counts_for_any_role() -> None:
    desk = Desk().opened(roles=("legal",))
    with pytest.raises(errors.ForbiddenError):
        desk.decide(BEN)
    desk.decide(ROOT)
    assert desk.row()["status"] == "approved"


def test_a_decision_on_another_digest_is_refused_and_names_both() -> None:
    desk = Desk().opened()
    with pytest.raises(errors.DigestMismatchError) as refusal:
        desk.decide(BEN, digest="sha256:tampered")
    assert DIGEST in refusal.value.message
    assert "sha256:tampered" in refusal.value.message
    assert refusal.value.details == {"expected": DIGEST, "given": "sha256:tampered"}
    assert desk.row()["status"] == "pending"


def test_a_quorum_takes_distinct_people() -> None:
    desk = Desk().opened(quorum=2)
    assert [type(event) for event in desk.decide(BEN)] == [DecisionMade]
    assert desk.decide(BEN) == []
    assert desk.row()["status"] == "pending"
    desk.decide(CLEO)
    assert desk.row()["status"] == "approved"


def test_decide_delivered_twice_changes_nothing_also_after_the_end() -> None:
    desk = Desk().opened()
    desk.decide(BEN)
    before = codec.encode(desk.state)
    assert desk.decide(BEN) == []
    assert codec.encode(desk.state) == before


def test_a_person_may_not_change_their_mind() -> None:
    desk = Desk().opened(quorum=2)
    desk.decide(BEN)
    with pytest.raises(errors.ConflictError, match="already decided to approve"):
        desk.decide(BEN, "reject")


def test_one_rejection_ends_it() -> None:
    """Row 74 (the denial is in the log)."""
    desk = Desk().opened(quorum=2)
    desk.decide(BEN)
    made, closed = desk.decide(CLEO, "reject", reason="too risky")
    assert isinstance(made, DecisionMade)
    assert (made.by, made.action, made.reason) == (CLEO, "reject", "too risky")
    assert isinstance(closed, ApprovalClosed)
    assert (closed.status, closed.reason) == ("rejected", "too risky")


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_a_decision_on_a_closed_approval_is_refused_with_its_status(action: str) -> None:
    """Row 55."""
    desk = Desk().opened()
    desk.decide(BEN, "reject")
    with pytest.raises(errors.ConflictError, match="already rejected") as refusal:
        desk.decide(CLEO, action)
    assert refusal.value.details == {"status": "rejected"}


def test_a_decision_on_an_approval_that_is_not_there_is_refused() -> None:
    with pytest.raises(errors.NotFoundError):
        Desk().decide(BEN)


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(errors.ValidationError, match="maybe"):
        Desk().opened().decide(BEN, "maybe")


def test_expiry_ends_it_and_the_asker_is_told() -> None:
    desk = Desk().opened()
    assert desk.room.wake_at(desk.state) == START + DAY
    desk.now = START + DAY - 1
    assert desk.send(Wake()) == []
    desk.now = START + DAY
    assert desk.send(Wake()) == [ApprovalClosed(status="expired", reason="nobody decided in time")]
    (told,) = desk.told
    assert isinstance(told, Tell)
    assert isinstance(told.command, ResolveApproval)
    assert told.command.status == "expired"


def test_a_decision_after_the_time_is_refused_before_the_wake_up_came() -> None:
    desk = Desk().opened()
    desk.now = START + DAY
    with pytest.raises(errors.ConflictError, match="already expired"):
        desk.decide(BEN)


def test_wake_delivered_twice_changes_nothing() -> None:
    desk = Desk().opened()
    desk.now = START + DAY
    desk.send(Wake())
    assert desk.send(Wake()) == []


def test_the_outcome_is_told_again_until_the_asker_has_it() -> None:
    desk = Desk().opened()
    desk.decide(BEN)
    first = list(desk.told)
    assert list(desk.room.outstanding(desk.state, desk.now)) == first
    assert desk.room.wake_at(desk.state) == START + 2_000
    desk.told.clear()
    desk.now += 2_000
    assert desk.send(Wake()) == []
    assert desk.told == first
    assert desk.row()["busy"] is True
    assert desk.send(NoteOutcomeReceived()) == [OutcomeReceived()]
    assert list(desk.room.outstanding(desk.state, desk.now)) == []
    assert desk.room.wake_at(desk.state) is None
    assert desk.room.finished(desk.state)
    assert desk.row()["busy"] is False


def test_outcome_received_delivered_twice_changes_nothing() -> None:
    desk = Desk().opened()
    desk.decide(BEN)
    desk.send(NoteOutcomeReceived())
    assert desk.send(NoteOutcomeReceived()) == []


def test_an_open_that_comes_again_after_the_end_is_answered_with_the_outcome() -> None:
    desk = Desk().opened()
    desk.decide(BEN)
    desk.told.clear()
    desk.send(opening())
    assert [type(effect.command) for effect in desk.told if isinstance(effect, Tell)] == [
        NoteApprovalReceived,
        ResolveApproval,
    ]


def outcomes(desk: Desk) -> list[tuple[str, str, str]]:
    found = [effect for effect in desk.told if isinstance(effect, Tell)]
    told = [(effect.stream_id, effect.command) for effect in found if isinstance(effect.command, ResolveApproval)]
    return [(stream, command.step, command.status) for stream, command in told]


def test_superseded_asks_nobody_and_confirms_it_to_the_asker_as_often_as_that_says_so() -> None:
    desk = Desk().opened()
    superseding = SupersedeApproval(reason="the run was cancelled", reply_to=RUN, step="sign_off", digest=DIGEST)
    assert desk.send(superseding) == [ApprovalClosed(status="superseded", reason="the run was cancelled")]
    assert outcomes(desk) == [(RUN, "sign_off", "superseded")]
    assert desk.send(superseding) == []
    assert outcomes(desk) == 2 * [(RUN, "sign_off", "superseded")]
    assert desk.room.finished(desk.state)
    with pytest.raises(errors.ConflictError, match="already superseded"):
        desk.decide(BEN)


def test_what_nobody_ever_opened_is_taken_back_as_well() -> None:
    desk = Desk()
    assert desk.send(SupersedeApproval(reply_to=RUN, step="sign_off", digest=DIGEST)) == []
    assert outcomes(desk) == [(RUN, "sign_off", "superseded")]
    with pytest.raises(errors.NotFoundError):
        desk.send(SupersedeApproval())


def test_what_is_taken_back_before_it_arrives_is_open_to_nobody_when_it_does() -> None:
    desk = Desk()
    superseding = SupersedeApproval(reason="the run cancelled", reply_to=RUN, digest=DIGEST, asked=opening())
    opened, closed = desk.send(superseding)
    assert isinstance(opened, ApprovalOpened)
    assert closed == ApprovalClosed(status="superseded", reason="the run cancelled")
    assert outcomes(desk) == [(RUN, "sign_off", "superseded")]
    assert desk.send(opening()) == [], "the question itself, late"
    assert desk.row()["status"] == "superseded"
    with pytest.raises(errors.ConflictError, match="already superseded"):
        desk.decide(BEN)
    desk.told.clear()
    assert desk.send(superseding) == []
    assert outcomes(desk) == [(RUN, "sign_off", "superseded")], "as often as its asker takes it back"
    assert desk.room.finished(desk.state)


def test_what_is_taken_back_with_another_question_than_its_digest_names_opens_nothing() -> None:
    desk = Desk()
    assert desk.send(SupersedeApproval(reply_to=RUN, digest=DIGEST, asked=opening(digest="sha256:other"))) == []
    assert outcomes(desk) == [(RUN, "", "superseded")]


def test_supersede_delivered_twice_changes_nothing() -> None:
    desk = Desk().opened()
    desk.send(SupersedeApproval())
    assert desk.send(SupersedeApproval()) == []


def test_supersede_after_a_decision_does_not_take_it_back() -> None:
    desk = Desk().opened()
    desk.decide(BEN)
    assert desk.send(SupersedeApproval()) == []
    assert desk.row()["status"] == "approved"


def test_an_authorisation_of_a_plan_is_answered_to_the_catalogue() -> None:
    desk = Desk()
    desk.send(opening(reply_to=PLAN, step=""))
    assert desk.told == [Tell("catalogue", PLAN, NoteApprovalReceived(approval_id=APPROVAL), "default")]


def test_it_says_whom_it_waits_for() -> None:
    desk = Desk().opened(quorum=2)
    (reason,) = desk.room.explain(desk.state)
    assert reason.message.startswith("waits for 2 more people with the role approver")
    desk.decide(BEN)
    desk.decide(CLEO)
    assert desk.room.explain(desk.state) == ()


def test_a_snapshot_gives_the_same_state_and_row() -> None:
    desk = Desk().opened(quorum=2)
    desk.decide(BEN)
    again = desk.room.restore(desk.room.snapshot(desk.state))
    assert list(desk.room.rows(again, None)) == list(desk.room.rows(desk.state, None))
    assert desk.room.snapshot(again) == desk.room.snapshot(desk.state)


def test_advance_does_nothing() -> None:
    assert Desk().opened().send(Advance()) == []


def test_commands_are_read_from_their_bytes() -> None:
    room = ApprovalRoom()
    command = DecideApproval(action="approve", digest=DIGEST)
    assert room.read_command(codec.encode(command)) == command
